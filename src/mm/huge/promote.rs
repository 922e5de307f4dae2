//! Promote: a table whose 512 pages are all at home becomes a block descriptor.
#![forbid(unsafe_code)]

use crate::mm::Refusal;
use crate::mm::address::{Block, Frame, GROUPS_PER_SLOT, PAGES_PER_GROUP, PAGES_PER_SLOT};
use crate::mm::bits::Bits512;
use crate::mm::mmu::{Attributes, Entry, Mmu};
use crate::mm::slot::{LockedSlot, Mapping, Role};
use crate::mm::table::Pending;

impl<M: Mmu> LockedSlot<'_, M> {
    /// **Promote**: replaces the table by a block descriptor, which copies nothing; the table becomes the deposit. The caller
    /// knows that one region covers the slot, so that the attributes of one page are those of all.
    ///
    /// # Errors
    ///
    /// A page is absent, away from home, may be taken back, or is shown by a snapshot; or there is no home, or it is mapped as a block already. Nothing changed.
    pub(in crate::mm) fn promote(&mut self) -> Result<(), Refusal> {
        let (Mapping::Table(table), Some(home)) = (self.state.mapping, self.state.home) else {
            return Err(Refusal::NoHome);
        };
        if !self.state.present.is_full() {
            return Err(Refusal::Absent);
        }
        if !self.state.away.is_empty() {
            return Err(Refusal::Away);
        }
        if !self.state.freed.is_empty() {
            return Err(Refusal::Freed);
        }
        if !self.state.shared.is_empty() {
            return Err(Refusal::Shared);
        }
        let (frame, attributes) = self.leaf(0).expect("all pages are present");
        debug_assert_eq!(frame, home.frame(0));
        self.become_block(table, home, attributes);
        self.mm.frames.undefer(home);
        Ok(())
    }

    /// As [`LockedSlot::promote`], of a slot that is in use by half: the other groups were never touched, and are known to
    /// hold zeros. They need no descriptors of their own on the way.
    pub(in crate::mm) fn promote_zeroed(&mut self) {
        let (Mapping::Table(table), Some(home)) = (self.state.mapping, self.state.home) else { return };
        let state = &self.state;
        let ready = |group: usize| {
            let pages = group * PAGES_PER_GROUP..(group + 1) * PAGES_PER_GROUP;
            state.is_zeroed(group) || state.present.all_in(pages)
        };
        let is_wanted = state.role == Role::Plain && state.freed.is_empty() && state.shared.is_empty();
        if !is_wanted
            || state.present.count() < PAGES_PER_SLOT / 2
            || !(state.away.is_empty() && (0..GROUPS_PER_SLOT).all(ready))
        {
            return;
        }
        let first = state.present.next_set(0).expect("half of the pages are present");
        let (_, attributes) = self.leaf(first).expect("the page is present");
        if attributes.access.execute {
            for group in (0..GROUPS_PER_SLOT).filter(|&group| state.is_zeroed(group)) {
                self.mm.machine.sync_code(home.frame(group * PAGES_PER_GROUP), PAGES_PER_GROUP);
            }
        }
        self.become_block(table, home, attributes);
        self.state.present = Bits512::FULL;
        self.state.zeroed = 0;
        self.count_absent(home);
        self.mm.counters.promote_idle.increment();
    }

    /// Replaces `table` by a descriptor of the whole `home`.
    fn become_block(&mut self, table: Frame, home: Block, attributes: Attributes) {
        // Whatever a sample has cleared.
        let attributes = Attributes::new(attributes.access);
        let mut pending = Pending::new();
        self.set_entry(Entry::Block { frame: home.frame(0), attributes }, &mut pending);
        self.mm.settle(&mut pending);
        self.state.mapping = Mapping::Block { deposit: table };
        if self.state.is_cold() {
            self.state.role = Role::Plain;
        }
        self.forget_borrowed(&Bits512::FULL);
        self.mm.counters.promote.increment();
    }
}
