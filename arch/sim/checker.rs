//! The rules of changing tables under running cores, kept descriptor by descriptor.
//!
//! For each descriptor that is not settled the checker knows what walkers may still read there (until it is published)
//! and what TLBs may still hold from there (until an invalidation has covered it): its *remnants*. A descriptor with
//! remnants is unclean.
#![forbid(unsafe_code)]

use super::frames::{Frames, Link, entry_pages};
use super::memory::Memory;
use super::report::{Log, Rule, Violation};
use super::tlb::overlaps;
use super::walker::{self, ACCESSED, CHANGEABLE, CONTIGUOUS, Leaf, Meaning};
use crate::mm::address::{Frame, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, Page, PhysAddr, VirtAddr};
use crate::mm::mmu::{Invalidation, Level};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

const GROUP_BYTES: u64 = PAGES_PER_GROUP as u64 * 8;
/// Ranges of frames remembered per core as written and not published.
const WRITTEN_KEPT: usize = 64;

/// What TLBs may still hold of a descriptor that changed.
struct Remnant {
    first: u64,
    pages: u64,
    held: Held,
    /// The descriptor only lost its access flag: a TLB that does not know yet harms nobody.
    harmless: bool,
}

enum Held {
    Leaf { frame: Frame, writable: bool },
    Table(Frame),
}

/// A descriptor that is not settled.
pub(super) struct Pending {
    /// The core that wrote it last.
    pub writer: usize,
    /// Values that a walker may still read. Empty once published.
    pub older: Vec<u64>,
    published: bool,
    first: Page,
    level: Level,
    remnants: Vec<Remnant>,
}

impl Pending {
    /// Whether an operation may end like this.
    fn is_settled(&self) -> bool {
        self.published && self.remnants.iter().all(|remnant| remnant.harmless)
    }

    fn holds_table(&self) -> bool {
        self.remnants.iter().any(|remnant| matches!(remnant.held, Held::Table(_)))
    }
}

/// The checker's books.
pub(super) struct Checker {
    /// By address of the descriptor.
    pub pending: BTreeMap<PhysAddr, Pending>,
    /// What each frame is used for.
    pub frames: Frames,
    /// For each core: frames it wrote and did not publish.
    written: Vec<Vec<Range<u64>>>,
    /// First descriptors of contiguous groups to look at.
    groups: BTreeSet<PhysAddr>,
    /// Pages that must stay mapped as they are.
    pub protected: Vec<Range<u64>>,
}

impl Checker {
    pub(super) fn new(frames: usize, cores: usize) -> Self {
        Self {
            pending: BTreeMap::new(),
            frames: Frames::new(frames),
            written: vec![Vec::new(); cores],
            groups: BTreeSet::new(),
            protected: Vec::new(),
        }
    }

    /// The address that entry `index` of `table` translates, and the level it is linked at; `None` if it is not linked.
    pub(super) fn place(&self, memory: &Memory, table: Frame, index: usize) -> Option<(VirtAddr, Level)> {
        let link = self.frames.link_of(memory, table)?;
        Some(((link.first + index as u64 * entry_pages(link.level)).start(), link.level))
    }

