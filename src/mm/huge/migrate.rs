//! Migrate: pages move to other frames, under the running application. At most one group at a time: what waits for a page that
//! moves waits for a copy of 64 KiB at most.
#![forbid(unsafe_code)]

use crate::mm::address::{Frame, GROUP_ORDER, PAGES_PER_GROUP, VirtAddr};
use crate::mm::frame::Class;
use crate::mm::mmu::Mmu;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::update::{Group, Move, group_of, move_pages};
use crate::mm::{MemoryManager, Refusal};
use arrayvec::ArrayVec;

/// What is moved at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// One page.
    Page,
    /// One aligned group of 64 KiB, to a group of frames.
    Group,
}

/// Frames that pages moved from.
pub(in crate::mm) type Left = ArrayVec<Frame, PAGES_PER_GROUP>;

impl<M: Mmu> MemoryManager<M> {
    /// Moves the page, or the group, at `address` to other frames. A block is split on the way; a page at home is away then.
    ///
    /// # Errors
    ///
    /// [`Refusal::Absent`] when a page of the unit is not present, [`Refusal::Pinned`] when its frame is pinned,
    /// [`Refusal::NoFreeFrame`], or [`Refusal::Busy`] while the slot is being filled. Nothing changed.
    pub fn migrate(&self, address: VirtAddr, unit: Unit) -> Result<(), Refusal> {
        self.try_migrate(address, unit).map_err(|refusal| self.refused(refusal))
    }

    fn try_migrate(&self, address: VirtAddr, unit: Unit) -> Result<(), Refusal> {
        let page = address.page();
        let mut slot = LockedSlot::find(self, page.slot()).ok_or(Refusal::Absent)?;
        let (range, order) = match unit {
            Unit::Page => (page.index()..page.index() + 1, 0),
            Unit::Group => (group_of(page.index()), GROUP_ORDER),
        };
        if slot.state.role.waits() {
            return Err(Refusal::Busy);
        }
        if !slot.state.present.all_in(range.clone()) {
            return Err(Refusal::Absent);
        }
        let first = self.frames.allocate(order, Class::Movable).ok_or(Refusal::NoFreeFrame)?;
        let left = slot.move_to(range.start, order, first)?;
        // Under the slot's lock: a frame that says it is a page's has that page in it (WA-2).
        self.frames.free_all(&left);
        Ok(())
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Moves 2^`order` pages of one group, from `index` on, to the frames from `first` on, allocated for this. Returns the frames that
    /// they were in, the caller's to free while it has the slot.
    ///
    /// # Errors
    ///
    /// As [`LockedSlot::migrate`]; the frames from `first` on are free.
    pub(in crate::mm) fn move_to(&mut self, index: usize, order: u32, first: Frame) -> Result<Left, Refusal> {
        let mut left = Left::new();
        self.migrate(group_of(index).start, Move::new(index, 1 << order, first), &mut left)
            .inspect_err(|_| self.mm.frames.free(first, order))?;
        Ok(left)
    }

    /// **Migrate**: moves pages of the group that begins at index `start`, all present: to frames allocated for this, or to the
    /// pages' own in the home. Puts the frames that they were in into `left`, the caller's to free; what they leave in the home
    /// becomes absent.
    ///
    /// # Errors
    ///
    /// [`Refusal::Pinned`] when one of them is pinned; nothing changed.
    pub(in crate::mm) fn migrate(&mut self, start: usize, moves: Move, left: &mut Left) -> Result<(), Refusal> {
        let Mapping::Table(table) = self.state.mapping else { return self.split_and_migrate(start, moves, left) };
        let (mm, machine) = (self.mm, &self.mm.machine);
        let group = Group::read(machine, table, start);
        if group.frames(moves.pages).any(|(_, frame)| mm.frames.is_frame_pinned(frame)) {
            return Err(Refusal::Pinned);
        }
        if self.state.is_shown(group_of(start)) {
            self.recall(group_of(start));
        }
        move_pages(machine, &mm.counters, table, self.links(), &group, moves);
        left.extend(group.frames(moves.pages & self.state.away.group(start)).map(|(_, frame)| frame));
        let goes_home = self.state.home.is_some_and(|home| moves.leads_to(home.frame(start)));
        if goes_home {
            self.state.away.clear_group(start, moves.pages);
            self.state.zeroed &= !(1 << (start / PAGES_PER_GROUP));
        } else {
            self.state.away.set_group(start, moves.pages);
            moves.iter().for_each(|(offset, frame)| mm.frames.set_owner(frame, self.owner(), start + offset));
        }
        mm.counters.migrate_pages.add(moves.pages.count_ones().into());
        self.account_home();
        Ok(())
    }

    /// As [`LockedSlot::migrate`], for a slot that may be a block: it is split, unless that would be for nothing.
    #[cold]
    fn split_and_migrate(&mut self, start: usize, moves: Move, left: &mut Left) -> Result<(), Refusal> {
        let home = self.state.home.expect("only a slot with a home is a block");
        if moves.iter().any(|(offset, _)| self.mm.frames.pins(home.frame(start + offset)) > 0) {
            return Err(Refusal::Pinned);
        }
        self.page_table();
        self.migrate(start, moves, left)
    }
}
