//! Broken blocks as compaction sees them: what it would cost to empty one, and where its pages could go.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PAGES_PER_SLOT};
use super::pool::Pool;
use super::table::{BlockState, Holder, ISOLATED, SECTION_BLOCKS};
use super::{Class, Frames};
use core::sync::atomic::Ordering;

/// A block that may be emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Partial {
    /// A broken block of movable frames, not all of them in use.
    Broken {
        /// Those in use. What a core's cache holds counts.
        used: usize,
    },
    /// A home.
    Home {
        /// Frames of it that hold a page.
        used: usize,
    },
}

impl Frames {
    /// Calls `each` with blocks that may be emptied, in ascending order, from `from` on: those among the next `count` records, which
    /// are looked at under one hold of the pool's lock. Returns where to go on.
    pub fn partial_blocks(&self, from: Block, count: usize, mut each: impl FnMut(Block, Partial)) -> Option<Block> {
        let pool = self.pool.lock();
        let sections = self.table.sections().get((from.0 / SECTION_BLOCKS) as usize..)?;
        let blocks =
            sections.iter().flat_map(|section| section.blocks()).skip_while(|&block| block < from.0).map(Block);
        for (seen, block) in blocks.enumerate() {
            if seen == count {
                return Some(block);
            }
            match pool.records.record(block).map(|record| &record.state) {
                Some(BlockState::Broken { class: Class::Movable, free, listed })
                    if free.count() > 0 && *listed != Some(ISOLATED) =>
                {
                    each(block, Partial::Broken { used: PAGES_PER_SLOT - free.count() });
                }
                Some(BlockState::Whole) => {
                    let (_, shared) = self.table.known(block);
                    if shared.is_with(Holder::User) && shared.home().is_some() {
                        let absent = shared.absent.load(Ordering::Relaxed) as usize;
                        each(block, Partial::Home { used: PAGES_PER_SLOT - absent.min(PAGES_PER_SLOT) });
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Takes 2^`order` movable frames of a broken block that is listed, the fullest that has so many together; never of a free
    /// one.
    pub fn allocate_partial(&self, order: u32) -> Option<Frame> {
        if self.fails() {
            return None;
        }
        self.pool.lock().allocate_partial(order)
    }
}

impl Pool {
    fn allocate_partial(&mut self, order: u32) -> Option<Frame> {
        let (block, _) = self.broken[Class::Movable as usize].first_from(order)?;
        Some(self.take_one(block, order, Class::Movable))
    }
}
