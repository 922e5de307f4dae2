//! Memory that goes to other addresses: what it holds and what is pinned of it go along, and it is refused exactly where it must be.

use crate::Run;
use crate::memory::{WINDOW, address, bytes};
use alloc::vec::Vec;
use ashlar::mm::address::{Frame, PAGE_SIZE};
use ashlar::mm::{MemoryError, RemapRequest};
use core::ops::Range;

/// Where it is asked to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum To {
    Here,
    At(u64),
    Over(u64),
}

/// Where the pages of a range are.
struct Look {
    /// Of each slot that they are in.
    huge: Vec<bool>,
    frames: Vec<Option<Frame>>,
}

impl Run {
    pub fn remap(&mut self) {
        let from = self.range();
        if self.random.below(6) == 0 {
            return self.leave_and_come_back(from);
        }
        let old = from.end - from.start;
        let mut pages = self.random.pick(&[old, old, old, old, old / 2 + 1, old + 1, old + 512, 16]);
        let to = self.destination(&from);
        let start = match to {
            To::Here => from.start,
            To::At(start) | To::Over(start) => start,
        };
        // Outside the window it is not known what is mapped.
        pages = pages.min(WINDOW.end - start);
        let keep = to != To::Here && self.random.below(4) == 0;
        if let To::At(start) = to
            && self.random.below(2) == 0
        {
            self.unmap(start..start + pages);
        }
        let mut request = RemapRequest::new(pages as usize * PAGE_SIZE);
        request = match to {
            To::Here => request,
            To::At(start) => request.at(address(start)),
            To::Over(start) => request.over(address(start)),
        };
        request = if keep { request.keep() } else { request };
        let target = start..start + pages;
        let expected = self.refuses_to_move(&from, &target, to, keep);
        let moved = from.start..from.start + old.min(pages);
        let before = self.see(&moved);
        let arrival = start..start + (moved.end - moved.start);
        let pinned = self.model.is_pinned(moved.clone());
        let result = self.world.mm.remap(address(from.start), bytes(&from), request);
        if let Err(MemoryError::Shared { .. }) = result {
            return self.is_shared();
        }
        match (result, expected) {
            (Err(MemoryError::NoMemory), _) => {
                assert!(self.short, "{from:?}: memory is free");
                self.happened("remap_no_memory");
            }
            (Err(error), expected) => {
                assert_eq!(Some(error), expected, "{from:?} to {target:?}, {request:?}");
                self.happened(match error {
                    MemoryError::NotMapped { .. } => "remap_not_mapped",
                    MemoryError::Divided { .. } => "remap_divided",
                    MemoryError::IntoItself { .. } => "remap_into_itself",
                    MemoryError::KeptLength { .. } => "remap_kept_length",
                    _ => "remap_overlap",
                });
            }
            (Ok(range), expected) => {
                assert_eq!(
                    (range, expected),
                    (address(target.start)..address(target.end), None),
                    "{from:?}, {request:?}"
                );
                self.follow(&from, &target, keep);
                if to != To::Here {
                    self.has_arrived(&before, &moved, &arrival);
                    self.happened(if pinned { "remap_pinned" } else { "remap_moved" });
                }
                match to {
                    To::Here if pages > old => self.happened("remap_grown_here"),
                    To::Here if pages < old => self.happened("remap_shrunk_here"),
                    To::Here => {}
                    _ if pages > old => self.happened("remap_grown"),
                    _ if pages < old => self.happened("remap_shrunk"),
                    _ if keep => self.happened("remap_kept"),
                    _ => {}
                }
            }
        }
    }

    /// Where a range may go: as often as not where whole slots stay whole.
    fn destination(&mut self, from: &Range<u64>) -> To {
        if self.random.below(6) == 0 {
            return To::Here;
        }
        let slot = WINDOW.start + self.random.below((WINDOW.end - WINDOW.start) / 512) * 512;
        let align = self.random.pick(&[1, 16]);
        let start = match self.random.below(3) {
            0 => WINDOW.start + self.random.below(WINDOW.end - WINDOW.start) / align * align,
            _ => slot + from.start % 512,
        };
        if self.random.below(3) == 0 { To::At(start) } else { To::Over(start) }
    }

    /// Why `from` cannot become `target`.
    fn refuses_to_move(&self, from: &Range<u64>, target: &Range<u64>, to: To, keep: bool) -> Option<MemoryError> {
        let (old, pages) = (from.end - from.start, target.end - target.start);
        if keep && old != pages {
            return Some(MemoryError::KeptLength { length: bytes(from), wanted: bytes(target) });
        }
        let other = from.clone().find(|&page| self.model.page(page).is_none_or(|_| !self.is_one(from.start, page)));
        match other.map(|page| (page, self.model.page(page))) {
            None => {}
            Some((page, None)) => return Some(MemoryError::NotMapped { address: address(page) }),
            Some((page, Some(_))) => return Some(MemoryError::Divided { address: address(page) }),
        }
        let new = match to {
            To::Here => from.end..target.end,
            To::At(start) | To::Over(start) if target.start < from.end && from.start < target.end => {
                return Some(MemoryError::IntoItself { address: address(start) });
            }
            To::At(_) => target.clone(),
            To::Over(_) => return None,
        };
        let there = new.clone().find(|&page| self.model.page(page).is_some())?;
        let region = self.region(there);
        Some(MemoryError::Overlap { start: address(region.start), end: address(region.end) })
    }

