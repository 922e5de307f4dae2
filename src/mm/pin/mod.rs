//! Pins: memory that stays where it is, for a device that reads or writes it by its physical address (Linux: GUP).
//!
//! - **PI-1** A frame's pins are added under the lock of the slot whose page is in it, and dropped without any. So under that
//!   lock a frame without pins has none until the lock is let go.
//! - **PI-2** A pinned frame keeps its contents to itself: its page does not migrate, its home is not dissolved, its
//!   zeros are not given back. It may be split, promoted, protected, and pinned again: none of these moves anything.
//! - **PI-3** A pinned frame whose page goes away (unmapped, released) is an *orphan*: nobody gets it, not even the same page,
//!   until the last pin is dropped. In a home it is an absent frame that is left out; without one it is counted by itself. (A
//!   snapshot that showed the page has it then, pinned: only a device that reads has such a one.)
//! - **PI-4** A frame's map count is the number of its slot's places while its page is present, from the make to the break of its
//!   descriptor, and zero otherwise: of one slot, where that is not mapped at several (`alias`). What it is at any moment
//!   of a split, a promotion or a migration is thus written in the slot's bits alone, under the slot's lock; pins are no part of
//!   it, and neither is what a snapshot has on loan (SN-2 of `snapshot`), which is taken back before the page moves.
//!
//! | moment | map count of a page's frame | its pins |
//! | --- | --- | --- |
//! | split, promote | as before: one for each place, and none between break and make | as before |
//! | migrate | one for the old frame until the break, one for the new one from the make | none on either |
//! | dissolve | one for pages at home, none for absent frames | none on pages at home; orphans keep theirs |
//! | collapse | as migrate, for each page away; as before, for those at home | none on pages away, any on those at home |
//!
//! A pin is a record with the extents that it holds, and lives until [`MemoryManager::unpin`], whatever becomes of the mapping.
#![forbid(unsafe_code)]

mod record;
mod settle;

pub use record::PinRecord;

use super::address::{
    BLOCK_SIZE, Block, Frame, PAGE_SIZE, PAGES_PER_SLOT, Page, PhysAddr, VirtAddr, pages_covering, part_in, slots_of,
};
use super::huge::Shortage;
use super::mmu::{Access, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping};
use super::table::update::group_of;
use super::{FaultError, MemoryManager, Refusal};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// What a pin is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PinRequest {
    /// Whether the device writes.
    pub write: bool,
    /// Whether the pin lasts (Linux: `FOLL_LONGTERM`): the pages move to blocks that can never be the application's first,
    /// unless the pin has all of a slot.
    pub long: bool,
    /// What all of it must lie below, where the device has short addresses. Pages above move.
    pub below: Option<PhysAddr>,
}

impl PinRequest {
    /// For a device that reads, for a moment, anywhere.
    pub const fn new() -> Self {
        PinRequest { write: false, long: false, below: None }
    }

    /// For a device that writes as well.
    pub const fn write(self) -> Self {
        PinRequest { write: true, ..self }
    }

    /// For long.
    pub const fn long(self) -> Self {
        PinRequest { long: true, ..self }
    }

    /// Below `limit`.
    pub const fn below(self, limit: PhysAddr) -> Self {
        PinRequest { below: Some(limit), ..self }
    }

    /// Whether pages may have to move first.
    fn moves(&self) -> bool {
        self.long || self.below.is_some()
    }
}

/// Why memory was not pinned. Nothing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinError {
    /// A length of zero.
    Empty,
    /// A page cannot be had.
    Fault(FaultError),
    /// A page would have to move first, and cannot.
    Refused {
        /// Its address.
        address: VirtAddr,
        /// Why not.
        refusal: Refusal,
    },
    /// No memory for the record of the pin.
    NoMemory,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinError::Empty => f.write_str("a range of zero bytes"),
            PinError::Fault(error) => error.fmt(f),
            PinError::Refused { address, refusal } => write!(f, "the page at {address} cannot move: {refusal}"),
            PinError::NoMemory => f.write_str("no memory for the record of a pin"),
        }
    }
}

