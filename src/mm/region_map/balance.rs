//! Ways down the tree, and the changes that keep it balanced.
#![forbid(unsafe_code)]

use super::node::{CAPACITY, Entry, MINIMUM, Node};
use super::{PAGES, RegionMap};
use crate::mm::slab::Handle;

/// Entries that two nodes may have together for them to be made one: it leaves room, so that insertions and removals
/// in turn do not split and merge in turn.
const MERGED: usize = CAPACITY - MINIMUM;
/// Nodes on a path: a tree with one more, all as empty as they may be, has more regions than there are pages.
const MAX_HEIGHT: usize = 7;
const _: () = assert!(2 * (MINIMUM as u64).pow(MAX_HEIGHT as u32) > PAGES);

/// The way from the root to an entry of a leaf: the nodes, and in each the index of the entry that leads on.
pub(super) struct Path<T> {
    steps: [Option<(Handle<Node<T>>, usize)>; MAX_HEIGHT],
    pub(super) len: usize,
}

impl<T> Path<T> {
    fn push(&mut self, node: Handle<Node<T>>, index: usize) {
        self.steps[self.len] = Some((node, index));
        self.len += 1;
    }

    /// The step at `level`; 0 is the root.
    pub(super) fn step(&self, level: usize) -> (Handle<Node<T>>, usize) {
        self.steps[level].expect("a path has a step for each of its levels")
    }

    /// The last step.
    pub(super) fn leaf(&self) -> (Handle<Node<T>>, usize) {
        self.step(self.len - 1)
    }
}

impl<T: Copy + Send> RegionMap<T> {
    /// The way to where a region that starts at `page` belongs: in the leaf, the index is the one of the first
    /// region that starts after `page`.
    pub(super) fn path(&self, page: u32) -> Path<T> {
        let mut path = Path { steps: [None; MAX_HEIGHT], len: 0 };
        let mut next = self.root;
        while let Some(handle) = next {
            let node = self.nodes.get(handle);
            let index = node.search(page);
            next = node.links[index];
            let belongs = if next.is_some() { index } else { index + usize::from(node.starts[index] <= page) };
            path.push(handle, belongs);
        }
        path
    }

    /// The way to the region that starts at `start`.
    pub(super) fn path_to(&self, start: u64) -> Option<Path<T>> {
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
    pub(super) fn splits(&self, path: &Path<T>) -> usize {
        let full = |&level: &usize| self.nodes.get(path.step(level).0).len == CAPACITY;
        let splits = (0..path.len).rev().take_while(full).count();
        splits + usize::from(splits == path.len)
    }

    /// Inserts at the end of `path`, splitting full nodes upwards; the nodes for that are provided for.
    pub(super) fn insert_at(&mut self, path: Path<T>, entry: Entry<T>) {
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
            right.truncate(0);
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
        node.truncate(0);
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
        old.start != new.start || old.end != new.end || old.gaps() != new.gaps()
    }

    /// Brings the entries above the node at `level` of `path` up to date.
    pub(super) fn refresh(&mut self, path: &Path<T>, level: usize) {
        for level in (1..=level).rev() {
            if !self.summarize(path, level) {
                break;
            }
        }
    }

    /// After a removal at the end of `path`: merges a node that has too few entries with the one next to it, or
    /// fills it up from there.
    pub(super) fn rebalance(&mut self, path: &Path<T>) {
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
        let below = match (node.len, node.links[0]) {
            (0, _) => None,
            (1, Some(below)) => Some(below),
            _ => return,
        };
        self.nodes.free(root);
        self.root = below;
        self.height -= 1;
    }

    fn child(&self, node: Handle<Node<T>>, index: usize) -> Handle<Node<T>> {
        self.nodes.get(node).links[index].expect("a node above the leaves has subtrees only")
    }
}
