//! Dissolve: a home ends, and its absent frames become free (Linux: `split_huge_page`).
#![forbid(unsafe_code)]

use crate::mm::mmu::Mmu;
use crate::mm::slot::{LockedSlot, Mapping};

impl<M: Mmu> LockedSlot<'_, M> {
    /// **Dissolve**: ends the home; its absent frames become free, its pages stay where they are, away. Returns how many
    /// frames became free, or `None` with nothing changed: a pinned frame refuses, or the home is mapped as a block (no frame
    /// of it is absent, and a block needs its home).
    pub(in crate::mm) fn dissolve(&mut self) -> Option<usize> {
        let (Mapping::Table(_), Some(home)) = (self.state.mapping, self.state.home) else { return None };
        let kept = self.state.at_home();
        let Ok(freed) = self.mm.frames.dissolve(home, &kept) else {
            self.mm.counters.thp_split_page_failed.increment();
            return None;
        };
        self.state.away = self.state.present;
        self.state.home = None;
        self.state.zeroed = 0;
        self.mm.counters.thp_split_page.increment();
        Some(freed)
    }
}
