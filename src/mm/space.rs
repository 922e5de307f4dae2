//! The address space: what is mapped where, and the operations on ranges of it.
//!
//! The space's lock guards the commit charge, and makes operations on ranges come one after the other: each
//! holds it to its end. The regions have a lock of their own, for reading and writing. Faults take that one only, to read,
//! and so never wait for each other:
//!
//! - **SP-1** Regions change under the space's lock and, for as long as one change takes, the regions' lock for writing. So
//!   who holds the space's lock may read them again and again.
//! - **SP-2** An operation changes the regions of its range first. Then it visits every slot that the range touches and that
//!   has a record by then, and under the slot's lock begins a new epoch and brings the present pages of the range in line.
//! - **SP-3** A fault finds its region, its slot's record (which it makes, if there is none) and the slot's epoch under one hold
//!   of the regions' lock. Under the slot's lock it compares the epoch before it changes anything.
//! - **SP-4** Regions become one with their neighbours only after the visits.
//!
//! A fault that read before the change left a record for the visit to find, with the old epoch in hand (SP-3). If it has the
//! slot's lock before the visit, the visit undoes what it did; if after, it finds a new epoch and starts again. A fault that
//! read after the change goes by the new regions, whether the visit is still to come or not, and the visit changes nothing
//! of what it mapped. It may find a present page that the visit has not come to: then it does the visit's work on the slot
//! instead of waiting for it. It knows a slot as covered by one region only if the operation's range covers it as well
//! (SP-4), so that a promotion that mixes the pages' old and new attributes is put right by the visit.
//!
//! | operation | regions | visit |
//! | --- | --- | --- |
//! | map | inserted; a fault before that finds none | none: no page of the range is present |
//! | unmap | removed | new epoch, pages cleared |
//! | protect | cut, set | new epoch, attributes set |
//! | advise | cut, set | new epoch |
//! | remap | removed; inserted elsewhere after the visit | new epoch, pages or whole slots moved (`remap`) |
//! | snapshot | inserted elsewhere at the end | before that: each slot is closed to faults, and shared (`snapshot`) |
//! | alias | inserted elsewhere at the end | before that: new epoch, one more place (`alias`) |
//! | release | as they are | pages cleared; a fault before or after it is a touch before or after it |
#![forbid(unsafe_code)]

use super::address::{LOWER_END, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, Page, VirtAddr, part_in, slots_of};
use super::huge::{HugePolicy, Shortage, SplitCause};
use super::mmu::{Access, Attributes, Mmu};
use super::region_map::RegionMap;
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, Role, Slot};
use super::{MemoryError, MemoryManager, Refusal};
use core::ops::Range;
use core::sync::atomic::Ordering;

/// Addresses handed out where the caller names none: from 4 GiB, so that a truncated pointer faults.
const ANYWHERE: Range<u64> = (1 << 32) / PAGE_SIZE as u64..LOWER_END / PAGE_SIZE as u64;

/// The lowest address that may be mapped: a null pointer with a field's offset faults.
const LOWEST: u64 = 1 << 16;

/// What a region says of its pages.
// Aligned, so that it is copied as one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(8))]
pub struct Region {
    /// What the application may do.
    pub access: Access,
    /// Its wish for blocks.
    pub policy: HugePolicy,
    /// Its pages count against the commit limit.
    pub charged: bool,
    /// Who else has its memory.
    pub sharing: Sharing,
}

/// Who else has the memory of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Nobody; or a snapshot, which is no matter of the region's.
    None,
    /// The region is a snapshot, of other memory.
    Snapshot,
}

/// What [`MemoryManager::map`] is asked for.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Bytes, rounded up to whole pages.
    pub length: usize,
    /// Where exactly (a multiple of 4 KiB), or anywhere: then on a multiple of 2 MiB when it is that long.
    pub address: Option<VirtAddr>,
    /// What the application may do; writable memory is never executable.
    pub access: Access,
    /// The wish for blocks.
    pub policy: HugePolicy,
}

impl MapRequest {
    /// `length` bytes of readable and writable memory, anywhere, with the default policy.
    pub const fn new(length: usize) -> Self {
        MapRequest { length, address: None, access: Access::READ_WRITE, policy: HugePolicy::Default }
    }

