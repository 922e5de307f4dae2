//! Faults: from an address to its slot, and under the slot's lock to what [`super::touch`] makes of it.
//!
//! A fault looks its region up under the regions' lock, which it shares with all other faults, then takes the lock of its slot
//! and compares the epoch: had a region over the slot changed in between, it starts again (SP-3 of [`super::space`]). A fault
//! that finds no frame lets go of the lock, takes memory back, and starts again.
#![forbid(unsafe_code)]

use super::address::{Block, Frame, LOWER_END, PAGES_PER_SLOT, Page, VirtAddr};
use super::huge::{HugePolicy, Shortage};
use super::mmu::{Access, Attributes, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, Slot};
use super::space::Region;
use super::{FaultError, MemoryManager};
use core::ops::Range;

/// What a fault found under the regions' lock.
pub(super) struct Target<'m> {
    pub(super) page: Page,
    /// What the fault wants to do.
    access: Access,
    /// What the region allows.
    pub(super) attributes: Attributes,
    /// The part of the slot that the region covers, as indices.
    pub(super) covered: Range<usize>,
    /// The region covers the slot before this one as well.
    pub(super) continues: bool,
    /// Blocks and groups may be used.
    pub(super) huge: bool,
    pub(super) handle: Handle<Slot>,
    pub(super) slot: &'m Slot,
    pub(super) epoch: u32,
    /// The region's wish.
    pub(super) wish: HugePolicy,
    /// It may still wait for a block to be made free.
    pub(super) patient: bool,
}

impl Target<'_> {
    /// Whether the region covers the slot.
    pub(super) fn is_whole(&self) -> bool {
        self.covered.len() == PAGES_PER_SLOT
    }
}

/// Why there is no target.
enum NoTarget {
    Error(FaultError),
    /// No memory for the record of the slot.
    NoMemory,
}

/// How an attempt under the slot's lock ended.
pub(super) enum Attempt {
    /// The access goes through now.
    Done,
    /// What was known is old: look again.
    Retry,
    /// No frame is free.
    NoMemory,
    /// No block is free, and the policy is to wait for one.
    Compact,
    /// A block is to be zeroed, outside the slot's lock, and mapped with its deposit.
    Fill(Block, Frame),
}

impl<M: Mmu> MemoryManager<M> {
    /// Makes an access of kind `access` at `address` possible, after it faulted (or before it happens).
    ///
    /// # Errors
    ///
    /// The address is in no region, the region does not allow the access, or there is no memory left: no free frame, no
    /// absent one to take back, no zero page.
    pub fn fault(&self, address: VirtAddr, access: Access) -> Result<(), FaultError> {
        match self.try_fault(address, access, true)? {
            Attempt::Done => Ok(()),
            attempt => self.fault_again(address, access, attempt),
        }
    }

    /// What follows a first attempt that was not enough: apart, so that the first pays nothing for it.
    #[cold]
    #[inline(never)]
    fn fault_again(&self, address: VirtAddr, access: Access, first: Attempt) -> Result<(), FaultError> {
        let mut attempt = first;
        let mut shortage = Shortage::new();
        let mut patient = true;
        loop {
            match attempt {
                Attempt::Done => return Ok(()),
                // Made or not, it is not waited for again: others may be faster.
                Attempt::Compact => {
                    patient = false;
                    let _stall = self.pressure.stall();
                    self.compact_directly();
                }
                Attempt::Retry => {
                    self.counters.fault_retry.increment();
                    self.wait();
                }
                Attempt::NoMemory if self.ease(&mut shortage) => {}
                Attempt::Fill(..) => unreachable!("an attempt fills what is to be filled"),
                Attempt::NoMemory => {
                    self.counters.out_of_memory.increment();
                    return Err(FaultError::OutOfMemory { address });
                }
            }
            attempt = self.try_fault(address, access, patient)?;
        }
    }

