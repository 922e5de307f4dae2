//! Adoption: a broken block that holds much of a slot becomes its home, so that this much needs no copy.
//!
//! The block is *isolated* first: nobody allocates from it. Then what others have in it moves elsewhere, a page at a time.
//! With only pages of the slot at their own offsets left, it is the home, and its free frames are absent.
#![forbid(unsafe_code)]

use crate::mm::address::{Block, Frame, PAGES_PER_SLOT};
use crate::mm::frame::{Class, Occupant, Owner};
use crate::mm::huge::migrate::Left;
use crate::mm::mmu::Mmu;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::update::{Move, group_of};
use crate::mm::{MemoryManager, Refusal};

/// How often a frame is tried whose slot is locked, or that moves meanwhile.
const PATIENCE: usize = 64;

impl<M: Mmu> MemoryManager<M> {
    /// Whether `block` holds more pages of the slot at their own offsets than it has to be rid of, and can be.
    pub(super) fn is_worth_adopting(&self, number: u64, block: Block) -> bool {
        let Some(owner) = self.owner_of(number) else { return false };
        let (mut own, mut others) = (0, 0);
        for index in 0..PAGES_PER_SLOT {
            match self.frames.occupant(block.frame(index)) {
                Occupant::Free => {}
                Occupant::Page { owner: of, page, .. } if of == owner && page == index => own += 1,
                Occupant::Page { pinned: false, .. } => others += 1,
                Occupant::Page { .. } | Occupant::Fixed => return false,
            }
        }
        own > others
    }

    fn owner_of(&self, number: u64) -> Option<Owner> {
        Owner::new(self.directory.get(number)?.raw())
    }

    /// Makes `block` the home of the slot, which has none, unless it cannot be emptied of others; says whether.
    ///
    /// # Errors
    ///
    /// Those of a collapse.
    pub(super) fn adopt(&self, number: u64, block: Block, is_up: &mut dyn FnMut() -> bool) -> Result<bool, Refusal> {
        let Some(owner) = self.owner_of(number) else { return Ok(false) };
        if !self.frames.isolate(block) {
            return Ok(false);
        }
        let adopted = self.evacuate(block, owner, is_up).and_then(|emptied| {
            let adopt = |slot: &mut LockedSlot<'_, M>| emptied && slot.adopt(block);
            Ok(self.with_collapsible(number, |slot, _| Ok(adopt(slot)))? == Some(true))
        });
        if adopted != Ok(true) {
            self.frames.end_isolation(block);
        }
        adopted
    }

    /// Moves what is in the isolated `block` elsewhere, but for pages of `owner` at their own offsets. False where something
    /// cannot move.
    fn evacuate(&self, block: Block, owner: Owner, is_up: &mut dyn FnMut() -> bool) -> Result<bool, Refusal> {
        for index in 0..PAGES_PER_SLOT {
            let frame = block.frame(index);
            let mut patience = PATIENCE;
            loop {
                match self.frames.occupant(frame) {
                    Occupant::Free => break,
                    Occupant::Page { owner: of, page, .. } if of == owner && page == index => break,
                    Occupant::Page { pinned: false, .. } if patience > 0 => patience -= 1,
                    Occupant::Page { .. } | Occupant::Fixed => return Ok(false),
                }
                if is_up() {
                    return Err(Refusal::Deadline);
                }
                match self.with_page_in(frame, |slot, page| slot.evict(page, block)) {
                    Some(false) => return Ok(false),
                    Some(true) => {}
                    None => self.wait(),
                }
                crate::sync::breathe();
            }
        }
        Ok(true)
    }

    /// A movable frame outside of `block`: a core's cache may have got some of that since it was isolated.
    fn frame_outside(&self, block: Block) -> Option<Frame> {
        loop {
            let frame = self.frames.allocate(0, Class::Movable)?;
            if frame.block() != block {
                return Some(frame);
            }
            self.frames.free_to_pool(frame);
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Moves page `index` to a frame outside of `block`, in which it is. False if it cannot move.
    fn evict(&mut self, index: usize, block: Block) -> bool {
        let Some(frame) = self.mm.frame_outside(block) else { return false };
        let mut left = Left::new();
        if self.migrate(group_of(index).start, Move::new(index, 1, frame), &mut left).is_err() {
            self.mm.frames.free(frame, 0);
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
        debug_assert!(at_home.iter().all(is_there), "{block:?} holds pages that are elsewhere");
        self.state.home = Some(block);
        self.state.away = self.state.away.and(&at_home.not());
        self.mm.counters.collapse_adopt.increment();
        true
    }
}
