//! The regions of an address space: disjoint ranges of pages, in order.
//!
//! A B+ tree, as the regions of a large application are many and a lookup is on the way of every fault: with 100,000
//! of them it is four nodes high. A node is the same thing at every height: entries in the order of their addresses,
//! each a range and what is in it, a region or a subtree. The range of a subtree reaches from the start of its first
//! region to the end of its last one, so the gaps between the regions of a subtree lie inside its range, and what a
//! node says about its gaps ([`Gaps`]) depends on nothing outside it.
//!
//! Nodes are records of a [`Slab`] that the map owns. Every change that needs nodes has them before it starts, so it
//! happens wholly or not at all. The lock of the address space guards the map.
#![forbid(unsafe_code)]

use super::address::{LOWER_END, PAGE_SHIFT, PAGES_PER_GROUP, PAGES_PER_SLOT};
use super::slab::{FrameSource, Handle, Slab};
use core::iter;
use core::ops::Range;

/// Pages that a region map covers: the lower half.
pub const PAGES: u64 = LOWER_END >> PAGE_SHIFT;

/// Entries in a node.
const CAPACITY: usize = 32;
/// Entries that a node has at least, if it is not the root.
const MINIMUM: usize = CAPACITY / 4;
/// Entries that two nodes may have together for them to be made one: it leaves room, so that insertions and removals
/// in turn do not split and merge in turn.
const MERGED: usize = CAPACITY - MINIMUM;
/// Nodes on a path: as many as a tree with the fewest entries in each node needs for regions of one page each.
const MAX_HEIGHT: usize = 10;
const _: () = assert!(2 * (MINIMUM as u64).pow(MAX_HEIGHT as u32 - 1) >= PAGES);

/// Alignments in pages for which the largest gap is known, so that finding one never looks in vain.
const ALIGNMENTS: [u32; 3] = [1, PAGES_PER_GROUP as u32, PAGES_PER_SLOT as u32];

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

/// The longest gap in a subtree, in pages, after its start is rounded up to each of [`ALIGNMENTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gaps([u32; ALIGNMENTS.len()]);

impl Gaps {
    const NONE: Gaps = Gaps([0; ALIGNMENTS.len()]);

    /// Takes the gap `start..end` into account.
    #[inline]
    fn add(&mut self, start: u32, end: u32) {
        for (longest, alignment) in self.0.iter_mut().zip(ALIGNMENTS) {
            *longest = (*longest).max(end.saturating_sub(start.next_multiple_of(alignment)));
        }
    }

    #[inline]
    fn merge(&mut self, other: Gaps) {
        for (longest, other) in self.0.iter_mut().zip(other.0) {
            *longest = (*longest).max(other);
        }
    }
}

/// What is in an entry's range.
#[derive(Clone, Copy)]
enum Item<T> {
    Unused,
    Region(T),
    Subtree(Handle<Node<T>>, Gaps),
}

#[derive(Clone, Copy)]
struct Entry<T> {
    start: u32,
    end: u32,
    item: Item<T>,
}

/// Entries in order; the parts of an entry are apart so that a search reads starts only.
struct Node<T> {
    /// `u32::MAX` where unused, so that a search need not know the length.
    starts: [u32; CAPACITY],
    ends: [u32; CAPACITY],
    items: [Item<T>; CAPACITY],
    len: usize,
}

impl<T: Copy> Default for Node<T> {
    fn default() -> Self {
        Self { starts: [u32::MAX; CAPACITY], ends: [0; CAPACITY], items: [Item::Unused; CAPACITY], len: 0 }
    }
}

impl<T: Copy> Node<T> {
    /// How many entries start at `page` or before.
    #[inline]
    fn rank(&self, page: u32) -> usize {
        self.starts.iter().map(|&start| u32::from(start <= page)).sum::<u32>() as usize
    }

    fn entry(&self, index: usize) -> Entry<T> {
        Entry { start: self.starts[index], end: self.ends[index], item: self.items[index] }
    }

    fn put(&mut self, index: usize, entry: Entry<T>) {
        self.starts[index] = entry.start;
        self.ends[index] = entry.end;
        self.items[index] = entry.item;
    }

    fn range(&self, index: usize) -> Range<u64> {
        self.starts[index].into()..self.ends[index].into()
    }

