//! A slot with its lock held: how one comes to it, where it is, and what its record says of itself.
#![forbid(unsafe_code)]

use crate::mm::MemoryManager;
use crate::mm::address::{Frame, PAGES_PER_SLOT, Page};
use crate::mm::frame::Owner;
use crate::mm::mmu::{Attributes, Entry, Level, Mmu};
use crate::mm::slab::Handle;
use crate::mm::slot::{Mapping, Slot, SlotState};
use crate::mm::table::update::{PageChange, install, update, update_pages};
use crate::mm::table::{Links, Pending, Place};
use crate::sync::Guard;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// A slot with its lock held.
pub(in crate::mm) struct LockedSlot<'m, M: Mmu> {
    pub(in crate::mm) mm: &'m MemoryManager<M>,
    /// Which 2 MiB of addresses.
    pub(in crate::mm) number: u64,
    pub(in crate::mm) handle: Handle<Slot>,
    slot: &'m Slot,
    pub(in crate::mm) state: Guard<'m, SlotState>,
}

/// Two slots, locked in the order of their locks.
pub(in crate::mm) struct Pair<'m, M: Mmu> {
    // Dropped in this order: the one that was locked last comes first.
    upper: LockedSlot<'m, M>,
    lower: LockedSlot<'m, M>,
    /// Whether the first that was asked for is the upper one.
    first_is_upper: bool,
}

impl<'m, M: Mmu> Pair<'m, M> {
    /// Locks the slots of two different handles.
    pub(in crate::mm) fn lock(mm: &'m MemoryManager<M>, first: Handle<Slot>, second: Handle<Slot>) -> Self {
        let place = |handle| core::ptr::from_ref(&mm.slots.get(handle).state).addr();
        let first_is_upper = place(first) > place(second);
        let (low, high) = if first_is_upper { (second, first) } else { (first, second) };
        let lower = LockedSlot::of_handle(mm, low);
        Pair { upper: LockedSlot::of_handle(mm, high), lower, first_is_upper }
    }

    /// Both, in the order that they were asked for.
    pub(in crate::mm) fn both(&mut self) -> (&mut LockedSlot<'m, M>, &mut LockedSlot<'m, M>) {
        match self.first_is_upper {
            true => (&mut self.upper, &mut self.lower),
            false => (&mut self.lower, &mut self.upper),
        }
    }
}

impl<'m, M: Mmu> LockedSlot<'m, M> {
    /// Locks the slot of `handle`, which the caller knows to be that of `number`, or learns from the epoch not to be.
    pub(in crate::mm) fn lock(mm: &'m MemoryManager<M>, number: u64, handle: Handle<Slot>) -> Self {
        Self::lock_record(mm, number, handle, mm.slots.get(handle))
    }

    /// Locks the slot of `handle`, whatever addresses it has.
    #[inline]
    pub(in crate::mm) fn of_handle(mm: &'m MemoryManager<M>, handle: Handle<Slot>) -> Self {
        let slot = mm.slots.get(handle);
        let state = slot.state.lock();
        LockedSlot { mm, number: slot.number(), handle, slot, state }
    }

    /// As [`LockedSlot::of_handle`], of the snapshot's slot that is tied to one whose lock the caller holds (SN-3).
    pub(in crate::mm) fn of_tied(mm: &'m MemoryManager<M>, handle: Handle<Slot>) -> Self {
        let slot = mm.slots.get(handle);
        let state = slot.state.lock_nested();
        LockedSlot { mm, number: slot.number(), handle, slot, state }
    }

    /// As [`LockedSlot::lock`], with the record of `handle` at hand.
    #[inline]
    pub(in crate::mm) fn lock_record(
        mm: &'m MemoryManager<M>,
        number: u64,
        handle: Handle<Slot>,
        slot: &'m Slot,
    ) -> Self {
        LockedSlot { mm, number, handle, slot, state: slot.state.lock() }
    }

    /// Locks slot `number`, if any page of it was ever touched.
    #[inline]
    pub(in crate::mm) fn find(mm: &'m MemoryManager<M>, number: u64) -> Option<Self> {
        loop {
            let mut slot = Self::of_handle(mm, mm.directory.find(number)?);
            // Otherwise it went elsewhere meanwhile.
            if slot.number == number || slot.is_at(number) {
                slot.number = number;
                return Some(slot);
            }
        }
    }