impl core::error::Error for PinError {}

/// `count` frames from `first` on, cut where blocks end: an extent may go on in the next one.
fn by_block(first: Frame, count: usize) -> impl Iterator<Item = (Frame, usize)> {
    let end = first + count as u64;
    let mut next = first;
    core::iter::from_fn(move || {
        let start = next;
        next = Block(start.block().0 + 1).frame(0).min(end);
        (start < end).then(|| (start, (next.0 - start.0) as usize))
    })
}

/// A pin, by its record: to be given to [`MemoryManager::unpin`], once.
#[must_use = "what is pinned stays so until it is unpinned"]
#[derive(Debug, PartialEq, Eq)]
pub struct PinId(Handle<PinRecord>);

/// A pin that is being made.
struct Making<'m> {
    request: PinRequest,
    /// The newest record.
    last: &'m PinRecord,
    /// The slot that was to be a block, so that all of it may be pinned for long where it is; tried once.
    collapsed: Option<u64>,
    /// A page that stays where it is, for a pin for long holds it there anyway.
    stays: Option<Page>,
    shortage: Shortage,
    /// How often a page was to move since the last one that was pinned.
    moves: u32,
}

/// How often a page is moved for a pin that others move back.
const PATIENCE: u32 = 64;

/// How a step of a pin ended.
enum Step {
    /// So many pages are pinned.
    Pinned(usize),
    /// The first page is to be faulted in.
    Fault(Access),
    /// The first page must not be pinned where it is; nor all of its slot, of which all pages are to be pinned and blocks may be
    /// made.
    Settle { whole: bool },
    /// The regions changed meanwhile.
    Retry,
}

impl<M: Mmu> MemoryManager<M> {
    /// Pins the pages that `length` bytes from `start` touch, present or not: those that are not are faulted in, for writing
    /// where that is allowed, so that a page which is shared until it is written is one's own first. Blocks stay blocks.
    ///
    /// # Errors
    ///
    /// An address that is not mapped, or that the region does not let the device use as it wants; no memory; a page that would have
    /// to move for [`PinRequest::long`] or [`PinRequest::below`], and is pinned or finds no frame.
    pub fn pin(&self, start: VirtAddr, length: usize, request: PinRequest) -> Result<PinId, PinError> {
        let outside = PinError::Fault(FaultError::NoRegion { address: start });
        let pages = pages_covering(start, length).ok_or(outside)?;
        if length == 0 {
            return Err(PinError::Empty);
        }
        let (first, record) = self.new_pin_record(request)?;
        let mut making =
            Making { request, last: record, collapsed: None, stays: None, shortage: Shortage::new(), moves: 0 };
        let mut page = pages.start;
        loop {
            page += match self.pin_present(page..pages.end, &making) {
                0 => match self.pin_next(page..pages.end, &mut making) {
                    Ok(pinned) => pinned,
                    Err(error) => {
                        self.unpin(PinId(first));
                        return Err(error);
                    }
                },
                pinned => pinned,
            } as u64;
            if page == pages.end {
                break;
            }
            crate::sync::breathe();
        }
        record.complete(pages.start, (pages.end - pages.start) as u32);
        Ok(PinId(first))
    }

    fn new_pin_record(&self, request: PinRequest) -> Result<(Handle<PinRecord>, &PinRecord), PinError> {
        let allocated = self.with_reclaim(|| self.pins.allocate_record(&self.source()));
        let (handle, record) = allocated.ok_or(PinError::NoMemory)?;
        record.clear(request.long);
        Ok((handle, record))
    }

