//! Snapshots: what memory holds at an instant, kept to be read while the application goes on (Linux: what `fork` is used for by
//! those who save themselves).
//!
//! A snapshot is a region of its own, for reading only. Its slots have nothing at first: what they show is the *live* slot's, in
//! whose frames it stays, mapped for reading only. The first write to a page copies it, and no more, into the snapshot's slot; the
//! live page stays where it is, so that a home stays whole and a block is one again when the snapshot ends. Where the live page
//! goes for another reason (unmapped, released), the snapshot's slot takes its frame over. So the live slot is as free as
//! ever, and nothing of it can fail for the snapshot's sake but a write that finds no memory.
//!
//! A live slot has one snapshot at a time.
//!
//! - **SN-1** A page in `shared` is present, no descriptor allows a store to it, and the slot is tied to a snapshot's, which shows
//!   that page and has none of its own. A block has all of its pages shared, or none.
//! - **SN-2** A page in `taken` is borrowed: its descriptor, in the snapshot's slot, leads to the frame of the same page of the
//!   live slot, which has it in `shared`; and never allows a store.
//! - **SN-3** The live slot's lock comes before its snapshot's; who holds a snapshot's waits for no slot. Both are held when what
//!   they share changes.
//! - **SN-4** A snapshot's slot has a table at hand, linked or in reserve: to take a page over needs no memory.
//! - **SN-5** From when the first live slot is shared until all are, they are closed to faults: what was written by then is in the
//!   snapshot, and what is written later is not.
#![forbid(unsafe_code)]

use super::address::{PAGES_PER_SLOT, Page, VirtAddr, part_in, slots_of};
use super::bits::Bits512;
use super::fault::{Attempt, Target};
use super::frame::Class;
use super::huge::SplitCause;
use super::mmu::{Access, Attributes, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, Role, Slot};
use super::space::{Region, Sharing, check_range};
use super::table::Pending;
use super::table::update::{PageChange, group_of};
use super::{MemoryError, MemoryManager, Refusal};
use core::ops::Range;
use core::sync::atomic::Ordering;

/// What a snapshot's pages are mapped with.
const SEEN: Attributes = Attributes::new(Access::READ);

impl<M: Mmu> MemoryManager<M> {
    /// Makes a snapshot of `length` bytes from `start`, which are of one region: what they hold now can be read at the addresses
    /// returned, until [`MemoryManager::end_snapshot`]. Blocks stay blocks until they are written to; pinned pages are copied at
    /// once, for a device may write to them. All of it counts against the commit limit.
    ///
    /// # Errors
    ///
    /// A bad range, a page that is not mapped, a second region, the commit limit, no addresses, no memory for records and pinned
    /// pages; [`MemoryError::Shared`] where the memory has a snapshot already, is one, or is mapped at other places too. Nothing is
    /// changed.
    pub fn snapshot(&self, start: VirtAddr, length: usize) -> Result<Range<VirtAddr>, MemoryError> {
        let range = check_range(start, length)?;
        let first = self.reclaiming(|| self.try_snapshot(&range))?;
        let pages = range.end - range.start;
        Ok(Page(first).start()..Page(first + pages).start())
    }

    fn try_snapshot(&self, live: &Range<u64>) -> Result<u64, MemoryError> {
        let mut space = self.space.lock();
        let (_, region) = self.only_region(live)?;
        self.expect_one_place(live)?;
        // Its slots are its own, whole.
        let slots = slots_of(live);
        let pages = (slots.end - slots.start) * PAGES_PER_SLOT as u64;
        let there = self.gap_like(0, pages)?;
        self.regions.write().reserve(&self.source(), 2).map_err(|_| MemoryError::NoMemory)?;
        self.charge(&mut space, pages)?;
        let to = Page(there.start).slot();
        let attributes = Attributes::new(region.access);
        let region = Region { access: Access::READ, policy: region.policy, charged: true, sharing: Sharing::Snapshot };
        let made = self.share_slots(live, to, || (there.clone(), region));
        if made.is_err() {
            self.end_slots(&there);
            space.committed -= pages;
        }
        for (number, handle) in self.directory.slots(slots) {
            let mut slot = LockedSlot::of_handle(self, handle);
            if slot.state.role == Role::Closed {
                slot.state.role = Role::Plain;
                if made == Ok(true) {
                    // What is not shared was pinned, and copied.
                    let own = slot.state.present.and(&slot.state.shared.not()).and(&Bits512::of(part_in(live, number)));
                    slot.change_present(&own, PageChange::Attributes(attributes), SplitCause::Snapshot);
                }
            }
        }
        self.shares.fetch_add(made.is_ok().into(), Ordering::Relaxed);
        made.map(|_| there.start + Page(live.start).index() as u64)
    }

