//! A number of permits, for threads that need one to go on.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering;
use core::time::Duration;

use crate::sync::parking::{self, Prepared, Wake};
use crate::sync::word::Word;

/// One thread that waits, in the upper half of the word.
const WAITING: u64 = 1 << 32;
/// The permits, in the lower half.
const PERMITS: u64 = WAITING - 1;

/// Counts permits: taking one waits until there is one. `std` has no such thing; the names are those of
/// `tokio::sync::Semaphore`.
///
/// A permit goes to whoever comes first, not to who has waited longest. One whose holder was stopped by a panic is lost.
#[derive(Debug)]
pub struct Semaphore {
    /// Permits and the number of those that wait, in one word: who adds permits sees in the same step who waits.
    state: Word,
}

impl Semaphore {
    /// The most permits that there can be.
    pub const MAX_PERMITS: usize = PERMITS as usize;

    /// A semaphore with `permits`.
    ///
    /// # Panics
    ///
    /// With more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub const fn new(permits: usize) -> Self {
        assert!(permits <= Self::MAX_PERMITS, "too many permits");
        Self { state: Word::new(permits as u64) }
    }

    /// Takes a permit; sleeps until there is one.
    pub fn acquire(&self) -> SemaphorePermit<'_> {
        self.acquire_until(None).expect("without a deadline, a wait ends with a permit")
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.take(0).then(|| SemaphorePermit { semaphore: self })
    }

    /// Takes a permit; sleeps until there is one, for at most `timeout`. `None` if the time passed.
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        self.try_acquire().or_else(|| self.acquire_until(parking::deadline_after(timeout)))
    }

    /// Adds `permits`, and wakes as many of those that wait.
    ///
    /// # Panics
    ///
    /// If there would be more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn release(&self, permits: usize) {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let room = Self::MAX_PERMITS - (seen & PERMITS) as usize;
            assert!(permits <= room, "too many permits");
            // Release: who takes one of them sees what was done before.
            if self.state.replace(seen, seen + permits as u64, Ordering::Release) {
                break;
            }
            seen = self.state.load(Ordering::Relaxed);
        }
        if seen >= WAITING && permits > 0 {
            (parking::parking().wake)(self.state.key(), permits);
        }
    }

    /// How many permits there are now.
    pub fn available_permits(&self) -> usize {
        (self.state.load(Ordering::Relaxed) & PERMITS) as usize
    }

    fn acquire_until(&self, deadline: Option<u64>) -> Option<SemaphorePermit<'_>> {
        if let Some(permit) = self.try_acquire() {
            return Some(permit);
        }
        let parking = parking::parking();
        self.state.fetch_add(WAITING, Ordering::Relaxed);
        loop {
            if self.take(WAITING) {
                return Some(SemaphorePermit { semaphore: self });
            }
            let prepared = (parking.prepare)(self.state.key(), None);
            debug_assert_eq!(prepared, Prepared::Ready);
            if self.state.load(Ordering::Relaxed) & PERMITS != 0 {
                (parking.cancel)();
            } else if (parking.park)(deadline) == Wake::TimedOut {
                self.state.fetch_sub(WAITING, Ordering::Relaxed);
                return None;
            }
        }
    }

    /// Takes a permit if there is one, and `waiting` off the word.
    #[inline]
    fn take(&self, waiting: u64) -> bool {
        let mut seen = self.state.load(Ordering::Relaxed);
        while seen & PERMITS != 0 {
            // Acquire: what was done before a permit was given back is seen.
            if self.state.replace(seen, seen - waiting - 1, Ordering::Acquire) {
                return true;
            }
            seen = self.state.load(Ordering::Relaxed);
        }
        false
    }
}

/// One permit of a [`Semaphore`], given back when dropped.
#[derive(Debug)]
#[must_use = "the permit is given back once this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
}

impl SemaphorePermit<'_> {
    /// Keeps the permit for good, until someone [releases](Semaphore::release) one for it.
    pub fn forget(self) {
        core::mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        self.semaphore.release(1);
    }
}