    /// Checks and books the change of a descriptor; memory still holds the `old` one.
    pub(super) fn write(&mut self, memory: &Memory, log: &mut Log, core: usize, change: Change) {
        let Change { table, index, level, old, new } = change;
        let entry = table.start() + index as u64 * 8;
        let valid = change.makes_valid();
        let Some((va, linked_level)) = self.place(memory, table, index) else {
            if valid && self.remnant(|held, _| matches!(held, Held::Table(held) if *held == table)) {
                log.violation(Violation::of_frame(Rule::TableOverwritten, core, table));
            }
            self.note_written(core, table, 1);
            return;
        };
        let blame =
            |rule| Violation { va: Some(va), entry: Some(entry), old, new, level, ..Violation::new(rule, core) };
        if linked_level != level {
            log.violation(blame(Rule::TableMisplaced));
        }
        if old == new {
            return;
        }
        let (was_valid, breaks) = (change.was_valid(), change.breaks());
        let pages = entry_pages(level);
        if was_valid && self.protected.iter().any(|range| overlaps(va.page().0, pages, range)) {
            log.violation(blame(Rule::ProtectedBroken));
        }
        if valid && breaks {
            log.violation(blame(Rule::MissingBreak));
        }
        if valid && !was_valid && self.pending.get(&entry).is_some_and(|pending| !pending.remnants.is_empty()) {
            log.violation(blame(Rule::WriteToUnclean));
        }
        if valid && (!was_valid || breaks) && self.names_unpublished(core, new, level) {
            log.violation(blame(Rule::LinkedUnpublished));
        }
        if let Meaning::Leaf(leaf) = walker::read(new, level)
            && !memory.contains(leaf.output.frame(), pages as usize)
        {
            log.violation(Violation { frame: Some(leaf.output.frame()), ..blame(Rule::OutsideRam) });
        }
        self.book(memory, log, core, change, va);
    }

    /// Books the change of a linked descriptor: what walkers and TLBs may have of it from now on.
    fn book(&mut self, memory: &Memory, log: &mut Log, core: usize, change: Change, va: VirtAddr) {
        let Change { table, index, level, old, new } = change;
        let entry = table.start() + index as u64 * 8;
        let (valid, was_valid, breaks) = (change.makes_valid(), change.was_valid(), change.breaks());
        let mut remnants = Vec::new();
        match walker::read(old, level) {
            Meaning::Leaf(leaf) => {
                self.frames.count(memory, leaf, -1);
                let now = match walker::read(new, level) {
                    Meaning::Leaf(now) if !breaks => Some(now),
                    _ => None,
                };
                let restricts = now.is_none_or(|now| !now.access.permits(leaf.access));
                // A TLB never holds a descriptor without access flag.
                if leaf.accessed && (restricts || new & ACCESSED == 0) {
                    remnants.push(Remnant { harmless: !restricts, ..Remnant::leaf(va.page(), leaf) });
                    let others = self.frames.other_links_of(table).iter();
                    let pages = others.map(|link| link.first + index as u64 * entry_pages(level));
                    remnants.extend(pages.map(|page| Remnant { harmless: !restricts, ..Remnant::leaf(page, leaf) }));
                }
            }
            Meaning::Table(next) if breaks => self.unlink(memory, next, va.page(), &mut remnants),
            _ => {}
        }
        match walker::read(new, level) {
            Meaning::Leaf(leaf) => self.frames.count(memory, leaf, 1),
            Meaning::Table(next) if !was_valid || breaks => {
                if let Some(lower) = walker::below(level) {
                    self.link(memory, log, core, next, Link { level: lower, first: va.page() });
                }
            }
            _ => {}
        }
        if breaks && !valid {
            log.counters.breaks += 1;
        }
        if (old | new) & CONTIGUOUS != 0 && level == Level::Three {
            self.groups.insert(PhysAddr(entry.0 & !(GROUP_BYTES - 1)));
        }
        let pending = self.pending.entry(entry).or_insert_with(|| Pending {
            writer: core,
            older: Vec::new(),
            published: false,
            first: va.page(),
            level,
            remnants: Vec::new(),
        });
        pending.writer = core;
        pending.published = false;
        pending.older.push(old);
        if breaks {
            pending.remnants.iter_mut().for_each(|remnant| remnant.harmless = false);
        }
        pending.remnants.append(&mut remnants);
    }

    /// Links `table` and all below it.
    pub(super) fn set_root(&mut self, memory: &Memory, log: &mut Log, core: usize, table: Frame) {
        self.link(memory, log, core, table, Link { level: Level::One, first: Page(0) });
    }

