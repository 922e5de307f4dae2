//! Split: a block descriptor becomes a table of page descriptors onto the same frames.
#![forbid(unsafe_code)]

use crate::mm::address::Frame;
use crate::mm::mmu::{Entry, Mmu};
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::Pending;
use crate::mm::table::update::{PageChange, fill};
use core::ops::Range;

/// Why a block descriptor is split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitCause {
    /// Part of it was released.
    Release,
    /// Part of it was unmapped.
    Unmap,
    /// Part of it was protected differently.
    Protect,
    /// Its zero pages are given back.
    Underused,
    /// It was the zero block, and is written to.
    Zeros,
    /// A page of it, that a snapshot shows, is written to.
    Snapshot,
    /// Code that knows pages only came across it.
    Pages,
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// **Split**: replaces the block descriptor by the deposited table, with pages `range` changed on the way, so that one
    /// break serves both. Needs no memory and cannot fail. The home stays.
    ///
    /// # Panics
    ///
    /// When the slot is not mapped as a block.
    pub(in crate::mm) fn split(
        &mut self,
        range: Range<usize>,
        change: PageChange,
        cause: SplitCause,
        pending: &mut Pending,
    ) {
        let Mapping::Block { deposit } = self.state.mapping else {
            panic!("split of slot {:#x}, which is no block", self.number);
        };
        let (frame, attributes) = self.leaf(0).expect("a block maps its first page");
        fill(&self.mm.machine, deposit, frame.block(), attributes, range, change);
        self.set_entry(Entry::Table(deposit), pending);
        self.state.mapping = Mapping::Table(deposit);
        let counters = &self.mm.counters;
        counters.thp_split_pmd.increment();
        match cause {
            SplitCause::Release => counters.thp_split_pmd_release.increment(),
            SplitCause::Unmap => counters.thp_split_pmd_unmap.increment(),
            SplitCause::Protect => counters.thp_split_pmd_protect.increment(),
            SplitCause::Underused => counters.thp_split_pmd_underused.increment(),
            SplitCause::Zeros => counters.thp_split_pmd_zeros.increment(),
            SplitCause::Snapshot => counters.thp_split_pmd_snapshot.increment(),
            SplitCause::Pages => counters.thp_split_pmd_pages.increment(),
        }
    }

    /// The level-3 table of the slot, for code that knows pages only: a block is split on the way (`transhuge.rst`, *Graceful
    /// fallback*: one line makes a walker aware of huge pages). `None` when nothing is mapped.
    pub(in crate::mm) fn page_table(&mut self) -> Option<Frame> {
        if let Mapping::Block { .. } = self.state.mapping {
            let (_, attributes) = self.leaf(0).expect("a block maps its first page");
            let mut pending = Pending::new();
            self.split(0..0, PageChange::Attributes(attributes), SplitCause::Pages, &mut pending);
            self.mm.settle(&mut pending);
        }
        match self.state.mapping {
            Mapping::Table(table) => Some(table),
            _ => None,
        }
    }
}
