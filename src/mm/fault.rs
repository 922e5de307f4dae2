//! Faults: a first touch gets a block, a group or a page, never a failure for want of a block.
//!
//! A fault looks its region up under the regions' lock, which it shares with all other faults, then takes the lock of its slot
//! and compares the epoch: had a region over the slot changed in between, it starts again (SP-3 of [`super::space`]). Under the slot's lock it allocates (bounded, without reclaim),
//! zeroes at most two groups and writes descriptors. A fault that finds no frame lets go of the lock, takes memory
//! back, and starts again.
#![forbid(unsafe_code)]

use super::address::{Block, Frame, LOWER_END, PAGES_PER_GROUP, PAGES_PER_SLOT, Page, VirtAddr};
use super::frame::Class;
use super::huge::FaultMode;
use super::mmu::{Access, Attributes, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, Slot};
use super::space::Region;
use super::table::update::group_of;
use super::{FaultError, MemoryManager};
use core::ops::Range;

/// log2 of the frames of a group.
const GROUP_ORDER: u32 = PAGES_PER_GROUP.trailing_zeros();

/// What a fault found under the regions' lock.
struct Target {
    page: Page,
    access: Access,
    range: Range<u64>,
    region: Region,
    slot: Handle<Slot>,
    epoch: u32,
}

impl Target {
    /// The part of the slot that the region covers, as indices.
    fn covered(&self) -> Range<usize> {
        let first = self.page.0 - self.page.index() as u64;
        let end = self.range.end.min(first + PAGES_PER_SLOT as u64);
        (self.range.start.max(first) - first) as usize..(end - first) as usize
    }
}

/// How an attempt under the slot's lock ended.
enum Attempt {
    /// The access goes through now.
    Done,
    /// What was known is old: look again.
    Retry,
    /// No frame is free.
    NoMemory,
}

impl<M: Mmu> MemoryManager<M> {
    /// Makes an access of kind `access` at `address` possible, after it faulted (or before it happens).
    ///
    /// # Errors
    ///
    /// The address is in no region, the region does not allow the access, or there is no memory left: no free frame, no
    /// absent one to take back, no zero page.
    pub fn fault(&self, address: VirtAddr, access: Access) -> Result<(), FaultError> {
        loop {
            let attempt = match self.target(address, access)? {
                Some(target) => self.attempt(&target),
                None => Attempt::NoMemory,
            };
            match attempt {
                Attempt::Done => return Ok(()),
                Attempt::Retry => {
                    self.counters.fault_retry.increment();
                    self.wait();
                }
                Attempt::NoMemory if self.reclaim() => {}
                Attempt::NoMemory => {
                    self.counters.out_of_memory.increment();
                    return Err(FaultError::OutOfMemory { address });
                }
            }
        }
    }

    /// Makes every page of `length` bytes from `start` present, as its region allows.
    ///
    /// # Errors
    ///
    /// As [`MemoryManager::fault`], for the first page that cannot be had; earlier ones stay.
    pub fn populate(&self, start: VirtAddr, length: usize) -> Result<(), FaultError> {
        let pages = super::address::pages_covering(start, length).ok_or(FaultError::NoRegion { address: start })?;
        for page in pages.map(Page) {
            let (_, Region { access, .. }) =
                self.region(page.start()).ok_or(FaultError::NoRegion { address: page.start() })?;
            let present = self
                .directory
                .get(page.slot())
                .is_some_and(|handle| LockedSlot::lock(self, page.slot(), handle).state.present.get(page.index()));
            if !present && access != Access::NONE {
                self.fault(page.start(), Access { execute: false, ..access })?;
            }
            crate::sync::breathe();
        }
        Ok(())
    }

    /// The region over `address`, with its range of pages.
    pub fn region(&self, address: VirtAddr) -> Option<(Range<u64>, Region)> {
        if address.0 >= LOWER_END {
            return None;
        }
        self.regions.read().find(address.page().0)
    }

