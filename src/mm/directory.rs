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

/// Slots by number. An entry is written by whoever is first; after that two may change
/// places, or one may give its place to another for a while.
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

    /// As [`Directory::get`], for a number that may be outside the application's addresses.
    pub(super) fn find(&self, number: u64) -> Option<Handle<Slot>> {
        if number < (ENTRIES * ENTRIES) as u64 { self.get(number) } else { None }
    }

    /// Whether [`Directory::enter`] finds room for `number`.
    #[inline]
    pub(super) fn has_room(&self, number: u64) -> bool {
        self.roots[number as usize / ENTRIES].load(Ordering::Acquire) != 0
    }

    /// Makes room for `number`; one caller at a time. False without memory.
    pub(super) fn make_room(&self, number: u64, source: &dyn FrameSource) -> bool {
        if !self.has_room(number) {
            let Some(leaf) = self.leaves.allocate(source) else { return false };
            self.roots[number as usize / ENTRIES].store(leaf.raw(), Ordering::Release);
        }
        true
    }

    /// Enters `slot` as that of `number`, for which there is room; returns the one that is there already, if any.
    pub(super) fn enter(&self, number: u64, slot: Handle<Slot>) -> Result<(), Handle<Slot>> {
        let root = self.roots[number as usize / ENTRIES].load(Ordering::Acquire);
        let leaf = self.leaves.get(Handle::from_raw(root).expect("room was made"));
        let entry = &leaf.0[number as usize % ENTRIES];
        match entry.compare_exchange(0, slot.raw(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(found) => Err(Handle::from_raw(found).expect("entries are handles")),
        }
    }

    /// Exchanges the slots of two numbers, each of which has one. The caller has the locks of both, and the regions' lock for
    /// writing.
    pub(super) fn exchange(&self, one: u64, other: u64) {
        let first = self.entry(one).load(Ordering::Relaxed);
        let second = self.entry(other).swap(first, Ordering::AcqRel);
        self.entry(one).store(second, Ordering::Release);
    }

    /// Makes `slot` that of `number`, which has one. The caller has the regions' lock for writing.
    pub(super) fn replace(&self, number: u64, slot: Handle<Slot>) {
        self.entry(number).store(slot.raw(), Ordering::Release);
    }

    /// The entry of a slot that exists.
    fn entry(&self, number: u64) -> &AtomicU32 {
        let root = self.roots[number as usize / ENTRIES].load(Ordering::Acquire);
        let leaf = self.leaves.get(Handle::from_raw(root).expect("the slot exists"));
        &leaf.0[number as usize % ENTRIES]
    }

    /// The slots in `numbers` that exist, in order.
    pub(super) fn slots(&self, numbers: core::ops::Range<u64>) -> impl Iterator<Item = (u64, Handle<Slot>)> + '_ {
        let (mut next, end) = (numbers.start, numbers.end.min((ENTRIES * ENTRIES) as u64));
        core::iter::from_fn(move || {
            while next < end {
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

    /// All slots, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, Handle<Slot>)> + '_ {
        self.slots(0..(ENTRIES * ENTRIES) as u64)
    }

    /// Frames that the directory takes.
    #[cfg(feature = "sim")]
    pub(super) fn frames(&self) -> usize {
        self.leaves.frames()
    }
}