    /// At this address.
    pub const fn at(self, address: VirtAddr) -> Self {
        MapRequest { address: Some(address), ..self }
    }

    /// With this access.
    pub const fn access(self, access: Access) -> Self {
        MapRequest { access, ..self }
    }

    /// With this wish for blocks.
    pub const fn policy(self, policy: HugePolicy) -> Self {
        MapRequest { policy, ..self }
    }
}

/// What the space's lock guards.
pub(super) struct Space {
    /// Pages charged against the commit limit.
    pub(super) committed: u64,
}

impl<M: Mmu> MemoryManager<M> {
    /// Maps anonymous memory, which reads as zero. Returns its addresses.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] says which: a length of zero, a misaligned or unusable address, an overlap with a region (named), no gap that
    /// is long enough, writable and executable at once, the commit limit, or no memory for the region's record. Nothing is changed.
    pub fn map(&self, request: MapRequest) -> Result<Range<VirtAddr>, MemoryError> {
        self.reclaiming(|| self.try_map(request))
    }

    /// Repeats `operation` for as long as it lacks memory for records and some can be taken back. It holds no lock between.
    pub(super) fn reclaiming<R>(&self, operation: impl Fn() -> Result<R, MemoryError>) -> Result<R, MemoryError> {
        let mut shortage = Shortage::new();
        loop {
            match operation() {
                Err(MemoryError::NoMemory) if self.ease(&mut shortage) => {}
                result => return result,
            }
        }
    }

    fn try_map(&self, request: MapRequest) -> Result<Range<VirtAddr>, MemoryError> {
        if request.access.write && request.access.execute {
            return Err(MemoryError::WriteAndExecute);
        }
        let pages = request.length.div_ceil(PAGE_SIZE) as u64;
        if pages == 0 {
            return Err(MemoryError::Empty);
        }
        let mut space = self.space.lock();
        let range = match request.address {
            Some(address) => check_range(address, request.length)?,
            None => self.gap_like(0, pages)?,
        };
        self.expect_free(&range)?;
        self.regions.write().reserve(&self.source(), 2).map_err(|_| MemoryError::NoMemory)?;
        let charged = request.access.write;
        if charged {
            self.charge(&mut space, pages)?;
        }
        let region = Region { access: request.access, policy: request.policy, charged, sharing: Sharing::None };
        self.insert(&range, region);
        self.nominate_ends(&range);
        Ok(Page(range.start).start()..Page(range.end).start())
    }

    /// Unmaps the whole pages of `length` bytes from `start`; parts of the range that are not mapped are passed over. Frames at home
    /// become absent when their slot keeps other pages, everything else is freed.
    ///
    /// # Errors
    ///
    /// A bad range, or no memory for the record of a region that is cut in two. Nothing is changed.
    pub fn unmap(&self, start: VirtAddr, length: usize) -> Result<(), MemoryError> {
        let range = check_range(start, length)?;
        self.reclaiming(|| self.try_unmap(&range))
    }

    fn try_unmap(&self, range: &Range<u64>) -> Result<(), MemoryError> {
        self.cut_and_unmap(&mut self.space.lock(), range)
    }

    /// Unmaps `range`, cutting regions at its ends.
    pub(super) fn cut_and_unmap(&self, space: &mut Space, range: &Range<u64>) -> Result<(), MemoryError> {
        self.expect_whole(range)?;
        self.cut(range)?;
        self.unmap_held(space, range);
        Ok(())
    }