    /// Locks the slot of `handle`, if that is one and nobody has it. What the handle came from may be old.
    pub(in crate::mm) fn try_lock(mm: &'m MemoryManager<M>, handle: Handle<Slot>) -> Option<Self> {
        let slot = mm.slots.find(handle)?;
        let state = slot.state.try_lock()?;
        // After the lock was taken: it orders what whoever made the record wrote.
        Some(LockedSlot { mm, number: slot.number(), handle, slot, state })
    }

    /// Whether slot `number` is one of its places.
    pub(in crate::mm) fn is_at(&self, number: u64) -> bool {
        number == self.slot.number() || self.state.places.numbers().iter().any(|&place| u64::from(place) == number)
    }

    /// First page of the slot.
    pub(in crate::mm) fn first(&self) -> Page {
        Page(self.number * PAGES_PER_SLOT as u64)
    }

    pub(in crate::mm) fn epoch(&self) -> u32 {
        self.slot.epoch()
    }

    pub(in crate::mm) fn record(&self) -> &'m Slot {
        self.slot
    }

    /// Tells faults under way that what they know of the regions is old.
    pub(in crate::mm) fn new_epoch(&self) {
        self.slot.epoch.fetch_add(1, Ordering::Release);
    }

    /// Gives the slot other addresses. The caller has exchanged it in the directory with the slot that was there (SP-5).
    pub(in crate::mm) fn move_to_number(&mut self, number: u64) {
        self.number = number;
        self.slot.set_number(number);
        self.new_epoch();
    }

    pub(in crate::mm) fn owner(&self) -> Owner {
        Owner::new(self.handle.raw()).expect("a handle is not zero")
    }

    /// The slot's level-2 descriptor.
    pub(in crate::mm) fn place(&self) -> Place {
        self.place_of(self.number)
    }

    /// The level-2 descriptor of one of the slot's places.
    pub(in crate::mm) fn place_of(&self, number: u64) -> Place {
        let place = self.mm.level_two(Page(number * PAGES_PER_SLOT as u64));
        place.expect("a slot has its level-2 table from the start")
    }

    /// All places of the slot.
    pub(in crate::mm) fn links(&self) -> Links<'_> {
        Links { first: Page(self.slot.number() * PAGES_PER_SLOT as u64), others: self.state.places.numbers() }
    }

    /// Calls `act` with the level-2 descriptors of all places of the slot.
    #[inline]
    pub(super) fn for_each_place(&self, mut act: impl FnMut(Place)) {
        act(self.place_of(self.slot.number()));
        for &number in self.state.places.numbers() {
            act(self.place_of(number.into()));
        }
    }

    pub(in crate::mm) fn set_entry(&self, entry: Entry, pending: &mut Pending) {
        self.for_each_place(|place| update(&self.mm.machine, &self.mm.counters, place, entry, pending));
    }

    /// Writes the slot's level-2 descriptor where none is valid.
    #[inline]
    pub(in crate::mm) fn link(&self, entry: Entry) {
        self.for_each_place(|place| install(&self.mm.machine, place, entry));
    }

    /// Changes pages `range` of the slot's `table`.
    pub(in crate::mm) fn update_pages(
        &self,
        table: Frame,
        range: Range<usize>,
        change: PageChange,
        pending: &mut Pending,
    ) {
        update_pages(&self.mm.machine, &self.mm.counters, table, self.links(), range, change, pending);
    }

    /// The leaf that translates page `index`, if it is present.
    pub(in crate::mm) fn leaf(&self, index: usize) -> Option<(Frame, Attributes)> {
        match self.state.mapping {
            Mapping::Empty => None,
            Mapping::Table(table) => self.mm.machine.read_entry(table, index, Level::Three).leaf(),
            Mapping::Block { .. } => {
                let (frame, attributes) = self.place().read(&self.mm.machine).leaf()?;
                Some((frame + index as u64, attributes))
            }
        }
    }

    /// Whether the pages of the group that begins at index `start` are one translation of 64 KiB.
    pub(in crate::mm) fn is_contiguous(&self, start: usize) -> bool {
        matches!(self.state.mapping, Mapping::Table(table)
            if self.mm.machine.read_entry(table, start, Level::Three).is_contiguous())
    }
}