    /// Looks up the region and the slot, and makes the slot's record if this is its first touch. `None` without memory for that.
    fn target(&self, address: VirtAddr, access: Access) -> Result<Option<Target>, FaultError> {
        if address.0 >= LOWER_END {
            return Err(FaultError::NoRegion { address });
        }
        let page = address.page();
        let regions = self.regions.read();
        let Some((range, region)) = regions.find(page.0) else {
            return Err(FaultError::NoRegion { address });
        };
        if !region.access.permits(access) {
            return Err(FaultError::Denied { address, wanted: access, allowed: region.access });
        }
        let slot = match self.directory.get(page.slot()) {
            Some(slot) => slot,
            None => match self.new_slot(page) {
                Some(slot) => slot,
                None => return Ok(None),
            },
        };
        let epoch = self.slots.get(slot).epoch();
        Ok(Some(Target { page, access, range, region, slot, epoch }))
    }

    /// Makes the record of a slot that is touched first, unless another core is faster. Holds the regions' lock.
    fn new_slot(&self, page: Page) -> Option<Handle<Slot>> {
        if !self.open(page) {
            return None;
        }
        let handle = self.slot_caches.take(&self.slots, &self.source())?;
        self.slots.get(handle).set_number(page.slot());
        match self.directory.enter(page.slot(), handle) {
            Ok(()) => Some(handle),
            Err(found) => {
                self.slot_caches.keep(&self.slots, &[handle]);
                Some(found)
            }
        }
    }

    /// Sees to it that the GiB around `page` has its level-2 table and its part of the directory. False without memory.
    fn open(&self, page: Page) -> bool {
        if self.directory.has_room(page.slot()) {
            return true;
        }
        let _opening = self.opening.lock();
        // The table comes first: where there is room in the directory, there is a table.
        self.ensure_level_two(page) && self.directory.make_room(page.slot(), &self.source())
    }

    fn attempt(&self, target: &Target) -> Attempt {
        let mut slot = LockedSlot::lock(self, target.page.slot(), target.slot);
        if slot.epoch() != target.epoch || slot.state.filling {
            return Attempt::Retry;
        }
        if let Some((_, attributes)) = slot.leaf(target.page.index()) {
            if attributes.permits(target.access) {
                self.counters.spurious_fault.increment();
            } else {
                // The region allows it, so an operation that changed the region is still to come to this slot.
                slot.protect(target.covered(), Attributes::new(target.region.access));
                self.counters.pgfault.increment();
            }
            return Attempt::Done;
        }
        let attributes = Attributes::new(target.region.access);
        let huge = self.policy.allows(target.region.policy);
        let whole = target.covered() == (0..PAGES_PER_SLOT);
        if slot.state.mapping != Mapping::Empty {
            return slot.fill_table(target, attributes, huge);
        }
        let mode = self.policy.fault_mode();
        match self.first_block(&slot, mode, huge, whole) {
            Some(block) if mode == FaultMode::Eager => {
                slot.state.filling = true;
                drop(slot);
                self.fill_block(target, block, attributes)
            }
            home => slot.first_touch(target, home, attributes, huge),
        }
    }

    /// A free block for a slot that has nothing yet, if one may be used; else counts why not.
    fn first_block(&self, slot: &LockedSlot<'_, M>, mode: FaultMode, huge: bool, whole: bool) -> Option<Block> {
        debug_assert!(slot.state.home.is_none());
        let counters = &self.counters;
        if !huge {
            counters.thp_fault_fallback_policy.increment();
            return None;
        }
        if !whole {
            counters.thp_fault_fallback_unaligned.increment();
            return None;
        }
        let absent = match mode {
            FaultMode::Adaptive => PAGES_PER_SLOT - PAGES_PER_GROUP,
            FaultMode::Eager => 0,
        };
        let block = self.frames.allocate_home(slot.owner(), absent);
        match block {
            Some(_) => counters.thp_fault_alloc.increment(),
            None => counters.thp_fault_fallback.increment(),
        }
        block
    }

    /// Zeroes `block` outside the slot's lock, while the slot says that it is being filled, and maps it.
    fn fill_block(&self, target: &Target, block: Block, attributes: Attributes) -> Attempt {
        self.zero(block.frame(0), PAGES_PER_SLOT);
        let mut slot = LockedSlot::lock(self, target.page.slot(), target.slot);
        slot.state.filling = false;
        if slot.epoch() != target.epoch {
            drop(slot);
            self.frames.end_home(block);
            return Attempt::Retry;
        }
        let Some(deposit) = slot.new_table() else {
            drop(slot);
            self.frames.end_home(block);
            return Attempt::NoMemory;
        };
        slot.map_block(block, deposit, attributes);
        self.counters.pgfault.increment();
        self.counters.pgfault_block.increment();
        Attempt::Done
    }

