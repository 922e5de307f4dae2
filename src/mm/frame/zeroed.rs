//! Blocks that idle cores zeroed, for faults that would have to.
//!
//! A stack through the records of the blocks in it, without a lock: its head carries a count of changes, so that a
//! block which was taken and put back meanwhile is not mistaken for one that never left.
//!
//! The blocks are free memory: an allocation that neither the pool nor a cache can serve gets them.
#![forbid(unsafe_code)]

use super::super::address::{Block, PAGES_PER_SLOT};
use super::entry::NIL;
use super::table::{Holder, Table};
use super::{Frames, Owner};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Blocks in the pool at most, unless the mark is set otherwise.
const MOST: usize = 64;

pub(super) struct ZeroedBlocks {
    /// Number of the uppermost block, and above it how often it changed.
    head: AtomicU64,
    count: AtomicUsize,
    mark: AtomicUsize,
}

impl ZeroedBlocks {
    /// None, with the mark for a machine of `frames` frames.
    pub(super) fn new(frames: usize) -> Self {
        let mark = (frames / PAGES_PER_SLOT / 16).min(MOST);
        ZeroedBlocks { head: AtomicU64::new(NIL.into()), count: AtomicUsize::new(0), mark: AtomicUsize::new(mark) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.count() >= self.mark.load(Ordering::Relaxed)
    }

    /// Changes the head from `before` to `link`, unless another did first; says whether.
    fn change(&self, before: u64, link: u32) -> bool {
        let after = (before >> 32).wrapping_add(1) << 32 | u64::from(link);
        // Release: what was zeroed is zero for whoever takes it, by the acquire in `pop`.
        self.head.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn push(&self, table: Table, block: Block) {
        let (_, shared) = table.known(block);
        self.count.fetch_add(1, Ordering::Relaxed);
        loop {
            let head = self.head.load(Ordering::Relaxed);
            shared.next.store(head as u32, Ordering::Relaxed);
            if self.change(head, block.0 as u32) {
                return;
            }
        }
    }

    /// Takes one out; its holder is to be told.
    pub(super) fn pop(&self, table: Table) -> Option<Block> {
        loop {
            let head = self.head.load(Ordering::Acquire);
            let block = (head as u32 != NIL).then_some(Block(u64::from(head as u32)))?;
            let (_, shared) = table.known(block);
            if self.change(head, shared.next.load(Ordering::Relaxed)) {
                self.count.fetch_sub(1, Ordering::Relaxed);
                return Some(block);
            }
        }
    }

    /// The blocks in it, while nobody puts or takes any.
    pub(super) fn iter(&self, table: Table) -> impl Iterator<Item = Block> {
        let named = |link: u32| (link != NIL).then_some(Block(link.into()));
        core::iter::successors(named(self.head.load(Ordering::Acquire) as u32), move |&block| {
            named(table.known(block).1.next.load(Ordering::Relaxed))
        })
    }
}

impl Frames {
    /// How many zeroed blocks there are.
    #[inline]
    pub fn zeroed(&self) -> usize {
        self.zeroed.count()
    }

    /// Sets how many zeroed blocks there are to be at most; more that are there stay. At first it is 1/16 of RAM, and 64.
    pub fn set_zeroed_mark(&self, blocks: usize) {
        self.zeroed.mark.store(blocks, Ordering::Relaxed);
    }

    /// Takes a free block for the caller to zero, outside of any lock, and to [put](Frames::put_zeroed) or free. `None`
    /// when there are zeroed blocks enough, or no more than 1/8 of RAM is free beside them.
    pub fn take_unzeroed(&self) -> Option<Block> {
        if self.zeroed.is_full() {
            return None;
        }
        let mut pool = self.pool.lock();
        if pool.statistics.free < pool.statistics.total / 8 + PAGES_PER_SLOT {
            return None;
        }
        pool.allocate_block()
    }

    /// Puts a block from [`Frames::take_unzeroed`], or from [`Frames::allocate_block`], to the zeroed ones: every byte
    /// of it is zero.
    ///
    /// # Panics
    ///
    /// When the block is not in use as a whole, is a home, or has a pinned frame.
    pub fn put_zeroed(&self, block: Block) {
        let (_, shared) = self.table.known(block);
        assert!(
            shared.home().is_none() && shared.hand(Holder::User, Holder::Zeroed),
            "{block:?} is zeroed, but {shared}"
        );
        assert!(self.table.pinned(block).is_empty(), "{block:?} is zeroed and pinned");
        self.tell_freed(block.frame(0), PAGES_PER_SLOT);
        // Whoever finds that no block is left holds all caches: it sees this one, or this ends what it found.
        let _cache = self.cache();
        self.zeroed.push(self.table, block);
        self.scarcity.end();
        self.wants.zeroed();
    }

    /// Takes a zeroed block as the home of a slot that will hold pages in all its frames. `None` when there is none.
    #[inline]
    pub fn allocate_zeroed_home(&self, owner: Owner) -> Option<Block> {
        if self.fails() {
            return None;
        }
        let block = self.take_zeroed()?;
        self.begin_home(block, owner, 0);
        Some(block)
    }

    /// Ends a home that was zeroed when it was allocated and has not been touched since: it is a zeroed block again.
    ///
    /// # Panics
    ///
    /// When `block` is no home, or has a pinned frame.
    pub fn return_zeroed_home(&self, block: Block) {
        self.leave_home(block);
        self.put_zeroed(block);
    }

    /// Takes a zeroed block; the caller becomes its holder.
    #[inline]
    pub(super) fn take_zeroed(&self) -> Option<Block> {
        let block = self.zeroed.pop(self.table)?;
        self.table.known(block).1.set_holder(Holder::User);
        Some(block)
    }
}