    /// Shares all slots of `live` with those from slot `to` on, and inserts the snapshot's region (SN-5).
    /// Says whether any page was pinned, and copied at once.
    fn share_slots(
        &self,
        live: &Range<u64>,
        to: u64,
        region: impl Fn() -> (Range<u64>, Region),
    ) -> Result<bool, MemoryError> {
        let (slots, mut copied) = (slots_of(live), false);
        loop {
            let mut count = 0;
            for (number, handle) in self.directory.slots(slots.clone()) {
                copied |= self.share_slot(number, handle, part_in(live, number), number - slots.start + to)?;
                count += 1;
                crate::sync::breathe();
            }
            let mut regions = self.regions.write();
            // Faults make slots with that lock held.
            if self.directory.slots(slots.clone()).count() == count {
                let (range, region) = region();
                regions.insert(&self.source(), range, region).expect("looked at and reserved");
                return Ok(copied);
            }
        }
    }

    /// Shares the pages `part` of a live slot with slot `to`, which is empty, unless that is done. Says whether any of them was
    /// pinned, and copied at once.
    fn share_slot(&self, number: u64, handle: Handle<Slot>, part: Range<usize>, to: u64) -> Result<bool, MemoryError> {
        let other = self.slot_at(Page(to * PAGES_PER_SLOT as u64)).ok_or(MemoryError::NoMemory)?;
        let mut live = LockedSlot::lock(self, number, handle);
        if live.state.tie == Some(other) {
            return Ok(false);
        }
        while live.state.role == Role::Filling {
            drop(live);
            self.wait();
            live = LockedSlot::lock(self, number, handle);
        }
        if !live.state.shared.is_empty() {
            return Err(MemoryError::Shared { address: (live.first() + part.start as u64).start() });
        }
        if live.state.tie.is_some() {
            live.untie();
        }
        if live.state.is_cold() {
            live.warm();
        }
        let mut snapshot = LockedSlot::of_tied(self, other);
        if snapshot.state.role != Role::Snapshot && snapshot.state.tie.is_some() {
            // What was at those addresses has a snapshot still.
            drop((snapshot, live));
            LockedSlot::of_handle(self, other).untie();
            return self.share_slot(number, handle, part, to);
        }
        snapshot.provide_for_snapshot()?;
        snapshot.state.role = Role::Snapshot;
        snapshot.state.tie = Some(handle);
        drop(snapshot);
        live.state.tie = Some(other);
        live.state.role = Role::Closed;
        let mut pages = live.state.present;
        if part.len() < PAGES_PER_SLOT {
            pages = pages.and(&Bits512::of(part));
        }
        if live.state.mapping == Mapping::Empty {
            return Ok(false);
        }
        if !live.state.freed.is_empty() {
            live.forget_freed(&pages);
        }
        live.change_present(&pages, PageChange::ReadOnly, SplitCause::Snapshot);
        let pinned = live.pinned(&pages);
        if !pinned.is_empty() {
            // A block is none any more, where a part of it is pinned. Until all slots are shared, nobody writes to that either.
            live.change_present(&pinned, PageChange::ReadOnly, SplitCause::Snapshot);
            let copied = pinned.iter().try_for_each(|index| live.copy_to_snapshot(index));
            copied.ok_or(MemoryError::NoMemory)?;
            pages = pages.and(&pinned.not());
        }
        live.state.shared = pages;
        Ok(!pinned.is_empty())
    }