    /// Inserts an entry before the one at `index`; the node is not full.
    fn insert(&mut self, index: usize, entry: Entry<T>) {
        self.starts.copy_within(index..self.len, index + 1);
        self.ends.copy_within(index..self.len, index + 1);
        self.items.copy_within(index..self.len, index + 1);
        self.put(index, entry);
        self.len += 1;
    }

    fn remove(&mut self, index: usize) -> Entry<T> {
        let entry = self.entry(index);
        self.starts.copy_within(index + 1..self.len, index);
        self.ends.copy_within(index + 1..self.len, index);
        self.items.copy_within(index + 1..self.len, index);
        self.truncate(self.len - 1);
        entry
    }

    fn truncate(&mut self, len: usize) {
        self.starts[len..self.len].fill(u32::MAX);
        self.len = len;
    }

    /// Makes `count` entries of `right`, the next node, the last ones of this.
    fn take_from(&mut self, right: &mut Self, count: usize) {
        for index in 0..count {
            self.put(self.len + index, right.entry(index));
        }
        self.len += count;
        right.starts.copy_within(count..right.len, 0);
        right.ends.copy_within(count..right.len, 0);
        right.items.copy_within(count..right.len, 0);
        right.truncate(right.len - count);
    }

    /// Makes the entries from `first` on the first ones of `right`, the next node.
    fn give_to(&mut self, right: &mut Self, first: usize) {
        let count = self.len - first;
        right.starts.copy_within(..right.len, count);
        right.ends.copy_within(..right.len, count);
        right.items.copy_within(..right.len, count);
        for index in 0..count {
            right.put(index, self.entry(first + index));
        }
        right.len += count;
        self.truncate(first);
    }

    /// The entry of this node in its parent; the node is not empty.
    fn summary(&self, handle: Handle<Self>) -> Entry<T> {
        let mut gaps = Gaps::NONE;
        for index in 0..self.len {
            if let Item::Subtree(_, inner) = self.items[index] {
                gaps.merge(inner);
            }
            if index + 1 < self.len {
                gaps.add(self.ends[index], self.starts[index + 1]);
            }
        }
        Entry { start: self.starts[0], end: self.ends[self.len - 1], item: Item::Subtree(handle, gaps) }
    }
}

/// The way from the root to an entry of a leaf: the nodes, and in each the index of the entry that leads on.
struct Path<T> {
    steps: [Option<(Handle<Node<T>>, usize)>; MAX_HEIGHT],
    len: usize,
}

impl<T> Path<T> {
    fn push(&mut self, node: Handle<Node<T>>, index: usize) {
        self.steps[self.len] = Some((node, index));
        self.len += 1;
    }

    /// The step at `level`; 0 is the root.
    fn step(&self, level: usize) -> (Handle<Node<T>>, usize) {
        self.steps[level].expect("a path has a step for each of its levels")
    }

    /// The last step.
    fn leaf(&self) -> (Handle<Node<T>>, usize) {
        self.step(self.len - 1)
    }
}

/// What [`RegionMap::find_gap`] looks for.
struct Request {
    pages: u32,
    alignment: u32,
    within: Range<u32>,
    /// Which of [`ALIGNMENTS`] tells whether a subtree is worth a look.
    known: usize,
}

