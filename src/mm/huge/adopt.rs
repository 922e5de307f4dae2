//! Adoption: a broken block that holds much of a slot becomes its home, so that this much needs no copy.
//!
//! The block is *isolated* first: nobody allocates from it. Then what others have in it moves elsewhere, a page at a time.
//! With only pages of the slot at their own offsets left, it is the home, and its free frames are absent.
#![forbid(unsafe_code)]

use crate::mm::address::{Block, Frame, GROUP_ORDER, PAGES_PER_SLOT};
use crate::mm::frame::{Class, Occupant, Owner};
use crate::mm::huge::migrate::Left;
use crate::mm::mmu::Mmu;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::update::{Move, group_of};
use crate::mm::{MemoryManager, Refusal};

/// How often a frame is tried whose slot is locked, or that moves meanwhile.
const PATIENCE: usize = 64;

/// How an adoption ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Adoption {
    /// The block is the slot's home.
    Adopted,
    /// Others came between: it may be possible another time.
    Busy,
    /// Something in the block cannot move, or there is nowhere to move it to.
    Impossible,
}

/// What a block holds.
pub(super) struct Contents {
    /// Pages of the slot at their own offsets.
    own: usize,
    /// What would have to move.
    others: usize,
}

impl Contents {
    /// Whether the block holds more of the slot than it has to be rid of.
    pub(super) fn is_worth(&self) -> bool {
        self.own > self.others
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// What `block` holds of the slot and of others; `None` where something in it cannot move.
    pub(super) fn contents(&self, number: u64, block: Block) -> Option<Contents> {
        let owner = self.owner_of(number)?;
        let mut contents = Contents { own: 0, others: 0 };
        for index in 0..PAGES_PER_SLOT {
            match self.frames.occupant(block.frame(index)) {
                Occupant::Free => {}
                Occupant::Page { owner: of, page, .. } if of == owner && page == index => contents.own += 1,
                Occupant::Page { pinned: false, .. } => contents.others += 1,
                Occupant::Page { .. } | Occupant::Fixed => return None,
            }
        }
        Some(contents)
    }

    fn owner_of(&self, number: u64) -> Option<Owner> {
        Owner::new(self.directory.get(number)?.raw())
    }

    /// Makes `block` the home of the slot, which has none, with all that others have in it moved out.
    ///
    /// # Errors
    ///
    /// Those of a collapse.
    pub(super) fn adopt(
        &self,
        number: u64,
        block: Block,
        is_up: &mut dyn FnMut() -> bool,
    ) -> Result<Adoption, Refusal> {
        let Some(owner) = self.owner_of(number) else { return Ok(Adoption::Busy) };
        if self.contents(number, block).is_none() {
            return Ok(Adoption::Impossible);
        }
        if !self.frames.isolate(block) {
            return Ok(Adoption::Busy);
        }
        let adopted = self.evacuate(block, owner, is_up).and_then(|emptied| {
            if emptied != Adoption::Adopted {
                return Ok(emptied);
            }
            self.frames.drain_caches();
            let adopted = self.with_collapsible(number, |slot, _| Ok(slot.adopt(block)))?;
            Ok(if adopted == Some(true) { Adoption::Adopted } else { Adoption::Busy })
        });
        if adopted != Ok(Adoption::Adopted) {
            self.frames.end_isolation(block);
        }
        adopted
    }

    /// Moves what is in the isolated `block` elsewhere, but for pages of `owner` at their own offsets. With nothing else in it,
    /// it may be adopted.
    fn evacuate(&self, block: Block, owner: Owner, is_up: &mut dyn FnMut() -> bool) -> Result<Adoption, Refusal> {
        for index in 0..PAGES_PER_SLOT {
            let frame = block.frame(index);
            let mut patience = PATIENCE;
            loop {
                match self.frames.occupant(frame) {
                    Occupant::Free => break,
                    Occupant::Page { owner: of, page, .. } if of == owner && page == index => break,
                    Occupant::Page { pinned: false, .. } if patience > 0 => patience -= 1,
                    Occupant::Page { pinned: false, .. } => return Ok(Adoption::Busy),
                    Occupant::Page { .. } | Occupant::Fixed => return Ok(Adoption::Impossible),
                }
                if is_up() {
                    return Err(Refusal::Deadline);
                }
                match self.with_page_in(frame, |slot, page| slot.evict(page, block)) {
                    Some(false) => return Ok(Adoption::Impossible),
                    Some(true) => {}
                    None => self.wait(),
                }
                crate::sync::breathe();
            }
        }
        Ok(Adoption::Adopted)
    }

    /// 2^`order` movable frames outside of `block`: a core's cache may have got some of that since it was isolated.
    fn frames_outside(&self, block: Block, order: u32) -> Option<Frame> {
        loop {
            let first = self.frames.allocate(order, Class::Movable)?;
            if first.block() != block {
                return Some(first);
            }
            (0..1 << order).for_each(|offset| self.frames.free_to_pool(first + offset));
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Moves page `index` to a frame outside of `block`, in which it is; with its group, where that is one translation. False if it
    /// cannot move.
    fn evict(&mut self, index: usize, block: Block) -> bool {
        let start = group_of(index).start;
        self.is_contiguous(start) && self.evict_to(start, GROUP_ORDER, block) || self.evict_to(index, 0, block)
    }

    /// Moves 2^`order` pages from `index` on to frames outside of `block`.
    fn evict_to(&mut self, index: usize, order: u32, block: Block) -> bool {
        let Some(first) = self.mm.frames_outside(block, order) else { return false };
        let mut left = Left::new();
        if self.migrate(group_of(index).start, Move::new(index, 1 << order, first), &mut left).is_err() {
            self.mm.frames.free(first, order);
            return false;
        }
        left.into_iter().for_each(|frame| self.mm.frames.free_to_pool(frame));
        true
    }

    /// Makes the isolated `block` the home, if all that is in it are pages of this slot at their own offsets.
    fn adopt(&mut self, block: Block) -> bool {
        let (Mapping::Table(_), None) = (self.state.mapping, self.state.home) else { return false };
        let Some(at_home) = self.mm.frames.adopt(block, self.owner()) else { return false };
        let is_there = |index: usize| self.leaf(index).is_some_and(|(frame, _)| frame == block.frame(index));
        debug_assert!(at_home.iter().all(is_there), "WA-2: {block:?} holds pages that are elsewhere");
        self.state.home = Some(block);
        self.state.away = self.state.away.and(&at_home.not());
        self.mm.counters.collapse_adopt.increment();
        true
    }
}