    fn link(&mut self, memory: &Memory, log: &mut Log, core: usize, table: Frame, link: Link) {
        if !memory.contains(table, 1) {
            return log.violation(Violation::of_frame(Rule::OutsideRam, core, table));
        }
        if let Some(other) = self.frames.link_of(memory, table) {
            // A table of pages may be linked at several places: memory that is mapped there.
            return match (other.level, link.level) {
                (Level::Three, Level::Three) => self.frames.add_link(table, link),
                _ => log.violation(Violation::of_frame(Rule::TableMisplaced, core, table)),
            };
        }
        self.frames.set_link(memory, table, Some(link));
        for index in 0..PAGES_PER_SLOT as u64 {
            let entry = table.start() + index * 8;
            let raw = memory.read_entry(entry);
            let first = link.first + index * entry_pages(link.level);
            match (walker::read(raw, link.level), walker::below(link.level)) {
                (Meaning::Table(next), Some(level)) => self.link(memory, log, core, next, Link { level, first }),
                (Meaning::Leaf(leaf), _) => {
                    self.frames.count(memory, leaf, 1);
                    if leaf.contiguous && leaf.level == Level::Three {
                        self.groups.insert(PhysAddr(entry.0 & !(GROUP_BYTES - 1)));
                    }
                }
                _ => {}
            }
        }
    }

    fn unlink(&mut self, memory: &Memory, table: Frame, first: Page, remnants: &mut Vec<Remnant>) {
        let Some(link) = self.frames.link_of(memory, table) else { return };
        let link = Link { first, ..link };
        let stays = self.frames.remove_link(memory, table, first);
        if !stays {
            self.frames.set_link(memory, table, None);
        }
        let pages = entry_pages(link.level) * PAGES_PER_SLOT as u64;
        remnants.push(Remnant { first: link.first.0, pages, held: Held::Table(table), harmless: false });
        for index in 0..PAGES_PER_SLOT as u64 {
            let first = link.first + index * entry_pages(link.level);
            match walker::read(memory.read_entry(table.start() + index * 8), link.level) {
                Meaning::Table(next) => self.unlink(memory, next, first, remnants),
                Meaning::Leaf(leaf) => {
                    if !stays {
                        self.frames.count(memory, leaf, -1);
                    }
                    if leaf.accessed {
                        remnants.push(Remnant::leaf(first, leaf));
                    }
                }
                Meaning::Invalid => {}
            }
        }
    }

    /// Whether a remnant is such; `what` is given what is held and its number of pages.
    fn remnant(&self, what: impl Fn(&Held, u64) -> bool) -> bool {
        self.pending.values().flat_map(|pending| &pending.remnants).any(|remnant| what(&remnant.held, remnant.pages))
    }

    /// Whether a TLB may hold a translation to one of `count` frames that the tables no longer give.
    fn stale(&self, first: Frame, count: usize, store: bool) -> bool {
        let frames = first.0..first.0 + count as u64;
        self.remnant(|held, pages| match held {
            Held::Leaf { frame, writable } => (*writable || !store) && overlaps(frame.0, pages, &frames),
            Held::Table(_) => false,
        })
    }

    /// Whether another core's unfinished change explains a stale translation of `page`.
    pub(super) fn explains(&self, page: Page, core: usize) -> bool {
        let range = page.0..page.0 + 1;
        self.pending.values().any(|pending| {
            pending.writer != core
                && pending.remnants.iter().any(|remnant| overlaps(remnant.first, remnant.pages, &range))
        })
    }

    fn note_written(&mut self, core: usize, first: Frame, count: usize) {
        let written = &mut self.written[core];
        match written.last_mut() {
            Some(last) if last.start <= first.0 && first.0 <= last.end => {
                last.end = last.end.max(first.0 + count as u64);
            }
            _ => {
                if written.len() == WRITTEN_KEPT {
                    written.remove(0);
                }
                written.push(first.0..first.0 + count as u64);
            }
        }
    }