impl Request {
    /// The first place in the gap `start..end`.
    fn fit(&self, start: u32, end: u32) -> Option<u64> {
        let at = start.max(self.within.start).checked_next_multiple_of(self.alignment)?;
        (at.checked_add(self.pages)? <= end.min(self.within.end)).then_some(at.into())
    }
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
        loop {
            let index = node.rank(page as u32).checked_sub(1)?;
            match node.items[index] {
                Item::Subtree(next, _) => node = self.nodes.get(next),
                Item::Region(payload) => {
                    return (page < node.ends[index].into()).then(|| (node.range(index), payload));
                }
                Item::Unused => return None,
            }
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
            let after = node.rank(page);
            let index = if after > 0 && node.ends[after - 1] > page { after - 1 } else { after };
            // Below the root there is always one: the subtree was chosen for ending after `page`.
            if index == node.len {
                return None;
            }
            match node.items[index] {
                Item::Subtree(next, _) => node = self.nodes.get(next),
                Item::Region(payload) => return Some((node.range(index), payload)),
                Item::Unused => return None,
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

    /// The lowest place for `pages` pages in a row that are in no region, starting at a multiple of `align_pages`
    /// and lying inside `within`. Logarithmic for alignments of a page, a group and a slot; others may look at gaps
    /// that turn out too short once their start is aligned.
    ///
    /// # Panics
    ///
    /// If `align_pages` is not a power of two.
    pub fn find_gap(&self, pages: u64, align_pages: u64, within: Range<u64>) -> Option<u64> {
        assert!(align_pages.is_power_of_two(), "an alignment of {align_pages} pages");
        let end = within.end.min(PAGES);
        if pages == 0 || pages > PAGES || within.start >= end || align_pages > PAGES {
            return None;
        }
        let alignment = align_pages as u32;
        let known = ALIGNMENTS.iter().rposition(|&known| known <= alignment).unwrap_or(0);
        let request = Request { pages: pages as u32, alignment, within: within.start as u32..end as u32, known };
        let Some(root) = self.root else { return request.fit(0, PAGES as u32) };
        let node = self.nodes.get(root);
        let (first, last) = (node.starts[0], node.ends[node.len - 1]);
        request.fit(0, first).or_else(|| self.find_gap_in(root, &request)).or_else(|| request.fit(last, PAGES as u32))
    }

    /// Looks between the regions of a subtree; the recursion is as deep as the tree.
    fn find_gap_in(&self, handle: Handle<Node<T>>, request: &Request) -> Option<u64> {
        let node = self.nodes.get(handle);
        let first = node.rank(request.within.start).saturating_sub(1);
        for index in first..node.len {
            if node.starts[index] >= request.within.end {
                break;
            }
            if let Item::Subtree(inner, gaps) = node.items[index]
                && gaps.0[request.known] >= request.pages
                && let Some(found) = self.find_gap_in(inner, request)
            {
                return Some(found);
            }
            if index + 1 < node.len
                && let Some(found) = request.fit(node.ends[index], node.starts[index + 1])
            {
                return Some(found);
            }
        }
        None
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
        self.insert_at(path, Entry { start, end, item: Item::Region(payload) });
        Ok(())
    }

    /// Removes the region that starts at `start`; never needs memory.
    pub fn remove(&mut self, start: u64) -> Option<(Range<u64>, T)> {
        let path = self.path_to(start)?;
        let (leaf, index) = path.leaf();
        let entry = self.nodes.get_mut(leaf).remove(index);
        self.len -= 1;
        self.rebalance(&path);
        match entry.item {
            Item::Region(payload) => Some((entry.start.into()..entry.end.into(), payload)),
            Item::Subtree(..) | Item::Unused => unreachable!("leaves hold regions"),
        }
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

    /// Cuts the region around `page` in two, the second of which starts there; both have its payload. Says whether
    /// there was one to cut: not if `page` is free or a region starts at it.
    ///
    /// # Errors
    ///
    /// If there is no frame for a record.
    pub fn split(&mut self, source: &dyn FrameSource, page: u64) -> Result<bool, NoMemory> {
        let Some((range, payload)) = self.find(page).filter(|(range, _)| range.start < page) else {
            return Ok(false);
        };
        let path = self.path(page as u32);
        if !self.nodes.prepare(source, self.splits(&path)) {
            return Err(NoMemory);
        }
        let (leaf, index) = path.leaf();
        self.nodes.get_mut(leaf).ends[index - 1] = page as u32;
        self.insert_at(path, Entry { start: page as u32, end: range.end as u32, item: Item::Region(payload) });
        Ok(true)
    }

    /// Replaces the payload of the region that starts at `start`; gives the old one, `None` if there is no such
    /// region.
    pub fn set(&mut self, start: u64, payload: T) -> Option<T> {
        let (leaf, index) = self.path_to(start)?.leaf();
        match core::mem::replace(&mut self.nodes.get_mut(leaf).items[index], Item::Region(payload)) {
            Item::Region(old) => Some(old),
            Item::Subtree(..) | Item::Unused => unreachable!("leaves hold regions"),
        }
    }

    /// Makes the region that ends at `page` and the one that starts there one, if their payloads are equal; says
    /// whether it did. Never needs memory.
    pub fn merge(&mut self, page: u64) -> bool
    where
        T: PartialEq,
    {
        let Some((left, payload)) = page.checked_sub(1).and_then(|before| self.find(before)) else { return false };
        let Some((right, other)) = self.find(page).filter(|(right, _)| right.start == page) else { return false };
        if payload != other {
            return false;
        }
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

    /// The way to where a region that starts at `page` belongs: in the leaf, the index is the one of the first
    /// region that starts after `page`.
    fn path(&self, page: u32) -> Path<T> {
        let mut path = Path { steps: [None; MAX_HEIGHT], len: 0 };
        let mut next = self.root;
        while let Some(handle) = next {
            let node = self.nodes.get(handle);
            let rank = node.rank(page);
            next = match node.items[rank.saturating_sub(1)] {
                Item::Subtree(inner, _) => {
                    path.push(handle, rank.saturating_sub(1));
                    Some(inner)
                }
                Item::Region(_) | Item::Unused => {
                    path.push(handle, rank);
                    None
                }
            };
        }
        path
    }

    /// The way to the region that starts at `start`.
    fn path_to(&self, start: u64) -> Option<Path<T>> {
        if start >= PAGES || self.root.is_none() {
            return None;
        }
        let mut path = self.path(start as u32);
        let (leaf, after) = path.leaf();
        let index = after.checked_sub(1)?;
        if u64::from(self.nodes.get(leaf).starts[index]) != start {
            return None;
        }
        path.steps[path.len - 1] = Some((leaf, index));
        Some(path)
    }

    /// Nodes that an insertion at the end of `path` makes.
    fn splits(&self, path: &Path<T>) -> usize {
        let full = |&level: &usize| self.nodes.get(path.step(level).0).len == CAPACITY;
        let splits = (0..path.len).rev().take_while(full).count();
        splits + usize::from(splits == path.len)
    }

    /// Inserts at the end of `path`, splitting full nodes upwards; the nodes for that are provided for.
    fn insert_at(&mut self, path: Path<T>, entry: Entry<T>) {
        self.len += 1;
        let mut entry = entry;
        for level in (0..path.len).rev() {
            let (handle, step) = path.step(level);
            let index = if level + 1 == path.len { step } else { step + 1 };
            let node = self.nodes.get_mut(handle);
            if node.len < CAPACITY {
                node.insert(index, entry);
                self.refresh(&path, level);
                return;
            }
            // Regions that come in order leave fuller nodes behind.
            let first = match index {
                0 => MINIMUM,
                CAPACITY => CAPACITY - MINIMUM,
                _ => CAPACITY / 2,
            };
            let new = self.nodes.take();
            let (left, right) = self.nodes.pair_mut(handle, new);
            *right = Node::default();
            left.give_to(right, first);
            if index <= first {
                left.insert(index, entry)
            } else {
                right.insert(index - first, entry)
            }
            entry = right.summary(new);
            if level > 0 {
                self.summarize(&path, level);
            } else {
                let left = self.nodes.get(handle).summary(handle);
                self.add_root(&[left, entry]);
                return;
            }
        }
        self.add_root(&[entry]);
    }

    fn add_root(&mut self, entries: &[Entry<T>]) {
        let root = self.nodes.take();
        let node = self.nodes.get_mut(root);
        *node = Node::default();
        for (index, &entry) in entries.iter().enumerate() {
            node.insert(index, entry);
        }
        self.root = Some(root);
        self.height += 1;
    }

    /// Brings the entry of the node at `level` of `path` in its parent up to date; says whether it has changed.
    fn summarize(&mut self, path: &Path<T>, level: usize) -> bool {
        let (handle, _) = path.step(level);
        let (parent, index) = path.step(level - 1);
        let (node, parent) = self.nodes.pair_mut(handle, parent);
        let new = node.summary(handle);
        let old = parent.entry(index);
        parent.put(index, new);
        let same_gaps = match (old.item, new.item) {
            (Item::Subtree(_, old), Item::Subtree(_, new)) => old == new,
            _ => false,
        };
        old.start != new.start || old.end != new.end || !same_gaps
    }

    /// Brings the entries above the node at `level` of `path` up to date.
    fn refresh(&mut self, path: &Path<T>, level: usize) {
        for level in (1..=level).rev() {
            if !self.summarize(path, level) {
                break;
            }
        }
    }

    /// After a removal at the end of `path`: merges a node that has too few entries with the one next to it, or
    /// fills it up from there.
    fn rebalance(&mut self, path: &Path<T>) {
        for level in (1..path.len).rev() {
            let (handle, _) = path.step(level);
            if self.nodes.get(handle).len >= MINIMUM {
                self.refresh(path, level);
                return;
            }
            let (parent, index) = path.step(level - 1);
            // The pair is the node and the one after it, or the one before it if it is the last.
            let first = if index + 1 < self.nodes.get(parent).len { index } else { index - 1 };
            let (left, right) = (self.child(parent, first), self.child(parent, first + 1));
            let (left_node, right_node) = self.nodes.pair_mut(left, right);
            let total = left_node.len + right_node.len;
            if total <= MERGED {
                left_node.take_from(right_node, right_node.len);
                self.nodes.free(right);
                self.nodes.get_mut(parent).remove(first + 1);
            } else {
                if left_node.len < total / 2 {
                    left_node.take_from(right_node, total / 2 - left_node.len);
                } else {
                    left_node.give_to(right_node, total / 2);
                }
                let summary = right_node.summary(right);
                self.nodes.get_mut(parent).put(first + 1, summary);
            }
            let summary = self.nodes.get(left).summary(left);
            self.nodes.get_mut(parent).put(first, summary);
        }
        self.shrink_root();
    }

    /// Removes a root that has no use: an empty leaf, or a node with a single subtree.
    fn shrink_root(&mut self) {
        let Some(root) = self.root else { return };
        let node = self.nodes.get(root);
        let below = match (node.len, node.items[0]) {
            (0, _) => None,
            (1, Item::Subtree(below, _)) => Some(below),
            _ => return,
        };
        self.nodes.free(root);
        self.root = below;
        self.height -= 1;
    }

    fn child(&self, node: Handle<Node<T>>, index: usize) -> Handle<Node<T>> {
        match self.nodes.get(node).items[index] {
            Item::Subtree(child, _) => child,
            Item::Region(_) | Item::Unused => unreachable!("a node above the leaves holds subtrees"),
        }
    }

    /// Checks all that the map relies on: every leaf at the same height, no node too empty or unordered, regions
    /// disjoint, ranges and gaps of subtrees as they are, no record lost.
    ///
    /// # Panics
    ///
    /// If something is wrong.
    pub fn check(&self) {
        let mut end = 0;
        let (nodes, regions) = match self.root {
            Some(root) => self.check_subtree(root, 1, &mut end),
            None => (0, 0),
        };
        assert_eq!(regions, self.len, "regions in the tree, and counted");
        assert_eq!(nodes, self.nodes.len(), "nodes in the tree, and allocated");
        assert!(u64::from(end) <= PAGES);
        assert_eq!(self.root.is_none(), self.height == 0);
    }

    /// Nodes and regions of a subtree whose root is at `level` (1 is the map's root). `end` is where the last region
    /// before it ends, and then the last one of it.
    fn check_subtree(&self, handle: Handle<Node<T>>, level: usize, end: &mut u32) -> (usize, usize) {
        let node = self.nodes.get(handle);
        let least = match (level, self.height) {
            (1, 1) => 1,
            (1, _) => 2,
            _ => MINIMUM,
        };
        assert!((least..=CAPACITY).contains(&node.len), "node {handle:?} has {} entries", node.len);
        assert!(node.starts[node.len..].iter().all(|&start| start == u32::MAX), "node {handle:?} is not padded");
        let (mut nodes, mut regions) = (1, 0);
        for index in 0..node.len {
            let (start, its_end) = (node.starts[index], node.ends[index]);
            assert!(*end <= start && start < its_end, "{start}..{its_end} in {handle:?} comes after {end}");
            match node.items[index] {
                Item::Region(_) => {
                    assert_eq!(level, self.height, "a region in {handle:?}, not a leaf");
                    regions += 1;
                }
                Item::Subtree(inner, gaps) => {
                    assert!(level < self.height, "a subtree in {handle:?}, a leaf");
                    let (inner_nodes, inner_regions) = self.check_subtree(inner, level + 1, end);
                    (nodes, regions) = (nodes + inner_nodes, regions + inner_regions);
                    let found = self.nodes.get(inner).summary(inner);
                    let Item::Subtree(_, found_gaps) = found.item else { unreachable!() };
                    assert_eq!((start, its_end, gaps), (found.start, found.end, found_gaps), "entry of {inner:?}");
                }
                Item::Unused => panic!("entry {index} of {handle:?} is unused"),
            }
            *end = its_end;
        }
        (nodes, regions)
    }
}
