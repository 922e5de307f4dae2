//! Remap: memory goes to other addresses, or gets more of them (Linux: `mremap`).
//!
//! A slot that goes as a whole to the same place in another slot keeps everything: the two slots' records change places, its
//! descriptor with the table below or kept for it is written where it goes, and nothing is copied. Pages that go anywhere else
//! leave their home: a few are copied out of it, else it ends and they stay in their frames; then their descriptors move.
//!
//! What needs memory comes first: records of the slots and tables where pages arrive ([`SlotState::reserve`]). So a remap is
//! refused as a whole, or done.
//!
//! - **SP-5** A slot changes its addresses under the regions' lock for writing, and both slots begin a new epoch: who found one
//!   under that lock, to read, finds out under the slot's.
//!
//! [`SlotState::reserve`]: super::slot::SlotState
#![forbid(unsafe_code)]

use super::address::{Frame, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, Page, VirtAddr, part_in, slots_of};
use super::bits::Bits512;
use super::frame::Class;
use super::huge::SplitCause;
use super::mmu::{Access, Attributes, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, Pair, Slot};
use super::space::{Region, Space, check_range, merge_ends};
use super::table::Pending;
use super::table::update::group_of;
use super::{MemoryError, MemoryManager};
use arrayvec::ArrayVec;
use core::ops::Range;

/// Where memory goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// Nowhere: it grows or shrinks where it is.
    Here,
    /// Where there is room, if it can't grow where it is (Linux: `MREMAP_MAYMOVE`).
    Anywhere,
    /// To this address, where nothing is mapped.
    At(VirtAddr),
    /// To this address, whatever is mapped there (Linux: `MREMAP_FIXED`).
    Over(VirtAddr),
}

/// What [`MemoryManager::remap`] is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemapRequest {
    /// Bytes that it has afterwards, rounded up to whole pages.
    pub length: usize,
    /// Where it goes.
    pub to: Destination,
    /// Its old addresses stay mapped, and read as zero (Linux: `MREMAP_DONTUNMAP`): it moves in any case.
    pub keep: bool,
}

impl RemapRequest {
    /// `length` bytes, where it is.
    pub const fn new(length: usize) -> Self {
        RemapRequest { length, to: Destination::Here, keep: false }
    }

    /// Where there is room, if need be.
    pub const fn anywhere(self) -> Self {
        RemapRequest { to: Destination::Anywhere, ..self }
    }

    /// At this address, where nothing is mapped.
    pub const fn at(self, address: VirtAddr) -> Self {
        RemapRequest { to: Destination::At(address), ..self }
    }

    /// At this address, in place of what is mapped there.
    pub const fn over(self, address: VirtAddr) -> Self {
        RemapRequest { to: Destination::Over(address), ..self }
    }

    /// Its old addresses stay mapped.
    pub const fn keep(self) -> Self {
        RemapRequest { keep: true, ..self }
    }
}

/// Pages that go elsewhere: those in a range, all as far.
struct Journey {
    from: Range<u64>,
    to: u64,
}

impl Journey {
    /// Where `pages` go.
    fn of(&self, pages: &Range<u64>) -> Range<u64> {
        let to = |page: u64| page - self.from.start + self.to;
        to(pages.start)..to(pages.end)
    }

    /// Where all of them go.
    fn arrival(&self) -> Range<u64> {
        self.of(&self.from)
    }

    /// Whether some of them go by themselves, not as a whole slot.
    fn goes_by_pages(&self) -> bool {
        [self.from.start, self.from.end, self.to].iter().any(|page| !page.is_multiple_of(PAGES_PER_SLOT as u64))
    }

    /// The pages of slot `number` that go.
    fn part(&self, number: u64) -> Range<u64> {
        let (first, part) = (number * PAGES_PER_SLOT as u64, part_in(&self.from, number));
        first + part.start as u64..first + part.end as u64
    }

    /// The slot that slot `number` becomes, if all of it goes to the same place in another.
    fn whole(&self, number: u64) -> Option<u64> {
        let to = self.of(&self.part(number));
        let is_whole = to.end - to.start == PAGES_PER_SLOT as u64 && Page(to.start).index() == 0;
        is_whole.then(|| Page(to.start).slot())
    }
}

/// What is on its way.
#[derive(Default)]
pub(super) struct Lifted {
    /// The pages: which of a piece, and how it is mapped.
    pages: ArrayVec<(usize, Frame, Access), PAGES_PER_GROUP>,
    /// Pages of the piece that were released.
    released: ArrayVec<usize, PAGES_PER_GROUP>,
    /// Of those that are there, the ones that may be taken back.
    freed: ArrayVec<usize, PAGES_PER_GROUP>,
}

