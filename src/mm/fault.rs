//! Faults: from an address to its slot, and under the slot's lock to what `touch` makes of it.
//!
//! A fault looks its region up under the regions' lock, which it shares with all other faults, then takes the lock of its slot
//! and compares the epoch: had a region over the slot changed in between, it starts again (SP-3 of [`super::space`]). A fault
//! that finds no frame lets go of the lock, takes memory back, and starts again.
#![forbid(unsafe_code)]

use super::address::{Block, Frame, LOWER_END, PAGES_PER_SLOT, Page, VirtAddr};
use super::huge::{HugePolicy, Mechanism, Shortage};
use super::mmu::{Access, Attributes, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, Role, Slot};
use super::space::Region;
use super::{FaultError, MemoryManager};
use core::ops::Range;

/// What a fault found under the regions' lock.
#[derive(Clone)]
pub(super) struct Target<'m> {
    pub(super) page: Page,
    /// What the fault wants to do.
    pub(super) access: Access,
    /// What the region allows.
    pub(super) attributes: Attributes,
    /// The part of the slot that the region covers, as indices.
    pub(super) covered: Range<usize>,
    /// The region covers the slot before this one as well.
    pub(super) continues: bool,
    /// Blocks and groups may be used.
    pub(super) huge: bool,
    /// A touch may map a group: looked up once, since what a home has of absent frames depends on it.
    pub(super) groups: bool,
    pub(super) handle: Handle<Slot>,
    pub(super) slot: &'m Slot,
    pub(super) epoch: u32,
    /// The region's wish.
    pub(super) wish: HugePolicy,
    /// How it is tried.
    pub(super) manner: Manner,
}

/// How a fault is tried.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// It may still wait for a block to be made free.
    pub(super) patient: bool,
    /// What is only read may be mapped to the zero block.
    zeros: bool,
    /// The page is to have memory of its own, even if it is only read.
    pub(super) own: bool,
}

impl Manner {
    const FIRST: Manner = Manner { patient: true, zeros: true, own: false };
}

