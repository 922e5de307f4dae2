//! What moves pages, and what walks over them.

use crate::Run;
use crate::memory::{PinnedPage, WINDOW, address, bytes};
use alloc::vec::Vec;
use ashlar::mm::Refusal;
use ashlar::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT};
use ashlar::mm::huge::{Collapsed, HugePolicy, Unit};
use ashlar::mm::mmu::Attributes;
use ashlar::mm::walk::{Leaf, Origin, Size};
use core::cell::Cell;
use core::ops::Range;

/// A slot, as the walker sees it.
struct Look {
    huge: bool,
    /// Of its pages.
    frames: Vec<Option<Frame>>,
}

impl Look {
    fn absent(&self) -> usize {
        self.frames.iter().filter(|frame| frame.is_none()).count()
    }
}

impl Run {
    fn look(&self, pages: Range<u64>) -> Look {
        let mm = &self.world.mm;
        let huge = mm.is_huge(address(pages.start));
        let frames = pages.map(|page| self.frame_of(page));
        Look { huge, frames: frames.collect() }
    }

    /// The frame that a page has to itself.
    pub fn frame_of(&self, page: u64) -> Option<Frame> {
        let frame = self.world.mm.machine().translate(address(page))?.frame();
        Some(frame).filter(|frame| Some(frame.block()) != self.world.mm.zero_block())
    }

    /// Whether a frame is a part of some slot's home. If so, what it holds of a slot is at home there.
    fn is_in_home(&self, frame: Frame) -> bool {
        self.world.mm.frames().home_owner(frame.block()).is_some()
    }

    fn slot(&mut self) -> Range<u64> {
        let start = WINDOW.start + self.random.below((WINDOW.end - WINDOW.start) / 512) * 512;
        start..start + 512
    }

    pub fn migrate(&mut self) {
        let first = self.page();
        for page in first..(first + 1 + self.random.below(20)).min(WINDOW.end) {
            let (unit, pages) = match self.random.below(4) {
                0 => (Unit::Group, page / 16 * 16..page / 16 * 16 + 16),
                _ => (Unit::Page, page..page + 1),
            };
            let before = self.look(pages.clone());
            let result = self.world.mm.migrate(address(page), unit);
            let after = self.look(pages.clone());
            let expected = match (before.absent(), self.model.is_pinned(pages.clone())) {
                (1.., _) => Err(Refusal::Absent),
                (0, true) => Err(Refusal::Pinned),
                (0, false) => Ok(()),
            };
            if result == Err(Refusal::NoFreeFrame) && self.short && before.absent() == 0 {
                continue;
            }
            assert_eq!(result, expected, "{unit:?} of {page:#x}");
            let moved = before.frames.iter().zip(&after.frames).filter(|(before, after)| before != after).count();
            assert_eq!(moved, if result.is_ok() { pages.count() } else { 0 }, "{unit:?} of {page:#x}");
            assert!(result.is_err() || !after.huge);
        }
    }

    pub fn dissolve(&mut self) {
        let slot = self.slot();
        let before = self.look(slot.clone());
        let at_home = before.frames.iter().flatten().filter(|&&frame| self.is_in_home(frame)).count();
        let pinned = |lost: bool| {
            let pinned = self.model.pinned(slot.clone()).filter(move |pinned| pinned.lost == lost);
            let mut frames: Vec<_> =
                pinned.map(|pinned| pinned.frame).filter(|&frame| self.is_in_home(frame)).collect();
            frames.sort();
            frames.dedup();
            frames.len()
        };
        let (held, orphans) = (pinned(false), pinned(true));
        let page = slot.start + self.random.below(512);
        let result = self.world.mm.dissolve(address(page));
        let after = self.look(slot);
        match result {
            Ok(freed) => {
                assert_eq!((freed, held), (PAGES_PER_SLOT - at_home - orphans, 0));
                assert!(!after.huge && after.frames.iter().flatten().all(|&frame| !self.is_in_home(frame)));
            }
            Err(Refusal::Pinned) => assert!(held > 0, "no page at home is pinned"),
            Err(refusal) => assert_eq!((refusal, at_home), (Refusal::NoHome, 0)),
        }
        assert_eq!(before.frames, after.frames, "pages stay where they are");
        assert!(result.is_ok() || before.huge == after.huge, "it was refused");
    }

    pub fn collapse(&mut self) {
        let range = self.range();
        let steps = self.random.pick(&[u64::MAX, u64::MAX, 8, 100, 1000]);
        let mut left = self.random.below(steps);
        let up = Cell::new(false);
        let is_up = || {
            up.set(left == 0);
            left = left.saturating_sub(1);
            up.get()
        };
        let slot_of = |page: u64| page - page % 512..page - page % 512 + 512;
        let mut before = self.look(slot_of(range.start));
        let mut slot = slot_of(range.start);
        let judge = |at, result| {
            assert_eq!(at, address(slot.start));
            self.judge(slot.clone(), &range, &before, up.get(), result);
            slot = slot.end..slot.end + 512;
            // Pages of this one may have moved, to make room for the one before.
            before = self.look(slot.clone());
        };
        self.world.mm.collapse(address(range.start), bytes(&range), is_up, judge).expect("a sound range");
        assert_eq!(slot.start, slot_of(range.end - 1).end, "each slot has its result");
    }