    /// Ends the snapshot at `start`: what it has is given back, and the live memory is as if it had never been, blocks too.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotMapped`] where none is.
    pub fn end_snapshot(&self, start: VirtAddr) -> Result<(), MemoryError> {
        let mut space = self.space.lock();
        let found = self.regions.read().find(start.page().0);
        let Some((range, Region { sharing: Sharing::Snapshot, .. })) = found else {
            return Err(MemoryError::NotMapped { address: start });
        };
        self.unmap_held(&mut space, &range);
        Ok(())
    }

    /// Ends the slots of a snapshot in `range`, whose region is gone, or never was.
    fn end_slots(&self, range: &Range<u64>) {
        for (_, handle) in self.directory.slots(slots_of(range)) {
            self.end_snapshot_slot(handle);
            crate::sync::breathe();
        }
    }

    /// Ends a slot of a snapshot; its live slot is as before. The caller has the space's lock: nobody ties or unties meanwhile.
    pub(super) fn end_snapshot_slot(&self, handle: Handle<Slot>) {
        let mut slot = LockedSlot::of_handle(self, handle);
        // One that was not shared with yet may be tied to a snapshot of what was there.
        let Some(live) = slot.state.tie.filter(|_| slot.state.role == Role::Snapshot) else { return slot.end() };
        drop(slot);
        let mut live = LockedSlot::of_handle(self, live);
        live.lock_snapshot().expect("it is tied").end();
        live.state.shared = Bits512::EMPTY;
        live.state.tie = None;
        let (number, handle) = (live.number, live.handle);
        drop(live);
        self.heal(number, handle);
    }

    /// Gives the pages of a slot what their regions allow, and promotes it. The caller has the space's lock.
    fn heal(&self, number: u64, handle: Handle<Slot>) {
        let first = number * PAGES_PER_SLOT as u64;
        let mut left = first..first + PAGES_PER_SLOT as u64;
        while !left.is_empty()
            && let Some((range, region)) = self.first_region(&left)
        {
            let mut slot = LockedSlot::lock(self, number, handle);
            let is_block = matches!(slot.state.mapping, Mapping::Block { .. });
            // Its pages have one access, whatever else their regions say.
            let part = if is_block { 0..PAGES_PER_SLOT } else { part_in(&range, number) };
            slot.protect(part, Attributes::new(region.access));
            if is_block {
                break;
            }
            left.start = range.end.min(left.end);
        }
        self.promote_covered(number, handle);
    }

    /// Calls `visit` with the pages of `length` bytes from `start` that may have been changed since the snapshot at `since` of
    /// just these was made, in ascending order (Linux: what soft-dirty bits are for): written, released, touched for the first
    /// time; and those that were pinned then, which a device may have written to.
    ///
    /// # Errors
    ///
    /// A bad range, and [`MemoryError::NotMapped`] where no snapshot is.
    pub fn changed_since(
        &self,
        start: VirtAddr,
        length: usize,
        since: VirtAddr,
        mut visit: impl FnMut(Range<VirtAddr>),
    ) -> Result<(), MemoryError> {
        let live = check_range(start, length)?;
        let _space = self.space.lock();
        match self.regions.read().find(since.page().0) {
            Some((_, Region { sharing: Sharing::Snapshot, .. })) => {}
            _ => return Err(MemoryError::NotMapped { address: since }),
        }
        let first = slots_of(&live).start;
        for number in slots_of(&live) {
            let changed = self.changed_in(number, number - first + since.page().slot());
            for run in changed.and(&Bits512::of(part_in(&live, number))).runs() {
                let page = |index: usize| Page(number * PAGES_PER_SLOT as u64 + index as u64).start();
                visit(page(run.start)..page(run.end));
            }
            crate::sync::breathe();
        }
        Ok(())
    }

    /// Pages of slot `number` that are not those which slot `since` of a snapshot shows.
    fn changed_in(&self, number: u64, since: u64) -> Bits512 {
        let live = LockedSlot::find(self, number);
        let tie = self.directory.find(since);
        if let Some(live) = &live
            && live.state.tie.is_some()
            && live.state.tie == tie
            && let Some(snapshot) = live.lock_snapshot()
        {
            return live.state.present.and(&live.state.shared.not()).or(&snapshot.state.present);
        }
        let present = live.map_or(Bits512::EMPTY, |live| live.state.present);
        let seen = tie.map(|handle| LockedSlot::of_handle(self, handle));
        present.or(&seen.map_or(Bits512::EMPTY, |seen| seen.state.present))
    }