    /// Zeroes `count` frames for the application.
    pub(super) fn zero(&self, first: Frame, count: usize) {
        self.machine.zero(first, count);
        self.counters.zeroed_bytes.add((count * super::address::PAGE_SIZE) as u64);
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// First touch of an empty slot: makes a table, takes `home` in if there is one, and maps the first group or page.
    fn first_touch(&mut self, target: &Target, home: Option<Block>, attributes: Attributes, huge: bool) -> Attempt {
        let Some(table) = self.new_table() else {
            if let Some(block) = home {
                self.mm.frames.end_home(block);
            }
            return Attempt::NoMemory;
        };
        self.state.home = home;
        if self.map_unit(table, target, attributes, huge) {
            return Attempt::Done;
        }
        debug_assert!(home.is_none(), "a home has a frame for each page");
        self.mm.frames.free(table, 0);
        Attempt::NoMemory
    }

    /// A further touch of a slot that has a table. Past the half, each touch fills one more group; a full slot promotes.
    fn fill_table(&mut self, target: &Target, attributes: Attributes, huge: bool) -> Attempt {
        let Mapping::Table(table) = self.state.mapping else {
            panic!("{:?} is absent from a block", target.page);
        };
        if !self.map_unit(table, target, attributes, huge) {
            return Attempt::NoMemory;
        }
        if huge && self.state.home.is_some() && target.covered() == (0..PAGES_PER_SLOT) {
            if self.state.present.count() >= PAGES_PER_SLOT / 2 {
                self.fill_another(table, target.page.index(), attributes);
            }
            self.promote();
        }
        Attempt::Done
    }

    /// Maps the group of the page, where the whole group is free and may be used, else the page. At home when there is one, else
    /// wherever there are frames. False without a frame.
    fn map_unit(&mut self, table: Frame, target: &Target, attributes: Attributes, huge: bool) -> bool {
        let index = target.page.index();
        let group = group_of(index);
        let covered = target.covered();
        let counters = &self.mm.counters;
        let fits = covered.start <= group.start && group.end <= covered.end;
        if huge && fits && self.group_is_free(group.start) {
            let frame = match self.state.home {
                Some(home) => Some(home.frame(group.start)),
                None => self.mm.frames.allocate(GROUP_ORDER, Class::Movable),
            };
            if let Some(frame) = frame {
                self.mm.zero(frame, PAGES_PER_GROUP);
                self.install(table, group, frame, attributes);
                counters.pgfault.increment();
                counters.pgfault_group.increment();
                return true;
            }
            counters.group_fault_fallback.increment();
        }
        let frame = match self.state.home {
            Some(home) => home.frame(index),
            None => match self.mm.frames.allocate(0, Class::Movable) {
                Some(frame) => frame,
                None => return false,
            },
        };
        self.mm.zero(frame, 1);
        self.install(table, index..index + 1, frame, attributes);
        counters.pgfault.increment();
        counters.pgfault_page.increment();
        true
    }

    /// Maps the next group after page `index` that was never touched: a slot in use by half is filled, a group at a time,
    /// so that no touch waits for more than two.
    fn fill_another(&mut self, table: Frame, index: usize, attributes: Attributes) {
        let Some(home) = self.state.home else { return };
        let groups = (1..=PAGES_PER_SLOT / PAGES_PER_GROUP).map(|ahead| {
            let group = index / PAGES_PER_GROUP + ahead;
            group % (PAGES_PER_SLOT / PAGES_PER_GROUP) * PAGES_PER_GROUP
        });
        let untouched = |start: &usize| {
            let group = *start..*start + PAGES_PER_GROUP;
            !self.state.present.any_in(group.clone()) && !self.state.released.any_in(group)
        };
        if let Some(start) = { groups }.find(untouched) {
            self.mm.zero(home.frame(start), PAGES_PER_GROUP);
            self.install(table, start..start + PAGES_PER_GROUP, home.frame(start), attributes);
        }
    }
}
