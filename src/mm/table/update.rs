//! The only writer of descriptors: break-before-make, always.
//!
//! Callers hold the lock of the slot whose descriptors change (level-1 entries: the lock for opening a GiB). From a break to its make
//! interrupts are masked and nothing else is done: no allocation, no lock, no log.
#![deny(unsafe_op_in_unsafe_fn)]

use super::Links;
use super::pending::Pending;
use super::rule::{Change, change};
use crate::mm::address::{Block, Frame, PAGES_PER_GROUP, PAGES_PER_SLOT, Page};
use crate::mm::mmu::{Access, Attributes, Entry, Level, Mmu};
use crate::mm::stats::Counters;
use core::ops::Range;

/// Where a descriptor stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The table that holds it.
    pub table: Frame,
    /// Its level.
    pub level: Level,
    /// First page that it translates.
    pub page: Page,
}

impl Place {
    fn index(&self) -> usize {
        self.level.index(self.page)
    }

    /// Reads the descriptor.
    #[inline]
    pub fn read<M: Mmu>(&self, machine: &M) -> Entry {
        machine.read_entry(self.table, self.index(), self.level)
    }

    fn write<M: Mmu>(&self, machine: &M, entry: Entry) {
        // SAFETY: `table` is in use as a table of `level` (whoever made the place read it out of the tables, or made the
        // table), and this module's functions order the writes as break-before-make asks. What a descriptor of the lower
        // half unmaps is the application's memory, to which the memory manager holds no Rust reference.
        unsafe { machine.write_entry(self.table, self.index(), self.level, entry) }
    }
}

/// Changes one live descriptor of level 1 or 2 to `new`: in place, or by break-before-make, as [`change`] says. A break is
/// invalidated before this returns; the invalidation of other changes is added to `pending`.
///
/// A table that goes away for nothing adds the table descriptor alone: its pages are the caller's to add. A table that
/// a block replaces has all of its 512 pages cached, perhaps, so that everything is invalidated.
pub fn update<M: Mmu>(machine: &M, counters: &Counters, place: Place, new: Entry, pending: &mut Pending) {
    let old = place.read(machine);
    let one = place.page.0..place.page.0 + 1;
    match (change(old, new), old) {
        (Change::None, _) => {}
        (Change::Install, _) => install(machine, place, new),
        (Change::InPlace | Change::Remove, Entry::Table(_)) => {
            place.write(machine, new);
            pending.pages_and_tables(one);
        }
        (Change::InPlace | Change::Remove, _) => {
            place.write(machine, new);
            pending.pages(one);
        }
        (Change::Break, old) => machine.without_interrupts(|| {
            place.write(machine, Entry::Invalid);
            match old {
                Entry::Table(_) => pending.everything(),
                _ => pending.pages(one),
            }
            pending.invalidate(machine, counters);
            place.write(machine, new);
            machine.publish();
        }),
    }
}

/// Writes a descriptor of level 1 or 2 where none is valid: no TLB holds an invalid one, so publication is all it takes.
pub fn install<M: Mmu>(machine: &M, place: Place, new: Entry) {
    debug_assert_eq!(place.read(machine), Entry::Invalid);
    // What the descriptor leads to was just zeroed or filled: visible before it.
    machine.publish();
    place.write(machine, new);
    machine.publish();
}

/// Writes the level-3 `table`, which no walk can reach yet, so that it maps `block` with `attributes`, and `change`d in `range`.
/// Whole groups get the contiguous bit. Published with the descriptor that links the table.
pub fn fill<M: Mmu>(
    machine: &M,
    table: Frame,
    block: Block,
    attributes: Attributes,
    range: Range<usize>,
    change: PageChange,
) {
    let (start, end) = (group_of(range.start).start, range.end.next_multiple_of(PAGES_PER_GROUP));
    let (first_whole, last_whole) = (range.start.next_multiple_of(PAGES_PER_GROUP), group_of(range.end).start);
    // A range within one group has no whole one.
    let (first_whole, last_whole) =
        if first_whole <= last_whole { (first_whole, last_whole) } else { (range.start, range.end) };
    let cuts = [0, start, range.start, first_whole, last_whole, range.end, end, PAGES_PER_SLOT];
    for run in cuts.windows(2).map(|cut| cut[0]..cut[1]).filter(|run| !run.is_empty()) {
        let contiguous = [run.start, run.end].iter().all(|cut| cut.is_multiple_of(PAGES_PER_GROUP));
        let page = Entry::Page { frame: block.frame(run.start), attributes, contiguous };
        let entry = if range.contains(&run.start) { change.apply(page) } else { page };
        // SAFETY: `table` is a frame allocated as a table, and not linked.
        unsafe { machine.write_entries(table, run, Level::Three, entry) }
    }
}

/// What [`update_pages`] makes of a page's descriptor.
#[derive(Clone, Copy, Debug)]
pub enum PageChange {
    /// Unmaps it.
    Clear,
    /// Gives it other attributes, if it is valid.
    Attributes(Attributes),
    /// Lets it be written to no more.
    ReadOnly,
    /// Sets its access flag, or clears it.
    Accessed(bool),
}

