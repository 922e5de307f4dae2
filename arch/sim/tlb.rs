//! What one core caches of the tables: translations, and table entries met on the way (walk caches).
//!
//! Small on purpose: the fewer places there are, the more often a walk happens, and the machine's whim decides what
//! stays. There is one ASID, the application's; an entry is of it or global.
#![forbid(unsafe_code)]

use super::random::Random;
use super::report::Rule;
use super::walker::Leaf;
use crate::mm::address::{Frame, PAGE_SHIFT, PAGES_PER_GROUP, Page, PhysAddr, VirtAddr};
use crate::mm::mmu::{Access, Invalidation, Level};
use core::ops::Range;

const TRANSLATIONS: usize = 8;
const TABLES: usize = 4;

/// A cached translation of `pages` pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Translation {
    pub first: Page,
    /// 1, 16 (a contiguous group), 512 or 512².
    pub pages: u64,
    /// Where the first page is.
    pub frame: Frame,
    pub access: Access,
    pub contiguous: bool,
    pub global: bool,
    /// The descriptor it came from.
    pub entry: PhysAddr,
    /// What stood there.
    pub raw: u64,
    /// The descriptor's level.
    pub level: Level,
}

/// A cached table descriptor: where the walk for `pages` pages goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CachedTable {
    pub first: Page,
    pub pages: u64,
    pub table: Frame,
    /// The level of `table`.
    pub level: Level,
}

/// One core's caches.
#[derive(Clone, Default)]
pub(super) struct Tlb {
    translations: [Option<Translation>; TRANSLATIONS],
    tables: [Option<CachedTable>; TABLES],
}

/// Whether `pages` pages from `first` share one with `range`.
pub(super) fn overlaps(first: u64, pages: u64, range: &Range<u64>) -> bool {
    first < range.end && range.start < first + pages
}

impl Translation {
    /// The translation that `leaf`, found at `entry` for `va`, gives: of its whole group if `group`.
    pub(super) fn of(leaf: Leaf, entry: PhysAddr, raw: u64, va: VirtAddr, group: bool) -> Self {
        let size = if group { PAGES_PER_GROUP as u64 } else { 1 << (leaf.level.shift() - PAGE_SHIFT) };
        let first = Page(va.page().0 & !(size - 1));
        Self {
            first,
            pages: size,
            frame: if group { Frame(leaf.output.frame().0 & !(size - 1)) } else { leaf.output.frame() },
            access: leaf.access,
            contiguous: leaf.contiguous,
            global: leaf.global,
            entry,
            raw,
            level: leaf.level,
        }
    }

    /// Where `va`, which it covers, is.
    pub(super) fn translate(&self, va: VirtAddr) -> PhysAddr {
        self.frame.start() + (va - self.first.start())
    }

    /// Whether two that overlap may stand side by side: one descriptor's translation twice, or parts of one group.
    fn agrees(&self, other: &Self) -> bool {
        let same_place = self.frame.0.wrapping_sub(self.first.0) == other.frame.0.wrapping_sub(other.first.0);
        same_place && (self.pages == other.pages || self.contiguous && other.contiguous)
    }
}

impl Tlb {
    /// The translations that cover `page`.
    pub(super) fn lookup(&self, page: Page) -> impl Iterator<Item = &Translation> {
        self.translations.iter().flatten().filter(move |held| overlaps(held.first.0, held.pages, &(page.0..page.0 + 1)))
    }

    /// The deepest cached table on the way to `page`.
    pub(super) fn table(&self, page: Page) -> Option<CachedTable> {
        let covers = |held: &&CachedTable| overlaps(held.first.0, held.pages, &(page.0..page.0 + 1));
        self.tables.iter().flatten().filter(covers).max_by_key(|held| held.level).copied()
    }

    /// The rule that freeing the `count` frames from `first` breaks while this is held.
    pub(super) fn reach(&self, first: Frame, count: usize) -> Option<Rule> {
        let frames = first.0..first.0 + count as u64;
        let translated = self.translations.iter().flatten().any(|held| overlaps(held.frame.0, held.pages, &frames));
        let walked = self.tables.iter().flatten().any(|held| frames.contains(&held.table.0));
        translated.then_some(Rule::FreedWhileCached).or(walked.then_some(Rule::TableFreedWhileCached))
    }

    /// Takes `new` in, in place of what says the same, else of a random one. Returns one that overlaps and disagrees.
    pub(super) fn insert(&mut self, new: Translation, random: &mut Random) -> Option<Translation> {
        let range = new.first.0..new.first.0 + new.pages;
        let mut conflict = None;
        for place in &mut self.translations {
            if let Some(held) = place
                && overlaps(held.first.0, held.pages, &range)
            {
                if held.agrees(&new) {
                    *place = None;
                } else {
                    conflict = Some(*held);
                }
            }
        }
        let free = self.translations.iter().position(Option::is_none);
        self.translations[free.unwrap_or_else(|| random.below(TRANSLATIONS))] = Some(new);
        conflict
    }

    /// Caches a table descriptor.
    pub(super) fn insert_table(&mut self, new: CachedTable, random: &mut Random) {
        let same =
            |held: &Option<CachedTable>| held.is_some_and(|held| held.first == new.first && held.level == new.level);
        let place = self.tables.iter().position(same).or_else(|| self.tables.iter().position(Option::is_none));
        self.tables[place.unwrap_or_else(|| random.below(TABLES))] = Some(new);
    }

    /// Drops what `what` covers (by address: every size that holds the address).
    pub(super) fn invalidate(&mut self, what: &Invalidation) {
        let (range, tables) = match what {
            Invalidation::Pages(range) => (range, false),
            Invalidation::PagesAndTables(range) => (range, true),
            Invalidation::All => {
                self.translations.iter_mut().for_each(|place| *place = place.filter(|held| held.global));
                self.tables = [None; TABLES];
                return;
            }
        };
        for place in &mut self.translations {
            *place = place.filter(|held| !overlaps(held.first.0, held.pages, range));
        }
        if tables {
            for place in &mut self.tables {
                *place = place.filter(|held| !overlaps(held.first.0, held.pages, range));
            }
        }
    }

    /// Forgets one thing, or none.
    pub(super) fn evict(&mut self, random: &mut Random) {
        match random.below(TRANSLATIONS + TABLES) {
            place @ 0..TRANSLATIONS => self.translations[place] = None,
            place => self.tables[place - TRANSLATIONS] = None,
        }
    }
}
