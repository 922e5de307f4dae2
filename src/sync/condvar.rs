//! Waiting for what a mutex guards to change.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering;
use core::time::Duration;

use crate::sync::mutex::{Mutex, MutexGuard};
use crate::sync::parking::{self, Prepared, Wake};
use crate::sync::poison::{LockResult, PoisonError};
use crate::sync::word::Word;

/// Threads that wait until something is so that a mutex guards. Like `std::sync::Condvar`.
///
/// A wait may end without a notification, so who waits looks again; [`wait_while`](Self::wait_while) does. Notifying while
/// nobody waits costs a load.
#[derive(Debug)]
pub struct Condvar {
    /// Counts notifications. Who waits sleeps here while it is what it was when the mutex was still held.
    sequence: Word,
    /// How many have begun to wait and not ended. Raised with the mutex held.
    waiting: Word,
}

/// Whether a wait ended with its time. Like `std::sync::WaitTimeoutResult`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time passed before a notification came.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self { sequence: Word::new(0), waiting: Word::new(0) }
    }

    /// Frees the mutex, sleeps until notified, and takes the mutex again.
    ///
    /// # Errors
    ///
    /// The guard is in the error if the mutex is poisoned when it is taken again.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = self.sleep(guard, None).0;
        mutex.lock()
    }

    /// Waits as long as `condition` holds of what the mutex guards.
    ///
    /// # Errors
    ///
    /// The guard is in the error if the mutex is poisoned when it is taken again.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Guard and result are in the error if the mutex is poisoned when it is taken again.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        self.wait_until(guard, parking::deadline_after(timeout))
    }

    /// Waits as long as `condition` holds of what the mutex guards, for at most `timeout`. The result says that the time
    /// passed only if the condition still holds.
    ///
    /// # Errors
    ///
    /// Guard and result are in the error if the mutex is poisoned when it is taken again.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let deadline = parking::deadline_after(timeout);
        let mut result = WaitTimeoutResult(false);
        while condition(&mut guard) {
            if result.timed_out() {
                return Ok((guard, result));
            }
            (guard, result) = self.wait_until(guard, deadline)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Wakes one of those that wait.
    #[inline]
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes all that wait.
    #[inline]
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    #[inline]
    fn notify(&self, count: usize) {
        // Who changed what the mutex guards after a waiter looked at it has taken the mutex after that waiter counted itself:
        // it sees the count, and its own addition follows the waiter's look at the sequence.
        if self.waiting.load(Ordering::Relaxed) != 0 {
            self.sequence.fetch_add(1, Ordering::Relaxed);
            (parking::parking().wake)(self.sequence.key(), count);
        }
    }

    pub(super) fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<u64>,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (mutex, wake) = self.sleep(guard, deadline);
        let result = WaitTimeoutResult(wake == Wake::TimedOut);
        match mutex.lock() {
            Ok(guard) => Ok((guard, result)),
            Err(error) => Err(PoisonError::new((error.into_inner(), result))),
        }
    }

    fn sleep<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>, deadline: Option<u64>) -> (&'a Mutex<T>, Wake) {
        let parking = parking::parking();
        let mutex = guard.mutex();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sequence = self.sequence.load(Ordering::Relaxed);
        drop(guard);
        let prepared = (parking.prepare)(self.sequence.key(), None);
        debug_assert_eq!(prepared, Prepared::Ready);
        // A notification since the mutex was freed has either changed the sequence before the preparation, or finds it.
        let wake = if self.sequence.load(Ordering::Relaxed) == sequence {
            (parking.park)(deadline)
        } else {
            (parking.cancel)();
            Wake::Woken
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        (mutex, wake)
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}