impl PageChange {
    fn apply(self, old: Entry) -> Entry {
        match (self, old) {
            (PageChange::Clear, _) => Entry::Invalid,
            (change, Entry::Page { frame, attributes, contiguous }) => {
                Entry::Page { frame, attributes: change.attributes(attributes), contiguous }
            }
            (_, other) => other,
        }
    }

    /// What it makes of the attributes `old` of what stays mapped.
    pub fn attributes(self, old: Attributes) -> Attributes {
        match self {
            PageChange::Clear => old,
            PageChange::Attributes(new) => new,
            PageChange::ReadOnly => Attributes { access: Access { write: false, ..old.access }, ..old },
            PageChange::Accessed(accessed) => Attributes { accessed, ..old },
        }
    }
}

/// Changes the live descriptors `range` (indices) of the level-3 `table` that is linked at `links`. A contiguous
/// group that the change leaves whole is edited in place; one that it cuts is broken as 16 addresses first, and made
/// again without the contiguous bit (DESIGN 5.6). Invalidation of what went or changed is added to `pending`.
pub(in crate::mm) fn update_pages<M: Mmu>(
    machine: &M,
    counters: &Counters,
    table: Frame,
    links: Links<'_>,
    range: Range<usize>,
    change: PageChange,
    pending: &mut Pending,
) {
    let place = |index: usize| Place { table, level: Level::Three, page: links.first + index as u64 };
    let mut index = range.start;
    while index < range.end {
        let group = group_of(index);
        let part = index..group.end.min(range.end);
        index = part.end;
        let contiguous = place(group.start).read(machine).is_contiguous();
        if contiguous && part != group {
            unfold(machine, counters, links, group, part, place, change, pending);
            continue;
        }
        let mut changed = false;
        for i in part.clone() {
            let old = place(i).read(machine);
            let new = change.apply(old);
            if new != old {
                place(i).write(machine, new);
                changed = true;
            }
        }
        if changed {
            links.owe(part, pending);
        }
    }
}

/// Breaks a contiguous `group` and makes it again as 16 single pages, of which those in `part` are changed.
#[expect(clippy::too_many_arguments, reason = "what update_pages knows")]
fn unfold<M: Mmu>(
    machine: &M,
    counters: &Counters,
    links: Links<'_>,
    group: Range<usize>,
    part: Range<usize>,
    place: impl Fn(usize) -> Place,
    change: PageChange,
    pending: &mut Pending,
) {
    let olds: [Entry; PAGES_PER_GROUP] = core::array::from_fn(|i| place(group.start + i).read(machine));
    machine.without_interrupts(|| {
        for i in group.clone() {
            place(i).write(machine, Entry::Invalid);
        }
        links.owe(group.clone(), pending);
        pending.invalidate(machine, counters);
        for (i, old) in group.clone().zip(olds) {
            let old = single(old);
            place(i).write(machine, if part.contains(&i) { change.apply(old) } else { old });
        }
        machine.publish();
    });
}

/// The descriptors of a group, as they are while the slot's lock is held.
pub struct Group {
    /// Which group.
    range: Range<usize>,
    /// The pages that are valid, a bit each.
    valid: u16,
    frames: [Frame; PAGES_PER_GROUP],
    attributes: [Attributes; PAGES_PER_GROUP],
    contiguous: bool,
}

impl Group {
    /// Reads the group that begins at index `start`.
    pub fn read<M: Mmu>(machine: &M, table: Frame, start: usize) -> Self {
        let mut group = Group {
            range: group_of(start),
            valid: 0,
            frames: [Frame(0); PAGES_PER_GROUP],
            attributes: [Attributes::new(Access::NONE); PAGES_PER_GROUP],
            contiguous: false,
        };
        for offset in 0..PAGES_PER_GROUP {
            let entry = machine.read_entry(table, group.range.start + offset, Level::Three);
            if let Entry::Page { frame, attributes, contiguous } = entry {
                group.valid |= 1 << offset;
                group.frames[offset] = frame;
                group.attributes[offset] = attributes;
                group.contiguous |= contiguous;
            }
        }
        group
    }

    /// The frames of the valid pages in `pages`, with their offsets in the group.
    pub fn frames(&self, pages: u16) -> impl Iterator<Item = (usize, Frame)> + '_ {
        bits(pages & self.valid).map(|offset| (offset, self.frames[offset]))
    }

    /// The frame of a valid page after `moves`.
    fn frame_after(&self, moves: Move, offset: usize) -> Frame {
        if moves.pages >> offset & 1 != 0 { moves.to(offset) } else { self.frames[offset] }
    }

    /// Whether the 16 pages can be one translation after `moves`.
    fn folds(&self, moves: Move) -> bool {
        let first = self.frame_after(moves, 0);
        let access = |offset: usize| self.attributes[offset].access;
        let follows =
            |offset: usize| self.frame_after(moves, offset) == first + offset as u64 && access(offset) == access(0);
        self.valid == u16::MAX && first.0.is_multiple_of(PAGES_PER_GROUP as u64) && (1..PAGES_PER_GROUP).all(follows)
    }
}