    #[inline]
    fn try_fault(&self, address: VirtAddr, access: Access, patient: bool) -> Result<Attempt, FaultError> {
        match self.target(address, access, patient) {
            Ok(target) => Ok(self.attempt(&target)),
            Err(NoTarget::NoMemory) => Ok(Attempt::NoMemory),
            Err(NoTarget::Error(error)) => Err(error),
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
            let slot = LockedSlot::find(self, page.slot());
            let present = slot.is_some_and(|slot| slot.state.present.get(page.index()));
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

    /// Looks up the region and the slot, and makes the slot's record if this is its first touch.
    #[inline]
    fn target(&self, address: VirtAddr, access: Access, patient: bool) -> Result<Target<'_>, NoTarget> {
        if address.0 >= LOWER_END {
            return Err(NoTarget::Error(FaultError::NoRegion { address }));
        }
        let page = address.page();
        let regions = self.regions.read();
        let Some((range, region)) = regions.find(page.0) else {
            return Err(NoTarget::Error(FaultError::NoRegion { address }));
        };
        if !region.access.permits(access) {
            let denied = FaultError::Denied { address, wanted: access, allowed: region.access };
            return Err(NoTarget::Error(denied));
        }
        let Some(handle) = self.slot_at(page) else {
            return Err(NoTarget::NoMemory);
        };
        let slot = self.slots.get(handle);
        let first = page.0 - page.index() as u64;
        let end = range.end.min(first + PAGES_PER_SLOT as u64);
        Ok(Target {
            page,
            access,
            attributes: Attributes::new(region.access),
            covered: range.start.saturating_sub(first) as usize..(end - first) as usize,
            continues: range.start + PAGES_PER_SLOT as u64 <= first,
            huge: self.policy.allows(region.policy),
            handle,
            slot,
            epoch: slot.epoch(),
            wish: region.policy,
            patient,
        })
    }

    /// The record of the slot of `page`, made if there is none. `None` without memory.
    #[inline]
    pub(super) fn slot_at(&self, page: Page) -> Option<Handle<Slot>> {
        self.directory.get(page.slot()).or_else(|| self.new_slot(page))
    }

    /// Makes the record of a slot that is touched first, unless another core is faster.
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

    #[inline(never)]
    fn attempt(&self, target: &Target<'_>) -> Attempt {
        let mut slot = LockedSlot::of(self, target);
        if slot.epoch() != target.epoch || slot.state.filling {
            return Attempt::Retry;
        }
        if let Some((_, attributes)) = slot.leaf(target.page.index()) {
            if attributes.permits(target.access) {
                self.counters.spurious_fault.increment();
            } else {
                slot.permit(target, attributes);
            }
            return Attempt::Done;
        }
        let attempt = match slot.state.mapping {
            Mapping::Empty => slot.first_touch(target),
            _ => slot.fill_table(target),
        };
        match attempt {
            Attempt::Fill(block, deposit) => {
                slot.state.filling = true;
                drop(slot);
                self.fill_block(target, block, deposit)
            }
            other => other,
        }
    }
}

impl<'m, M: Mmu> LockedSlot<'m, M> {
    /// Has the present page of `target`, mapped with `attributes`, allow what the region does.
    #[cold]
    #[inline(never)]
    fn permit(&mut self, target: &Target<'_>, attributes: Attributes) {
        if attributes.access.permits(target.access) {
            self.set_accessed(target.page.index(), true);
            self.mm.counters.access_flag_fault.increment();
        } else {
            // An operation that changed the region is still to come to this slot.
            self.protect(target.covered.clone(), target.attributes);
            self.mm.counters.pgfault.increment();
        }
    }

    /// Locks the slot of `target`.
    pub(super) fn of(mm: &'m MemoryManager<M>, target: &Target<'m>) -> Self {
        LockedSlot::lock_record(mm, target.page.slot(), target.handle, target.slot)
    }
}