impl Target<'_> {
    /// Whether the region covers the slot.
    pub(super) fn is_whole(&self) -> bool {
        self.covered.len() == PAGES_PER_SLOT
    }

    /// Whether the region covers `pages` of the slot.
    pub(super) fn covers(&self, pages: &Range<usize>) -> bool {
        self.covered.start <= pages.start && pages.end <= self.covered.end
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
    /// The zero block is to be made.
    Zeros,
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
        match self.try_fault(address, access, Manner::FIRST)? {
            Attempt::Done => Ok(()),
            attempt => self.fault_again(address, access, Manner::FIRST, attempt),
        }
    }

    /// As [`MemoryManager::fault`], and the page has memory of its own then.
    pub(super) fn fault_own(&self, address: VirtAddr, access: Access) -> Result<(), FaultError> {
        let manner = Manner { own: true, zeros: false, ..Manner::FIRST };
        let first = self.try_fault(address, access, manner)?;
        self.fault_again(address, access, manner, first)
    }

    /// What follows a first attempt that was not enough: apart, so that the first pays nothing for it.
    #[cold]
    #[inline(never)]
    fn fault_again(&self, address: VirtAddr, access: Access, manner: Manner, first: Attempt) -> Result<(), FaultError> {
        let (mut attempt, mut manner) = (first, manner);
        let (mut shortage, mut made_zeros) = (Shortage::new(), false);
        loop {
            match attempt {
                Attempt::Done => return Ok(()),
                // Made or not, it is not waited for again: others may be faster.
                Attempt::Compact => {
                    manner.patient = false;
                    let _stall = self.pressure.stall();
                    self.compact_directly();
                }
                Attempt::Retry => {
                    self.counters.fault_retry.increment();
                    self.wait();
                }
                // Once: short of memory, it is taken back as soon as it is made.
                Attempt::Zeros => manner.zeros = !core::mem::replace(&mut made_zeros, true) && self.make_zeros(),
                Attempt::NoMemory if self.ease(&mut shortage) => {}
                Attempt::Fill(..) => unreachable!("an attempt fills what is to be filled"),
                Attempt::NoMemory => {
                    self.counters.out_of_memory.increment();
                    return Err(FaultError::OutOfMemory { address });
                }
            }
            attempt = self.try_fault(address, access, manner)?;
        }
    }

    #[inline]
    fn try_fault(&self, address: VirtAddr, access: Access, manner: Manner) -> Result<Attempt, FaultError> {
        match self.target(address, access, manner) {
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
        self.populate_as(start, length, |region| Access { execute: false, ..region.access })
    }

    /// Makes an access of kind `access` possible to every page of `length` bytes from `start` (Linux: `MADV_POPULATE_READ`,
    /// `MADV_POPULATE_WRITE`): what is to be read only may be mapped to the zero block, what is to be written has memory of its
    /// own.
    ///
    /// # Errors
    ///
    /// As [`MemoryManager::fault`], for the first page that cannot be had, or does not allow it; earlier ones stay.
    pub fn populate_for(&self, start: VirtAddr, length: usize, access: Access) -> Result<(), FaultError> {
        self.populate_as(start, length, |_| access)
    }

    fn populate_as(&self, start: VirtAddr, length: usize, wanted: impl Fn(Region) -> Access) -> Result<(), FaultError> {
        let pages = super::address::pages_covering(start, length).ok_or(FaultError::NoRegion { address: start })?;
        for page in pages.map(Page) {
            let (_, region) = self.region(page.start()).ok_or(FaultError::NoRegion { address: page.start() })?;
            let slot = LockedSlot::find(self, page.slot());
            let access = wanted(region);
            let permitted = |(_, attributes): (Frame, Attributes)| attributes.permits(access);
            let is_there = slot.is_some_and(|slot| slot.leaf(page.index()).is_some_and(permitted));
            if !is_there && access != Access::NONE {
                self.fault(page.start(), access)?;
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
    fn target(&self, address: VirtAddr, access: Access, manner: Manner) -> Result<Target<'_>, NoTarget> {
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
            groups: self.policy.has(Mechanism::Groups),
            handle,
            slot,
            epoch: slot.epoch(),
            wish: region.policy,
            manner,
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
        if slot.epoch() != target.epoch {
            return Attempt::Retry;
        }
        match slot.state.role {
            Role::Plain => {}
            Role::Cold => slot.warm(),
            Role::Filling | Role::Closed => return Attempt::Retry,
            Role::Snapshot => {
                let tie = slot.state.tie;
                drop(slot);
                return self.attempt_in_snapshot(target, tie);
            }
        }
        if let Some((_, attributes)) = slot.leaf(target.page.index()) {
            if attributes.permits(target.access) && !target.manner.own {
                self.counters.spurious_fault.increment();
                return Attempt::Done;
            }
            if let Some(attempt) = slot.permit(target, attributes) {
                return attempt;
            }
        }
        match slot.attempt_absent(target) {
            Attempt::Fill(block, deposit) => {
                slot.state.role = Role::Filling;
                drop(slot);
                self.fill_block(target, block, deposit)
            }
            other => other,
        }
    }
}

impl<'m, M: Mmu> LockedSlot<'m, M> {
    /// Whether the absent page of `target`, which is not written, is to be mapped to the zero block.
    #[cold]
    #[inline(never)]
    fn may_be_zeros(&self, target: &Target<'_>) -> bool {
        // Nothing is fetched from there: it was never made fetchable.
        let Access { read, execute, .. } = target.attributes.access;
        target.manner.zeros && read && !execute && self.mm.policy.uses_zero_page()
    }

    /// What a touch of the absent page of `target` does.
    #[inline]
    pub(super) fn attempt_absent(&mut self, target: &Target<'_>) -> Attempt {
        if !target.access.write && self.may_be_zeros(target) {
            return self.map_zeros(target);
        }
        match self.state.mapping {
            Mapping::Empty => self.first_touch(target),
            _ => self.fill_table(target),
        }
    }

    /// Has the page of `target`, mapped with `attributes`, allow what the region does. `None` if it is absent now, to get memory of
    /// its own.
    #[cold]
    #[inline(never)]
    fn permit(&mut self, target: &Target<'_>, attributes: Attributes) -> Option<Attempt> {
        if self.state.borrowed.get(target.page.index()) && (target.access.write || target.manner.own) {
            self.make_way(target);
            return None;
        }
        if attributes.permits(target.access) {
            self.mm.counters.spurious_fault.increment();
        } else if attributes.access.permits(target.access) {
            self.set_accessed(target.page.index(), true);
            self.mm.counters.access_flag_fault.increment();
        } else if self.state.freed.get(target.page.index()) {
            self.keep_freed(target);
        } else if self.state.shared.get(target.page.index()) && target.access.write {
            return Some(self.write_shared(target));
        } else {
            // An operation that changed the region is still to come to this slot.
            self.protect(target.covered.clone(), target.attributes);
            self.mm.counters.pgfault.increment();
        }
        Some(Attempt::Done)
    }

    /// Locks the slot of `target`.
    pub(super) fn of(mm: &'m MemoryManager<M>, target: &Target<'m>) -> Self {
        LockedSlot::lock_record(mm, target.page.slot(), target.handle, target.slot)
    }
}
