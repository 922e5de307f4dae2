//! The search for a place: the lowest gap that is long enough.
#![forbid(unsafe_code)]

use super::node::{ALIGNMENTS, Node};
use super::{PAGES, RegionMap};
use crate::mm::slab::Handle;
use core::ops::Range;

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

impl<T: Copy + Send> RegionMap<T> {
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
        for index in node.search(request.within.start)..node.len {
            if node.starts[index] >= request.within.end {
                break;
            }
            let entry = node.entry(index);
            if let Some(inner) = entry.link
                && entry.gaps().0[request.known] >= request.pages
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
}
