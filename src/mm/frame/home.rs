//! Blocks in use as a whole: homes, their absent frames, their end; and pins.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PAGES_PER_SLOT};
use super::super::bits::Bits512;
use super::pool::Pool;
use super::table::{BlockState, FrameEntry, FrameState, SECTION_BLOCKS};
use super::{Class, Owner, Refusal};

impl Pool {
    /// Takes a block, in use as a whole from now on.
    pub(super) fn allocate_block(&mut self) -> Option<Block> {
        let block = self.take_block()?;
        let record = self.table.known(block);
        record.state = BlockState::Whole { owner: None, absent: 0, deferred: false, pinned: Bits512::EMPTY };
        self.statistics.free -= PAGES_PER_SLOT;
        self.statistics.whole += PAGES_PER_SLOT;
        Some(block)
    }

    /// Gives back a block that is in use as a whole and no home.
    pub(super) fn free_block(&mut self, block: Block) {
        match &self.table.known(block).state {
            BlockState::Whole { owner: None, .. } => {}
            other => panic!("{block:?} freed as a block, but is {other}"),
        }
        self.statistics.whole -= PAGES_PER_SLOT;
        self.retire(block);
    }

    /// Makes a block in use as a whole the home of `owner`.
    pub(super) fn make_home(&mut self, block: Block, owner: Owner) {
        match &mut self.table.known(block).state {
            BlockState::Whole { owner: home @ None, absent, .. } => {
                *home = Some(owner);
                *absent = PAGES_PER_SLOT as u16;
            }
            other => panic!("{block:?} to become a home, but is {other}"),
        }
        self.table.section_mut(block).homes += 1;
        self.statistics.whole -= PAGES_PER_SLOT;
        self.statistics.absent += PAGES_PER_SLOT;
        self.statistics.homes += 1;
    }

    /// Says that `absent` frames of a home hold no page.
    pub(super) fn set_absent(&mut self, block: Block, absent: usize) {
        assert!(absent <= PAGES_PER_SLOT, "{absent} absent frames in {block:?}");
        match &mut self.table.known(block).state {
            BlockState::Whole { owner: Some(_), absent: kept, .. } => {
                let before = core::mem::replace(kept, absent as u16) as usize;
                self.statistics.absent = self.statistics.absent + absent - before;
                self.statistics.home = self.statistics.home + before - absent;
            }
            other => panic!("{block:?} is no home to have absent frames: {other}"),
        }
        if absent == 0 {
            self.undefer(block);
        }
    }

    /// How many frames of a home are absent; `None` for another block.
    pub(super) fn absent(&self, block: Block) -> Option<usize> {
        match self.table.record(block)?.state {
            BlockState::Whole { owner: Some(_), absent, .. } => Some(absent as usize),
            _ => None,
        }
    }

    /// Puts a home at the end of the deferred queue, unless it is in it; says whether it was not.
    pub(super) fn defer(&mut self, block: Block) -> bool {
        match &mut self.table.known(block).state {
            BlockState::Whole { owner: Some(_), deferred: true, .. } => return false,
            BlockState::Whole { owner: Some(_), absent: 1.., deferred, .. } => *deferred = true,
            other => panic!("{block:?} is no home with absent frames, to be deferred: {other}"),
        }
        self.deferred.push_back(&mut self.table, block);
        self.statistics.deferred += 1;
        true
    }

    /// Takes a home out of the deferred queue, if it is in it.
    pub(super) fn undefer(&mut self, block: Block) {
        match &mut self.table.known(block).state {
            BlockState::Whole { deferred: deferred @ true, .. } => *deferred = false,
            _ => return,
        }
        self.deferred.remove(&mut self.table, block);
        self.statistics.deferred -= 1;
    }

    /// Moves a home to the end of the deferred queue, if it is in it.
    pub(super) fn requeue(&mut self, block: Block) {
        if matches!(self.table.known(block).state, BlockState::Whole { deferred: true, .. }) {
            self.deferred.remove(&mut self.table, block);
            self.deferred.push_back(&mut self.table, block);
        }
    }

    /// The home that has been in the deferred queue for longest.
    pub(super) fn oldest_deferred(&self) -> Option<(Block, Owner)> {
        let block = self.deferred.first()?;
        Some((block, self.home_owner(block)?))
    }

    /// Whose home `block` is.
    pub(super) fn home_owner(&self, block: Block) -> Option<Owner> {
        match self.table.record(block)?.state {
            BlockState::Whole { owner, .. } => owner,
            _ => None,
        }
    }

    /// The lowest home above `after`. Looks at two sections' records at most.
    pub(super) fn next_home(&self, after: Option<Block>) -> Option<(Block, Owner)> {
        let start = after.map_or(0, |block| block.0 + 1);
        let sections = self.table.sections().get((start / SECTION_BLOCKS) as usize..)?;
        sections
            .iter()
            .filter(|section| section.homes > 0)
            .flat_map(|section| section.blocks())
            .skip_while(|&block| block < start)
            .find_map(|block| Some((Block(block), self.home_owner(Block(block))?)))
    }