    /// Whether `raw` leads to something that `core` wrote and did not publish.
    fn names_unpublished(&self, core: usize, raw: u64, level: Level) -> bool {
        let (first, count) = match walker::read(raw, level) {
            Meaning::Invalid => return false,
            Meaning::Leaf(leaf) => (leaf.output.frame(), entry_pages(level)),
            Meaning::Table(table) => {
                let mut entries = self.pending.range(table.start()..table.start() + PAGE_SIZE as u64);
                if entries.any(|(_, pending)| pending.writer == core && !pending.published) {
                    return true;
                }
                (table, 1)
            }
        };
        self.written[core].iter().any(|range| overlaps(first.0, count, range))
    }

    /// `core`'s barrier: what it wrote is seen by every walker.
    pub(super) fn publish(&mut self, memory: &Memory, log: &mut Log, core: usize) {
        self.written[core].clear();
        if !self.pending.is_empty() {
            for pending in self.pending.values_mut().filter(|pending| pending.writer == core) {
                pending.published = true;
                pending.older.clear();
            }
            self.forget_settled();
        }
        self.check_groups(memory, log, core);
    }

    fn forget_settled(&mut self) {
        self.pending.retain(|_, pending| !pending.published || !pending.remnants.is_empty());
    }

    /// `core`'s invalidation, after its barrier.
    pub(super) fn invalidate(&mut self, memory: &Memory, log: &mut Log, core: usize, what: &Invalidation) {
        for pending in self.pending.values_mut().filter(|pending| pending.published) {
            let holds_table = pending.holds_table();
            pending.remnants.retain(|remnant| match what {
                Invalidation::All => false,
                Invalidation::PagesAndTables(range) => !overlaps(remnant.first, remnant.pages, range),
                // A walk cache that leads to the table fills the TLB again.
                Invalidation::Pages(range) => holds_table || !overlaps(remnant.first, remnant.pages, range),
            });
        }
        self.forget_settled();
        self.check_groups(memory, log, core);
    }

    /// Whether the 16 descriptors from `group` on keep the promise of the contiguous bit, where one of them has it.
    pub(super) fn group_is_sound(&self, memory: &Memory, group: PhysAddr) -> bool {
        let raw = |index: u64| memory.read_entry(group + index * 8);
        let first = raw(0);
        let expected = |index: u64| first + index * PAGE_SIZE as u64;
        let none = (0..PAGES_PER_GROUP as u64).all(|index| raw(index) & (CONTIGUOUS | 1) != (CONTIGUOUS | 1));
        let aligned = (first & walker::OUTPUT).is_multiple_of((PAGES_PER_GROUP * PAGE_SIZE) as u64);
        none || aligned && (0..PAGES_PER_GROUP as u64).all(|index| raw(index) == expected(index))
    }

    /// Whether the group's table is linked and none of the 16 descriptors is being changed.
    pub(super) fn group_is_at_rest(&self, memory: &Memory, group: PhysAddr) -> bool {
        self.frames.link_of(memory, group.frame()).is_some()
            && self.pending.range(group..group + GROUP_BYTES).all(|(_, pending)| pending.is_settled())
    }

    fn check_groups(&mut self, memory: &Memory, log: &mut Log, core: usize) {
        if self.groups.is_empty() {
            return;
        }
        let changing = |group: &PhysAddr| {
            self.pending.range(*group..*group + GROUP_BYTES).any(|(_, pending)| !pending.is_settled())
        };
        let (waiting, ready): (BTreeSet<_>, BTreeSet<_>) = self.groups.iter().copied().partition(changing);
        for group in ready {
            if self.group_is_at_rest(memory, group) && !self.group_is_sound(memory, group) {
                log.violation(self.blame_group(memory, core, group));
            }
        }
        self.groups = waiting;
    }

