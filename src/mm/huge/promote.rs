//! Promote: a table whose 512 pages are all at home becomes a block descriptor.
#![forbid(unsafe_code)]

use crate::mm::mmu::{Entry, Mmu};
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::Pending;

impl<M: Mmu> LockedSlot<'_, M> {
    /// **Promote**: replaces the table by a block descriptor, which copies nothing; the table becomes the deposit. Does
    /// nothing unless all 512 pages are at home. The caller knows that one region covers the slot, so that the
    /// attributes of one page are those of all.
    pub(in crate::mm) fn promote(&mut self) {
        let (Mapping::Table(table), Some(home)) = (self.state.mapping, self.state.home) else { return };
        if !self.state.present.is_full() {
            return;
        }
        if !self.state.away.is_empty() {
            self.mm.counters.promote_refused_away.increment();
            return;
        }
        let (frame, attributes) = self.leaf(0).expect("all pages are present");
        debug_assert_eq!(frame, home.frame(0));
        let mut pending = Pending::new();
        self.set_entry(Entry::Block { frame, attributes }, &mut pending);
        self.mm.settle(&mut pending);
        self.state.mapping = Mapping::Block { deposit: table };
        self.mm.frames.undefer(home);
        self.mm.counters.promote.increment();
    }
}
