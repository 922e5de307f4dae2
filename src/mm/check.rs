//! Checks every invariant of slots, tables and frames against each other: after each step of the model test.
#![forbid(unsafe_code)]

use super::MemoryManager;
use super::address::{Frame, GROUPS_PER_SLOT, PAGES_PER_GROUP, PAGES_PER_SLOT};
use super::huge::HugePolicy;
use super::mmu::{Access, Attributes, Entry, Level, Mmu};
use super::slot::{LockedSlot, Mapping, Role};
use super::table::update::group_of;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

impl<M: Mmu> MemoryManager<M> {
    /// Checks the whole memory manager. Costs time in proportion to the memory in use.
    ///
    /// # Panics
    ///
    /// When an invariant does not hold; the message names it.
    pub fn check(&self) {
        self.frames.check();
        let mut tables = 1 + self.count_level_two();
        let (mut movable, mut settled, mut borrowed, mut freed) = (0, 0, 0, 0);
        for (number, handle) in self.directory.all() {
            let slot = LockedSlot::lock(self, number, handle);
            assert!(slot.is_at(number), "AL-1: slot {number:#x} is elsewhere");
            if number != slot.record().number() {
                continue;
            }
            tables += !matches!(slot.state.mapping, Mapping::Empty) as usize;
            let is_snapshot = slot.state.role == Role::Snapshot;
            assert!(is_snapshot || slot.state.reserve.is_none(), "slot {number:#x} keeps a table for nothing");
            tables += usize::from(slot.state.reserve.is_some());
            let unmovable = slot.away_frames().filter(|&frame| self.frames.is_unmovable(frame)).count();
            movable += slot.state.away.count() - unmovable;
            settled += unmovable;
            borrowed += slot.state.zeros().count();
            freed += slot.state.freed.count();
            slot.check();
        }
        assert_eq!(borrowed, self.zeros.pages(), "ZE-2: pages that are borrowed");
        assert_eq!(freed, self.freed.pages(), "SL-10: pages that may be taken back");
        if let Some(zeros) = self.zeros.block() {
            // One frame after the other: all of them would take too long.
            let index = self.counters.pgfault.get() as usize % PAGES_PER_SLOT;
            assert!(self.machine.is_zero(zeros.frame(index)), "frame {index} of the zero block");
        }
        let records = self.slots.frames() + self.directory.frames();
        let records = records + self.pins.frames() + self.regions.read().frames();
        let statistics = self.frames.statistics();
        assert_eq!(
            statistics.unmovable,
            tables + records + settled,
            "unmovable frames are tables, records, pinned pages"
        );
        assert_eq!(statistics.movable, movable, "movable frames are the pages away from home");
        self.check_pins();
        self.check_charge();
    }

    /// The pins of frames are those of the pins that there are (PI-1).
    fn check_pins(&self) {
        let mut pins = BTreeMap::<u64, u32>::new();
        for (first, count) in self.pinned_extents() {
            (first.0..first.0 + count as u64).for_each(|frame| *pins.entry(frame).or_default() += 1);
        }
        for (&frame, &count) in &pins {
            assert_eq!(self.frames.pins(Frame(frame)), count, "PI-1: pins of {:?}", Frame(frame));
        }
        assert_eq!(self.frames.statistics().pinned, pins.len(), "PI-1: frames that are pinned");
    }

    fn count_level_two(&self) -> usize {
        (0..PAGES_PER_SLOT).filter(|&index| self.machine.read_entry(self.root, index, Level::One).is_valid()).count()
    }

    fn check_charge(&self) {
        let space = self.space.lock();
        let regions = self.regions.read();
        regions.check();
        let (mut page, mut charged) = (0, 0);
        while let Some((range, region)) = regions.next(page) {
            charged += if region.charged { range.end - range.start } else { 0 };
            assert!(region.charged || !region.access.write, "writable pages are charged");
            page = range.end;
        }
        assert_eq!(charged, space.committed, "the charge is that of the regions");
    }

