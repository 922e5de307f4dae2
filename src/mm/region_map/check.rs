//! The map's invariants, for tests.
#![forbid(unsafe_code)]

use super::node::{CAPACITY, Item, MINIMUM, Node};
use super::{PAGES, RegionMap};
use crate::mm::slab::Handle;

impl<T: Copy + Send> RegionMap<T> {
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
            match (node.links[index], node.items[index]) {
                (None, Item::Region(_)) => {
                    assert_eq!(level, self.height, "a region in {handle:?}, not a leaf");
                    regions += 1;
                }
                (Some(inner), Item::Subtree(gaps)) => {
                    assert!(level < self.height, "a subtree in {handle:?}, a leaf");
                    let (inner_nodes, inner_regions) = self.check_subtree(inner, level + 1, end);
                    (nodes, regions) = (nodes + inner_nodes, regions + inner_regions);
                    let found = self.nodes.get(inner).summary(inner);
                    assert_eq!((start, its_end, gaps), (found.start, found.end, found.gaps()), "entry of {inner:?}");
                }
                _ => panic!("entry {index} of {handle:?} is neither a region nor a subtree"),
            }
            *end = its_end;
        }
        (nodes, regions)
    }
}
