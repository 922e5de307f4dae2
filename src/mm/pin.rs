//! Pins: memory that stays where it is, for a device that reads or writes it by its physical address (Linux: GUP).
//!
//! - **PI-1** A frame's pins are added under the lock of the slot whose page is in it, and dropped without any. So under that
//!   lock a frame without pins has none until the lock is let go.
//! - **PI-2** A pinned frame keeps its contents to itself: its page does not migrate, its home is not dissolved, its
//!   zeros are not given back. It may be split, promoted, protected, and pinned again: none of these moves anything.
//! - **PI-3** A pinned frame whose page goes away (unmapped, released) is an *orphan*: nobody gets it, not even the same page,
//!   until the last pin is dropped. In a home it is an absent frame that is left out; without one it is counted by itself.
//! - **PI-4** A frame's map count is one while its page is present, from the make to the break of its descriptor, and zero
//!   otherwise: every frame has one place at most. What it is at any moment of a split, a promotion or a migration is thus
//!   written in the slot's bits alone, under the slot's lock; pins are no part of it.
//!
//! | moment | map count of a page's frame | its pins |
//! | --- | --- | --- |
//! | split, promote | as before: one, and none between break and make | as before |
//! | migrate | one for the old frame until the break, one for the new one from the make | none on either |
//! | dissolve | one for pages at home, none for absent frames | none on pages at home; orphans keep theirs |
//! | collapse | as migrate, for each page away; as before, for those at home | none on pages away, any on those at home |
//!
//! A pin is a record with the extents that it holds, and lives until [`MemoryManager::unpin`], whatever becomes of the mapping.
#![forbid(unsafe_code)]

use super::address::{Block, Frame, GROUP_ORDER, PAGE_SIZE, PAGES_PER_SLOT, Page, PhysAddr, VirtAddr, pages_covering};
use super::frame::Class;
use super::huge::Left;
use super::mmu::{Access, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping};
use super::table::update::{Move, group_of};
use super::{FaultError, MemoryManager, Refusal};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

    /// Whether pages may have to move first.
    fn moves(&self) -> bool {
        self.long || self.below.is_some()
    }

    /// Below `limit`.
    pub const fn below(self, limit: PhysAddr) -> Self {
        PinRequest { below: Some(limit), ..self }
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

/// Extents in a record.
const EXTENTS: usize = 13;
/// Bits of an extent that say how many frames it has.
const COUNT_BITS: u32 = 28;

/// What is kept of a pin, and of what did not fit into its first record. Written by who makes it, before anyone has it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PinRecord {
    /// First page of the range.
    page: AtomicU64,
    /// Pages of the range; 0 of a record that goes on with another's extents.
    pages: AtomicU32,
    /// The record that goes on; 0 for none.
    next: AtomicU32,
    used: AtomicU32,
    long: AtomicU32,
    /// Frame and count.
    extents: [AtomicU64; EXTENTS],
}

impl PinRecord {
    /// Makes it one without extents.
    fn clear(&self) {
        self.pages.store(0, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        self.used.store(0, Ordering::Release);
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Acquire) as usize
    }

    /// Adds `count` frames from `first` on: to the last extent, if they follow it. False where there is no room.
    fn add(&self, first: Frame, count: usize) -> bool {
        let used = self.used();
        if let Some(last) = used.checked_sub(1).map(|last| &self.extents[last]) {
            let before = last.load(Ordering::Relaxed);
            let (begin, counted) = unpack(before);
            if begin + counted as u64 == first && counted + count < 1 << COUNT_BITS {
                last.store(before + count as u64, Ordering::Relaxed);
                return true;
            }
        }
        let Some(extent) = self.extents.get(used) else { return false };
        extent.store(first.0 << COUNT_BITS | count as u64, Ordering::Relaxed);
        self.used.store(used as u32 + 1, Ordering::Release);
        true
    }

    fn iter(&self) -> impl Iterator<Item = (Frame, usize)> + '_ {
        self.extents[..self.used()].iter().map(|extent| unpack(extent.load(Ordering::Relaxed)))
    }
}

fn unpack(extent: u64) -> (Frame, usize) {
    (Frame(extent >> COUNT_BITS), (extent & ((1 << COUNT_BITS) - 1)) as usize)
}

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