    /// Every region's pages, access and policy, in order: what a test compares its own record with.
    pub fn regions(&self) -> Vec<(Range<u64>, Access, HugePolicy)> {
        let regions = self.regions.read();
        regions.iter().map(|(range, region)| (range, region.access, region.policy)).collect()
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// SL-1 to SL-10 of [`super::slot`].
    fn check(&self) {
        self.check_record();
        let (state, number) = (&*self.state, self.number);
        match state.mapping {
            Mapping::Empty => {}
            Mapping::Block { .. } => {
                let (first, attributes) = self.leaf(0).unzip();
                let is_writable = attributes.is_some_and(|attributes| attributes.access.write);
                assert!(state.freed.is_empty() || state.freed.is_full() && !is_writable, "SL-10: slot {number:#x}");
                let block = state.home.or(self.mm.zeros.block());
                let is_its = state.taken().is_full() || block.map(|block| block.frame(0)) == first;
                assert!(is_its, "SL-3: slot {number:#x}");
                state.zeros().iter().for_each(|index| self.check_zeros(index));
                assert!(state.shared.is_empty() || !is_writable, "SN-1: slot {number:#x}");
            }
            Mapping::Table(table) => {
                (0..PAGES_PER_SLOT).for_each(|index| self.check_page(index));
                (0..PAGES_PER_SLOT).step_by(PAGES_PER_GROUP).for_each(|start| self.check_group(table, start));
            }
        }
        self.check_tie();
        let Some(home) = state.home else { return };
        for group in (0..GROUPS_PER_SLOT).filter(|&group| state.is_zeroed(group)) {
            for index in group_of(group * PAGES_PER_GROUP) {
                assert!(self.mm.machine.is_zero(home.frame(index)), "SL-7: frame {index} of slot {number:#x}");
            }
        }
    }

    /// SN-1 to SN-4 of [`super::snapshot`].
    fn check_tie(&self) {
        let (state, number) = (&*self.state, self.number);
        if state.role == Role::Snapshot {
            let has_table = state.reserve.is_some() || state.mapping != Mapping::Empty;
            return assert!(has_table, "SN-4: slot {number:#x}");
        }
        let Some(snapshot) = self.lock_snapshot() else { return };
        assert_eq!(snapshot.state.tie, Some(self.handle), "slot {number:#x} is tied to one that is not tied to it");
        assert!(
            snapshot.state.present.and(&state.shared).is_empty(),
            "SN-1: slot {number:#x}: a copy of what is shared"
        );
        for index in snapshot.state.taken().iter() {
            assert!(state.shared.get(index), "SN-2: page {index} of slot {number:#x} was taken, and is not shared");
            let (frame, attributes) = snapshot.leaf(index).expect("it is mapped");
            assert_eq!(Some(frame), self.leaf(index).map(|(frame, _)| frame), "SN-2: page {index} of slot {number:#x}");
            assert!(!attributes.access.write, "SN-2: page {index} of slot {number:#x} can be written to");
        }
    }

    /// The frames of pages that are not at home.
    fn away_frames(&self) -> impl Iterator<Item = Frame> + '_ {
        self.state.away.runs().flatten().map(|index| self.leaf(index).expect("an away page is present").0)
    }

    fn check_page(&self, index: usize) {
        let (state, page) = (&*self.state, self.first() + index as u64);
        let leaf = self.leaf(index);
        assert_eq!(leaf.is_some(), state.mapped().get(index), "SL-1: {page:?}");
        let Some((frame, attributes)) = leaf else { return };
        if state.taken().get(index) {
            return;
        }
        if state.borrowed.get(index) {
            return self.check_zeros(index);
        }
        assert!(!(state.shared.get(index) && attributes.access.write), "SN-1: {page:?} can be written to");
        let at_home = state.home.is_some_and(|home| home.frame(index) == frame);
        assert_eq!(at_home, !state.away.get(index), "SL-2: {page:?}");
        if !at_home {
            assert_eq!(self.mm.frames.owner(frame), Some((self.owner(), index)), "{frame:?} of {page:?}");
        }
        // The lock order forbids to take the regions' lock here, so the region's access is checked by the model.
        assert!(!(state.freed.get(index) && attributes.access.write), "SL-10: {page:?} can be written to");
        let may_fault = state.sampled || state.is_cold() || attributes == Attributes::new(attributes.access);
        assert!(may_fault, "SL-9: {page:?} has the access flag clear");
    }

    fn check_zeros(&self, index: usize) {
        let (frame, attributes) = self.leaf(index).expect("it is mapped");
        assert_eq!(self.mm.zeros.block().map(|zeros| zeros.frame(index)), Some(frame), "ZE-1: page {index}");
        assert!(!attributes.access.write, "ZE-1: the zero block can be written to");
    }

    /// The contiguous bit is set in none of a group's 16 descriptors, or in all, and then they are one translation.
    fn check_group(&self, table: Frame, start: usize) {
        let entries: [Entry; PAGES_PER_GROUP] =
            core::array::from_fn(|offset| self.mm.machine.read_entry(table, start + offset, Level::Three));
        if !entries.iter().any(|entry| entry.is_contiguous()) {
            return;
        }
        let (frame, attributes) = entries[0].leaf().expect("a page of a contiguous group is valid");
        assert!(frame.0.is_multiple_of(PAGES_PER_GROUP as u64), "a contiguous group begins at {frame:?}");
        for (entry, offset) in entries.into_iter().zip(0..) {
            assert_eq!(entry, Entry::Page { frame: frame + offset, attributes, contiguous: true });
        }
    }
}
