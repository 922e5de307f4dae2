//! The regions of an address space: disjoint ranges of pages, in order.
//!
//! A B+ tree, as the regions of a large application are many and a lookup is on the way of every fault: with 100,000
//! of them it is three nodes high. A node is the same thing at every height: entries in the order of their addresses,
//! each a range and what is in it, a region or a subtree. The range of a subtree reaches from the start of its first
//! region to the end of its last one, so the gaps between the regions of a subtree lie inside its range, and what a
//! node says about its gaps depends on nothing outside it.
//!
//! Nodes are records of a [`Slab`] that the map owns. Every change that needs nodes has them before it starts, so it
//! happens wholly or not at all. The regions' lock, of readers and writers, guards the map.
#![forbid(unsafe_code)]

mod balance;
mod check;
mod gap;
mod node;

use super::address::{LOWER_END, PAGE_SHIFT};
use super::slab::{FrameSource, Handle, Slab};
use core::iter;
use core::ops::Range;
use node::{CAPACITY, Entry, Item, Node};

/// Pages that a region map covers: the lower half.
pub const PAGES: u64 = LOWER_END >> PAGE_SHIFT;

/// Why a region was not inserted. The map is as before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InsertError {
    /// It overlaps the region with this range.
    Overlap(Range<u64>),
    /// There was no frame for a record.
    NoMemory,
}

/// There was no frame for a record. The map is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

/// Why a region was not resized. The map is as before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResizeError {
    /// No region starts there.
    NotFound,
    /// The new range overlaps the region with this range.
    Overlap(Range<u64>),
}

/// Disjoint ranges of pages below [`PAGES`], each with a payload `T`. See the [module](self).
///
/// Page ranges in arguments are not empty and end at [`PAGES`] or before; methods panic on others.
pub struct RegionMap<T> {
    nodes: Slab<Node<T>>,
    root: Option<Handle<Node<T>>>,
    /// Nodes from the root to a leaf.
    height: usize,
    len: usize,
}

impl<T> RegionMap<T> {
    /// A map without regions.
    pub const fn new() -> Self {
        Self { nodes: Slab::new(), root: None, height: 0, len: 0 }
    }

    /// Regions in the map.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the map has no regions.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frames that the map's records take.
    pub fn frames(&self) -> usize {
        self.nodes.frames()
    }
}

impl<T> Default for RegionMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn narrow(range: &Range<u64>) -> (u32, u32) {
    assert!(range.start < range.end && range.end <= PAGES, "pages {range:?} are not in the lower half");
    (range.start as u32, range.end as u32)
}

impl<T: Copy + Send> RegionMap<T> {
    /// The region that holds `page`.
    #[inline]
    pub fn find(&self, page: u64) -> Option<(Range<u64>, T)> {
        if page >= PAGES {
            return None;
        }
        let mut node = self.nodes.get(self.root?);
        let mut index = node.search(page as u32);
        while let Some(inner) = node.links[index] {
            node = self.nodes.get(inner);
            index = node.search(page as u32);
        }
        match node.items[index] {
            Item::Region(payload) if node.range(index).contains(&page) => Some((node.range(index), payload)),
            _ => None,
        }
    }

    /// The first region that ends after `page`: the one that holds it, or else the next one.
    pub fn next(&self, page: u64) -> Option<(Range<u64>, T)> {
        if page >= PAGES {
            return None;
        }
        let page = page as u32;
        let mut node = self.nodes.get(self.root?);
        loop {
            let index = node.search(page);
            let index = if node.ends[index] > page { index } else { index + 1 };
            // Below the root there is always one: the subtree was chosen for ending after `page`.
            if index == node.len {
                return None;
            }
            match node.links[index] {
                Some(inner) => node = self.nodes.get(inner),
                None => return node.region(index),
            }
        }
    }

