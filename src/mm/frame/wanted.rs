//! What background work waits for: a block that becomes free, so much free memory, or too little of it.
//!
//! Who waits says so, looks once more, and sleeps; whoever makes frames free looks at what is wanted, under the lock under which
//! they become free. While a block is wanted, single movable frames and groups that are freed pass the cores' caches by: a block that
//! is free but for a cached frame would be noticed late.
#![forbid(unsafe_code)]

use super::super::address::PAGES_PER_SLOT;
use super::Frames;
use super::pool::Pool;
use crate::sync::Signal;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(super) struct Wants {
    signal: Signal,
    /// A block is wanted.
    block: AtomicBool,
    /// Free frames of the pool with which it is worth looking again, block or not.
    enough: AtomicUsize,
    /// Free frames of the pool below which memory is low; 0 once that was said.
    low: AtomicUsize,
    /// It was said, and nobody has heard it yet.
    is_low: AtomicBool,
}

impl Wants {
    pub(super) const fn new() -> Self {
        Wants {
            signal: Signal::new(),
            block: AtomicBool::new(false),
            enough: AtomicUsize::new(usize::MAX),
            low: AtomicUsize::new(0),
            is_low: AtomicBool::new(false),
        }
    }

    /// Whether a block is wanted: who frees a frame leaves it to the pool then.
    #[inline]
    pub(super) fn is_block_wanted(&self) -> bool {
        self.block.load(Ordering::Relaxed)
    }

    #[cold]
    fn satisfy(&self) {
        self.block.store(false, Ordering::Relaxed);
        self.signal.raise();
    }

    /// A block became free.
    #[inline]
    pub(super) fn block_freed(&self) {
        if self.is_block_wanted() {
            self.satisfy();
        }
    }

    /// Frames of the pool became free.
    #[inline]
    pub(super) fn freed(&self, pool: &Pool) {
        if self.is_block_wanted()
            && (pool.has_free_block() || pool.statistics.free >= self.enough.load(Ordering::Relaxed))
        {
            self.satisfy();
        }
    }

    /// Frames of the pool were taken.
    #[inline]
    pub(super) fn taken(&self, pool: &Pool) {
        if pool.statistics.free < self.low.load(Ordering::Relaxed) {
            self.say_low();
        }
    }

    #[cold]
    fn say_low(&self) {
        self.low.store(0, Ordering::Relaxed);
        self.is_low.store(true, Ordering::Relaxed);
        self.signal.raise();
    }
}

impl Frames {
    /// What is raised when something that is wanted is there.
    pub fn signal(&self) -> &Signal {
        &self.wants.signal
    }

    /// Raises the [signal](Frames::signal) as soon as a block is free, or a block's worth of frames more than now; says whether one is
    /// free already, and then does not.
    pub fn want_block(&self) -> bool {
        // Whoever frees something from here on sees it. What is in the caches now is looked at.
        self.with_drained_caches(|pool| {
            let is_free = pool.has_free_block() || self.zeroed() > 0;
            self.wants.enough.store(pool.statistics.free + PAGES_PER_SLOT, Ordering::Relaxed);
            self.wants.block.store(!is_free, Ordering::Relaxed);
            is_free
        })
    }

    /// Whether a block is wanted, and none has become free since.
    pub fn is_block_wanted(&self) -> bool {
        self.wants.is_block_wanted()
    }

    /// Takes [`Frames::want_block`] back.
    pub fn want_no_block(&self) {
        self.wants.block.store(false, Ordering::Relaxed);
    }

    /// Frames below which memory is low, and frames from which on it is not low any more. (Linux has watermarks of its own, from
    /// `min_free_kbytes`.)
    pub fn watermarks(&self) -> (usize, usize) {
        let total = self.pool.lock().statistics.total;
        let low = (total / 128).max(16);
        (low, 2 * low)
    }

    /// Whether it was said that memory is low, and not [heard](Frames::hear_low) yet.
    pub fn is_low(&self) -> bool {
        self.wants.is_low.load(Ordering::Relaxed)
    }

    /// As [`Frames::is_low`], and false from then on until it is said anew.
    pub fn hear_low(&self) -> bool {
        self.wants.is_low.swap(false, Ordering::Relaxed)
    }

    /// Whether it will be said when memory is low.
    pub fn tells_low(&self) -> bool {
        self.wants.low.load(Ordering::Relaxed) > 0
    }

    /// Raises the [signal](Frames::signal) when less than the low watermark is free, once.
    pub fn tell_low(&self) {
        let (low, _) = self.watermarks();
        let pool = self.pool.lock();
        self.wants.low.store(low, Ordering::Relaxed);
        self.wants.taken(&pool);
    }
}

impl Pool {
    /// Whether a block is free in the pool.
    #[inline]
    pub(super) fn has_free_block(&self) -> bool {
        self.runs.first_from(0).is_some()
    }
}
