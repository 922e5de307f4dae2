//! Translation tables of the application's half: reading them, and the one place that writes them.
//!
//! Level 1 is one root table; its entries only ever go from invalid to a table. Level-2 tables live as long as the manager.
//! A level-3 table belongs to one slot, and is linked wherever that is mapped.
#![forbid(unsafe_op_in_unsafe_fn)]

mod pending;
mod rule;
pub(in crate::mm) mod update;

pub use pending::{FULL_FLUSH_PAGES, Pending};
pub use rule::{Change, change};
pub use update::Place;

use super::MemoryManager;
use super::address::{PAGES_PER_SLOT, Page};
use super::frame::Class;
use super::mmu::{Entry, Level, Mmu};
use core::ops::Range;

/// Where a slot's level-3 table is linked: at all of these addresses its descriptors are cached.
#[derive(Clone, Copy)]
pub(in crate::mm) struct Links<'a> {
    /// The first page of the slot.
    pub(in crate::mm) first: Page,
    /// The slot's other places, by their numbers.
    pub(in crate::mm) others: &'a [u32],
}

impl Links<'_> {
    /// Owes the translations of pages `range` (indices).
    #[inline]
    pub(in crate::mm) fn owe(&self, range: Range<usize>, pending: &mut Pending) {
        pending.pages(self.first.0 + range.start as u64..self.first.0 + range.end as u64);
        for &number in self.others {
            let first = u64::from(number) * PAGES_PER_SLOT as u64;
            pending.pages(first + range.start as u64..first + range.end as u64);
        }
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Where the level-2 descriptor of `page` stands, if its table exists.
    #[inline]
    pub(in crate::mm) fn level_two(&self, page: Page) -> Option<Place> {
        let root = Place { table: self.root, level: Level::One, page };
        match root.read(&self.machine) {
            Entry::Table(table) => Some(Place { table, level: Level::Two, page }),
            _ => None,
        }
    }

    /// Makes sure that the level-2 table of `page` exists; one caller at a time. False without memory.
    pub(in crate::mm) fn ensure_level_two(&self, page: Page) -> bool {
        if self.level_two(page).is_some() {
            return true;
        }
        let Some(table) = self.frames.allocate(0, Class::Unmovable) else { return false };
        self.machine.zero(table, 1);
        let root = Place { table: self.root, level: Level::One, page };
        update::install(&self.machine, root, Entry::Table(table));
        true
    }

    /// Pays what an operation owes.
    pub(in crate::mm) fn settle(&self, pending: &mut Pending) {
        pending.pay(&self.machine, &self.frames, &self.counters);
    }
}
