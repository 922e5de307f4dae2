//! Dissolve: a home ends, and its absent frames become free (Linux: `split_huge_page`).
#![forbid(unsafe_code)]

use crate::mm::address::VirtAddr;
use crate::mm::mmu::Mmu;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::{MemoryManager, Refusal};

impl<M: Mmu> MemoryManager<M> {
    /// Ends the home of the slot at `address` (Linux: `split_huge_page`): a block is split first, the pages stay where they are, as
    /// single frames, and the absent frames become free. Returns how many did.
    ///
    /// # Errors
    ///
    /// [`Refusal::Pinned`] while a page at home is pinned; [`Refusal::NoHome`] when there is no home. Nothing changed.
    pub fn dissolve(&self, address: VirtAddr) -> Result<usize, Refusal> {
        let slot = LockedSlot::find(self, address.page().slot());
        let result = slot.ok_or(Refusal::NoHome).and_then(|mut slot| slot.split_and_dissolve());
        result.map_err(|refusal| self.refused(refusal))
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// **Dissolve**: ends the home; its absent frames become free, its pages stay where they are, away. Returns how many
    /// frames became free.
    ///
    /// # Errors
    ///
    /// [`Refusal::Pinned`] while a page at home is pinned; [`Refusal::NoHome`] when there is none, or it is mapped as a block (no frame
    /// of it is absent, and a block needs its home). Nothing changed.
    pub(in crate::mm) fn dissolve(&mut self) -> Result<usize, Refusal> {
        let (Mapping::Table(_), Some(home)) = (self.state.mapping, self.state.home) else {
            return Err(Refusal::NoHome);
        };
        let kept = self.state.at_home();
        let freed = self.mm.frames.dissolve(home, &kept).inspect_err(|_| {
            self.mm.counters.thp_split_page_failed.increment();
        })?;
        self.note_dissolved(freed);
        Ok(freed)
    }

    /// The home has ended, and so many of its frames became free.
    pub(in crate::mm) fn note_dissolved(&mut self, freed: usize) {
        if freed > 0 {
            self.mm.frames.count_gain();
        }
        self.state.away = self.state.present;
        self.state.home = None;
        self.state.zeroed = 0;
        self.mm.counters.thp_split_page.increment();
    }

    /// As [`LockedSlot::dissolve`], and splits a block first, unless it would be refused.
    fn split_and_dissolve(&mut self) -> Result<usize, Refusal> {
        let home = self.state.home.ok_or(Refusal::NoHome)?;
        if let Mapping::Block { .. } = self.state.mapping
            && self.mm.frames.is_pinned(home)
        {
            self.mm.counters.thp_split_page_failed.increment();
            return Err(Refusal::Pinned);
        }
        self.page_table().ok_or(Refusal::NoHome)?;
        self.dissolve()
    }
}