/// The places of the bits set in `bits`, in ascending order.
fn bits(mut bits: u16) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let next = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(next)
    })
}

/// Where pages of a group move to.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Which of the group's pages, a bit each.
    pub pages: u16,
    /// The frame of the first page of the group, if that moves; the others follow it.
    base: u64,
}

impl Move {
    /// Page `index` and those after it move to `first` and the frames after it: `count` pages, all in one group.
    pub fn new(index: usize, count: usize, first: Frame) -> Self {
        let offset = index % PAGES_PER_GROUP;
        let pages = ((1_u32 << count) - 1) << offset;
        Move { pages: pages as u16, base: first.0.wrapping_sub(offset as u64) }
    }

    /// The same, of `pages` alone.
    pub fn of(self, pages: u16) -> Self {
        Move { pages: self.pages & pages, ..self }
    }

    /// Where the page at `offset` in the group moves to.
    fn to(self, offset: usize) -> Frame {
        Frame(self.base.wrapping_add(offset as u64))
    }

    /// Whether the group's first page would move to `frame`.
    pub fn leads_to(self, frame: Frame) -> bool {
        self.base == frame.0
    }

    /// The pages that move, by their offsets in the group, and where to.
    pub fn iter(self) -> impl Iterator<Item = (usize, Frame)> {
        bits(self.pages).map(move |offset| (offset, self.to(offset)))
    }
}

/// Moves pages of a group of the level-3 `table`, all of them valid. Breaks, copies, makes: from the break on no core can write to
/// the old frames, so that the copy is all there is, and an exclusive store fails. The group gets the contiguous bit where that
/// is possible then. The old frames are the caller's, and no translation leads to them.
pub(in crate::mm) fn move_pages<M: Mmu>(
    machine: &M,
    counters: &Counters,
    table: Frame,
    links: Links<'_>,
    old: &Group,
    moves: Move,
) {
    debug_assert!(moves.pages & !old.valid == 0, "a page to be moved is not valid");
    let folds = old.folds(moves);
    // The contiguous bit changes in all of them.
    let changes = if old.contiguous || folds { old.valid } else { moves.pages };
    let place = |offset: usize| {
        let index = old.range.start + offset;
        Place { table, level: Level::Three, page: links.first + index as u64 }
    };
    let mut pending = Pending::new();
    machine.without_interrupts(|| {
        for offset in bits(changes) {
            place(offset).write(machine, Entry::Invalid);
        }
        let (from, to) = (changes.trailing_zeros() as usize, 16 - changes.leading_zeros() as usize);
        links.owe(old.range.start + from..old.range.start + to, &mut pending);
        pending.invalidate(machine, counters);
        for (offset, frame) in moves.iter() {
            machine.copy(old.frames[offset], frame, 1);
            if old.attributes[offset].access.execute {
                machine.sync_code(frame, 1);
            }
        }
        // What was copied is visible before a walk can lead another core to it.
        machine.publish();
        for offset in bits(changes) {
            let (frame, attributes) = (old.frame_after(moves, offset), old.attributes[offset]);
            // One translation has one access flag: what a sample has cleared is set.
            let attributes = if folds { Attributes::new(attributes.access) } else { attributes };
            place(offset).write(machine, Entry::Page { frame, attributes, contiguous: folds });
        }
        machine.publish();
    });
}

/// `old` without the contiguous bit.
fn single(old: Entry) -> Entry {
    match old {
        Entry::Page { frame, attributes, .. } => Entry::Page { frame, attributes, contiguous: false },
        other => other,
    }
}

/// Maps pages `range` (indices) of the slot, all invalid now, to consecutive frames from `frame` on, and publishes them.
/// Sets the contiguous bit when they are one whole group, aligned in both spaces.
pub fn install_pages<M: Mmu>(machine: &M, table: Frame, range: Range<usize>, frame: Frame, attributes: Attributes) {
    // The frames were just zeroed: visible before a walk can lead another core to them.
    machine.publish();
    let contiguous = range == group_of(range.start) && frame.0.is_multiple_of(PAGES_PER_GROUP as u64);
    debug_assert!(range.clone().all(|index| machine.read_entry(table, index, Level::Three) == Entry::Invalid));
    let first = Entry::Page { frame, attributes, contiguous };
    // SAFETY: `table` is the level-3 table of a slot whose lock the caller holds; invalid to valid needs no break.
    unsafe {
        match range.len() {
            1 => machine.write_entry(table, range.start, Level::Three, first),
            _ => machine.write_entries(table, range, Level::Three, first),
        }
    }
    machine.publish();
}

/// The indices of the group that `index` is in.
pub fn group_of(index: usize) -> Range<usize> {
    let start = index & !(PAGES_PER_GROUP - 1);
    start..start + PAGES_PER_GROUP
}
