//! Frames by themselves: who owns one, and who has it pinned.
//!
//! A pin is taken under the lock of the slot that the frame is a page of, or by who has the frame to itself: the frame stays in
//! use meanwhile. It is dropped under no lock, at any moment of what is done to the frame: so state and pins are one word, and
//! whoever changes either while there may be pins does it by an atomic exchange.
//!
//! - What ends a frame's use (a free, the end of its home) runs under the pool's lock, and makes it an orphan only if a pin is
//!   left at that moment. The last pin of an orphan is dropped under that lock too, so it finds the frame counted as one.
//! - A block's count of pinned frames goes up after a frame's first pin, and down after its last. So it may be too high for a
//!   moment, even when the block is another's by then: who sees that there are pins looks at the entries. It is never too low
//!   for who holds the slot's lock: who sees none knows that the entries say so, and that they stay so.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PAGES_PER_SLOT};
use super::super::bits::Bits512;
use super::entry::{BlockEntries, FrameState, Unpin};
use super::pool::Pool;
use super::table::Holder;
use super::{Class, Frames, Owner};
use crate::sync::switch;
use core::sync::atomic::Ordering;

impl Frames {
    /// Says which page (0..512) of which slot a frame holds. Frames of a home need no telling. Takes no lock.
    ///
    /// # Panics
    ///
    /// When the frame is not in use by itself, or `page` is above 511.
    #[inline]
    pub fn set_owner(&self, frame: Frame, owner: Owner, page: usize) {
        self.set_owners(frame, 1, owner, page)
    }

    /// Says that `count` frames from `first` on, all in one block, hold consecutive pages of a slot, from `first_page` on.
    ///
    /// # Panics
    ///
    /// When a frame is not in use by itself or lies in the next block, or the last page is above 511.
    #[inline]
    pub fn set_owners(&self, first: Frame, count: usize, owner: Owner, first_page: usize) {
        assert!(first_page + count <= PAGES_PER_SLOT, "page {first_page} of a slot, and {count} from there on");
        for (offset, entry) in self.table.known_entries(first)[first.index()..][..count].iter().enumerate() {
            let state = entry.state();
            let frame = first + offset as u64;
            assert!(matches!(state, FrameState::InUse(_)), "{frame:?} is to have an owner, but is {state:?}");
            entry.set_owner(Some(owner), first_page + offset);
        }
    }

    /// Which page of which slot a frame holds; a frame of a home answers for its place there, absent or not. Takes no
    /// lock: what it says lasts for those who hold the slot's.
    #[inline]
    pub fn owner(&self, frame: Frame) -> Option<(Owner, usize)> {
        match self.home_owner(frame.block()) {
            Some(owner) => Some((owner, frame.index())),
            None => self.table.entry(frame)?.owner(),
        }
    }

    /// Pins a frame that is in use, once more. The caller holds the lock of the slot that it is a page of, or has the frame to
    /// itself: nobody frees it meanwhile, or ends its home. Takes no lock, unless none was ever pinned of its block, nor in use
    /// by itself.
    ///
    /// # Panics
    ///
    /// When the frame is free, reserved or an orphan.
    pub fn pin(&self, frame: Frame) {
        self.pin_run(frame, 1)
    }

    /// As [`Frames::pin`], with `count` frames from `first` on, all in one block.
    ///
    /// # Panics
    ///
    /// When a frame is free, reserved or an orphan, or lies in the next block.
    pub fn pin_run(&self, first: Frame, count: usize) {
        let block = first.block();
        let (section, shared) = self.table.known(block);
        let whole = shared.is_with(Holder::User);
        let entries = match section.entries_of(shared) {
            Some(entries) => entries,
            None if whole => self.write_entries(block),
            None => panic!("{first:?} is not in use, to be pinned: its block is {shared}"),
        };
        let entries = &entries[first.index()..][..count];
        let mut news = 0;
        // Nobody else changes the entries, then.
        if whole && shared.pinned.load(Ordering::Acquire) == 0 {
            entries.iter().for_each(|entry| entry.pin_first());
            news = count;
        } else {
            for (offset, entry) in entries.iter().enumerate() {
                match entry.pin(whole) {
                    Ok(pins) => news += usize::from(pins == 0),
                    Err(state) => panic!("{:?} is to be pinned, but is {state:?}", first + offset as u64),
                }
            }
        }
        if news > 0 {
            switch();
            shared.pinned.fetch_add(news as u16, Ordering::Relaxed);
            section.pinned.fetch_add(news as u32, Ordering::Relaxed);
        }
    }

    #[cold]
    fn write_entries(&self, block: Block) -> &'static BlockEntries {
        self.pool.lock().records.write_entries(block)
    }

    /// Drops one pin of a frame. An orphan becomes free with the last one. The caller need hold no lock, and the frame may
    /// be freed meanwhile, or its home end; only the last pin of an orphan takes the pool's lock.
    ///
    /// # Panics
    ///
    /// When the frame is not pinned.
    pub fn unpin(&self, frame: Frame) {
        self.unpin_run(frame, 1)
    }

    /// As [`Frames::unpin`], of each of `count` frames from `first` on, all in one block.
    ///
    /// # Panics
    ///
    /// When a frame is not pinned, or lies in the next block.
    pub fn unpin_run(&self, first: Frame, count: usize) {
        let block = first.block();
        let (mut gone, mut orphans) = (0, Bits512::EMPTY);
        for (offset, entry) in self.table.known_entries(first)[first.index()..][..count].iter().enumerate() {
            match entry.unpin() {
                Unpin::Pinned => {}
                Unpin::Last => gone += 1,
                Unpin::LastOfOrphan => orphans.set(first.index() + offset),
                Unpin::NotPinned => panic!("{:?} is not pinned", first + offset as u64),
            }
        }
        if gone > 0 {
            switch();
            self.table.count_unpinned(block, gone);
        }
        if !orphans.is_empty() {
            self.unpin_orphans(block, &orphans);
        }
    }

    #[cold]
    fn unpin_orphans(&self, block: Block, orphans: &Bits512) {
        self.pool_that_gains(|pool| pool.unpin_orphans(block, orphans))
    }

    /// How many pins a frame has.
    #[inline]
    pub fn pins(&self, frame: Frame) -> u32 {
        self.table.entry(frame).map_or(0, |entry| entry.pins())
    }

    /// Whether a frame that is in use can never be a part of a block of the application's.
    #[inline]
    pub fn is_unmovable(&self, frame: Frame) -> bool {
        self.table.entry(frame).is_some_and(|entry| matches!(entry.state(), FrameState::InUse(Class::Unmovable)))
    }

    /// Whether a frame is pinned: as [`Frames::pins`], quicker where nothing of its block is.
    #[inline]
    pub fn is_frame_pinned(&self, frame: Frame) -> bool {
        self.is_pinned(frame.block()) && self.pins(frame) > 0
    }

    /// Whether any frame of a block is pinned, orphans among them. Takes no lock.
    #[inline]
    pub fn is_pinned(&self, block: Block) -> bool {
        self.table.find(block).is_some_and(|(_, shared)| shared.pinned.load(Ordering::Acquire) > 0)
    }
}

impl Pool {
    /// Frees orphans, whose last pins are the caller's.
    fn unpin_orphans(&mut self, block: Block, orphans: &Bits512) {
        self.table().count_unpinned(block, orphans.count());
        self.statistics.orphans -= orphans.count();
        orphans.iter().for_each(|index| self.release(block.frame(index), 0));
    }
}