    /// Unmaps `range`, at whose ends regions are cut.
    pub(super) fn unmap_held(&self, space: &mut Space, range: &Range<u64>) {
        while let Some((region_range, region)) = self.first_region(range) {
            self.regions.write().remove(region_range.start);
            if region.charged {
                space.committed -= region_range.end - region_range.start;
            }
            if region.sharing == Sharing::Snapshot {
                self.shares.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.for_each_slot(range, |mut slot, part| {
            if slot.state.role == Role::Snapshot || !slot.state.places.is_empty() {
                let (role, number, handle) = (slot.state.role, slot.number, slot.handle);
                drop(slot);
                return match role {
                    Role::Snapshot => self.end_snapshot_slot(handle),
                    _ => self.leave_place(number, handle),
                };
            }
            slot.new_epoch();
            slot.clear(part, SplitCause::Unmap);
        });
    }

    /// Gives `length` bytes from `start` another access. Whole slots stay blocks; a block that the range cuts is split.
    ///
    /// # Errors
    ///
    /// A bad range, a page in it that is not mapped (named), writable and executable at once, the commit limit, or no memory
    /// for the record of a region that is cut. Nothing is changed.
    pub fn protect(&self, start: VirtAddr, length: usize, access: Access) -> Result<(), MemoryError> {
        if access.write && access.execute {
            return Err(MemoryError::WriteAndExecute);
        }
        let range = check_range(start, length)?;
        self.reclaiming(|| self.try_protect(&range, access))
    }

    fn try_protect(&self, range: &Range<u64>, access: Access) -> Result<(), MemoryError> {
        let mut space = self.space.lock();
        let uncharged = self.uncharged(range)?;
        self.expect_one_place(range)?;
        let charge = if access.write { uncharged } else { 0 };
        self.charge(&mut space, charge)?;
        if let Err(error) = self.cut(range) {
            space.committed -= charge;
            return Err(error);
        }
        self.set_regions(range, |region| Region { access, charged: region.charged || access.write, ..region });
        let attributes = Attributes::new(access);
        let ends = [Page(range.start).slot(), Page(range.end - 1).slot()];
        let mut inner = false;
        self.for_each_slot(range, |mut slot, part| {
            slot.new_epoch();
            slot.protect(part, attributes);
            inner |= matches!(slot.state.mapping, Mapping::Table(_)) && !ends.contains(&slot.number);
        });
        self.merge_around(range);
        self.promote_healed(ends, inner);
        Ok(())
    }

    /// Gives the memory of `length` bytes from `start` back (Linux: `MADV_DONTNEED`); the pages stay mapped and read as
    /// zero. In a slot that keeps other pages, frames at home become absent, and are used again by the same pages.
    ///
    /// # Errors
    ///
    /// A bad range, or a page in it that is not mapped (named).
    pub fn release(&self, start: VirtAddr, length: usize) -> Result<(), MemoryError> {
        let range = check_range(start, length)?;
        let _space = self.space.lock();
        self.uncharged(&range)?;
        self.for_each_slot(&range, |mut slot, part| slot.clear(part, SplitCause::Release));
        Ok(())
    }

    /// Whether the byte at `address` is in a block: mapped by a block descriptor, and not to the zero block.
    pub fn is_huge(&self, address: VirtAddr) -> bool {
        LockedSlot::find(self, address.page().slot())
            .is_some_and(|slot| matches!(slot.state.mapping, Mapping::Block { .. }) && slot.state.zeros().is_empty())
    }

    /// A free range of addresses for `pages` pages, which lies in its slots as one that begins at page `like` does.
    pub(super) fn gap_like(&self, like: u64, pages: u64) -> Result<Range<u64>, MemoryError> {
        let align = match pages as usize {
            PAGES_PER_SLOT.. => PAGES_PER_SLOT,
            PAGES_PER_GROUP.. => PAGES_PER_GROUP,
            _ => 1,
        } as u64;
        let offset = like % align;
        let gap = self.regions.read().find_gap(pages + offset, align, ANYWHERE);
        let start = gap.ok_or(MemoryError::NoGap { pages })? + offset;
        Ok(start..start + pages)
    }

    /// The region that all of `range` is in, with its own range. It is no snapshot: of that, nothing is made.
    pub(super) fn only_region(&self, range: &Range<u64>) -> Result<(Range<u64>, Region), MemoryError> {
        let regions = self.regions.read();
        let not_mapped = |page: u64| MemoryError::NotMapped { address: Page(page).start() };
        let (found, region) = regions.find(range.start).ok_or(not_mapped(range.start))?;
        if found.end >= range.end {
            return match region.sharing {
                Sharing::None => Ok((found, region)),
                Sharing::Snapshot => Err(MemoryError::Shared { address: Page(range.start).start() }),
            };
        }
        Err(match regions.find(found.end) {
            Some(_) => MemoryError::Divided { address: Page(found.end).start() },
            None => not_mapped(found.end),
        })
    }

    /// Nothing is mapped in `range`, or the error names it.
    pub(super) fn expect_free(&self, range: &Range<u64>) -> Result<(), MemoryError> {
        match self.first_region(range) {
            Some((there, _)) => {
                Err(MemoryError::Overlap { start: Page(there.start).start(), end: Page(there.end).start() })
            }
            None => Ok(()),
        }
    }

    /// The first region that overlaps `range`.
    pub(super) fn first_region(&self, range: &Range<u64>) -> Option<(Range<u64>, Region)> {
        self.regions.read().next(range.start).filter(|(found, _)| found.start < range.end)
    }

    /// Pages in `range` that are not charged yet.
    ///
    /// # Errors
    ///
    /// A page in `range` that is in no region, or in that of a snapshot, which can only be read.
    pub(super) fn uncharged(&self, range: &Range<u64>) -> Result<u64, MemoryError> {
        let regions = self.regions.read();
        let mut uncharged = 0;
        let mut page = range.start;
        while page < range.end {
            let Some((found, region)) = regions.find(page) else {
                return Err(MemoryError::NotMapped { address: Page(page).start() });
            };
            let end = found.end.min(range.end);
            if !region.charged {
                uncharged += end - page;
            }
            if region.sharing == Sharing::Snapshot {
                return Err(MemoryError::Shared { address: Page(page).start() });
            }
            page = end;
        }
        Ok(uncharged)
    }

    pub(super) fn charge(&self, space: &mut Space, pages: u64) -> Result<(), MemoryError> {
        if pages == 0 {
            return Ok(());
        }
        let limit = self.commit_limit();
        if pages > limit.saturating_sub(space.committed) {
            return Err(MemoryError::CommitLimit {
                wanted: pages * PAGE_SIZE as u64,
                left: limit.saturating_sub(space.committed) * PAGE_SIZE as u64,
            });
        }
        space.committed += pages;
        Ok(())
    }

    /// No end of `range` is in the middle of a snapshot, or of a slot that is mapped at several places.
    pub(super) fn expect_whole(&self, range: &Range<u64>) -> Result<(), MemoryError> {
        if self.shares.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let regions = self.regions.read();
        for at in [range.start, range.end] {
            if let Some((found, Region { sharing: Sharing::Snapshot, .. })) = regions.find(at)
                && found.start < at
            {
                return Err(MemoryError::Shared { address: Page(at).start() });
            }
            if Page(at).index() > 0 {
                self.expect_one_place(&(at..at + 1))?;
            }
        }
        Ok(())
    }

    /// No slot that `range` touches is mapped at several places. The caller has the space's lock, so it stays so.
    pub(super) fn expect_one_place(&self, range: &Range<u64>) -> Result<(), MemoryError> {
        if self.shares.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        for (number, handle) in self.directory.slots(slots_of(range)) {
            let slot = LockedSlot::lock(self, number, handle);
            if !slot.state.places.is_empty() {
                return Err(MemoryError::Shared { address: Page(range.start.max(slot.first().0)).start() });
            }
        }
        Ok(())
    }

    /// Cuts regions at both ends of `range`. Fails before it changes anything; ends that cut none need no memory, and others hardly
    /// ever, so that memory can be unmapped when there is none.
    pub(super) fn cut(&self, range: &Range<u64>) -> Result<(), MemoryError> {
        {
            let mut regions = self.regions.write();
            if regions.reserve(&self.source(), 2).is_err() {
                // Most nodes have room for the regions that are cut.
                let is_cut = regions.split(&self.source(), range.start).map_err(|_| MemoryError::NoMemory)?;
                if regions.split(&self.source(), range.end).is_err() {
                    if is_cut {
                        regions.merge(range.start);
                    }
                    return Err(MemoryError::NoMemory);
                }
                return Ok(());
            }
        }
        self.cut_reserved(range);
        Ok(())
    }

    /// As [`MemoryManager::cut`], after memory for that was reserved.
    pub(super) fn cut_reserved(&self, range: &Range<u64>) {
        let mut regions = self.regions.write();
        for at in [range.start, range.end] {
            regions.split(&self.source(), at).expect("reserved");
        }
    }

    /// Changes the regions that make up `range`, at whose ends they are cut.
    pub(super) fn set_regions(&self, range: &Range<u64>, change: impl Fn(Region) -> Region) {
        let mut page = range.start;
        while page < range.end {
            let Some(changed) = self.regions.write().change(page, &change) else { break };
            page = changed.end;
        }
    }

    /// Inserts a region, after it was looked that nothing is there, and memory was reserved; and joins it with equal neighbours.
    pub(super) fn insert(&self, range: &Range<u64>, region: Region) {
        let mut regions = self.regions.write();
        regions.insert(&self.source(), range.clone(), region).expect("looked at and reserved");
        merge_ends(&mut regions, range);
    }

    /// Joins equal neighbours at the borders in and around `range`.
    pub(super) fn merge_around(&self, range: &Range<u64>) {
        let mut left = range.start.checked_sub(1).and_then(|page| self.regions.read().find(page));
        let mut page = range.start;
        while page <= range.end
            && let Some((found, region)) = self.first_region(&(page..range.end + 1))
        {
            let border = found.start;
            if left.is_some_and(|(left, other)| left.end == border && other == region) {
                self.regions.write().merge(border);
            }
            page = found.end;
            left = Some((found, region));
        }
    }

    /// Locks each slot that `range` touches and that exists, in ascending order, with the part of it in `range` as indices. A
    /// scheduler may have its way between two of them.
    pub(super) fn for_each_slot(&self, range: &Range<u64>, mut operation: impl FnMut(LockedSlot<'_, M>, Range<usize>)) {
        for (number, handle) in self.directory.slots(slots_of(range)) {
            operation(LockedSlot::lock(self, number, handle), part_in(range, number));
            crate::sync::breathe();
        }
    }

    /// Slots in use at the ends of `range`, which it cuts, may be covered by one region by now: they are candidates.
    pub(super) fn nominate_ends(&self, range: &Range<u64>) {
        for end in [Page(range.start), Page(range.end - 1)] {
            if part_in(range, end.slot()).len() < PAGES_PER_SLOT
                && let Some(mut slot) = LockedSlot::find(self, end.slot())
            {
                slot.nominate_if_used();
            }
        }
    }

    /// Promotes the slots at the `ends` of a range whose pages have one access again, and if `inner`, those between as well.
    fn promote_healed(&self, ends: [u64; 2], inner: bool) {
        let [first, last] = ends;
        if inner {
            for (number, handle) in self.directory.slots(first..last + 1) {
                self.promote_covered(number, handle);
                crate::sync::breathe();
            }
            return;
        }
        for number in &ends[..if first == last { 1 } else { 2 }] {
            if let Some(handle) = self.directory.get(*number) {
                self.promote_covered(*number, handle);
            }
        }
    }

    /// Promotes a slot, if one region that may have blocks covers it.
    pub(super) fn promote_covered(&self, number: u64, handle: Handle<Slot>) {
        let first = number * PAGES_PER_SLOT as u64;
        if let Some((found, region)) = self.region(Page(first).start())
            && found.end >= first + PAGES_PER_SLOT as u64
            && self.policy.allows(region.policy)
        {
            let mut slot = LockedSlot::lock(self, number, handle);
            // Refused otherwise, it waits for the touches that are missing.
            if let Err(Refusal::Away | Refusal::NoHome) = slot.promote() {
                slot.nominate_if_used();
            }
        }
    }
}

/// Joins equal neighbours at the ends of `range`, inside of which there is no border.
pub(super) fn merge_ends(regions: &mut RegionMap<Region>, range: &Range<u64>) {
    regions.merge(range.start);
    regions.merge(range.end);
}

/// The whole pages of `length` bytes from `start`.
pub(crate) fn check_range(start: VirtAddr, length: usize) -> Result<Range<u64>, MemoryError> {
    if length == 0 {
        return Err(MemoryError::Empty);
    }
    if !start.is_aligned(PAGE_SIZE) {
        return Err(MemoryError::Misaligned { address: start });
    }
    let end = start.checked_add(length as u64).and_then(|end| end.align_up(PAGE_SIZE));
    match end {
        Some(end) if start.0 >= LOWEST && end.0 <= LOWER_END => Ok(start.page().0..end.page().0),
        _ => Err(MemoryError::OutsideSpace { address: start, length }),
    }
}
