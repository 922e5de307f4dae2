//! Pages that must not be pinned where they are: above a device's limit, or, for long, where they would keep a block from the
//! application. They move first, a page or a group at a time.
#![forbid(unsafe_code)]

use super::{Making, PinError, PinRecord, PinRequest};
use crate::mm::address::{Frame, GROUP_ORDER, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, Page};
use crate::mm::frame::Class;
use crate::mm::mmu::Mmu;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::update::group_of;
use crate::mm::{MemoryManager, Refusal};
use core::ops::Range;

impl PinRequest {
    /// Whether a device can reach `frame`.
    fn reaches(&self, frame: Frame) -> bool {
        self.below.is_none_or(|limit| frame.start() + PAGE_SIZE as u64 <= limit)
    }

    /// How many of `count` frames from `first` on it can reach.
    fn reached(&self, first: Frame, count: usize) -> usize {
        self.below.map_or(count, |limit| (limit.frame().0.saturating_sub(first.0) as usize).min(count))
    }

    /// What the frames are for that pages move to.
    fn class(&self) -> Class {
        if self.long { Class::Unmovable } else { Class::Movable }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// How many pages from the start of `part` on, up to the end of the group or of the block, may be pinned where they are.
    pub(super) fn staying(&self, part: Range<usize>, making: &Making<'_>) -> usize {
        let request = making.request;
        if let (Mapping::Block { .. }, Some(home)) = (self.state.mapping, self.state.home)
            // A pin of all of a block keeps nothing from anyone.
            && (!request.long || part.len() == PAGES_PER_SLOT)
        {
            let reached = request.reached(home.frame(part.start), part.len());
            if !request.long || reached == part.len() {
                return reached;
            }
        }
        let group = part.start..part.end.min(group_of(part.start).end);
        group
            .take_while(|&index| self.may_stay(index, request) || making.stays == Some(self.first() + index as u64))
            .count()
    }

    /// Whether page `index` is present, and may be pinned where it is by itself.
    fn may_stay(&self, index: usize, request: PinRequest) -> bool {
        self.leaf(index)
            .is_some_and(|(frame, _)| request.reaches(frame) && (!request.long || self.mm.frames.is_unmovable(frame)))
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Moves the first of `pages`, or its group if all of that is to be pinned, to frames that it may be pinned in. Done, or to be
    /// looked at again: others may have come between.
    pub(super) fn settle_first(&self, pages: Range<u64>, making: &mut Making<'_>) -> Result<(), PinError> {
        let (page, request) = (Page(pages.start), making.request);
        let group = page.index().is_multiple_of(PAGES_PER_GROUP) && pages.end - pages.start >= PAGES_PER_GROUP as u64;
        if group && request.below.is_none() && self.settle_in(page, request, GROUP_ORDER) == Ok(true) {
            return Ok(());
        }
        match self.settle_in(page, request, 0) {
            Ok(_) => Ok(()),
            // What is taken back lies anywhere: for a limit, it may be for nothing.
            Err(Refusal::NoFreeFrame) if request.below.is_none() && self.ease(&mut making.shortage) => Ok(()),
            Err(Refusal::Pinned) if request.long && self.is_held_for_long(page, request) => {
                making.stays = Some(page);
                Ok(())
            }
            Err(refusal) => Err(PinError::Refused { address: page.start(), refusal: self.refused(refusal) }),
        }
    }

    /// Moves 2^`order` pages from `page` on to frames that they may be pinned in. False if one of them is absent or may stay by
    /// now.
    fn settle_in(&self, page: Page, request: PinRequest, order: u32) -> Result<bool, Refusal> {
        // Before the lock: frames below a limit are looked for.
        let first = match request.below {
            Some(limit) => self.frames.allocate_below(limit, request.class()),
            None => self.frames.allocate(order, request.class()),
        };
        let first = first.ok_or(Refusal::NoFreeFrame)?;
        let pages = page.index()..page.index() + (1 << order);
        match LockedSlot::find(self, page.slot()) {
            Some(mut slot)
                if slot.state.present.all_in(pages.clone())
                    && !pages.clone().any(|index| slot.may_stay(index, request)) =>
            {
                let left = slot.move_to(pages.start, order, first)?;
                self.frames.free_all(&left);
                Ok(true)
            }
            _ => {
                self.frames.free(first, order);
                Ok(false)
            }
        }
    }

    /// Whether the frame of `page` is pinned for long already, and can be reached: it does not matter then that it is pinned
    /// once more.
    fn is_held_for_long(&self, page: Page, request: PinRequest) -> bool {
        let leaf = LockedSlot::find(self, page.slot()).and_then(|slot| slot.leaf(page.index()));
        let Some((frame, _)) = leaf else { return false };
        let holds = |record: &PinRecord| {
            record.is_long() && record.iter().any(|(first, count)| (first.0..first.0 + count as u64).contains(&frame.0))
        };
        request.reaches(frame) && self.pin_records().any(holds)
    }
}
