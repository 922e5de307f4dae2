//! What background work waits for: a block that becomes free, so much free memory, or too little of it.
//!
//! Who waits says so, looks once more, and sleeps; whoever makes frames free looks at what is wanted, under the lock under which
//! they become free. While something is wanted, what is freed passes the cores' caches by: a block that is free but for a cached
//! frame would be noticed late.
#![forbid(unsafe_code)]

use super::super::address::PAGES_PER_SLOT;
use super::Frames;
use super::pool::Pool;
use crate::sync::Signal;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

pub(super) struct Wants {
    signal: Signal,
    /// Something is wanted.
    any: AtomicBool,
    /// A block is.
    block: AtomicBool,
    /// Free frames of the pool that are enough, block or not.
    enough: AtomicUsize,
    /// Spare frames below which memory is low; 0 once that was said.
    low: AtomicUsize,
    /// It was said, and nobody has heard it yet.
    is_low: AtomicBool,
}

impl Wants {
    pub(super) const fn new() -> Self {
        Wants {
            signal: Signal::new(),
            any: AtomicBool::new(false),
            block: AtomicBool::new(false),
            enough: AtomicUsize::new(usize::MAX),
            low: AtomicUsize::new(0),
            is_low: AtomicBool::new(false),
        }
    }

    /// Whether something is wanted: who frees a frame leaves it to the pool then.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Frames of the pool became free.
    #[inline]
    pub(super) fn freed(&self, pool: &Pool) {
        if self.any() {
            self.look(pool);
        }
    }

    #[cold]
    fn look(&self, pool: &Pool) {
        let block = self.block.load(Ordering::Relaxed) && pool.has_free_block();
        if block || pool.statistics.free >= self.enough.load(Ordering::Relaxed) {
            self.satisfy();
        }
    }

    fn satisfy(&self) {
        self.any.store(false, Ordering::Relaxed);
        self.signal.raise();
    }

    /// A block was zeroed, and is in nobody's hands.
    pub(super) fn zeroed(&self) {
        if self.any() {
            self.satisfy();
        }
    }

    /// Frames of a home became absent: where memory is wanted, they could be had.
    #[inline]
    pub(super) fn absent(&self) {
        if self.any() && !self.block.load(Ordering::Relaxed) {
            self.signal.raise();
        }
    }

    fn want(&self, block: bool, enough: usize) {
        self.block.store(block, Ordering::Relaxed);
        self.enough.store(enough, Ordering::Relaxed);
        self.any.store(true, Ordering::Relaxed);
    }

    /// Frames of the pool were taken, beside which there are `zeroed` blocks.
    #[inline]
    pub(super) fn taken(&self, pool: &Pool, zeroed: usize) {
        if pool.statistics.free + zeroed * PAGES_PER_SLOT < self.low.load(Ordering::Relaxed) {
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
            if !is_free {
                self.wants.want(true, pool.statistics.free + PAGES_PER_SLOT);
            }
            is_free
        })
    }

    /// Raises the [signal](Frames::signal) as soon as memory is not low any more.
    pub fn want_memory(&self) {
        let (low, _) = self.watermarks();
        self.with_drained_caches(|pool| {
            self.wants.want(false, low.saturating_sub(self.zeroed() * PAGES_PER_SLOT));
            self.wants.freed(pool);
        });
    }

    /// Whether something is wanted, and not there yet.
    pub fn is_wanting(&self) -> bool {
        // What the caller did before, who wants nothing any more sees; or this says so.
        fence(Ordering::SeqCst);
        self.wants.any()
    }

    /// Takes back what is wanted.
    pub fn want_nothing(&self) {
        self.wants.any.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Spare frames below which memory is low, and from which on it is not low any more. (Linux has watermarks of its own, from
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

    /// Raises the [signal](Frames::signal) when less than the low watermark is [spare](Frames::spare), once.
    pub fn tell_low(&self) {
        let (low, _) = self.watermarks();
        let pool = self.pool.lock();
        self.wants.low.store(low, Ordering::Relaxed);
        self.wants.taken(&pool, self.zeroed());
    }

    /// Free frames that no core keeps for itself: what the watermarks are about.
    pub fn spare(&self) -> usize {
        self.pool.lock().statistics.free + self.zeroed() * PAGES_PER_SLOT
    }
}

impl Pool {
    /// Whether a block is free in the pool.
    #[inline]
    pub(super) fn has_free_block(&self) -> bool {
        self.runs.first_from(0).is_some()
    }
}
