//! Aliases: memory that is mapped at several places, so that what is written at one is read at the other.
//!
//! Whole slots are mapped so, and a slot stays one slot: the directory names the same record at all of its *places*, and the
//! same table, or block, is linked there. Whatever is done to it under its lock (split, promote, migrate, collapse, pin,
//! dissolve, release) is done at all places at once; what is cached is invalidated for each.
//!
//! - **AL-1** The level-2 descriptors of all places of a slot are equal whenever its lock is free, and the directory names its
//!   record there, and nowhere else.
//! - **AL-2** Places come and go under the space's lock and, as in a remap (SP-5), the regions' lock for writing, with a new epoch.
//! - **AL-3** The record that was there is *parked* meanwhile: it has no addresses, and nothing in it.
#![forbid(unsafe_code)]

use super::address::{BLOCK_SIZE, LOWER_END, PAGE_SIZE, PAGES_PER_SLOT, Page, VirtAddr, slots_of};
use super::mmu::{Entry, Mmu};
use super::remap::Destination;
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, NOWHERE, Slot};
use super::space::check_range;
use super::table::update::{install, update};
use super::table::{Links, Pending};
use super::{MemoryError, MemoryManager};
use core::ops::Range;
use core::sync::atomic::Ordering;

/// The most places at which a slot can be mapped.
pub const MOST_PLACES: usize = 4;

/// The places of a slot beside that of its record, each with the record that is parked for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    count: u32,
    numbers: [u32; MOST_PLACES - 1],
    /// Handles.
    parked: [u32; MOST_PLACES - 1],
}

impl Places {
    /// By the numbers of their slots.
    #[inline]
    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers[..self.count as usize]
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn is_full(&self) -> bool {
        self.count as usize == self.numbers.len()
    }

    fn add(&mut self, number: u64, parked: Handle<Slot>) {
        let at = self.count as usize;
        (self.numbers[at], self.parked[at]) = (number as u32, parked.raw());
        self.count += 1;
    }

    /// Removes place `number`, or the last one if that is none of them. Returns which, and what was parked for it.
    fn remove(&mut self, number: u64) -> (u64, Handle<Slot>) {
        let last = self.count as usize - 1;
        let at = self.numbers().iter().position(|&place| u64::from(place) == number).unwrap_or(last);
        let removed = (self.numbers[at].into(), Handle::from_raw(self.parked[at]).expect("a record was parked"));
        (self.numbers[at], self.parked[at], self.count) = (self.numbers[last], self.parked[last], last as u32);
        removed
    }
}

const _: () = assert!(LOWER_END / (BLOCK_SIZE as u64) < u32::MAX as u64);

impl<M: Mmu> MemoryManager<M> {
    /// Maps `length` bytes from `start`, which are of one region, at other addresses as well: both are the same memory from here on,
    /// with the same access, until one of them is unmapped. Whole slots only; at four places at most. Each place counts against the
    /// commit limit.
    ///
    /// # Errors
    ///
    /// A bad range, as source or as destination, and [`PartOfSlot`](MemoryError::PartOfSlot); a page that is not mapped, a second
    /// region; [`Overlap`](MemoryError::Overlap) and [`IntoItself`](MemoryError::IntoItself); [`Shared`](MemoryError::Shared) where
    /// it has four places, or a snapshot, or is one; the commit limit; no memory for records. Nothing is changed.
    pub fn alias(&self, start: VirtAddr, length: usize, to: Destination) -> Result<Range<VirtAddr>, MemoryError> {
        let from = whole_slots(start, length)?;
        let to = self.reclaiming(|| self.try_alias(&from, length, to))?;
        Ok(Page(to.start).start()..Page(to.end).start())
    }

    fn try_alias(&self, from: &Range<u64>, length: usize, to: Destination) -> Result<Range<u64>, MemoryError> {
        let mut space = self.space.lock();
        let (_, region) = self.only_region(from)?;
        let pages = from.end - from.start;
        let there = match to {
            Destination::At(address) | Destination::Over(address) => {
                let there = whole_slots(address, length)?;
                self.expect_place(from, &there, to)?;
                there
            }
            Destination::Here | Destination::Anywhere => self.gap_like(0, pages)?,
        };
        // Two cuts, and the region.
        self.regions.write().reserve(&self.source(), 3).map_err(|_| MemoryError::NoMemory)?;
        let ahead = Page(there.start).slot().wrapping_sub(Page(from.start).slot());
        for number in slots_of(from) {
            self.may_have_place(number, number.wrapping_add(ahead))?;
        }
        let charge = if region.charged { pages } else { 0 };
        self.charge(&mut space, charge)?;
        // Nothing fails from here on.
        if let Destination::Over(_) = to {
            self.make_way(&mut space, &there);
        }
        for number in slots_of(from) {
            self.add_place(number, number.wrapping_add(ahead));
            crate::sync::breathe();
        }
        self.insert(&there, region);
        Ok(there)
    }

