//! Where the frames are, counted.
#![forbid(unsafe_code)]

use super::free_set::RunCounts;
use core::fmt;

/// Counts of frames, all taken at one moment. They add up: `total` is `free`, `movable`, `unmovable`, `whole`,
/// `home`, `absent`, `orphans` and `metadata` together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameStatistics {
    /// All frames that the memory map had.
    pub total: usize,
    /// Free frames.
    pub free: usize,
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
    /// Frames that hold the allocator's own records.
    pub metadata: usize,
    /// How many blocks are homes.
    pub homes: usize,
    /// How many homes are in the deferred queue.
    pub deferred: usize,
    /// Free runs by order; each free frame is in exactly one. Order 9 is a block, order 18 is 1 GiB.
    pub free_runs: RunCounts,
    /// Movable frames that had to come from a block for unmovable ones, since boot.
    pub movable_spills: u64,
    /// Unmovable frames that had to come from a block for movable ones, since boot.
    pub unmovable_spills: u64,
}

impl FrameStatistics {
    /// Frames that can be had, if not at once: free and absent ones.
    pub fn available(&self) -> usize {
        self.free + self.absent
    }

    /// Free blocks, in runs of any length.
    pub fn free_blocks(&self) -> usize {
        (9..19).map(|order| (self.free_runs[order] as usize) << (order - 9)).sum()
    }

    /// The sum that `total` must equal.
    pub fn sum(&self) -> usize {
        self.free + self.movable + self.unmovable + self.whole + self.home + self.absent + self.orphans + self.metadata
    }
}

impl fmt::Display for FrameStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |frames: usize| frames * 4;
        writeln!(
            f,
            "frames: {} KiB, of them {} KiB free, {} KiB absent",
            kib(self.total),
            kib(self.free),
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
        writeln!(f, "  orphans: {} KiB; records: {} KiB", kib(self.orphans), kib(self.metadata))?;
        writeln!(
            f,
            "  deferred homes: {}; spilled frames: {} movable, {} unmovable",
            self.deferred, self.movable_spills, self.unmovable_spills
        )?;
        write!(f, "  free runs, order 0 to 18:")?;
        self.free_runs.iter().try_for_each(|count| write!(f, " {count}"))
    }
}
