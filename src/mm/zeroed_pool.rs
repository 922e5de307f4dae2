//! The pool of zeroed blocks.
#![forbid(unsafe_code)]

use super::MemoryManager;
use super::address::{Block, PAGES_PER_SLOT};
use super::frame::Owner;
use super::mmu::Mmu;
use crate::sync::{Rank, Ranked};
use arrayvec::ArrayVec;

/// Blocks in the pool at most.
const MOST: usize = 64;

/// Zeroed blocks.
pub(super) struct ZeroedPool(Ranked<ArrayVec<Block, MOST>>);

impl ZeroedPool {
    pub(super) fn new() -> Self {
        ZeroedPool(Ranked::new(Rank::Cache, ArrayVec::new()))
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// A free block to be zeroed, unless there are enough zeroed ones or memory is scarce.
    pub(super) fn take_unzeroed(&self) -> Option<Block> {
        let frames = self.frames.statistics();
        let mark = (frames.total / PAGES_PER_SLOT / 16).min(MOST);
        let wanted = self.zeroed_pool.0.lock().len() < mark && frames.free >= frames.total / 8 + PAGES_PER_SLOT;
        if wanted { self.frames.allocate_block() } else { None }
    }

    /// Puts a block that holds zeros into the pool.
    pub(super) fn put_zeroed(&self, block: Block) {
        if self.zeroed_pool.0.lock().try_push(block).is_err() {
            self.frames.free_block(block);
        }
    }

    /// A zeroed block as the home of `owner`, of which no frame is absent.
    pub(super) fn allocate_zeroed_home(&self, owner: Owner) -> Option<Block> {
        let block = self.zeroed_pool.0.lock().pop()?;
        self.frames.make_home(block, owner);
        self.frames.set_absent(block, 0);
        Some(block)
    }

    /// Gives one zeroed block back, if there is one.
    pub(super) fn drain_zeroed(&self) -> bool {
        let block = self.zeroed_pool.0.lock().pop();
        block.is_some_and(|block| {
            self.frames.free_block(block);
            true
        })
    }
}
