//! When the pool has nothing for an allocation: what the caches of all cores hold is taken back, then zeroed blocks,
//! then frames spill into blocks of the other class, and only then nothing is left.
//!
//! An allocation that fails although everything was taken back shows that there is no free run of its size, and that
//! stays so until something is freed. Until then others fail at once: groups and blocks are asked for at every fault, with
//! something smaller to fall back to.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame};
use super::cache::{CACHES, Cache};
use super::free_set::BLOCK_ORDER;
use super::pool::{Pool, Spill, assert_order};
use super::{Class, Frames};
use crate::sync::Guard;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU32, Ordering};

/// No order: nothing is known to be lacking.
const NOTHING: u32 = u32::MAX;

/// The lowest order of which there is no free run, nor would be with all caches drained. Set with all locks of the
/// allocator held; whoever frees ends it, with the lock held under which the frames become free.
pub(super) struct Scarcity(AtomicU32);

impl Scarcity {
    /// Nothing is known to be lacking.
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(NOTHING))
    }

    /// Whether there is no free run of 2^`order` frames.
    #[inline]
    pub(super) fn lacks(&self, order: u32) -> bool {
        self.0.load(Ordering::Relaxed) <= order
    }

    fn begin(&self, order: u32) {
        self.0.store(order, Ordering::Relaxed);
    }

    /// Something became free.
    #[inline]
    pub(super) fn end(&self) {
        // Nearly always it is no news, and then the line stays shared.
        if self.0.load(Ordering::Relaxed) != NOTHING {
            self.0.store(NOTHING, Ordering::Relaxed);
        }
    }
}

impl Frames {
    /// Takes 2^`order` frames that are not cached, or that the running core's cache has none of.
    ///
    /// # Panics
    ///
    /// When `order` is above 8.
    #[cold]
    pub(super) fn allocate_uncached(&self, order: u32, class: Class) -> Option<Frame> {
        assert_order(Frame(0), order);
        if self.scarcity.lacks(order) {
            return None;
        }
        let mut pool = self.pool.lock();
        let found = pool.allocate(order, class, Spill::Never);
        self.wants.taken(&pool, self.zeroed());
        drop(pool);
        if found.is_some() {
            return found;
        }
        if self.scarcity.lacks(BLOCK_ORDER) {
            let found = self.pool.lock().allocate(order, class, Spill::Allowed);
            if found.is_some() {
                return found;
            }
        }
        self.with_drained_caches(|pool| {
            let mut found = pool.allocate(order, class, Spill::Never);
            while found.is_none()
                && let Some(block) = self.zeroed.pop(self.table)
            {
                pool.take_back_block(block);
                found = pool.allocate(order, class, Spill::Never);
            }
            if found.is_none() {
                found = pool.allocate(order, class, Spill::Allowed);
                self.scarcity.begin(if found.is_some() { BLOCK_ORDER } else { order });
            }
            found
        })
    }

    /// Takes a block that is not cached; says too whether it is a zeroed one.
    #[cold]
    pub(super) fn allocate_uncached_block(&self) -> Option<(Block, bool)> {
        if self.scarcity.lacks(BLOCK_ORDER) {
            return None;
        }
        let mut pool = self.pool.lock();
        let found = pool.allocate_block();
        self.wants.taken(&pool, self.zeroed());
        drop(pool);
        if let Some(block) = found {
            return Some((block, false));
        }
        if let Some(block) = self.take_zeroed() {
            return Some((block, true));
        }
        self.with_drained_caches(|pool| {
            let found = pool.allocate_block().map(|block| (block, false));
            let found = found.or_else(|| Some((self.take_zeroed()?, true)));
            if found.is_none() {
                self.scarcity.begin(BLOCK_ORDER);
            }
            found
        })
    }

    /// Runs `operation` on the pool, with all that was in caches back in it, and nobody able to take any of it.
    pub(super) fn with_drained_caches<R>(&self, operation: impl FnOnce(&mut Pool) -> R) -> R {
        self.with_all_caches(|caches, pool| {
            caches.iter_mut().for_each(|cache| cache.drain(pool));
            operation(pool)
        })
    }

    /// Runs `operation` with all locks of the allocator held.
    pub(super) fn with_all_caches<R>(&self, operation: impl FnOnce(&mut [Guard<'_, Cache>], &mut Pool) -> R) -> R {
        let mut caches: ArrayVec<_, CACHES> = self.caches.iter().map(|cache| cache.0.lock()).collect();
        let mut pool = self.pool.lock();
        let result = operation(&mut caches, &mut pool);
        drop(pool);
        // The last one first, as locks of one rank are let go.
        while caches.pop().is_some() {}
        result
    }

    /// Runs `operation`, which makes frames free, on the pool.
    #[inline]
    pub(super) fn pool_that_gains<R>(&self, operation: impl FnOnce(&mut Pool) -> R) -> R {
        let mut pool = self.pool.lock();
        let result = operation(&mut pool);
        self.scarcity.end();
        self.wants.freed(&pool);
        result
    }
}
