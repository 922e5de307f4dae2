//! Adoption: a broken block that holds much of a slot becomes its home, so that this much needs no copy.
//!
//! The block is *isolated* first: nobody allocates from it. Then what others have in it moves elsewhere, a page at a time.
//! With only pages of the slot at their own offsets left, it is the home, and its free frames are absent.
#![forbid(unsafe_code)]

use crate::mm::address::{Block, Frame, GROUP_ORDER, PAGES_PER_SLOT};
use crate::mm::frame::{Class, Occupant, Owner};
use crate::mm::mmu::Mmu;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::update::group_of;
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

/// What a block holds of a slot and of others.
#[derive(Default)]
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

/// What is in a frame of a block, to one that would make that its home.
enum Place {
    /// Nothing.
    Free,
    /// A page of the slot's at its own offset.
    Own,
    /// What would have to move.
    Other,
    /// What cannot.
    Fixed,
}

impl<M: Mmu> MemoryManager<M> {
    /// What is at `index` of `block`, that `owner` would make its home, if there is one.
    fn place_in(&self, block: Block, index: usize, owner: Option<Owner>) -> Place {
        match self.frames.occupant(block.frame(index)) {
            Occupant::Free => Place::Free,
            Occupant::Page { owner: of, page, .. } if Some(of) == owner && page == index => Place::Own,
            Occupant::Page { pinned: false, .. } => Place::Other,
            Occupant::Page { .. } | Occupant::Fixed => Place::Fixed,
        }
    }

    /// What `block` holds of `owner` and of others; `None` where something in it cannot move.
    fn contents(&self, owner: Option<Owner>, block: Block) -> Option<Contents> {
        let mut contents = Contents::default();
        for index in 0..PAGES_PER_SLOT {
            match self.place_in(block, index, owner) {
                Place::Free => {}
                Place::Own => contents.own += 1,
                Place::Other => contents.others += 1,
                Place::Fixed => return None,
            }
        }
        Some(contents)
    }

    /// Makes `block` the home of the slot, which has none, with all that others have in it moved out, if what it holds is `worth`
    /// that.
    ///
    /// # Errors
    ///
    /// Those of a collapse.
    pub(super) fn adopt(
        &self,
        number: u64,
        block: Block,
        worth: fn(&Contents) -> bool,
        is_up: &mut dyn FnMut() -> bool,
    ) -> Result<Adoption, Refusal> {
        let Some(owner) = self.directory.get(number).and_then(|handle| Owner::new(handle.raw())) else {
            return Ok(Adoption::Busy);
        };
        if !self.contents(Some(owner), block).is_some_and(|contents| worth(&contents)) {
            return Ok(Adoption::Impossible);
        }
        if !self.frames.isolate(block) {
            return Ok(if self.frames.is_of_unmovable(block) { Adoption::Impossible } else { Adoption::Busy });
        }
        let adopted = self.evacuate(block, Some(owner), is_up).and_then(|emptied| {
            if emptied != Adoption::Adopted {
                return Ok(emptied);
            }
            self.frames.drain_caches();
            let adopted = self.with_collapsible(number, true, |slot, _| Ok(slot.adopt(block)))?;
            Ok(if adopted == Some(true) { Adoption::Adopted } else { Adoption::Busy })
        });
        if adopted != Ok(Adoption::Adopted) {
            self.frames.end_isolation(block);
        }
        adopted
    }

    /// Empties `block`, which becomes a free one. Its pages go into other broken blocks, not into free ones.
    ///
    /// # Errors
    ///
    /// The time is up. What was moved by then stays where it is.
    pub(super) fn empty(&self, block: Block, is_up: &mut dyn FnMut() -> bool) -> Result<Adoption, Refusal> {
        if self.contents(None, block).is_none() {
            return Ok(Adoption::Impossible);
        }
        if !self.frames.isolate(block) {
            return Ok(if self.frames.is_of_unmovable(block) { Adoption::Impossible } else { Adoption::Busy });
        }
        let emptied = self.evacuate(block, None, is_up);
        self.frames.end_isolation(block);
        emptied
    }

    /// Moves what is in the isolated `block` elsewhere, but for pages of `owner` at their own offsets. With nothing else in it,
    /// it may be adopted. Without an owner, free blocks are not what pages move to.
    fn evacuate(
        &self,
        block: Block,
        owner: Option<Owner>,
        is_up: &mut dyn FnMut() -> bool,
    ) -> Result<Adoption, Refusal> {
        for index in 0..PAGES_PER_SLOT {
            let mut patience = PATIENCE;
            loop {
                match self.place_in(block, index, owner) {
                    Place::Free | Place::Own => break,
                    Place::Other if patience > 0 => patience -= 1,
                    Place::Other => return Ok(Adoption::Busy),
                    Place::Fixed => return Ok(Adoption::Impossible),
                }
                if is_up() {
                    return Err(Refusal::Deadline);
                }
                match self.with_page_in(block.frame(index), |slot, page| slot.evict(page, block, owner.is_none())) {
                    Some(false) => return Ok(Adoption::Impossible),
                    Some(true) => {}
                    None => self.wait(),
                }
                crate::sync::breathe();
            }
        }
        Ok(Adoption::Adopted)
    }

    /// 2^`order` movable frames outside of `block`: a core's cache may have got some of that since it was isolated. From `partial`
    /// blocks alone, if so.
    fn frames_outside(&self, block: Block, order: u32, partial: bool) -> Option<Frame> {
        if partial {
            // Isolated, it is not among those that are taken from.
            return self.frames.allocate_partial(order);
        }
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
    fn evict(&mut self, index: usize, block: Block, partial: bool) -> bool {
        let start = group_of(index).start;
        self.is_contiguous(start) && self.evict_to(start, GROUP_ORDER, block, partial)
            || self.evict_to(index, 0, block, partial)
    }

    /// Moves 2^`order` pages from `index` on to frames outside of `block`.
    fn evict_to(&mut self, index: usize, order: u32, block: Block, partial: bool) -> bool {
        let Some(first) = self.mm.frames_outside(block, order, partial) else { return false };
        let Ok(left) = self.move_to(index, order, first) else { return false };
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
