//! What is done to a slot's pages: mapped, unmapped, protected.
#![forbid(unsafe_code)]

use crate::mm::address::{Block, Frame, PAGES_PER_GROUP, PAGES_PER_SLOT};
use crate::mm::bits::Bits512;
use crate::mm::frame::Class;
use crate::mm::huge::SplitCause;
use crate::mm::mmu::{Attributes, Entry, Level, Mmu};
use crate::mm::slot::{LockedSlot, Mapping, Role, SlotState};
use crate::mm::table::Pending;
use crate::mm::table::update::{PageChange, install_pages};
use crate::mm::zeros::read_only;
use core::ops::Range;

impl<M: Mmu> LockedSlot<'_, M> {
    /// Takes `block`, allocated as this slot's home and zeroed, and maps it with one descriptor. The slot is empty.
    pub(in crate::mm) fn map_block(&mut self, block: Block, deposit: Frame, attributes: Attributes) {
        debug_assert_eq!(self.state.mapping, Mapping::Empty);
        if attributes.access.execute {
            self.mm.machine.sync_code(block.frame(0), PAGES_PER_SLOT);
        }
        self.link(Entry::Block { frame: block.frame(0), attributes });
        self.state.home = Some(block);
        self.state.mapping = Mapping::Block { deposit };
        self.state.present = Bits512::FULL;
        self.state.released = Bits512::EMPTY;
    }

    /// Maps absent pages `range` of one group to consecutive zeroed frames from `frame` on, linking `table` (zeroed) if the slot has none yet.
    pub(in crate::mm) fn install(&mut self, table: Frame, range: Range<usize>, frame: Frame, attributes: Attributes) {
        if attributes.access.execute {
            self.mm.machine.sync_code(frame, range.len());
        }
        install_pages(&self.mm.machine, table, range.clone(), frame, attributes);
        let first = self.state.mapping == Mapping::Empty;
        if first {
            self.link(Entry::Table(table));
            self.state.mapping = Mapping::Table(table);
        }
        self.state.present.set_range(range.clone());
        self.state.released.clear_range(range.clone());
        self.state.zeroed &= !(1 << (range.start / PAGES_PER_GROUP));
        match self.state.home {
            // The first group was counted when the home was allocated.
            Some(home) if home.frame(range.start) == frame => {
                if !first {
                    self.count_absent(home);
                }
            }
            _ => {
                self.mm.frames.set_owners(frame, range.len(), self.owner(), range.start);
                self.state.away.set_range(range);
            }
        }
    }

    /// Whether the frame of a page in `range` is pinned in the home, and not in use: the page went away, and a device may still
    /// write to it.
    #[inline]
    pub(in crate::mm) fn has_orphan(&self, home: Block, range: Range<usize>) -> bool {
        self.mm.frames.is_pinned(home) && self.finds_orphan(home, range)
    }

    #[cold]
    #[inline(never)]
    fn finds_orphan(&self, home: Block, mut range: Range<usize>) -> bool {
        let at_home = self.state.at_home();
        range.any(|index| !at_home.get(index) && self.mm.frames.pins(home.frame(index)) > 0)
    }

    /// Counts the absent frames of the home; says how many there are.
    pub(in crate::mm) fn count_absent(&self, home: Block) -> usize {
        let at_home = match self.state.away.is_empty() {
            true => self.state.present.count(),
            false => self.state.at_home().count(),
        };
        self.mm.frames.set_absent(home, PAGES_PER_SLOT - at_home);
        PAGES_PER_SLOT - at_home
    }

    /// Brings the record of the home in line with what is in it by now; without a page in it, the home ends.
    pub(in crate::mm) fn account_home(&mut self) {
        let Some(home) = self.state.home else { return };
        if self.state.at_home().is_empty() {
            self.mm.frames.end_home(home);
            self.state.home = None;
            self.state.zeroed = 0;
            return;
        }
        if self.count_absent(home) > 0 && self.mm.frames.defer(home) {
            self.mm.counters.thp_deferred_split_page.increment();
        }
    }

    /// Unmaps the present pages of `range`. Frames at home become absent, others are freed; a slot without pages loses its
    /// home and its table. With [`SplitCause::Release`] the pages count as released until they are touched again.
    pub(in crate::mm) fn clear(&mut self, range: Range<usize>, cause: SplitCause) {
        if self.state.is_shown(range.clone()) {
            self.hand_over(range.clone(), cause);
        }
        let cleared = Bits512::of(range.clone());
        let gone = cleared.and(&self.state.mapped());
        let rest = self.state.mapped().and(&gone.not());
        if cause == SplitCause::Release {
            self.state.released = self.state.released.or(&cleared.and(&self.state.present));
        } else {
            self.state.released.clear_range(range.clone());
        }
        if gone.is_empty() {
            return;
        }
        if rest.is_empty() {
            self.clear_all();
            return;
        }
        let mut pending = Pending::new();
        let away = gone.and(&self.state.away);
        match self.state.mapping {
            Mapping::Block { .. } => self.split(range, PageChange::Clear, cause, &mut pending),
            Mapping::Table(table) => {
                // Frames are noted before the descriptors that name them go, a batch at a time.
                for run in gone.runs() {
                    let mut from = run.start;
                    while from < run.end {
                        let to = self.take_away(&away, from..run.end, &mut pending);
                        let (machine, counters) = (&self.mm.machine, &self.mm.counters);
                        self.update_pages(table, from..to, PageChange::Clear, &mut pending);
                        if pending.is_full() {
                            pending.pay(machine, &self.mm.frames, counters);
                        }
                        from = to;
                    }
                }
            }
            Mapping::Empty => unreachable!("present pages without a table"),
        }
        self.mm.settle(&mut pending);
        self.forget_borrowed(&gone);
        self.forget_freed(&gone);
        self.state.present = self.state.present.and(&rest);
        self.state.away = self.state.away.and(&rest);
        self.account_home();
    }

    /// Hands the away frames of `range` to `pending` until that is full; returns how far it came.
    fn take_away(&self, away: &Bits512, range: Range<usize>, pending: &mut Pending) -> usize {
        for index in range.clone() {
            if away.get(index) {
                if pending.is_full() {
                    return index;
                }
                let (frame, _) = self.leaf(index).expect("an away page is present");
                pending.free(frame, 0);
            }
        }
        range.end
    }

    /// Unmaps everything: the descriptor goes at once, then the home, the away frames and the table.
    fn clear_all(&mut self) {
        if !self.state.borrowed.is_empty() {
            self.unborrow(0..PAGES_PER_SLOT);
            if self.state.mapping == Mapping::Empty {
                return;
            }
        }
        self.forget_freed(&Bits512::FULL);
        let mut pending = Pending::new();
        let SlotState { offered, nominated, sampled, reserve, role, tie, places, .. } = *self.state;
        let role = if role == Role::Cold { Role::Plain } else { role };
        let left = SlotState { offered, nominated, sampled, reserve, role, tie, places, ..SlotState::default() };
        let state = core::mem::replace(&mut *self.state, left);
        match state.mapping {
            Mapping::Block { deposit } => {
                self.unlink(&state, &mut pending);
                pending.free(deposit, 0);
            }
            Mapping::Table(table) => {
                self.unlink(&state, &mut pending);
                pending.invalidate(&self.mm.machine, &self.mm.counters);
                let mut next = 0;
                while let Some(index) = state.away.next_set(next) {
                    let entry = self.mm.machine.read_entry(table, index, Level::Three);
                    let (frame, _) = entry.leaf().expect("an away page is present");
                    self.mm.frames.free(frame, 0);
                    next = index + 1;
                }
                pending.free(table, 0);
            }
            Mapping::Empty => unreachable!("present pages without a table"),
        }
        if let Some(home) = state.home {
            pending.end_home(home);
        }
        self.mm.settle(&mut pending);
    }

    /// Takes the slot's level-2 descriptor out, whose pages are as `state` says. Their translations are added to `pending`.
    pub(in crate::mm) fn unlink(&self, state: &SlotState, pending: &mut Pending) {
        if let Mapping::Table(_) = state.mapping {
            for run in state.mapped().runs() {
                self.links().owe(run, pending);
            }
        }
        self.set_entry(Entry::Invalid, pending);
    }

    /// Gives the present pages of `range` other attributes: in place where the range is whole, after a split where it
    /// cuts a block.
    pub(in crate::mm) fn protect(&mut self, range: Range<usize>, attributes: Attributes) {
        if attributes.access.execute {
            self.sync_code(range.clone());
        }
        if !self.state.freed.is_empty() {
            self.forget_freed(&Bits512::of(range.clone()));
        }
        if self.state.is_cold() {
            // What it makes accessible, a touch would not tell of.
            self.warm();
        }
        let mut pending = Pending::new();
        match self.state.mapping {
            Mapping::Empty => {}
            Mapping::Block { .. } => {
                let (frame, _) = self.leaf(0).expect("a block maps its first page");
                let is_own = self.state.home.is_some() && self.state.shared.is_empty();
                let attributes = if is_own { attributes } else { read_only(attributes.access) };
                if range == (0..PAGES_PER_SLOT) {
                    self.set_entry(Entry::Block { frame, attributes }, &mut pending);
                } else {
                    self.split(range, PageChange::Attributes(attributes), SplitCause::Protect, &mut pending);
                }
            }
            Mapping::Table(table) => {
                let not_own = self.state.borrowed.or(&self.state.shared);
                let mut start = range.start;
                while start < range.end {
                    let end = not_own.run_end(start, range.end);
                    let attributes = if not_own.get(start) { read_only(attributes.access) } else { attributes };
                    let change = PageChange::Attributes(attributes);
                    self.update_pages(table, start..end, change, &mut pending);
                    start = end;
                }
            }
        }
        self.mm.settle(&mut pending);
    }

    /// Makes what was written to the present pages of `range` fetchable, before they become executable.
    fn sync_code(&self, range: Range<usize>) {
        for index in range {
            if let Some((frame, attributes)) = self.leaf(index)
                && !attributes.access.execute
            {
                self.mm.machine.sync_code(frame, 1);
            }
        }
    }

    /// A frame for a level-3 table, to be zeroed before it is linked, or for the deposit of a block: a split writes all of
    /// that before it links it.
    pub(in crate::mm) fn new_table(&self) -> Option<Frame> {
        self.mm.frames.allocate(0, Class::Unmovable)
    }

    /// Whether the slot's group that begins at `start` has no page present, and its pages were all released or none.
    pub(in crate::mm) fn group_is_free(&self, start: usize) -> bool {
        let group = start..start + PAGES_PER_GROUP;
        if self.state.mapping == Mapping::Empty {
            return true;
        }
        let released = &self.state.released;
        !(self.state.present.any_in(group.clone()) || self.state.borrowed.any_in(group.clone()))
            && (released.all_in(group.clone()) || !released.any_in(group))
    }
}
