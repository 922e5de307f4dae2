//! Snapshots of a mapping, as an application has them.

use super::memory::Mapping;
use crate::arch::aarch64::{gate, memory};
use crate::mm::MemoryError;
use crate::mm::address::{BLOCK_SIZE, VirtAddr};
use alloc::vec::Vec;
use core::ops::{Deref, Range};
use core::ptr::with_exposed_provenance;

/// What a mapping held at an instant. It outlives what becomes of the mapping, and can be sent to a thread that saves it. Dropping
/// it gives back what it has of its own.
///
/// ```ignore
/// let mut store = ashlar::memory::map(64 << 20)?;
/// let instant = store.snapshot()?;
/// ashlar::thread::spawn(move || ashlar::output::write("store", &instant));
/// store.as_mut_slice()[0] = 1; // A copy of this page, 4 KiB, and no more.
/// ```
#[derive(Debug)]
pub struct Snapshot {
    start: VirtAddr,
    length: usize,
}

impl Snapshot {
    /// Where it begins: as far from a multiple of 2 MiB as the mapping.
    pub fn start(&self) -> VirtAddr {
        self.start
    }
}

impl Deref for Snapshot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages are a snapshot's, which nobody can write to, and are there until it is dropped.
        unsafe { core::slice::from_raw_parts(with_exposed_provenance(self.start.0 as usize), self.length) }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let start = self.start;
        gate::call(move || memory::manager().end_snapshot(start)).expect("a snapshot ends once");
    }
}

impl Mapping {
    /// What it holds at this instant, to be read while it changes: what is written by any thread before this returns is in it, and
    /// nothing that is written later. Blocks stay blocks until they are written to, and a write copies the page that it is to.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Shared`] where there is a snapshot of it; the commit limit, for it may come to have a copy of everything; no
    /// memory for records.
    pub fn snapshot(&self) -> Result<Snapshot, MemoryError> {
        let (start, length) = (self.start(), self.len());
        let range = gate::call(move || memory::manager().snapshot(start, length))?;
        Ok(Snapshot { start: range.start, length })
    }

    /// The pages that may have changed since `snapshot` of it was made, in bytes from the start, in ascending order: written,
    /// released, touched for the first time, or pinned for a device when the snapshot was made. (Linux: soft-dirty bits.)
    ///
    /// # Errors
    ///
    /// Parts of it are not mapped any more.
    ///
    /// # Panics
    ///
    /// When the snapshot is of another length: it is of another mapping.
    pub fn changed_since(&self, snapshot: &Snapshot) -> Result<Vec<Range<usize>>, MemoryError> {
        assert_eq!(self.len(), snapshot.length, "a snapshot of another mapping");
        let mut changed: Vec<Range<usize>> = Vec::new();
        let mut next = 0;
        // A run at a time, for the way back from the kernel is narrow.
        while next < self.len() {
            let (start, since, left) = (self.start() + next as u64, snapshot.start + next as u64, self.len() - next);
            let part = left.min(BLOCK_SIZE - (start.0 % BLOCK_SIZE as u64) as usize);
            let found = gate::call(move || {
                let mut first = None;
                let note = |run: Range<VirtAddr>| {
                    _ = first.get_or_insert(((run.start - start) as u32, (run.end - start) as u32))
                };
                memory::manager().changed_since(start, part, since, note).map(|()| first)
            })?;
            let Some((from, to)) = found.map(|(from, to)| (next + from as usize, next + to as usize)) else {
                next += part;
                continue;
            };
            match changed.last_mut() {
                Some(last) if last.end == from => last.end = to,
                _ => changed.push(from..to),
            }
            next = to;
        }
        Ok(changed)
    }
}