/// How a step of a pin ended.
enum Step {
    /// So many pages are pinned.
    Pinned(usize),
    /// The first page is to be faulted in.
    Fault(Access),
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
        let (first, record) = self.new_pin_record()?;
        let mut last = record;
        let mut page = pages.start;
        loop {
            page += match self.pin_present(page..pages.end, request, last) {
                0 => match self.pin_next(page..pages.end, request, &mut last) {
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
        record.page.store(pages.start, Ordering::Relaxed);
        record.long.store(request.long.into(), Ordering::Relaxed);
        record.pages.store((pages.end - pages.start) as u32, Ordering::Release);
        Ok(PinId(first))
    }

    fn new_pin_record(&self) -> Result<(Handle<PinRecord>, &PinRecord), PinError> {
        let allocated = self.with_reclaim(|| self.pins.allocate_record(&self.source()));
        let (handle, record) = allocated.ok_or(PinError::NoMemory)?;
        record.clear();
        Ok((handle, record))
    }

    /// Pins pages from the start of `pages` on, those of a block or of a group at most, and writes their frames down in
    /// `record`. None where it is full, and where pages are not present and writable: what can be written is one's own, whatever
    /// its region says by now (Linux: GUP-fast).
    #[inline]
    fn pin_present(&self, pages: Range<u64>, request: PinRequest, record: &PinRecord) -> usize {
        let page = Page(pages.start);
        match self.directory.find(page.slot()) {
            Some(handle) if !request.moves() => {
                LockedSlot::lock(self, page.slot(), handle).pin(&pages, Access::READ_WRITE, record).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Does what is in the way of pinning the first of `pages`, or pins some. Returns how many; `last` is the record to write
    /// them down in, and may become another.
    #[cold]
    fn pin_next<'m>(
        &'m self,
        pages: Range<u64>,
        request: PinRequest,
        last: &mut &'m PinRecord,
    ) -> Result<usize, PinError> {
        let address = Page(pages.start).start();
        match self.pin_as_allowed(pages, request, last)? {
            Step::Pinned(0) => {
                let (next, record) = self.new_pin_record()?;
                last.next.store(next.raw(), Ordering::Release);
                *last = record;
                Ok(0)
            }
            Step::Pinned(pinned) => Ok(pinned),
            Step::Fault(access) => match self.fault(address, access) {
                Err(error @ FaultError::OutOfMemory { .. }) => Err(PinError::Fault(error)),
                // It asks for more than the device needs: what a region that changed meanwhile says of that is yet to be seen.
                _ => Ok(0),
            },
            Step::Retry => {
                self.wait();
                Ok(0)
            }
        }
    }

    /// As [`MemoryManager::pin_present`], as the region allows, and where that asks for it in other frames.
    fn pin_as_allowed(&self, pages: Range<u64>, request: PinRequest, record: &PinRecord) -> Result<Step, PinError> {
        let page = Page(pages.start);
        let address = page.start();
        let wanted = if request.write { Access::READ_WRITE } else { Access::READ };
        let (end, access, slot) = {
            let regions = self.regions.read();
            let (range, region) = regions.find(page.0).ok_or(PinError::Fault(FaultError::NoRegion { address }))?;
            if !region.access.permits(wanted) {
                return Err(PinError::Fault(FaultError::Denied { address, wanted, allowed: region.access }));
            }
            let slot = self.directory.get(page.slot()).map(|handle| (handle, self.slots.get(handle).epoch()));
            (range.end.min(pages.end), Access { execute: false, ..region.access }, slot)
        };
        let Some((handle, epoch)) = slot else { return Ok(Step::Fault(access)) };
        let mut slot = LockedSlot::lock(self, page.slot(), handle);
        if slot.epoch() != epoch {
            return Ok(Step::Retry);
        }
        let mut pages = page.0..end;
        if request.moves() {
            let settled = slot.settle_for(&pages, request).map_err(|(index, refusal)| PinError::Refused {
                address: (slot.first() + index as u64).start(),
                refusal: self.refused(refusal),
            })?;
            pages.end = page.0 + settled as u64;
        }
        Ok(slot.pin(&pages, access, record).map_or(Step::Fault(access), Step::Pinned))
    }

    /// Drops a pin. Orphans become free, and what waited for the pins may go on.
    pub fn unpin(&self, pin: PinId) {
        let mut next = Some(pin.0);
        let record = self.pins.get(pin.0);
        let (page, pages) = (record.page.load(Ordering::Relaxed), record.pages.load(Ordering::Relaxed));
        while let Some(handle) = next {
            let record = self.pins.get(handle);
            for (first, count) in record.iter() {
                by_block(first, count).for_each(|(frame, count)| self.frames.unpin_run(frame, count));
                self.counters.unpin_frames.add(count as u64);
            }
            next = Handle::from_raw(record.next.load(Ordering::Acquire));
            record.pages.store(0, Ordering::Relaxed);
            self.pins.free(handle);
        }
        if pages > 0 {
            self.resume(page..page + u64::from(pages));
        }
    }

    /// Offers the slots of `pages` to idle time, which leaves homes with pinned frames alone.
    fn resume(&self, pages: Range<u64>) {
        for (number, handle) in self.directory.slots(Page(pages.start).slot()..Page(pages.end - 1).slot() + 1) {
            if let Some(mut slot) = LockedSlot::try_lock(self, number, handle)
                && let (Mapping::Table(_), Some(_)) = (slot.state.mapping, slot.state.home)
            {
                slot.offer();
            }
        }
    }

    /// The physical memory that a pin holds, in the order of the addresses.
    pub fn extents<'m>(&'m self, pin: &PinId) -> impl Iterator<Item = Range<PhysAddr>> + use<'m, M> {
        let mut record = Some(self.pins.get(pin.0));
        let mut index = 0;
        core::iter::from_fn(move || {
            let current = record?;
            let (frame, count) = unpack(current.extents[index].load(Ordering::Relaxed));
            index += 1;
            if index == current.used() {
                index = 0;
                record = Handle::from_raw(current.next.load(Ordering::Acquire)).map(|next| self.pins.get(next));
            }
            Some(frame.start()..frame.start() + (count * PAGE_SIZE) as u64)
        })
    }

    /// The extents of all pins.
    #[cfg(feature = "sim")]
    pub(super) fn pinned_extents(&self) -> impl Iterator<Item = (Frame, usize)> {
        self.pins.handles().filter_map(|handle| self.pins.find(handle)).flat_map(PinRecord::iter)
    }

    /// Calls `visit` with the pages of every pin, and how long it is for. Takes no lock: pins made or dropped meanwhile may be
    /// missed.
    pub(super) fn each_pin(&self, mut visit: impl FnMut(Range<u64>, &'static str)) {
        for record in self.pins.handles().filter_map(|handle| self.pins.find(handle)) {
            let pages = record.pages.load(Ordering::Acquire);
            if pages > 0 {
                let page = record.page.load(Ordering::Relaxed);
                let kind = if record.long.load(Ordering::Relaxed) != 0 { ", for long" } else { "" };
                visit(page..page + u64::from(pages), kind);
            }
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// The indices of `pages`, which begin in this slot, as far as they are in it.
    fn part(&self, pages: &Range<u64>) -> Range<usize> {
        let first = Page(pages.start).index();
        first..(first + (pages.end - pages.start) as usize).min(PAGES_PER_SLOT)
    }

    /// Pins the first of `pages`, all that are mapped for `access` up to the end of the block or group that the first is in, and
    /// writes them down for as long as `record` has room. Returns how many; `None` when the first is not mapped so.
    fn pin(&mut self, pages: &Range<u64>, access: Access, record: &PinRecord) -> Option<usize> {
        let part = self.part(pages);
        let permitted = |index| self.leaf(index).filter(|(_, attributes)| attributes.permits(access));
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

    /// Moves those of `pages` that must not be pinned where they are, in the first page's group: above the limit, or, for
    /// long, where they would keep a block from the application. Returns how many may be pinned now, up to the first that is absent.
    ///
    /// # Errors
    ///
    /// The first page that cannot move, and why.
    fn settle_for(&mut self, pages: &Range<u64>, request: PinRequest) -> Result<usize, (usize, Refusal)> {
        let part = self.part(pages);
        let below = |frame: Frame| request.below.is_none_or(|limit| frame.start() + PAGE_SIZE as u64 <= limit);
        let may_stay = |slot: &Self, index: usize, long: bool| {
            let (frame, _) = slot.leaf(index)?;
            Some(below(frame) && (!long || slot.mm.frames.is_unmovable(frame)))
        };
        // A pin of all of a block keeps nothing from anyone.
        let whole = part.len() == PAGES_PER_SLOT && matches!(self.state.mapping, Mapping::Block { .. });
        if whole && may_stay(self, PAGES_PER_SLOT - 1, false) == Some(true) {
            return Ok(PAGES_PER_SLOT);
        }
        let group = group_of(part.start);
        let part = part.start..part.end.min(group.end);
        if part == group && part.clone().all(|index| may_stay(self, index, request.long) == Some(false)) {
            self.settle_group(part.start, request).map_err(|refusal| (part.start, refusal))?;
            return Ok(part.len());
        }
        for index in part.clone() {
            match may_stay(self, index, request.long) {
                Some(false) => self.settle(index..index + 1, request, 0).map_err(|refusal| (index, refusal))?,
                Some(true) => {}
                None => return Ok(index - part.start),
            }
        }
        Ok(part.len())
    }

    /// Moves a group whose pages are all present to frames that they may be pinned in: one after the other, if there are any
    /// such.
    fn settle_group(&mut self, start: usize, request: PinRequest) -> Result<(), Refusal> {
        let group = group_of(start);
        if request.below.is_none() {
            match self.settle(group.clone(), request, GROUP_ORDER) {
                Err(Refusal::NoFreeFrame) => {}
                result => return result,
            }
        }
        group.clone().try_for_each(|index| self.settle(index..index + 1, request, 0))
    }

    /// Moves pages `range` of a group, 2^`order` of them, to consecutive frames that they may be pinned in.
    fn settle(&mut self, range: Range<usize>, request: PinRequest, order: u32) -> Result<(), Refusal> {
        let class = if request.long { Class::Unmovable } else { Class::Movable };
        let frames = &self.mm.frames;
        let first = match request.below {
            Some(limit) => frames.allocate_below(limit, class),
            None => frames.allocate(order, class),
        };
        let first = first.ok_or(Refusal::NoFreeFrame)?;
        let moves = Move::new(range.start, range.len(), first);
        let mut left = Left::new();
        self.migrate(group_of(range.start).start, moves, &mut left).inspect_err(|_| frames.free(first, order))?;
        self.mm.frames.free_all(&left);
        Ok(())
    }
}