    /// Pins pages from the start of `pages` on, those of a block or of a group at most, and writes their frames down. None where
    /// the record is full, and where pages are not present and writable: what can be written is one's own, whatever its region
    /// says by now (Linux: GUP-fast).
    #[inline]
    fn pin_present(&self, pages: Range<u64>, making: &Making<'_>) -> usize {
        if making.request.moves() {
            return 0;
        }
        let slot = LockedSlot::find(self, Page(pages.start).slot());
        slot.and_then(|mut slot| slot.pin(&pages, Access::READ_WRITE, making.last)).unwrap_or(0)
    }

    /// Does what is in the way of pinning the first of `pages`, or pins some. Returns how many.
    #[cold]
    fn pin_next<'m>(&'m self, pages: Range<u64>, making: &mut Making<'m>) -> Result<usize, PinError> {
        let page = Page(pages.start);
        match self.pin_as_allowed(&pages, making)? {
            Step::Pinned(0) => {
                let (next, record) = self.new_pin_record(making.request)?;
                making.last.next.store(next.raw(), Ordering::Release);
                making.last = record;
            }
            Step::Pinned(pinned) => {
                making.moves = 0;
                return Ok(pinned);
            }
            Step::Fault(access) => match self.fault_own(page.start(), access) {
                // A device that only reads may, perhaps: the region changed meanwhile.
                Ok(()) | Err(FaultError::Denied { .. }) if !making.request.write => {}
                result => result.map_err(PinError::Fault)?,
            },
            Step::Settle { whole: true } if making.collapsed != Some(page.slot()) => {
                making.collapsed = Some(page.slot());
                // Refused, the pages move.
                let _ = self.collapse(page.start(), BLOCK_SIZE, || false, |_, _| ());
            }
            Step::Settle { .. } if making.moves == PATIENCE => {
                return Err(PinError::Refused { address: page.start(), refusal: self.refused(Refusal::Busy) });
            }
            Step::Settle { .. } => {
                making.moves += 1;
                self.settle_first(pages, making)?;
            }
            Step::Retry => self.wait(),
        }
        Ok(0)
    }

    /// As [`MemoryManager::pin_present`], as the region allows, and where that lets them stay.
    fn pin_as_allowed(&self, pages: &Range<u64>, making: &Making<'_>) -> Result<Step, PinError> {
        let page = Page(pages.start);
        let address = page.start();
        let wanted = if making.request.write { Access::READ_WRITE } else { Access::READ };
        let (end, region, slot) = {
            let regions = self.regions.read();
            let (range, region) = regions.find(page.0).ok_or(PinError::Fault(FaultError::NoRegion { address }))?;
            if !region.access.permits(wanted) {
                return Err(PinError::Fault(FaultError::Denied { address, wanted, allowed: region.access }));
            }
            let slot = self.directory.get(page.slot()).map(|handle| (handle, self.slots.get(handle).epoch()));
            (range.end.min(pages.end), region, slot)
        };
        let access = Access { execute: false, ..region.access };
        let Some((handle, epoch)) = slot else { return Ok(Step::Fault(access)) };
        let mut slot = LockedSlot::lock(self, page.slot(), handle);
        if slot.epoch() != epoch {
            return Ok(Step::Retry);
        }
        let mut pages = page.0..end;
        if making.request.moves() && slot.state.present.get(page.index()) {
            let part = part_in(&pages, page.slot());
            let stay = slot.staying(part.clone(), making);
            if stay == 0 {
                let whole = part.len() == PAGES_PER_SLOT && self.policy.allows(region.policy);
                return Ok(Step::Settle { whole: whole && making.request.long });
            }
            pages.end = page.0 + stay as u64;
        }
        Ok(slot.pin(&pages, access, making.last).map_or(Step::Fault(access), Step::Pinned))
    }

    /// Drops a pin. Orphans become free, and what waited for the pins may go on. Called without a lock.
    pub fn unpin(&self, pin: PinId) {
        let mut next = Some(pin.0);
        let pages = self.pins.get(pin.0).pages();
        while let Some(handle) = next {
            let record = self.pins.get(handle);
            for (first, count) in record.iter() {
                by_block(first, count).for_each(|(frame, count)| self.frames.unpin_run(frame, count));
                self.counters.unpin_frames.add(count as u64);
            }
            next = Handle::from_raw(record.next.load(Ordering::Acquire));
            record.clear(false);
            self.pins.free(handle);
            crate::sync::breathe();
        }
        if let Some((page, pages)) = pages {
            self.resume(page..page + u64::from(pages));
        }
    }

    /// Offers the slots of `pages` to idle time, which leaves homes with pinned frames alone, and to background collapse.
    fn resume(&self, pages: Range<u64>) {
        for (_, handle) in self.directory.slots(slots_of(&pages)) {
            let mut slot = LockedSlot::of_handle(self, handle);
            if let (Mapping::Table(_), Some(_)) = (slot.state.mapping, slot.state.home) {
                slot.offer();
            }
            if !slot.state.away.is_empty() {
                slot.nominate_if_used();
            }
            drop(slot);
            crate::sync::breathe();
        }
        if self.candidates() > 0 {
            // A block that could not be emptied, perhaps can by now.
            self.frames.want_nothing();
            self.frames.signal().raise();
        }
    }

    /// The physical memory that a pin holds, in the order of the addresses: whole pages.
    pub fn extents<'a>(&'a self, pin: &'a PinId) -> impl Iterator<Item = Range<PhysAddr>> + use<'a, M> {
        let next = |record: &&PinRecord| Some(self.pins.get(Handle::from_raw(record.next.load(Ordering::Acquire))?));
        let records = core::iter::successors(Some(self.pins.get(pin.0)), next);
        records
            .flat_map(PinRecord::iter)
            .map(|(frame, count)| frame.start()..frame.start() + (count * PAGE_SIZE) as u64)
    }

    fn pin_records(&self) -> impl Iterator<Item = &PinRecord> {
        self.pins.handles().filter_map(|handle| self.pins.find(handle))
    }

    /// The extents of all pins.
    #[cfg(feature = "sim")]
    pub(super) fn pinned_extents(&self) -> impl Iterator<Item = (Frame, usize)> {
        self.pin_records().flat_map(PinRecord::iter)
    }

    /// Calls `visit` with the pages of every pin, and how long it is for. Takes no lock: pins made or dropped meanwhile may be
    /// missed.
    pub(super) fn each_pin(&self, mut visit: impl FnMut(Range<u64>, &'static str)) {
        for record in self.pin_records() {
            if let Some((page, pages)) = record.pages() {
                visit(page..page + u64::from(pages), if record.is_long() { ", for long" } else { "" });
            }
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Pins the first of `pages`, all that are mapped for `access` up to the end of the block or group that the first is in, and
    /// writes them down for as long as `record` has room. Returns how many; `None` when the first is not mapped so.
    fn pin(&mut self, pages: &Range<u64>, access: Access, record: &PinRecord) -> Option<usize> {
        let part = part_in(pages, self.number);
        let permitted = |index| {
            let leaf = self.leaf(index).filter(|(_, attributes)| attributes.permits(access));
            // What can be written is one's own (ZE-1).
            leaf.filter(|_| access.write || self.state.present.get(index))
        };
        let (frame, _) = permitted(part.start)?;
        let frames = &self.mm.frames;
        let pinned = match self.state.mapping {
            Mapping::Block { .. } if record.add(frame, part.len()) => {
                frames.pin_run(frame, part.len());
                part.len()
            }
            Mapping::Block { .. } | Mapping::Empty => 0,
            Mapping::Table(_) => {
                let group = part.start..part.end.min(group_of(part.start).end);
                let present = group.map_while(|index| permitted(index).map(|(frame, _)| frame));
                present.take_while(|&frame| record.add(frame, 1)).map(|frame| frames.pin(frame)).count()
            }
        };
        self.mm.counters.pin_frames.add(pinned as u64);
        Some(pinned)
    }
}