    /// What a fault does in a slot of a snapshot.
    #[cold]
    #[inline(never)]
    pub(super) fn attempt_in_snapshot(&self, target: &Target<'_>, tie: Option<Handle<Slot>>) -> Attempt {
        let mut live = match tie {
            None => None,
            Some(handle) => {
                let live = LockedSlot::of_handle(self, handle);
                if live.state.tie != Some(target.handle) {
                    return Attempt::Retry;
                }
                Some(live)
            }
        };
        let mut snapshot = match &live {
            Some(live) => live.lock_snapshot().expect("it is tied"),
            None => LockedSlot::of(self, target),
        };
        if snapshot.epoch() != target.epoch || snapshot.state.tie != tie {
            return Attempt::Retry;
        }
        let index = target.page.index();
        if let Some((_, attributes)) = snapshot.leaf(index) {
            let is_own = snapshot.state.present.get(index);
            if attributes.access.permits(target.access) && (!target.manner.own || is_own) {
                // Its flag is clear where it was sampled.
                match attributes.accessed {
                    true => self.counters.spurious_fault.increment(),
                    false => {
                        snapshot.set_accessed(index, true);
                        self.counters.access_flag_fault.increment();
                    }
                }
                return Attempt::Done;
            }
            snapshot.unborrow(index..index + 1);
        }
        let shared = live.as_mut().filter(|live| live.state.shared.get(index));
        match shared {
            Some(live) if target.manner.own => {
                drop(snapshot);
                live.part_with(index, None)
            }
            Some(live) => snapshot.take(target, live),
            None => snapshot.attempt_absent(&Target { huge: false, ..target.clone() }),
        }
    }
}

