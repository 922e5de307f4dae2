//! Where the frames are, counted.
#![forbid(unsafe_code)]

use super::super::address::{PAGES_PER_GROUP, PAGES_PER_SLOT};
use super::Class;
use super::cache::Cache;
use super::free_set::RunCounts;
use core::fmt;

/// Counts of frames, taken at one moment but for what goes in and out of caches meanwhile. They add up: `total` is `free`,
/// `cached`, `zeroed`, `movable`, `unmovable`, `whole`, `home`, `absent`, `orphans` and `metadata` together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameStatistics {
    /// All frames that the memory map had.
    pub total: usize,
    /// Free frames of the pool.
    pub free: usize,
    /// Free frames that the cores' caches hold.
    pub cached: usize,
    /// Free frames of zeroed blocks.
    pub zeroed: usize,
    /// Frames in use, allocated as movable.
    pub movable: usize,
    /// Frames in use, allocated as unmovable.
    pub unmovable: usize,
    /// Frames of blocks in use as a whole that are no homes.
    pub whole: usize,
    /// Frames of homes that hold a page.
    pub home: usize,
    /// Frames of homes that hold none: available, not free.
    pub absent: usize,
    /// Frames freed while pinned, still pinned.
    pub orphans: usize,
    /// Frames that are pinned, orphans among them; in other sums too.
    pub pinned: usize,
    /// Frames that hold the allocator's own records.
    pub metadata: usize,
    /// Blocks among the cached frames.
    pub cached_blocks: usize,
    /// How many blocks are homes.
    pub homes: usize,
    /// How many homes are in the deferred queue.
    pub deferred: usize,
    /// Free runs of the pool by order; each free frame is in exactly one. Order 9 is a block, order 18 is 1 GiB.
    pub free_runs: RunCounts,
    /// Movable frames that had to come from a block for unmovable ones, since boot.
    pub movable_spills: u64,
    /// Unmovable frames that had to come from a block for movable ones, since boot.
    pub unmovable_spills: u64,
}

impl FrameStatistics {
    /// Frames that nobody has: those of the pool, of the caches, of zeroed blocks.
    pub fn unused(&self) -> usize {
        self.free + self.cached + self.zeroed
    }

    /// Frames that can be had, if not at once: unused and absent ones.
    pub fn available(&self) -> usize {
        self.unused() + self.absent
    }

    /// Free blocks: in runs of any length, cached, zeroed.
    pub fn free_blocks(&self) -> usize {
        let runs: usize = (9..19).map(|order| (self.free_runs[order] as usize) << (order - 9)).sum();
        runs + self.cached_blocks + self.zeroed / PAGES_PER_SLOT
    }

    /// The sum that `total` must equal.
    pub fn sum(&self) -> usize {
        let in_use = self.movable + self.unmovable + self.whole + self.home + self.absent + self.orphans;
        self.unused() + in_use + self.metadata
    }
}

/// What caches hold, counted.
#[derive(Clone, Copy, Default)]
pub(super) struct CacheCounts {
    /// Single frames and those of groups, by class.
    frames: [usize; 2],
    blocks: usize,
    deferred: usize,
}

impl CacheCounts {
    pub(super) fn add(&mut self, cache: &Cache) {
        for class in [Class::Movable, Class::Unmovable] {
            self.frames[class as usize] += cache.frames[class as usize].count as usize;
        }
        self.frames[Class::Movable as usize] += PAGES_PER_GROUP * cache.groups.count as usize;
        self.blocks += cache.blocks.count as usize;
        self.deferred += cache.deferred.len();
    }
}

impl FrameStatistics {
    /// Of the pool's own statistics, which count as in use what is not in the pool, makes those of everything. What
    /// went from one cache to another while they were counted may be in `caches` twice: it is cut off.
    pub(super) fn complete(mut self, caches: &CacheCounts, homes: usize, absent: usize, zeroed: usize) -> Self {
        let mut take = |from: fn(&mut Self) -> &mut usize, most: usize| {
            let taken = most.min(*from(&mut self));
            *from(&mut self) -= taken;
            taken
        };
        let [movable, unmovable] = caches.frames;
        let cached = take(|pool| &mut pool.movable, movable) + take(|pool| &mut pool.unmovable, unmovable);
        let home = take(|pool| &mut pool.whole, homes * PAGES_PER_SLOT);
        let blocks = take(|pool| &mut pool.whole, caches.blocks * PAGES_PER_SLOT);
        let zeroed = take(|pool| &mut pool.whole, zeroed * PAGES_PER_SLOT);
        let absent = absent.min(home);
        FrameStatistics {
            cached: cached + blocks,
            cached_blocks: blocks / PAGES_PER_SLOT,
            zeroed,
            home: home - absent,
            absent,
            homes: home / PAGES_PER_SLOT,
            deferred: self.deferred + caches.deferred,
            ..self
        }
    }
}

impl fmt::Display for FrameStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |frames: usize| frames * 4;
        writeln!(
            f,
            "frames: {} KiB, of them {} KiB free, {} KiB cached, {} KiB zeroed, {} KiB absent",
            kib(self.total),
            kib(self.free),
            kib(self.cached),
            kib(self.zeroed),
            kib(self.absent)
        )?;
        writeln!(
            f,
            "  in use: {} KiB in {} homes, {} KiB movable, {} KiB unmovable, {} KiB whole blocks",
            kib(self.home),
            self.homes,
            kib(self.movable),
            kib(self.unmovable),
            kib(self.whole)
        )?;
        writeln!(
            f,
            "  pinned: {} KiB, of them {} KiB orphans; records: {} KiB",
            kib(self.pinned),
            kib(self.orphans),
            kib(self.metadata)
        )?;
        writeln!(
            f,
            "  deferred homes: {}; spilled frames: {} movable, {} unmovable",
            self.deferred, self.movable_spills, self.unmovable_spills
        )?;
        write!(f, "  free runs, order 0 to 18:")?;
        self.free_runs.iter().try_for_each(|count| write!(f, " {count}"))
    }
}
