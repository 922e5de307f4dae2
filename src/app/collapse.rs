//! Blocks on demand, and what came of it.

use super::time;
use crate::arch::aarch64::{gate, memory};
use crate::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
use crate::mm::huge::Collapsed;
use crate::mm::space::check_range;
use crate::mm::{MemoryError, Refusal};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// What came of a collapse, slot by slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollapseReport {
    /// Each slot (2 MiB) that lies in the range as a whole, by the address of its first byte. Where none does, the one that the
    /// range begins in, refused.
    pub slots: Vec<(VirtAddr, Result<Collapsed, Refusal>)>,
}

impl CollapseReport {
    /// Makes blocks of the slots in `length` bytes from `start`, until `deadline` has passed.
    pub(super) fn of(start: VirtAddr, length: usize, deadline: Option<Duration>) -> Result<Self, MemoryError> {
        check_range(start.align_down(PAGE_SIZE), length)?;
        let until = deadline.and_then(|deadline| time::now().checked_add(deadline));
        let end = (start + length as u64).align_down(BLOCK_SIZE);
        // In reach, as the range is.
        let first = start.align_up(BLOCK_SIZE).unwrap_or(end);
        let mut slots = Vec::new();
        if first >= end {
            slots.push((start.align_down(BLOCK_SIZE), Err(Refusal::NotCovered)));
            return Ok(CollapseReport { slots });
        }
        slots.try_reserve_exact(((end - first) as usize) / BLOCK_SIZE).map_err(|_| MemoryError::NoMemory)?;
        for slot in (first.0..end.0).step_by(BLOCK_SIZE).map(VirtAddr) {
            let result = gate::call(move || {
                let mut result = Err(Refusal::NotCovered);
                let is_up = || until.is_some_and(|until| time::now() >= until);
                memory::manager().collapse(slot, BLOCK_SIZE, is_up, |_, found| result = found).map(|()| result)
            })?;
            slots.push((slot, result));
        }
        Ok(CollapseReport { slots })
    }

    /// Whether each of them is a block now.
    pub fn is_complete(&self) -> bool {
        self.slots.iter().all(|(_, result)| result.is_ok())
    }

    /// Pages that were copied.
    pub fn copied(&self) -> usize {
        let pages = |result: &Result<Collapsed, Refusal>| match result {
            Ok(Collapsed::Copied { pages, .. }) => *pages,
            _ => 0,
        };
        self.slots.iter().map(|(_, result)| pages(result)).sum()
    }
}

impl fmt::Display for CollapseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.slots.iter().filter(|(_, result)| result.is_ok()).count();
        write!(f, "{blocks} of {} slots are blocks, {} pages were copied", self.slots.len(), self.copied())?;
        for (at, refusal) in self.slots.iter().filter_map(|(at, result)| Some((at, result.err()?))) {
            write!(f, "\n  {at}: {refusal}")?;
        }
        Ok(())
    }
}
