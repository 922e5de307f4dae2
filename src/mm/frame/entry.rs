//! What is kept about a frame: 16 bytes, read and changed without a lock by whoever has the frame.
#![forbid(unsafe_code)]

use super::super::address::{Frame, PAGES_PER_SLOT};
use super::{Class, Occupant, Owner};
use crate::sync::switch;
use core::sync::atomic::{AtomicU64, Ordering};

/// How a frame is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameState {
    /// Not ours to give.
    Reserved,
    /// The pool has it, or its block is in use as a whole.
    Free,
    /// A core's cache has it.
    Cached(Class),
    /// Allocated.
    InUse(Class),
    /// Freed while pinned: free as soon as it is not.
    Orphan,
}

impl FrameState {
    /// The upper bits of every state: what else is found in an entry is damage.
    const MARK: u32 = 0x5e5e_0000;

    #[inline]
    const fn code(self) -> u32 {
        Self::MARK
            | match self {
                FrameState::Reserved => 0,
                FrameState::Free => 1,
                FrameState::Orphan => 2,
                FrameState::InUse(class) => 4 + class as u32,
                FrameState::Cached(class) => 6 + class as u32,
            }
    }

    #[inline]
    const fn from_code(code: u32) -> Option<FrameState> {
        Some(match code ^ Self::MARK {
            0 => FrameState::Reserved,
            1 => FrameState::Free,
            2 => FrameState::Orphan,
            4 => FrameState::InUse(Class::Movable),
            5 => FrameState::InUse(Class::Unmovable),
            6 => FrameState::Cached(Class::Movable),
            7 => FrameState::Cached(Class::Unmovable),
            _ => return None,
        })
    }
}

/// No frame, as a link.
pub(super) const NIL: u32 = u32::MAX;

/// A pin, in `usage`.
const PIN: u64 = 1 << 32;

/// What came of dropping a pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unpin {
    /// Others are left.
    Pinned,
    /// It was the last one.
    Last,
    /// It is the last one of an orphan, which stays so: it is to be freed, under the pool's lock.
    LastOfOrphan,
    /// There is none.
    NotPinned,
}

/// What is kept about a frame. Valid in every block that was broken, or had a pin, since boot; anything at all in the
/// others, so that nobody has to initialize it (the table hands out no entries of those).
#[repr(C)]
pub(super) struct FrameEntry {
    /// Of a frame in use: number of the slot it belongs to, 0 for none, and above it which page of the slot it is. Of a
    /// frame in a cache: the next one there.
    owner: AtomicU64,
    /// The state, and above it how many have the frame pinned.
    usage: AtomicU64,
}

const _: () = assert!(size_of::<FrameEntry>() == 16);

impl FrameEntry {
    /// How the frame is used.
    ///
    /// # Panics
    ///
    /// When the entry is none: something wrote over the frame table.
    #[inline]
    pub(super) fn state(&self) -> FrameState {
        decode(self.usage.load(Ordering::Relaxed))
    }

    /// How many have the frame pinned. Acquires what those did with it who have it pinned no more.
    #[inline]
    pub(super) fn pins(&self) -> u32 {
        (self.usage.load(Ordering::Acquire) >> 32) as u32
    }

    /// Whether the frame is in `state` and not pinned.
    #[inline]
    pub(super) fn is(&self, state: FrameState) -> bool {
        self.usage.load(Ordering::Relaxed) == state.code().into()
    }

    /// Sets the state, without pins.
    #[inline]
    pub(super) fn set(&self, state: FrameState) {
        self.usage.store(state.code().into(), Ordering::Relaxed);
    }

    /// Goes to [`FrameState::Orphan`] and keeps the pins, if there are any left; says whether. Under the pool's lock.
    pub(super) fn become_orphan(&self) -> bool {
        let orphan = |usage: u64| (usage >= PIN).then(|| usage >> 32 << 32 | u64::from(FrameState::Orphan.code()));
        switch();
        self.usage.fetch_update(Ordering::Acquire, Ordering::Acquire, orphan).is_ok()
    }

    /// Goes from `from` to `to` and keeps the pins. Under the pool's lock, by who has the frame.
    pub(super) fn change_pinned(&self, from: FrameState, to: FrameState) {
        switch();
        let before = self.usage.fetch_xor((from.code() ^ to.code()).into(), Ordering::Relaxed);
        debug_assert_eq!(decode(before), from);
    }