    /// Sees to it that slot `number` has a record, and `place` one to be parked; and that the slot may be mapped there too.
    fn may_have_place(&self, number: u64, place: u64) -> Result<(), MemoryError> {
        let record = |number: u64| self.slot_at(Page(number * PAGES_PER_SLOT as u64)).ok_or(MemoryError::NoMemory);
        record(place)?;
        let slot = LockedSlot::lock(self, number, record(number)?);
        match slot.state.places.is_full() || !slot.state.shared.is_empty() {
            true => Err(MemoryError::Shared { address: slot.first().start() }),
            false => Ok(()),
        }
    }

    /// Maps slot `number` at `place` as well, where nothing is.
    fn add_place(&self, number: u64, place: u64) {
        let _regions = self.regions.write();
        let (Some(handle), Some(parked)) = (self.directory.get(number), self.directory.get(place)) else { return };
        let mut empty = LockedSlot::of_handle(self, parked);
        debug_assert_eq!(empty.state.mapping, Mapping::Empty);
        empty.move_to_number(NOWHERE);
        drop(empty);
        let mut slot = LockedSlot::lock(self, number, handle);
        slot.new_epoch();
        let entry = slot.place().read(&self.machine);
        slot.state.places.add(place, parked);
        self.shares.fetch_add(1, Ordering::Relaxed);
        if entry != Entry::Invalid {
            install(&self.machine, slot.place_of(place), entry);
        }
        self.directory.replace(place, handle);
    }

    /// Takes place `number` away from the slot of `handle`, which has others.
    pub(super) fn leave_place(&self, number: u64, handle: Handle<Slot>) {
        let _regions = self.regions.write();
        let mut slot = LockedSlot::lock(self, number, handle);
        slot.new_epoch();
        let mut pending = Pending::new();
        slot.unlink_place(number, &mut pending);
        self.settle(&mut pending);
        let is_first = number == slot.record().number();
        let (place, parked) = slot.state.places.remove(number);
        self.shares.fetch_sub(1, Ordering::Relaxed);
        if is_first {
            slot.move_to_number(place);
        }
        drop(slot);
        LockedSlot::of_handle(self, parked).move_to_number(number);
        self.directory.replace(number, parked);
    }

    /// At how many places the page at `address` is mapped: none, if it is not present. (Linux: the page's map count.)
    pub fn map_count(&self, address: VirtAddr) -> usize {
        let slot = LockedSlot::find(self, address.page().slot());
        let is_mapped = |slot: &LockedSlot<'_, M>| slot.state.mapped().get(address.page().index());
        slot.filter(is_mapped).map_or(0, |slot| {
            let taken = slot.lock_snapshot().is_some_and(|other| other.state.taken().get(address.page().index()));
            1 + slot.state.places.numbers().len() + usize::from(taken)
        })
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Takes the level-2 descriptor of one place out, and adds what may be cached of it to `pending`.
    fn unlink_place(&self, number: u64, pending: &mut Pending) {
        let place = Links { first: Page(number * PAGES_PER_SLOT as u64), others: &[] };
        if let Mapping::Table(_) = self.state.mapping {
            self.state.mapped().runs().for_each(|run| place.owe(run, pending));
        }
        update(&self.mm.machine, &self.mm.counters, self.place_of(number), Entry::Invalid, pending);
    }
}

/// The pages of `length` bytes from `start`, if they are whole slots.
fn whole_slots(start: VirtAddr, length: usize) -> Result<Range<u64>, MemoryError> {
    let range = check_range(start, length)?;
    for border in [range.start, range.end] {
        if Page(border).index() > 0 {
            return Err(MemoryError::PartOfSlot { address: VirtAddr(border * PAGE_SIZE as u64) });
        }
    }
    Ok(range)
}