impl Lifted {
    /// Where they arrive they allow `access`.
    pub(super) fn allow(&mut self, access: Access) {
        self.pages.iter_mut().for_each(|page| page.2 = access);
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Gives `length` bytes from `start`, which are of one region, other addresses, or another length, as `request` says. What they
    /// hold goes with them, blocks as blocks where the way is of whole slots; what is new reads as zero. Returns the addresses.
    ///
    /// # Errors
    ///
    /// Those of `mremap(2)`, which has fewer words for them: a bad range, as source or as destination; a page that is not mapped;
    /// [`Divided`](MemoryError::Divided), a destination [`IntoItself`](MemoryError::IntoItself);
    /// [`Shared`](MemoryError::Shared) where a snapshot shows pages that would go by themselves, or is what would go;
    /// [`Overlap`](MemoryError::Overlap), where it can't grow; a kept range of another length; the commit limit; no memory for
    /// records. Nothing is changed.
    pub fn remap(&self, start: VirtAddr, length: usize, request: RemapRequest) -> Result<Range<VirtAddr>, MemoryError> {
        let from = check_range(start, length)?;
        let pages = request.length.div_ceil(PAGE_SIZE) as u64;
        if pages == 0 {
            return Err(MemoryError::Empty);
        }
        if request.keep && pages != from.end - from.start {
            return Err(MemoryError::KeptLength { length, wanted: request.length });
        }
        let to = self.reclaiming(|| self.try_remap(&from, pages, request))?;
        Ok(Page(to.start).start()..Page(to.end).start())
    }

    fn try_remap(&self, from: &Range<u64>, pages: u64, request: RemapRequest) -> Result<Range<u64>, MemoryError> {
        let mut space = self.space.lock();
        let (found, region) = self.only_region(from)?;
        self.expect_one_place(from)?;
        let old = from.end - from.start;
        let to = match request.to {
            Destination::At(address) | Destination::Over(address) => {
                let to = check_range(address, request.length)?;
                self.expect_place(from, &to, request.to)?;
                to
            }
            _ if request.keep => self.gap_like(from.start, pages)?,
            _ if pages <= old => {
                let end = from.start + pages;
                if end < from.end {
                    self.cut_and_unmap(&mut space, &(end..from.end))?;
                }
                return Ok(from.start..end);
            }
            to => match self.grow(&mut space, from, request.length, region) {
                Err(MemoryError::Overlap { .. } | MemoryError::OutsideSpace { .. }) if to == Destination::Anywhere => {
                    self.gap_like(from.start, pages)?
                }
                grown => return grown,
            },
        };
        let journey = Journey { from: from.start..from.start + pages.min(old), to: to.start };
        if journey.goes_by_pages()
            && let Some(address) = self.first_shared(&journey.from)
        {
            return Err(MemoryError::Shared { address });
        }
        // Two cuts at each of the ranges, one where the source is too long, and the new region.
        self.regions.write().reserve(&self.source(), 6).map_err(|_| MemoryError::NoMemory)?;
        let charge = match region.charged {
            true if request.keep => pages,
            true => pages.saturating_sub(old),
            false => 0,
        };
        self.charge(&mut space, charge)?;
        if let Err(error) = self.depart(&journey, request.keep, &found) {
            self.arrive(&journey);
            space.committed -= charge;
            return Err(error);
        }
        // Nothing fails from here on.
        self.make_way(&mut space, &(journey.from.end..from.end));
        if let Destination::Over(_) = request.to {
            self.make_way(&mut space, &to);
        }
        for (number, handle) in self.directory.slots(slots_of(&journey.from)) {
            match journey.whole(number) {
                Some(to) => self.move_slot(number, handle, to),
                None => self.move_pages(&journey, &journey.part(number)),
            }
            crate::sync::breathe();
        }
        self.insert(&to, region);
        if journey.goes_by_pages() {
            self.arrive(&journey);
        }
        self.nominate_ends(&to);
        Ok(to)
    }

    /// What is in `from` may be mapped at `there`, as `to` says of what is there now.
    pub(super) fn expect_place(
        &self,
        from: &Range<u64>,
        there: &Range<u64>,
        to: Destination,
    ) -> Result<(), MemoryError> {
        if there.start < from.end && from.start < there.end {
            return Err(MemoryError::IntoItself { address: Page(there.start).start() });
        }
        match to {
            Destination::Over(_) => self.expect_whole(there),
            _ => self.expect_free(there),
        }
    }

    /// The first page of `range` that a snapshot shows. The caller has the space's lock, so none comes.
    fn first_shared(&self, range: &Range<u64>) -> Option<VirtAddr> {
        self.directory.slots(slots_of(range)).find_map(|(number, handle)| {
            let slot = LockedSlot::lock(self, number, handle);
            let part = Bits512::of(part_in(range, number)).and(&slot.state.shared);
            part.next_set(0).map(|index| (slot.first() + index as u64).start())
        })
    }

    /// Unmaps `range`, if it is one, after memory for its cuts was reserved.
    pub(super) fn make_way(&self, space: &mut Space, range: &Range<u64>) {
        if !range.is_empty() {
            self.cut_reserved(range);
            self.unmap_held(space, range);
        }
    }

    /// Makes the region that `from` ends longer, where it is: `length` bytes from the start of `from`.
    fn grow(
        &self,
        space: &mut Space,
        from: &Range<u64>,
        length: usize,
        region: Region,
    ) -> Result<Range<u64>, MemoryError> {
        let grown = check_range(Page(from.start).start(), length)?;
        let new = from.end..grown.end;
        self.expect_free(&new)?;
        self.charge(space, if region.charged { new.end - new.start } else { 0 })?;
        let mut regions = self.regions.write();
        let (range, _) = regions.find(from.start).expect("it was looked up");
        regions.resize(range.start, range.start..grown.end).expect("nothing is there");
        merge_ends(&mut regions, &new);
        drop(regions);
        self.nominate_ends(&new);
        Ok(grown)
    }

    /// Provides for the arrival of what is present, and takes the pages out of their `region`, unless that is kept: then faults find
    /// none any more. Where memory lacks, some was provided for.
    fn depart(&self, journey: &Journey, keep: bool, region: &Range<u64>) -> Result<(), MemoryError> {
        loop {
            let mut slots = 0;
            for (number, _) in self.directory.slots(slots_of(&journey.from)) {
                self.provide(journey, number).ok_or(MemoryError::NoMemory)?;
                slots += 1;
                crate::sync::breathe();
            }
            let mut regions = self.regions.write();
            // Faults make slots until they find no region. In one that is kept they come before the remap, or after it.
            if keep {
                return Ok(());
            }
            if self.directory.slots(slots_of(&journey.from)).count() == slots {
                if journey.from != *region {
                    for end in [journey.from.start, journey.from.end] {
                        regions.split(&self.source(), end).expect("reserved");
                    }
                }
                regions.remove(journey.from.start);
                return Ok(());
            }
        }
    }

    /// Sees to it that the pages of slot `number` can arrive: records of their slots, and tables. `None` without memory.
    fn provide(&self, journey: &Journey, number: u64) -> Option<()> {
        if let Some(to) = journey.whole(number) {
            self.slot_at(Page(to * PAGES_PER_SLOT as u64))?;
            return Some(());
        }
        for to in slots_of(&journey.of(&journey.part(number))) {
            let mut slot = LockedSlot::lock(self, to, self.slot_at(Page(to * PAGES_PER_SLOT as u64))?);
            if slot.state.reserve.is_none() {
                let table = slot.new_table()?;
                slot.state.reserve.put(table);
            }
        }
        Some(())
    }

    /// Frees the tables that were provided for, and are not needed. What arrived by pages may become blocks.
    fn arrive(&self, journey: &Journey) {
        for (_, handle) in self.directory.slots(slots_of(&journey.arrival())) {
            let mut slot = LockedSlot::of_handle(self, handle);
            if let Some(table) = slot.state.reserve.take() {
                self.frames.free(table, 0);
            }
            slot.nominate_if_used();
        }
    }

    /// Moves all of slot `number` to the addresses of slot `to`, which is empty (SP-5).
    fn move_slot(&self, number: u64, handle: Handle<Slot>, to: u64) {
        // One that a fault made meanwhile was touched after the move.
        let Some(target) = self.directory.get(to) else { return };
        let _regions = self.regions.write();
        let mut pair = Pair::lock(self, handle, target);
        let (slot, empty) = pair.both();
        debug_assert_eq!(empty.state.mapping, Mapping::Empty);
        let entry = slot.place().read(&self.machine);
        let mut pending = Pending::new();
        if entry.is_valid() {
            slot.unlink(&slot.state, &mut pending);
        }
        self.settle(&mut pending);
        self.directory.exchange(number, to);
        slot.move_to_number(to);
        empty.move_to_number(number);
        if entry.is_valid() {
            slot.link(entry);
        }
    }

    /// Moves `pages`, of one slot, by themselves.
    fn move_pages(&self, journey: &Journey, pages: &Range<u64>) {
        let mut next = pages.start;
        while next < pages.end {
            // To the end of a group, and of the slot that it arrives in.
            let group = next / PAGES_PER_GROUP as u64 * PAGES_PER_GROUP as u64 + PAGES_PER_GROUP as u64;
            let there = journey.of(&(next..pages.end)).start;
            let room = (there / PAGES_PER_SLOT as u64 + 1) * PAGES_PER_SLOT as u64 - there;
            let end = group.min(pages.end).min(next + room);
            self.move_piece(next..end, Page(there), Page(pages.end - 1).index() + 1);
            next = end;
            crate::sync::breathe();
        }
    }

    /// Moves `pages`, of one group, to page `to` and those after it, in one slot. Those up to index `end` of the slot will follow.
    fn move_piece(&self, pages: Range<u64>, to: Page, end: usize) {
        let from = Page(pages.start);
        let piece = from.index()..from.index() + (pages.end - pages.start) as usize;
        let (Some(source), Some(target)) = (self.directory.get(from.slot()), self.directory.get(to.slot())) else {
            return;
        };
        if source == target {
            let mut slot = LockedSlot::lock(self, from.slot(), source);
            let lifted = slot.lift(piece, end);
            return slot.land(to.index(), &lifted);
        }
        let mut pair = Pair::lock(self, source, target);
        let (slot, other) = pair.both();
        // One that a fault made meanwhile was touched after the move.
        if matches!(other.state.mapping, Mapping::Table(_)) || other.state.reserve.is_some() {
            let lifted = slot.lift(piece, end);
            other.land(to.index(), &lifted);
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Takes the pages of `piece`, of one group, out of the slot, in their frames: no translation leads to them any more. Those up
    /// to index `end` will follow.
    pub(super) fn lift(&mut self, piece: Range<usize>, end: usize) -> Lifted {
        self.new_epoch();
        self.leave_home(piece.clone(), end);
        let mut lifted = Lifted::default();
        for index in piece.clone() {
            // What is mapped to the zero block reads as zero again after a fault.
            if self.state.present.get(index)
                && let Some((frame, attributes)) = self.leaf(index)
            {
                lifted.pages.push((index - piece.start, frame, attributes.access));
            }
            if self.state.released.get(index) {
                lifted.released.push(index - piece.start);
            }
            if self.state.freed.get(index) {
                lifted.freed.push(index - piece.start);
            }
        }
        // So that they are not freed.
        self.state.away.clear_range(piece.clone());
        self.clear(piece, SplitCause::Unmap);
        lifted
    }

    /// Sees to it that no page of `piece` is at home. As long as most of the home stays in use, they are copied; otherwise, and
    /// where they can't be, the home ends, and pinned pages stay pinned in it.
    fn leave_home(&mut self, piece: Range<usize>, end: usize) {
        let Some(home) = self.state.home else { return };
        let at_home = self.state.at_home();
        if !at_home.any_in(piece.clone()) {
            return;
        }
        self.page_table();
        let leaving = (piece.start..end).filter(|&index| at_home.get(index)).count();
        let stays = leaving <= at_home.count() / 2;
        if stays && piece.filter(|&index| at_home.get(index)).all(|index| self.copy_out(index)) {
            return;
        }
        let freed = self.mm.frames.dissolve_pinned(home, &self.state.at_home());
        self.note_dissolved(freed);
    }

    /// Copies a page at home to a frame elsewhere; says whether it could.
    fn copy_out(&mut self, index: usize) -> bool {
        let frame = self.mm.frames.allocate(0, Class::Movable);
        frame.is_some_and(|frame| self.move_to(index, 0, frame).is_ok())
    }

    /// Maps what was lifted at index `start` and after it, where nothing is. A table was provided for, or there is one.
    pub(super) fn land(&mut self, start: usize, lifted: &Lifted) {
        self.new_epoch();
        if self.state.is_cold() {
            self.warm();
        }
        lifted.released.iter().for_each(|offset| self.state.released.set(start + offset));
        let mut rest = &lifted.pages[..];
        while let Some(&(offset, frame, access)) = rest.first() {
            let first = start + offset;
            let follows = |&(at, page): &(usize, &(usize, Frame, Access))| {
                *page == (offset + at, frame + at as u64, access)
                    && page.1.block() == frame.block()
                    && group_of(first).contains(&(first + at))
            };
            let count = rest.iter().enumerate().take_while(follows).count();
            let table = self.landing_table();
            self.install(table, first..first + count, frame, Attributes::new(access));
            rest = &rest[count..];
        }
        let mut freed = Bits512::EMPTY;
        lifted.freed.iter().for_each(|offset| freed.set(start + offset));
        self.note_freed(freed);
    }

    /// The table, or the reserve, zeroed.
    pub(super) fn landing_table(&mut self) -> Frame {
        if let Mapping::Table(table) = self.state.mapping {
            return table;
        }
        let table = self.state.reserve.take().expect("a table was provided for");
        self.mm.machine.zero(table, 1);
        table
    }
}
