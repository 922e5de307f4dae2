//! Taking memory back when none is free: blocks that are being zeroed for the pool; absent frames of homes first, oldest first; then the zero pages of homes.
//!
//! A fault that found no frame comes here, and an operation that found none for a record; neither holds a lock.
#![forbid(unsafe_code)]

use super::SplitCause;
use crate::mm::frame::Owner;
use crate::mm::mmu::Mmu;
use crate::mm::slab::Handle;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::{MemoryManager, Refusal};

/// What someone who found no memory has seen of others that were about to have some.
pub(in crate::mm) struct Shortage {
    isolations: usize,
}

impl Shortage {
    /// Nothing.
    pub(in crate::mm) fn new() -> Self {
        Shortage { isolations: 0 }
    }
}

/// What came of an attempt on a home.
enum Attempt {
    /// Frames became free.
    Freed,
    /// Nothing can be had here.
    Nothing,
    /// Its slot is locked: perhaps later.
    Busy,
}

impl<M: Mmu> MemoryManager<M> {
    /// Sees to it that who found no memory may try again; false when that is for nothing: nothing can be taken back, and nothing
    /// has become free since by the end of an isolation. Called without a lock.
    pub(in crate::mm) fn ease(&self, shortage: &mut Shortage) -> bool {
        if self.reclaim() {
            return true;
        }
        let ended = self.frames.isolations_ended();
        core::mem::replace(&mut shortage.isolations, ended) != ended
    }

    /// Takes memory back; false when there is nothing left to take. True asks the caller to try again: frames became free, or
    /// a slot that could not be looked into was locked by another core, which may have some.
    fn reclaim(&self) -> bool {
        self.counters.reclaim.increment();
        // Before the look at the list: a block is in one of the two.
        let mut busy = self.idle.is_at_work();
        if let Some(block) = self.idle.take_begun() {
            self.frames.free_block(block);
            return true;
        }
        if self.reclaim_absent(&mut busy) || self.reclaim_zero_pages(&mut busy) {
            return true;
        }
        let busy = busy || self.frames.is_isolating();
        if busy {
            self.wait();
        }
        busy
    }

    /// Dissolves the home that has had absent frames for longest. A home that refuses goes to the end of the queue.
    fn reclaim_absent(&self, busy: &mut bool) -> bool {
        for _ in 0..self.frames.statistics().deferred {
            let Some((block, owner)) = self.frames.oldest_deferred() else {
                // None is left, or the first one is just ending.
                *busy |= self.frames.statistics().deferred > 0;
                return false;
            };
            match self.with_home(owner, |slot| slot.dissolve()) {
                Attempt::Freed => return true,
                Attempt::Busy => *busy = true,
                Attempt::Nothing => {}
            }
            self.frames.requeue(block);
        }
        false
    }

    /// Gives back the zero pages of the first home that has any, and dissolves it.
    fn reclaim_zero_pages(&self, busy: &mut bool) -> bool {
        let mut after = None;
        while let Some((block, owner)) = self.frames.next_home(after) {
            after = Some(block);
            match self.with_home(owner, |slot| slot.release_zero_pages()) {
                Attempt::Freed => return true,
                Attempt::Busy => *busy = true,
                Attempt::Nothing => {}
            }
        }
        false
    }

    /// From a home back to its slot: the lock is only tried. `operation` acts on the home that the slot has by then.
    fn with_home(
        &self,
        owner: Owner,
        operation: impl FnOnce(&mut LockedSlot<'_, M>) -> Result<usize, Refusal>,
    ) -> Attempt {
        let Some(handle) = Handle::from_raw(owner.number()) else { return Attempt::Nothing };
        let Some(mut slot) = LockedSlot::try_lock(self, handle) else { return Attempt::Busy };
        match operation(&mut slot) {
            Ok(1..) => Attempt::Freed,
            _ => Attempt::Nothing,
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Unmaps the pages at home that hold nothing but zeros, then dissolves the home; returns how many frames became free. A
    /// page that is touched again reads as zero again. Nothing happens to a home with a pinned frame.
    fn release_zero_pages(&mut self) -> Result<usize, Refusal> {
        let home = self.state.home.ok_or(Refusal::NoHome)?;
        if self.mm.frames.is_pinned(home) {
            self.mm.counters.thp_split_page_failed.increment();
            return Err(Refusal::Pinned);
        }
        let candidates = self.state.at_home();
        let mut index = 0;
        let mut released = 0;
        while let Some(page) = candidates.next_set(index) {
            index = page + 1;
            // The last page at home stays: with it the home would go, before the page could be looked at again.
            if self.state.at_home().count() == 1 {
                break;
            }
            if !self.mm.machine.is_zero(home.frame(page)) {
                continue;
            }
            // Another core may write until the page is unmapped, so it is looked at again after that.
            let (_, attributes) = self.leaf(page).expect("the page is at home");
            self.clear(page..page + 1, SplitCause::Underused);
            if !self.mm.machine.is_zero(home.frame(page)) {
                let Mapping::Table(table) = self.state.mapping else { return Ok(0) };
                self.install(table, page..page + 1, home.frame(page), attributes);
                continue;
            }
            released += 1;
        }
        self.mm.counters.thp_underused_split_page.add(released);
        if released == 0 {
            return Ok(0);
        }
        self.dissolve()
    }
}
