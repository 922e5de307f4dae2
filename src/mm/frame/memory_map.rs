//! The free RAM that boot found, before there is an allocator: a sorted list of ranges in a fixed array.
#![forbid(unsafe_code)]

use super::super::address::{BLOCK_SIZE, PAGE_SIZE, PhysAddr};
use core::fmt;
use core::ops::Range;

/// Ranges that a [`MemoryMap`] can hold.
pub const CAPACITY: usize = 128;

const GIB: usize = 1 << 30;

/// A change to a [`MemoryMap`] that needs more ranges than [`CAPACITY`]. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryMapFull {
    /// First address of the range that was to be added or removed.
    pub start: PhysAddr,
    /// First address after it.
    pub end: PhysAddr,
}

impl fmt::Display for MemoryMapFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the memory map has no room for {}..{}: more than {CAPACITY} ranges", self.start, self.end)
    }
}

impl core::error::Error for MemoryMapFull {}

/// Free RAM: ranges of whole frames, sorted, neither overlapping nor adjacent.
#[derive(Clone)]
pub struct MemoryMap {
    /// Start and end addresses; meaningful below `len`.
    ranges: [(u64, u64); CAPACITY],
    len: usize,
    /// RAM in use that is to be free one day: start and end.
    held: (u64, u64),
}

impl MemoryMap {
    /// No RAM.
    pub const fn new() -> Self {
        Self { ranges: [(0, 0); CAPACITY], len: 0, held: (0, 0) }
    }

    /// Adds RAM; what is there already may overlap it. A frame that `range` covers in part is left out.
    ///
    /// # Errors
    ///
    /// [`MemoryMapFull`] when the map would need more than [`CAPACITY`] ranges.
    pub fn add(&mut self, range: Range<PhysAddr>) -> Result<(), MemoryMapFull> {
        let Some(start) = range.start.align_up(PAGE_SIZE) else { return Ok(()) };
        let end = range.end.align_down(PAGE_SIZE);
        if start >= end {
            return Ok(());
        }
        // All ranges that overlap or touch the new one become one with it.
        let first = self.ranges().partition_point(|&(_, e)| e < start.0);
        let last = self.ranges().partition_point(|&(s, _)| s <= end.0);
        let mut union = (start.0, end.0);
        if first < last {
            union = (union.0.min(self.ranges[first].0), union.1.max(self.ranges[last - 1].1));
        }
        self.replace(first..last, &[union]).map_err(|()| MemoryMapFull { start: range.start, end: range.end })
    }

    /// Takes `range` out: it is reserved, or in use. A frame that `range` covers in part goes too.
    ///
    /// # Errors
    ///
    /// [`MemoryMapFull`] when a range would have to be split and there is no room for its second half.
    pub fn remove(&mut self, range: Range<PhysAddr>) -> Result<(), MemoryMapFull> {
        let start = range.start.align_down(PAGE_SIZE).0;
        let end = range.end.align_up(PAGE_SIZE).map_or(u64::MAX, |end| end.0);
        if range.start >= range.end {
            return Ok(());
        }
        let first = self.ranges().partition_point(|&(_, e)| e <= start);
        let last = self.ranges().partition_point(|&(s, _)| s < end);
        if first >= last {
            return Ok(());
        }
        let (left, right) = ((self.ranges[first].0, start), (end, self.ranges[last - 1].1));
        let rest = match (left.0 < left.1, right.0 < right.1) {
            (true, true) => &[left, right][..],
            (true, false) => &[left],
            (false, true) => &[right],
            (false, false) => &[],
        };
        self.replace(first..last, rest).map_err(|()| MemoryMapFull { start: range.start, end: range.end })
    }

    /// Takes `range` out like [`MemoryMap::remove`], but only for a time: the frame allocator keeps records for its whole
    /// frames, so that [`Frames::admit`](super::Frames::admit) can make them free. Only the last range held counts.
    ///
    /// # Errors
    ///
    /// As [`MemoryMap::remove`].
    pub fn hold(&mut self, range: Range<PhysAddr>) -> Result<(), MemoryMapFull> {
        self.remove(range.clone())?;
        let start = range.start.align_up(PAGE_SIZE).unwrap_or(range.end);
        self.held = (start.0, range.end.align_down(PAGE_SIZE).0);
        Ok(())
    }

    /// All RAM that there will ever be: free now, and held.
    ///
    /// # Errors
    ///
    /// As [`MemoryMap::add`].
    pub(super) fn with_held(&self) -> Result<MemoryMap, MemoryMapFull> {
        let mut all = self.clone();
        all.add(PhysAddr(self.held.0)..PhysAddr(self.held.1))?;
        Ok(all)
    }

    /// Takes `bytes` (rounded up to whole frames) out for good, at a multiple of `align` (a power of two), from where
    /// it breaks the fewest whole GiB, then the fewest whole blocks; among equals, from the highest place.
    /// `None`, and nothing changed, when there is no such place.
    pub fn carve(&mut self, bytes: usize, align: usize) -> Option<PhysAddr> {
        debug_assert!(align.is_power_of_two());
        let bytes = bytes.max(1).checked_next_multiple_of(PAGE_SIZE)? as u64;
        let align = align.max(PAGE_SIZE);
        let mut best: Option<((u64, u64, bool), u64)> = None;
        for &(start, end) in self.ranges() {
            let Some(highest) = end.checked_sub(bytes).map(|at| PhysAddr(at).align_down(align).0) else { continue };
            let Some(lowest) = PhysAddr(start).align_up(align) else { continue };
            for at in [lowest.0, highest] {
                if at < start || at + bytes > end || (self.len == CAPACITY && at > start && at + bytes < end) {
                    continue;
                }
                let broken =
                    |unit: usize| whole(start..end, unit) - whole(start..at, unit) - whole(at + bytes..end, unit);
                // The middle of a range is the worst place among equals: it leaves one range more.
                let cost = (broken(GIB), broken(BLOCK_SIZE), at > start && at + bytes < end);
                if best.is_none_or(|(least, _)| cost <= least) {
                    best = Some((cost, at));
                }
            }
        }
        let (_, at) = best?;
        self.remove(PhysAddr(at)..PhysAddr(at + bytes)).ok()?;
        Some(PhysAddr(at))
    }

    /// The ranges, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<PhysAddr>> + '_ {
        self.ranges().iter().map(|&(start, end)| PhysAddr(start)..PhysAddr(end))
    }

    /// Bytes in all ranges together.
    pub fn total(&self) -> u64 {
        self.ranges().iter().map(|(start, end)| end - start).sum()
    }

    fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges[..self.len]
    }

    /// Puts `new` (at most two) in the place of the ranges at `old`.
    fn replace(&mut self, old: Range<usize>, new: &[(u64, u64)]) -> Result<(), ()> {
        let len = self.len - old.len() + new.len();
        if len > CAPACITY {
            return Err(());
        }
        self.ranges.copy_within(old.end..self.len, old.start + new.len());
        self.ranges[old.start..old.start + new.len()].copy_from_slice(new);
        self.len = len;
        Ok(())
    }
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// How many whole aligned `unit`s lie in `range`.
fn whole(range: Range<u64>, unit: usize) -> u64 {
    (range.end / unit as u64).saturating_sub(range.start.div_ceil(unit as u64))
}