    /// Ends a home and leaves the frames in `keep` in use one by one.
    pub(super) fn dissolve(&mut self, block: Block, keep: &Bits512) -> Result<usize, Refusal> {
        let record = self.table.known(block);
        let BlockState::Whole { owner: Some(owner), .. } = record.state else {
            panic!("{block:?} is no home to be dissolved: {}", record.state)
        };
        if record.pinned > 0 {
            return Err(Refusal::Pinned);
        }
        self.leave_home(block);
        self.statistics.movable += keep.count();
        self.break_into(block, &keep.not(), |page, _| {
            let mut entry = FrameEntry::new(FrameState::InUse(Class::Movable));
            entry.set_owner(owner, page);
            entry
        });
        Ok(PAGES_PER_SLOT - keep.count())
    }

    /// Ends a home that holds no page any more.
    pub(super) fn end_home(&mut self, block: Block) {
        self.leave_home(block);
        self.retire(block);
    }

    /// Takes a home out of the counts of homes.
    fn leave_home(&mut self, block: Block) {
        self.undefer(block);
        let BlockState::Whole { owner: Some(_), absent, .. } = self.table.known(block).state else {
            panic!("{block:?} is no home to end: {}", self.table.known(block).state)
        };
        self.table.section_mut(block).homes -= 1;
        self.statistics.homes -= 1;
        self.statistics.absent -= absent as usize;
        self.statistics.home -= PAGES_PER_SLOT - absent as usize;
    }

    /// Makes a block in use as a whole, and in no count any more, free: all of it, or all but the pinned frames.
    fn retire(&mut self, block: Block) {
        let record = self.table.known(block);
        if record.pinned == 0 {
            self.freed(block.frame(0), PAGES_PER_SLOT);
            self.statistics.free += PAGES_PER_SLOT;
            self.give_block(block);
            return;
        }
        let BlockState::Whole { pinned, .. } = record.state else { panic!("{block:?} is {}", record.state) };
        self.statistics.orphans += pinned.count();
        self.break_into(block, &pinned.not(), |_, before| {
            let mut entry = FrameEntry::new(FrameState::Orphan);
            entry.pins = before.pins;
            entry
        });
    }

    /// Says which page a frame of a broken block holds.
    pub(super) fn set_owner(&mut self, frame: Frame, owner: Owner, page: usize) {
        assert!(page < PAGES_PER_SLOT, "page {page} of a slot");
        let (record, entries) = self.table.parts(frame.block());
        let entry = &mut entries[frame.index()];
        match &record.state {
            BlockState::Broken { free, .. }
                if !free.is_free(frame.index()) && matches!(entry.state(), FrameState::InUse(_)) =>
            {
                entry.set_owner(owner, page)
            }
            other => panic!("{frame:?} is not in use by itself, to have an owner: {other}"),
        }
    }

    /// Which page a frame holds, or may hold: a frame of a home answers for its place in it, absent or not.
    pub(super) fn owner(&self, frame: Frame) -> Option<(Owner, usize)> {
        match &self.table.record(frame.block())?.state {
            BlockState::Whole { owner, .. } => owner.map(|owner| (owner, frame.index())),
            BlockState::Broken { free, .. } if !free.is_free(frame.index()) => self.table.entry(frame)?.owner(),
            _ => None,
        }
    }

    /// Pins a frame in use.
    pub(super) fn pin(&mut self, frame: Frame) {
        let index = frame.index();
        let (record, entries) = self.table.parts(frame.block());
        let entry = &mut entries[index];
        let before = match &mut record.state {
            BlockState::Whole { pinned, .. } => {
                if !pinned.get(index) {
                    pinned.set(index);
                    entry.pins = 0;
                }
                entry.pins
            }
            BlockState::Broken { free, .. }
                if !free.is_free(index) && matches!(entry.state(), FrameState::InUse(_)) =>
            {
                entry.pins
            }
            other => panic!("{frame:?} is not in use, to be pinned: {other}"),
        };
        record.pinned += (before == 0) as u16;
        entry.pins = before.checked_add(1).unwrap_or_else(|| panic!("{frame:?} is pinned 2^32 times"));
    }

    /// Drops a pin. The last one of an orphan frees it.
    pub(super) fn unpin(&mut self, frame: Frame) {
        let index = frame.index();
        assert!(self.pins(frame) > 0, "{frame:?} is not pinned");
        let (record, entries) = self.table.parts(frame.block());
        let entry = &mut entries[index];
        entry.pins -= 1;
        if entry.pins > 0 {
            return;
        }
        record.pinned -= 1;
        match &mut record.state {
            BlockState::Whole { pinned, .. } => pinned.clear(index),
            _ if entry.state() == FrameState::Orphan => {
                self.statistics.orphans -= 1;
                self.release(frame, 0);
            }
            _ => {}
        }
    }

    /// How many pins a frame has.
    pub(super) fn pins(&self, frame: Frame) -> u32 {
        let pinned = match self.table.record(frame.block()).map(|record| &record.state) {
            Some(BlockState::Whole { pinned, .. }) => pinned.get(frame.index()),
            Some(BlockState::Broken { free, .. }) => !free.is_free(frame.index()),
            _ => false,
        };
        if pinned { self.table.entry(frame).map_or(0, |entry| entry.pins) } else { 0 }
    }

    /// Whether any frame of a block is pinned.
    pub(super) fn is_pinned(&self, block: Block) -> bool {
        self.table.record(block).is_some_and(|record| record.pinned > 0)
    }
}