    pub(super) fn blame_group(&self, memory: &Memory, core: usize, group: PhysAddr) -> Violation {
        let index = (group.0 % PAGE_SIZE as u64 / 8) as usize;
        Violation {
            va: self.place(memory, group.frame(), index).map(|(va, _)| va),
            entry: Some(group),
            old: memory.read_entry(group),
            new: memory.read_entry(group + (GROUP_BYTES - 8)),
            ..Violation::new(Rule::ContiguousMisprogrammed, core)
        }
    }

    /// `count` frames were zeroed or copied to.
    pub(super) fn fill(&mut self, memory: &Memory, log: &mut Log, core: usize, first: Frame, count: usize) {
        if self.frames.hold_table(memory, first, count) {
            log.violation(Violation::of_frame(Rule::TableOverwritten, core, first));
        }
        if self.stale(first, count, false) {
            log.violation(Violation::of_frame(Rule::WrittenWhileCached, core, first));
        }
        self.note_written(core, first, count);
        self.frames.note_code(memory, first, count, true);
    }

    /// `count` frames were copied from.
    pub(super) fn copied(&self, memory: &Memory, log: &mut Log, core: usize, first: Frame, count: usize) {
        if self.stale(first, count, true) || self.frames.writable(memory, first, count) {
            log.violation(Violation::of_frame(Rule::CopiedWhileWritable, core, first));
        }
    }

    /// `count` frames went back to the allocator.
    pub(super) fn freed(&self, memory: &Memory, log: &mut Log, core: usize, first: Frame, count: usize) {
        let frames = first.0..first.0 + count as u64;
        let blame = |rule| Violation::of_frame(rule, core, first);
        if !memory.contains(first, count) {
            return log.violation(blame(Rule::OutsideRam));
        }
        if self.frames.hold_table(memory, first, count) || self.frames.mapped(memory, first, count) {
            log.violation(blame(Rule::FreedWhileMapped));
        }
        if self.stale(first, count, false) {
            log.violation(blame(Rule::FreedWhileCached));
        }
        if self.remnant(|held, _| matches!(held, Held::Table(table) if frames.contains(&table.0))) {
            log.violation(blame(Rule::TableFreedWhileCached));
        }
    }

    /// Reports what `core` (or anybody, for `None`) left unsettled.
    pub(super) fn check_settled(&self, memory: &Memory, log: &mut Log, core: Option<usize>) {
        for (&entry, pending) in &self.pending {
            if core.is_none_or(|core| core == pending.writer) && !pending.is_settled() {
                log.violation(Violation {
                    va: Some(pending.first.start()),
                    entry: Some(entry),
                    old: pending.older.first().copied().unwrap_or(0),
                    new: memory.read_entry(entry),
                    level: pending.level,
                    ..Violation::new(Rule::Unsettled, pending.writer)
                });
            }
        }
    }
}

/// A descriptor's change.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub table: Frame,
    pub index: usize,
    pub level: Level,
    pub old: u64,
    pub new: u64,
}

impl Change {
    fn was_valid(&self) -> bool {
        walker::read(self.old, self.level) != Meaning::Invalid
    }

    fn makes_valid(&self) -> bool {
        walker::read(self.new, self.level) != Meaning::Invalid
    }

    /// Whether what the old descriptor translated, or the way it did, must not be used any more: by way of invalid
    /// only, even if the new one is valid.
    fn breaks(&self) -> bool {
        match (walker::read(self.old, self.level), walker::read(self.new, self.level)) {
            (Meaning::Invalid, _) => false,
            (Meaning::Leaf(_), Meaning::Leaf(_)) => (self.old ^ self.new) & !CHANGEABLE != 0,
            (Meaning::Table(old), Meaning::Table(new)) => old != new,
            _ => true,
        }
    }
}

impl Remnant {
    fn leaf(first: Page, leaf: Leaf) -> Self {
        let held = Held::Leaf { frame: leaf.output.frame(), writable: leaf.access.write };
        Self { first: first.0, pages: entry_pages(leaf.level), held, harmless: false }
    }
}