    fn is_one(&self, page: u64, other: u64) -> bool {
        self.model.page(page) == self.model.page(other)
    }

    /// Pages that are as `page` is, without a gap.
    fn region(&self, page: u64) -> Range<u64> {
        let differs = |other: &u64| !self.is_one(page, *other);
        let start = (WINDOW.start..page).rev().find(differs).map_or(WINDOW.start, |before| before + 1);
        start..(page..WINDOW.end).find(differs).unwrap_or(WINDOW.end)
    }

    /// `from` has become `target`.
    fn follow(&mut self, from: &Range<u64>, target: &Range<u64>, keep: bool) {
        let page = self.model.page(from.start);
        let (old, pages) = (from.end - from.start, target.end - target.start);
        if target.start == from.start {
            let shrunk = target.end.min(from.end)..from.end;
            self.model.forget(&shrunk);
            self.model.change(shrunk, |_| None);
            return self.model.change(target.clone(), |_| page);
        }
        let gone = from.start + old.min(pages)..from.end;
        self.model.forget(&gone);
        self.model.forget(target);
        let homes: Vec<bool> = from.clone().map(|page| is_whole(from, target, page)).collect();
        self.model
            .go(&(from.start..from.start + old.min(pages)), target.start, |page| homes[(page - from.start) as usize]);
        if !keep {
            self.model.change(from.clone(), |_| None);
        }
        self.model.change(target.clone(), |_| page);
    }

    fn see(&self, pages: &Range<u64>) -> Look {
        let mm = &self.world.mm;
        let slots = pages.start / 512..pages.end.div_ceil(512);
        Look {
            huge: slots.map(|slot| mm.is_huge(address(slot * 512))).collect(),
            frames: pages.clone().map(|page| self.frame_of(page)).collect(),
        }
    }

    /// What was present is so where it went; whole slots are what they were, in the same frames.
    fn has_arrived(&mut self, before: &Look, from: &Range<u64>, to: &Range<u64>) {
        let after = self.see(to);
        let pairs = before.frames.iter().zip(&after.frames);
        for ((&before, &after), page) in pairs.zip(from.clone()) {
            // What is short of memory takes zero pages back.
            assert!(before.is_some() == after.is_some() || self.short && after.is_none(), "page {page:#x}");
            let stays = before == after || after.is_none();
            assert!(stays || !is_whole(from, to, page), "page {page:#x} is in another frame");
        }
        for page in from.clone().filter(|page| page % 512 == 0 && is_whole(from, to, *page)) {
            let huge = before.huge[(page / 512 - from.start / 512) as usize];
            let there = after.huge[((page - from.start + to.start) / 512 - to.start / 512) as usize];
            assert!(huge == there || self.short && huge, "slot {page:#x}");
            self.happened(if there { "remap_block" } else { "remap_slot" });
        }
        let parts = from.clone().zip(before.frames.iter().zip(&after.frames));
        let (mut copied, mut same) = (false, false);
        for (_, (before, after)) in parts.filter(|(page, (before, _))| before.is_some() && !is_whole(from, to, *page)) {
            copied |= before != after;
            same |= before == after;
        }
        for (name, happened) in [("remap_pages_copied", copied), ("remap_pages_in_their_frames", same)] {
            if happened {
                self.happened(name);
            }
        }
    }

    /// Something was refused because a snapshot shows the pages.
    fn is_shared(&mut self) {
        assert!(!self.seen.is_empty(), "there is no snapshot");
        self.happened("remap_shared");
    }

    /// Pages go where there is room, their old addresses stay mapped, and they come back over these.
    fn leave_and_come_back(&mut self, from: Range<u64>) {
        let expected = self.refuses_to_move(&from, &(0..from.end - from.start), To::Over(0), true);
        let before = self.see(&from);
        let request = RemapRequest::new(bytes(&from));
        let away = match self.world.mm.remap(address(from.start), bytes(&from), request.anywhere().keep()) {
            Ok(away) => away,
            Err(MemoryError::NoMemory) => return assert!(self.short, "{from:?}: memory is free"),
            Err(MemoryError::Shared { .. }) => return self.is_shared(),
            Err(error) => return assert_eq!(Some(error), expected, "{from:?}"),
        };
        assert_eq!(expected, None, "{from:?}");
        let left = from.clone().all(|page| self.frame_of(page).is_none());
        assert!(left, "{from:?} is still there");
        self.world.check();
        match self.world.mm.remap(away.start, bytes(&from), request.over(address(from.start))) {
            Ok(range) => {
                assert_eq!(range, address(from.start)..address(from.end));
                self.has_arrived(&before, &from, &from);
                self.happened("remap_back");
            }
            Err(error) => {
                assert!(self.short && error == MemoryError::NoMemory, "{from:?}: {error}");
                self.world.mm.unmap(away.start, bytes(&from)).expect("a whole region");
                self.model.forget(&from);
            }
        }
    }
}

/// Whether the slot of `page` goes as it is, with its home and what that holds.
fn is_whole(from: &Range<u64>, target: &Range<u64>, page: u64) -> bool {
    let slot = page - page % 512..page - page % 512 + 512;
    let end = from.end.min(from.start + (target.end - target.start));
    from.start % 512 == target.start % 512 && from.start <= slot.start && slot.end <= end
}