    /// Whether what a collapse of `range` did for `slot` is what it had to do.
    fn judge(&self, slot: Range<u64>, range: &Range<u64>, before: &Look, up: bool, result: Result<Collapsed, Refusal>) {
        let after = self.look(slot.clone());
        if range.start > slot.start || slot.end > range.end {
            return assert_eq!(result, Err(Refusal::NotCovered), "only a part of {slot:?} was asked for");
        }
        if up {
            return assert_eq!(result, Err(Refusal::Deadline), "{slot:?}");
        }
        let region = self.world.mm.region(address(slot.start));
        let refused = match region {
            _ if self.model.hole(&slot).is_some() => Some(Refusal::NotCovered),
            Some((covered, _)) if covered.end < slot.end => Some(Refusal::MixedAttributes),
            Some((_, region)) if region.policy == HugePolicy::Never => Some(Refusal::Policy),
            _ if before.absent() == PAGES_PER_SLOT => Some(Refusal::Empty),
            _ => None,
        };
        if let Some(refusal) = refused {
            assert_eq!(result, Err(refusal), "{slot:?}");
            return assert_eq!(before.frames, after.frames, "{slot:?} was refused at once");
        }
        let moved = before.frames.iter().zip(&after.frames);
        let moved = moved.filter(|(before, after)| before.is_some() && before != after).count();
        assert_eq!(result.is_ok(), after.huge, "{slot:?}: {result:?}");
        assert_eq!(before.huge, result == Ok(Collapsed::AlreadyBlock), "{slot:?}: {result:?}");
        match result {
            Ok(Collapsed::AlreadyBlock) => assert_eq!(moved, 0),
            Ok(Collapsed::Promoted) => assert_eq!((moved, before.absent()), (0, 0)),
            Ok(Collapsed::Copied { pages, filled }) => assert_eq!((pages, filled), (moved, before.absent())),
            Err(Refusal::Pinned) => assert_ne!(self.pins_in_the_way(&slot), Pins::None, "{slot:?}"),
            Err(Refusal::NoFreeFrame) => assert!(!self.seen.is_empty() && self.short, "{slot:?}"),
            Err(refusal) => assert!(refusal == Refusal::NoFreeBlock && self.short, "{slot:?}: {refusal}"),
        }
        assert!(result.is_err() || self.pins_in_the_way(&slot) != Pins::Certain, "{slot:?}: {result:?}");
    }

    /// What pins forbid. They do so after a collapse exactly if before, as long as it moved none of them: what is looked at is
    /// pinned.
    fn pins_in_the_way(&self, slot: &Range<u64>) -> Pins {
        let home = |pinned: &&PinnedPage| self.is_in_home(pinned.frame);
        let (lost, held): (Vec<_>, Vec<_>) = self.model.pinned(slot.clone()).partition(|pinned| pinned.lost);
        if lost.iter().any(home) {
            return Pins::Certain;
        }
        let mut away = held.iter().filter(|pinned| !home(pinned));
        let Some(one) = away.next() else { return Pins::None };
        let misplaced = |pinned: &&PinnedPage| pinned.page % 512 != pinned.frame.index() as u64;
        match misplaced(one) || away.any(|pinned| misplaced(pinned) || pinned.frame.block() != one.frame.block()) {
            true => Pins::Certain,
            false => Pins::Perhaps,
        }
    }

    /// What the manager walks over is what the machine's walker finds.
    pub fn walk(&mut self) {
        let range = self.range();
        let mut walked = Vec::new();
        let mut next = range.start;
        self.world.mm.walk(range.clone(), |Leaf { page, pages, frame, attributes, size, origin }| {
            assert!(next <= page.0 && pages > 0, "page {page:?} comes after {next:#x}");
            next = page.0 + pages as u64;
            assert_eq!(origin == Origin::Zeros, Some(frame.block()) == self.world.mm.zero_block(), "page {page:?}");
            walked.extend((0..pages as u64).map(|offset| (page.0 + offset, frame + offset, attributes, size)));
            let unit = match size {
                Size::Page => 1,
                Size::Group => PAGES_PER_GROUP as u64,
                Size::Block => PAGES_PER_SLOT as u64,
            };
            let whole = page.0 - page.0 % unit..page.0 - page.0 % unit + unit;
            let part = whole.start.max(range.start)..whole.end.min(range.end);
            assert_eq!(part, page.0..next, "of a translation all that is in the range is told at once");
        });
        let mut walked = walked.into_iter();
        for mapping in self.world.mm.machine().mappings() {
            let size = match mapping.bytes {
                BLOCK_SIZE => Size::Block,
                _ if mapping.contiguous => Size::Group,
                _ => Size::Page,
            };
            let attributes = Attributes { access: mapping.access, accessed: mapping.accessed };
            for offset in 0..(mapping.bytes / PAGE_SIZE) as u64 {
                let (page, frame) = (mapping.va.page().0 + offset, mapping.pa.frame() + offset);
                if range.contains(&page) {
                    assert_eq!(walked.next(), Some((page, frame, attributes, size)));
                }
            }
        }
        assert_eq!(walked.next(), None, "nothing else is mapped");
    }
}

/// What pins mean for a collapse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pins {
    /// Nothing.
    None,
    /// Refused, unless the block that holds all that is pinned becomes the home.
    Perhaps,
    /// Refused.
    Certain,
}
