//! From an address to its slot: two array reads, without a lock.
#![forbid(unsafe_code)]

use super::slab::{FrameSource, Handle, Slab};
use super::slot::Slot;
use core::sync::atomic::{AtomicU32, Ordering};

const ENTRIES: usize = 512;

/// Slots of 1 GiB of addresses: handles, 0 for none.
#[derive(Debug)]
struct Leaf([AtomicU32; ENTRIES]);

impl Default for Leaf {
    fn default() -> Self {
        Leaf([const { AtomicU32::new(0) }; ENTRIES])
    }
}

/// Slots by number. Entries are written under the space's lock, once: the record of a slot stays with its addresses.
pub(super) struct Directory {
    roots: [AtomicU32; ENTRIES],
    leaves: Slab<Leaf>,
}

impl Directory {
    pub(super) const fn new() -> Self {
        Directory { roots: [const { AtomicU32::new(0) }; ENTRIES], leaves: Slab::new() }
    }

    /// The slot of the 2 MiB of addresses `number`, if any page of it was ever touched.
    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<Handle<Slot>> {
        let root = self.roots[number as usize / ENTRIES].load(Ordering::Acquire);
        let leaf = self.leaves.get(Handle::from_raw(root)?);
        Handle::from_raw(leaf.0[number as usize % ENTRIES].load(Ordering::Acquire))
    }

    /// Makes sure that [`Directory::set`] finds room for `number`. False without memory.
    pub(super) fn prepare(&self, number: u64, source: &dyn FrameSource) -> bool {
        let root = &self.roots[number as usize / ENTRIES];
        if root.load(Ordering::Acquire) == 0 {
            let Some(leaf) = self.leaves.allocate(source) else { return false };
            root.store(leaf.raw(), Ordering::Release);
        }
        true
    }

    /// Enters the slot of `number`, for which there is room.
    pub(super) fn set(&self, number: u64, slot: Handle<Slot>) {
        let root = self.roots[number as usize / ENTRIES].load(Ordering::Acquire);
        let leaf = Handle::from_raw(root).expect("prepared");
        self.leaves.get(leaf).0[number as usize % ENTRIES].store(slot.raw(), Ordering::Release);
    }

    /// The slots in `numbers` that exist, in order.
    pub(super) fn slots(&self, numbers: core::ops::Range<u64>) -> impl Iterator<Item = (u64, Handle<Slot>)> + '_ {
        let mut next = numbers.start;
        core::iter::from_fn(move || {
            while next < numbers.end {
                let number = next;
                if self.roots[number as usize / ENTRIES].load(Ordering::Acquire) == 0 {
                    next = (number / ENTRIES as u64 + 1) * ENTRIES as u64;
                    continue;
                }
                next += 1;
                if let Some(slot) = self.get(number) {
                    return Some((number, slot));
                }
            }
            None
        })
    }

    /// Frames that the directory takes.
    #[cfg(feature = "sim")]
    pub(super) fn frames(&self) -> usize {
        self.leaves.frames()
    }
}