impl<'m, M: Mmu> LockedSlot<'m, M> {
    /// The snapshot's slot that is tied to this live one, locked (SN-3). None if this is a snapshot's.
    pub(super) fn lock_snapshot(&self) -> Option<LockedSlot<'m, M>> {
        let tie = self.state.tie.filter(|_| self.state.role != Role::Snapshot);
        tie.map(|handle| LockedSlot::of_tied(self.mm, handle))
    }

    /// What its snapshot shows is the snapshot's own by now: they have nothing to do with each other any more.
    fn untie(&mut self) {
        if let Some(mut snapshot) = self.lock_snapshot() {
            snapshot.state.tie = None;
        }
        self.state.tie = None;
    }

    /// The slot, which is empty, will be a snapshot's: it gets a table (SN-4).
    fn provide_for_snapshot(&mut self) -> Result<(), MemoryError> {
        if self.state.reserve.is_none() && self.state.mapping == Mapping::Empty {
            let table = self.new_table().ok_or(MemoryError::NoMemory)?;
            self.state.reserve.put(table);
        }
        Ok(())
    }

    /// Copies the present page `index` into the snapshot's slot. No store to it comes through, or no copy would be one of an
    /// instant; but a device's, to a pinned page. `None` without memory.
    fn copy_to_snapshot(&mut self, index: usize) -> Option<()> {
        let mm = self.mm;
        let copy = mm.frames.allocate(0, Class::Movable)?;
        let (frame, _) = self.leaf(index).expect("the page is present");
        let mut snapshot = self.lock_snapshot().expect("SN-1");
        snapshot.unborrow(index..index + 1);
        mm.machine.copy(frame, copy, 1);
        let table = snapshot.landing_table();
        snapshot.install(table, index..index + 1, copy, SEEN);
        mm.counters.snapshot_pages_copied.increment();
        Some(())
    }

    /// Page `index`, which is shared, is the slot's alone from here on; its descriptor gets `attributes`.
    fn part_with(&mut self, index: usize, attributes: Option<Attributes>) -> Attempt {
        if self.copy_to_snapshot(index).is_none() {
            return Attempt::NoMemory;
        }
        self.state.shared.clear(index);
        let (_, now) = self.leaf(index).expect("SN-1");
        let change = PageChange::Attributes(attributes.unwrap_or(now));
        let (page, mut pending) = (index..index + 1, Pending::new());
        match self.state.mapping {
            Mapping::Block { .. } => self.split(page, change, SplitCause::Snapshot, &mut pending),
            Mapping::Table(table) => {
                self.update_pages(table, page, change, &mut pending);
            }
            Mapping::Empty => {}
        }
        self.mm.settle(&mut pending);
        self.mm.counters.pgfault.increment();
        Attempt::Done
    }

    /// The page of `target`, which a snapshot shows, is written to.
    #[cold]
    #[inline(never)]
    pub(super) fn write_shared(&mut self, target: &Target<'_>) -> Attempt {
        let attempt = self.part_with(target.page.index(), Some(target.attributes));
        if self.state.shared.is_empty() && target.huge && target.is_whole() && self.promote() == Err(Refusal::Away) {
            self.nominate_if_used();
        }
        attempt
    }

    /// Copies the shared pages of the group that begins at `start` into the snapshot, so that the slot may become a block.
    ///
    /// # Errors
    ///
    /// No frame is free.
    pub(super) fn part_with_group(&mut self, start: usize, attributes: Attributes) -> Result<(), Refusal> {
        for index in group_of(start) {
            if self.state.shared.get(index)
                && let Attempt::NoMemory = self.part_with(index, Some(attributes))
            {
                return Err(Refusal::NoFreeFrame);
            }
        }
        Ok(())
    }

    /// The frames of `pages` will hold them no more: the snapshot's translations of them go first.
    #[cold]
    #[inline(never)]
    pub(super) fn recall(&self, pages: Range<usize>) {
        if let Some(mut snapshot) = self.lock_snapshot() {
            snapshot.unborrow(pages);
        }
    }

    /// The live pages of `range` go: what the snapshot shows of them becomes its own, frames and all.
    #[cold]
    #[inline(never)]
    pub(super) fn hand_over(&mut self, range: Range<usize>, cause: SplitCause) {
        let pages = Bits512::of(range.clone()).and(&self.state.shared);
        self.recall(range.clone());
        for run in pages.runs() {
            let mut next = run.start;
            while next < run.end {
                let piece = next..run.end.min(group_of(next).end);
                next = piece.end;
                self.state.shared.clear_range(piece.clone());
                let start = piece.start;
                let mut lifted = self.lift(piece, run.end);
                lifted.allow(Access::READ);
                self.lock_snapshot().expect("SN-1").land(start, &lifted);
            }
        }
        if cause == SplitCause::Release && self.state.mapping != Mapping::Empty {
            self.state.released = self.state.released.or(&pages);
        }
    }

    /// Maps the page of `target` to the frame that it has in the `live` slot: with the block or the group, where that is one
    /// translation there and nothing of it is mapped here.
    fn take(&mut self, target: &Target<'_>, live: &LockedSlot<'m, M>) -> Attempt {
        let group = group_of(target.page.index());
        let is_block = matches!(live.state.mapping, Mapping::Block { .. });
        let mapped = self.state.mapped();
        let range = if is_block && target.huge && mapped.is_empty() {
            0..PAGES_PER_SLOT
        } else if target.huge
            && (is_block || live.is_contiguous(group.start) && live.state.shared.all_in(group.clone()))
            && !mapped.any_in(group.clone())
        {
            group
        } else {
            target.page.index()..target.page.index() + 1
        };
        let (frame, _) = live.leaf(range.start).expect("SN-1");
        let table = match self.state.mapping {
            Mapping::Table(table) => table,
            _ => self.state.reserve.take().expect("SN-4"),
        };
        self.map_borrowed(range.clone(), frame, SEEN, table);
        self.state.shared.set_range(range);
        self.mm.counters.pgfault.increment();
        Attempt::Done
    }

    /// The slot of a snapshot is an empty slot like any other again.
    fn end(&mut self) {
        if self.state.role == Role::Snapshot {
            self.new_epoch();
            self.unborrow(0..PAGES_PER_SLOT);
            self.clear(0..PAGES_PER_SLOT, SplitCause::Unmap);
            self.state.role = Role::Plain;
            self.state.tie = None;
        }
        if let Some(table) = self.state.reserve.take() {
            self.mm.frames.free(table, 0);
        }
    }
}