    /// The regions that share a page with `range`, in order.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, T)> {
        let mut from = range.start;
        iter::from_fn(move || {
            let (found, payload) = self.next(from).filter(|(found, _)| found.start < range.end)?;
            from = found.end;
            Some((found, payload))
        })
    }

    /// All regions, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, T)> {
        self.overlapping(0..PAGES)
    }

    /// Inserts a region.
    ///
    /// # Errors
    ///
    /// If it overlaps another, the lowest of which is named, or there is no frame for a record.
    pub fn insert(&mut self, source: &dyn FrameSource, range: Range<u64>, payload: T) -> Result<(), InsertError> {
        let (start, end) = narrow(&range);
        if let Some((culprit, _)) = self.overlapping(range).next() {
            return Err(InsertError::Overlap(culprit));
        }
        let path = self.path(start);
        if !self.nodes.prepare(source, self.splits(&path)) {
            return Err(InsertError::NoMemory);
        }
        self.insert_at(path, Entry::region(start, end, payload));
        Ok(())
    }

    /// Removes the region that starts at `start`; never needs memory.
    pub fn remove(&mut self, start: u64) -> Option<(Range<u64>, T)> {
        let path = self.path_to(start)?;
        let (leaf, index) = path.leaf();
        let node = self.nodes.get_mut(leaf);
        let removed = node.region(index);
        node.remove(index);
        self.len -= 1;
        self.rebalance(&path);
        removed
    }

    /// Gives the region that starts at `start` the range `range`: shrinks it at either end, or lets it grow into
    /// what is free next to it; never needs memory.
    ///
    /// # Errors
    ///
    /// If no region starts there, or others are in the way, the lowest of which is named.
    ///
    /// # Panics
    ///
    /// If the new range has no page of the old one.
    pub fn resize(&mut self, start: u64, range: Range<u64>) -> Result<(), ResizeError> {
        let (new_start, new_end) = narrow(&range);
        let path = self.path_to(start).ok_or(ResizeError::NotFound)?;
        let (leaf, index) = path.leaf();
        let old = self.nodes.get(leaf).range(index);
        assert!(range.start < old.end && old.start < range.end, "region {old:?} is moved to {range:?}, not resized");
        if let Some((culprit, _)) = self.overlapping(range).find(|(other, _)| other.start != start) {
            return Err(ResizeError::Overlap(culprit));
        }
        let node = self.nodes.get_mut(leaf);
        node.starts[index] = new_start;
        node.ends[index] = new_end;
        self.refresh(&path, path.len - 1);
        Ok(())
    }

    /// Where the region that holds `page` is: its leaf, and the index there.
    #[inline]
    fn place_of(&self, page: u64) -> Option<(Handle<Node<T>>, usize)> {
        if page >= PAGES {
            return None;
        }
        let mut handle = self.root?;
        loop {
            let node = self.nodes.get(handle);
            let index = node.search(page as u32);
            match node.links[index] {
                Some(inner) => handle = inner,
                None => return node.range(index).contains(&page).then_some((handle, index)),
            }
        }
    }

    /// Cuts the region around `page` in two, the second of which starts there; both have its payload. Says whether
    /// there was one to cut: not if `page` is free or a region starts at it.
    ///
    /// # Errors
    ///
    /// If there is no frame for a record.
    pub fn split(&mut self, source: &dyn FrameSource, page: u64) -> Result<bool, NoMemory> {
        let Some((leaf, index)) = self.place_of(page) else { return Ok(false) };
        let node = self.nodes.get_mut(leaf);
        let Some((range, payload)) = node.region(index).filter(|(range, _)| range.start < page) else {
            return Ok(false);
        };
        let second = Entry::region(page as u32, range.end as u32, payload);
        if node.len < CAPACITY {
            // No gap comes or goes, so what the nodes above say of this one stays true.
            node.ends[index] = page as u32;
            node.insert(index + 1, second);
            self.len += 1;
            return Ok(true);
        }
        let path = self.path(page as u32);
        if !self.nodes.prepare(source, self.splits(&path)) {
            return Err(NoMemory);
        }
        self.nodes.get_mut(leaf).ends[index] = page as u32;
        self.insert_at(path, second);
        Ok(true)
    }

    /// Replaces the payload of the region that starts at `start`; gives the old one, `None` if there is no such
    /// region.
    pub fn set(&mut self, start: u64, payload: T) -> Option<T> {
        let (leaf, index) = self.place_of(start)?;
        let node = self.nodes.get_mut(leaf);
        let (_, old) = node.region(index).filter(|(range, _)| range.start == start)?;
        node.items[index] = Item::Region(payload);
        Some(old)
    }

    /// Gives the region that holds `page` another payload, made from its own; returns its range.
    pub fn change(&mut self, page: u64, change: impl FnOnce(T) -> T) -> Option<Range<u64>> {
        let (leaf, index) = self.place_of(page)?;
        let node = self.nodes.get_mut(leaf);
        let (range, payload) = node.region(index)?;
        node.items[index] = Item::Region(change(payload));
        Some(range)
    }

    /// Makes the region that ends at `page` and the one that starts there one, if their payloads are equal; says
    /// whether it did. Never needs memory.
    pub fn merge(&mut self, page: u64) -> bool
    where
        T: PartialEq,
    {
        let Some((right, payload)) = self.find(page).filter(|(right, _)| right.start == page) else { return false };
        let left = page.checked_sub(1).and_then(|before| self.find(before));
        let Some((left, _)) = left.filter(|(_, other)| *other == payload) else { return false };
        self.remove(page);
        self.resize(left.start, left.start..right.end).expect("the second region has made room");
        true
    }

    /// Provides for the next `count` insertions and splits: with whatever removals and resizes in between, they do
    /// not fail for memory.
    ///
    /// # Errors
    ///
    /// If there are not enough frames.
    pub fn reserve(&mut self, source: &dyn FrameSource, count: usize) -> Result<(), NoMemory> {
        // Each may split a node at every height, and the first one the root.
        if self.nodes.prepare(source, count * (self.height + 1)) { Ok(()) } else { Err(NoMemory) }
    }
}