    /// Goes from `from`, not pinned, to `to`, unless the frame is used otherwise; says whether it went.
    #[inline]
    pub(super) fn change(&self, from: FrameState, to: FrameState) -> bool {
        let (from, to) = (from.code().into(), to.code().into());
        self.usage.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Makes the frame one in use that nobody owns or pins.
    #[inline]
    pub(super) fn allocate(&self, class: Class) {
        self.owner.store(0, Ordering::Relaxed);
        self.set(FrameState::InUse(class));
    }

    /// Adds a pin to a frame in use: by itself, or with its `whole` block. Returns how many there were, or the state that
    /// refuses.
    #[inline]
    pub(super) fn pin(&self, whole: bool) -> Result<u32, FrameState> {
        const MOVABLE: u32 = FrameState::InUse(Class::Movable).code();
        const UNMOVABLE: u32 = FrameState::InUse(Class::Unmovable).code();
        let mut before = self.usage.load(Ordering::Relaxed);
        loop {
            let code = before as u32;
            let may = if whole { code == FrameState::Free.code() } else { code == MOVABLE || code == UNMOVABLE };
            if !may {
                return Err(decode(before));
            }
            let after = before.checked_add(PIN).expect("a frame is pinned 2^32 times");
            switch();
            match self.usage.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok((before >> 32) as u32),
                Err(now) => before = now,
            }
        }
    }

    /// Makes a frame of a block in use as a whole, which has no pin and is the caller's to pin, one with a pin.
    #[inline]
    pub(super) fn pin_first(&self) {
        debug_assert!(self.is(FrameState::Free));
        self.usage.store(PIN | u64::from(FrameState::Free.code()), Ordering::Relaxed);
    }

    /// Drops a pin, unless it is the last one of an orphan: nobody else can.
    #[inline]
    pub(super) fn unpin(&self) -> Unpin {
        // Acquires what others did with the frame, releases what its user did: who frees it acquires that.
        let mut before = self.usage.load(Ordering::Acquire);
        loop {
            let Some(left) = (before >> 32).checked_sub(1) else { return Unpin::NotPinned };
            if left == 0 && before as u32 == FrameState::Orphan.code() {
                return Unpin::LastOfOrphan;
            }
            switch();
            match self.usage.compare_exchange_weak(before, before - PIN, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if left == 0 => return Unpin::Last,
                Ok(_) => return Unpin::Pinned,
                Err(now) => before = now,
            }
        }
    }

    /// The slot it belongs to, and which page of it this is; `None` unless it is in use by itself, or was when it was
    /// freed and is pinned still.
    #[inline]
    pub(super) fn owner(&self) -> Option<(Owner, usize)> {
        let owner = self.owner.load(Ordering::Relaxed);
        match self.state() {
            FrameState::InUse(_) | FrameState::Orphan => page_of(owner),
            _ => None,
        }
    }

    /// What is in the frame, at a look.
    pub(super) fn occupant(&self) -> Occupant {
        let before = self.usage.load(Ordering::Acquire);
        let owner = self.owner.load(Ordering::Acquire);
        let usage = self.usage.load(Ordering::Relaxed);
        match (decode(usage), page_of(owner)) {
            (FrameState::Free | FrameState::Cached(_), _) => Occupant::Free,
            // Otherwise the owner may be a link.
            (FrameState::InUse(Class::Movable), Some((owner, page))) if before as u32 == usage as u32 => {
                Occupant::Page { owner, page, pinned: usage >> 32 > 0 }
            }
            _ => Occupant::Fixed,
        }
    }

    #[inline]
    pub(super) fn set_owner(&self, owner: Option<Owner>, page: usize) {
        self.owner.store(owner_word(owner, page), Ordering::Relaxed);
    }

    /// Whether the frame is a movable one that holds this page.
    #[inline]
    pub(super) fn is_page(&self, owner: Owner, page: usize) -> bool {
        self.usage.load(Ordering::Relaxed) as u32 == FrameState::InUse(Class::Movable).code()
            && self.owner.load(Ordering::Relaxed) == owner_word(Some(owner), page)
    }

    /// The next frame in the list of a cache, or [`NIL`].
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.owner.load(Ordering::Relaxed) as u32
    }

    /// Sets the next frame in the list of a cache.
    #[inline]
    pub(super) fn set_next(&self, next: u32) {
        self.owner.store(next.into(), Ordering::Relaxed);
    }
}

/// What an entry's `owner` is for a page of a slot.
#[inline]
fn owner_word(owner: Option<Owner>, page: usize) -> u64 {
    debug_assert!(page < PAGES_PER_SLOT);
    (page as u64) << 32 | u64::from(owner.map_or(0, Owner::number))
}

/// Slot and page that an entry's `owner` names.
#[inline]
fn page_of(owner: u64) -> Option<(Owner, usize)> {
    Owner::new(owner as u32).map(|slot| (slot, (owner >> 32) as usize))
}

#[inline]
fn decode(usage: u64) -> FrameState {
    let code = usage as u32;
    FrameState::from_code(code).unwrap_or_else(|| panic!("the frame table is damaged: state {code:#x}"))
}

/// The entries of a block's frames.
pub(super) type BlockEntries = [FrameEntry; PAGES_PER_SLOT];

/// The frame that a link names.
#[inline]
pub(super) fn linked(link: u32) -> Option<Frame> {
    (link != NIL).then_some(Frame(link.into()))
}
