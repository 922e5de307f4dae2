//! A node of the tree: entries in order, each with what the node knows of its gaps.
#![forbid(unsafe_code)]

use crate::mm::address::{PAGES_PER_GROUP, PAGES_PER_SLOT};
use crate::mm::slab::Handle;
use core::ops::Range;

/// Entries in a node.
pub(super) const CAPACITY: usize = 64;
/// Entries that a node has at least, if it is not the root.
pub(super) const MINIMUM: usize = CAPACITY / 4;
/// Alignments in pages for which the largest gap is known, so that finding one never looks in vain.
pub(super) const ALIGNMENTS: [u32; 3] = [1, PAGES_PER_GROUP as u32, PAGES_PER_SLOT as u32];

/// The longest gap in a subtree, in pages, after its start is rounded up to each of [`ALIGNMENTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gaps(pub(super) [u32; ALIGNMENTS.len()]);

impl Gaps {
    const NONE: Gaps = Gaps([0; ALIGNMENTS.len()]);

    /// Takes the gap `start..end` into account.
    #[inline]
    fn add(&mut self, start: u32, end: u32) {
        for (longest, alignment) in self.0.iter_mut().zip(ALIGNMENTS) {
            *longest = (*longest).max(end.saturating_sub(start.next_multiple_of(alignment)));
        }
    }

    /// Takes the gaps of a subtree into account.
    #[inline]
    fn merge(&mut self, other: Gaps) {
        for (longest, other) in self.0.iter_mut().zip(other.0) {
            *longest = (*longest).max(other);
        }
    }
}

/// What a node knows about what is in an entry's range.
#[derive(Clone, Copy)]
pub(super) enum Item<T> {
    Unused,
    Region(T),
    Subtree(Gaps),
}

/// What is in a node, one by one: a range, and a region or a subtree in it.
#[derive(Clone, Copy)]
pub(super) struct Entry<T> {
    pub(super) start: u32,
    pub(super) end: u32,
    /// The root of the subtree, `None` for a region.
    pub(super) link: Option<Handle<Node<T>>>,
    pub(super) item: Item<T>,
}

impl<T> Entry<T> {
    pub(super) const fn region(start: u32, end: u32, payload: T) -> Self {
        Self { start, end, link: None, item: Item::Region(payload) }
    }

    /// What the longest gaps in the range are.
    pub(super) fn gaps(&self) -> Gaps {
        match self.item {
            Item::Subtree(gaps) => gaps,
            Item::Region(_) | Item::Unused => Gaps::NONE,
        }
    }
}

/// Entries in order; the parts of an entry are apart so that a search reads starts only, and the way down links only.
pub(super) struct Node<T> {
    /// `u32::MAX` where unused, so that a search need not know the length.
    pub(super) starts: [u32; CAPACITY],
    pub(super) ends: [u32; CAPACITY],
    pub(super) links: [Option<Handle<Node<T>>>; CAPACITY],
    pub(super) items: [Item<T>; CAPACITY],
    pub(super) len: usize,
}

impl<T: Copy> Default for Node<T> {
    fn default() -> Self {
        Self {
            starts: [u32::MAX; CAPACITY],
            ends: [0; CAPACITY],
            links: [None; CAPACITY],
            items: [Item::Unused; CAPACITY],
            len: 0,
        }
    }
}

impl<T: Copy> Node<T> {
    /// The last entry that starts at `page` or before; the first one if there is none.
    #[inline]
    pub(super) fn search(&self, page: u32) -> usize {
        let mut index = 0;
        let mut step = CAPACITY / 2;
        // Halving without branches: a mispredicted one costs as much as the whole search.
        while step > 0 {
            index += if self.starts[index + step] <= page { step } else { 0 };
            step /= 2;
        }
        index
    }

    pub(super) fn entry(&self, index: usize) -> Entry<T> {
        Entry { start: self.starts[index], end: self.ends[index], link: self.links[index], item: self.items[index] }
    }

    /// Range and payload of the region at `index`.
    #[inline]
    pub(super) fn region(&self, index: usize) -> Option<(Range<u64>, T)> {
        match self.items[index] {
            Item::Region(payload) => Some((self.range(index), payload)),
            Item::Subtree(_) | Item::Unused => None,
        }
    }

    pub(super) fn put(&mut self, index: usize, entry: Entry<T>) {
        self.starts[index] = entry.start;
        self.ends[index] = entry.end;
        self.links[index] = entry.link;
        self.items[index] = entry.item;
    }

    pub(super) fn range(&self, index: usize) -> Range<u64> {
        self.starts[index].into()..self.ends[index].into()
    }

    /// Copies the entries at `from` and after to `to`.
    fn shift(&mut self, from: usize, to: usize) {
        self.starts.copy_within(from..self.len, to);
        self.ends.copy_within(from..self.len, to);
        self.links.copy_within(from..self.len, to);
        self.items.copy_within(from..self.len, to);
    }

    /// Inserts an entry before the one at `index`; the node is not full.
    pub(super) fn insert(&mut self, index: usize, entry: Entry<T>) {
        self.shift(index, index + 1);
        self.put(index, entry);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.shift(index + 1, index);
        self.truncate(self.len - 1);
    }

    /// Leaves the first `len` entries.
    pub(super) fn truncate(&mut self, len: usize) {
        self.starts[len..self.len].fill(u32::MAX);
        self.len = len;
    }

    /// Makes `count` entries of `right`, the next node, the last ones of this.
    pub(super) fn take_from(&mut self, right: &mut Self, count: usize) {
        for index in 0..count {
            self.put(self.len + index, right.entry(index));
        }
        self.len += count;
        right.shift(count, 0);
        right.truncate(right.len - count);
    }

    /// Makes the entries from `first` on the first ones of `right`, the next node.
    pub(super) fn give_to(&mut self, right: &mut Self, first: usize) {
        let count = self.len - first;
        right.shift(0, count);
        for index in 0..count {
            right.put(index, self.entry(first + index));
        }
        right.len += count;
        self.truncate(first);
    }

    /// The entry of this node in its parent; the node is not empty.
    pub(super) fn summary(&self, handle: Handle<Self>) -> Entry<T> {
        let mut gaps = Gaps::NONE;
        for index in 0..self.len {
            gaps.merge(self.entry(index).gaps());
            if index + 1 < self.len {
                gaps.add(self.ends[index], self.starts[index + 1]);
            }
        }
        Entry { start: self.starts[0], end: self.ends[self.len - 1], link: Some(handle), item: Item::Subtree(gaps) }
    }
}
