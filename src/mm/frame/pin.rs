//! Frames by themselves: who owns one, and who has it pinned.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PAGES_PER_SLOT};
use super::entry::FrameState;
use super::table::{BlockState, Holder};
use super::{Frames, Owner};
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

    /// Pins a frame that is in use, once more. The caller sees to it that nobody frees it meanwhile.
    ///
    /// # Panics
    ///
    /// When the frame is free, reserved or an orphan.
    pub fn pin(&self, frame: Frame) {
        let (_, shared) = self.table.known(frame.block());
        let mut pool = self.pool.lock();
        let whole = shared.is_with(Holder::User);
        let entries = match pool.records.known(frame.block()).state {
            BlockState::Whole if whole => Some(pool.records.write_entries(frame.block())),
            BlockState::Broken { .. } => self.table.entries(frame.block()),
            _ => None,
        };
        let Some(entries) = entries else { panic!("{frame:?} is not in use, to be pinned: its block is {shared}") };
        let may = |state| matches!(state, FrameState::InUse(_)) || whole && state == FrameState::Free;
        match entries[frame.index()].pin(may) {
            Ok(0) => _ = shared.pinned.fetch_add(1, Ordering::Relaxed),
            Ok(_) => {}
            Err(state) => panic!("{frame:?} is to be pinned, but is {state:?}"),
        }
    }

    /// Drops one pin of a frame. An orphan becomes free with the last one.
    ///
    /// # Panics
    ///
    /// When the frame is not pinned.
    pub fn unpin(&self, frame: Frame) {
        self.pool_that_gains(|pool| {
            assert!(self.pins(frame) > 0, "{frame:?} is not pinned");
            let entry = self.table.known_entry(frame);
            if entry.unpin() > 0 {
                return;
            }
            self.table.known(frame.block()).1.pinned.fetch_sub(1, Ordering::Relaxed);
            if entry.state() == FrameState::Orphan {
                pool.statistics.orphans -= 1;
                pool.release(frame, 0);
            }
        })
    }

    /// How many pins a frame has.
    #[inline]
    pub fn pins(&self, frame: Frame) -> u32 {
        self.table.entry(frame).map_or(0, |entry| entry.pins())
    }

    /// Whether any frame of a block is pinned, orphans among them. Takes no lock.
    #[inline]
    pub fn is_pinned(&self, block: Block) -> bool {
        self.table.find(block).is_some_and(|(_, shared)| shared.pinned.load(Ordering::Relaxed) > 0)
    }
}
