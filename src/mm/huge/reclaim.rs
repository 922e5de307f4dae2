//! Taking memory back when none is free: absent frames of broken homes first, oldest first; then the zero pages of homes.
//!
//! Only a fault that found no frame comes here, with no lock held.
#![forbid(unsafe_code)]

use super::SplitCause;
use crate::mm::MemoryManager;
use crate::mm::address::{Block, PAGES_PER_SLOT};
use crate::mm::frame::Owner;
use crate::mm::mmu::Mmu;
use crate::mm::slab::Handle;
use crate::mm::slot::{LockedSlot, Mapping};

impl<M: Mmu> MemoryManager<M> {
    /// Takes back at least one frame; false when there is nothing left to take.
    pub(in crate::mm) fn reclaim(&self) -> bool {
        self.counters.reclaim.increment();
        self.reclaim_absent() || self.reclaim_zero_pages()
    }

    /// Dissolves the home that has been broken for longest. A home that refuses goes to the end of the queue.
    fn reclaim_absent(&self) -> bool {
        for _ in 0..self.frames.statistics().deferred {
            let Some((block, owner)) = self.frames.oldest_deferred() else { return false };
            let freed = self.with_home(block, owner, |slot| slot.dissolve()).flatten();
            match freed {
                Some(freed) if freed > 0 => return true,
                _ => self.requeue(block),
            }
        }
        false
    }

    /// Puts a home that refused at the end of the queue, if it is still in it.
    fn requeue(&self, block: Block) {
        self.frames.undefer(block);
        if self.frames.absent(block).is_some_and(|absent| absent > 0) {
            self.frames.defer(block);
        }
    }

    /// Gives back the zero pages of the first home that has any, and dissolves it.
    fn reclaim_zero_pages(&self) -> bool {
        let mut after = None;
        while let Some((block, owner)) = self.frames.next_home(after) {
            after = Some(block);
            let freed = self.with_home(block, owner, |slot| slot.release_zero_pages()).flatten();
            if freed.is_some_and(|freed| freed > 0) {
                return true;
            }
        }
        false
    }

    /// From a block back to its slot: the lock is only tried, and what was true of the block is looked at again under it.
    fn with_home<R>(
        &self,
        block: Block,
        owner: Owner,
        operation: impl FnOnce(&mut LockedSlot<'_, M>) -> R,
    ) -> Option<R> {
        let handle = Handle::from_raw(owner.number())?;
        let number = self.slots.get(handle).number();
        let mut slot = LockedSlot::try_lock(self, number, handle)?;
        (slot.state.home == Some(block)).then(|| operation(&mut slot))
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Unmaps the pages at home that hold nothing but zeros, then dissolves the home; returns how many frames became free. A
    /// page that is touched again reads as zero again. Nothing happens to a home with a pinned frame.
    fn release_zero_pages(&mut self) -> Option<usize> {
        let home = self.state.home?;
        if self.mm.frames.is_pinned(home) {
            self.mm.counters.thp_split_page_failed.increment();
            return None;
        }
        let candidates = self.state.at_home();
        let mut index = 0;
        let mut released = 0;
        while let Some(page) = candidates.next_set(index) {
            index = page + 1;
            if !self.mm.machine.is_zero(home.frame(page)) {
                continue;
            }
            // Another core may write until the page is unmapped, so it is looked at again after that.
            let (_, attributes) = self.leaf(page).expect("the page is at home");
            self.clear(page..page + 1, SplitCause::Underused);
            if self.state.home != Some(home) {
                return Some(PAGES_PER_SLOT);
            }
            if !self.mm.machine.is_zero(home.frame(page)) {
                let Mapping::Table(table) = self.state.mapping else { return Some(0) };
                self.install(table, page..page + 1, home.frame(page), attributes);
                continue;
            }
            released += 1;
        }
        self.mm.counters.thp_underused_split_page.add(released);
        if released == 0 || !matches!(self.state.mapping, Mapping::Table(_)) {
            return Some(0);
        }
        self.dissolve()
    }
}
