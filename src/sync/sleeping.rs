//! A ranked lock whose waiters sleep.
#![deny(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::sync::rank::{self, Rank};
use crate::sync::ranked::switch;
use crate::sync::raw_mutex::{Acquired, RawMutex};

/// A value behind a lock with a rank, for what takes longer than a waiter should spin: as
/// [`Ranked`](crate::sync::Ranked), but who waits sleeps, and lends the owner its priority. A spinlock may be taken while it is
/// held, and never the other way round.
///
/// # Panics
///
/// In debug builds, taking it out of order panics and names both ranks.
pub struct Sleeping<T> {
    rank: Rank,
    raw: RawMutex,
    value: UnsafeCell<T>,
}

#[expect(unsafe_code, reason = "the lock makes the cell safe to share")]
// SAFETY: a thread reaches the value only with the lock held, so one at a time: as if it were sent to each.
unsafe impl<T: Send> Sync for Sleeping<T> {}

impl<T> Sleeping<T> {
    /// A free lock of `rank` around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, raw: RawMutex::new(), value: UnsafeCell::new(value) }
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(&self.raw).addr()
    }

    /// Takes the lock; sleeps while another thread has it.
    ///
    /// # Panics
    ///
    /// If the thread that had it was stopped: what the lock guards may be broken.
    #[inline]
    pub fn lock(&self) -> SleepingGuard<'_, T> {
        switch();
        rank::check(self.rank, self.address());
        assert!(self.raw.lock() == Acquired::Free, "a thread was stopped with a lock of rank {:?}", self.rank);
        self.guard()
    }

    /// Takes the lock if it is free, whatever else is held.
    #[inline]
    pub fn try_lock(&self) -> Option<SleepingGuard<'_, T>> {
        switch();
        self.raw.try_lock().then(|| self.guard())
    }

    /// The value, without locking: the borrow shows that nobody else has it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// For who has just taken the lock.
    #[inline]
    fn guard(&self) -> SleepingGuard<'_, T> {
        SleepingGuard { lock: self, below: rank::hold(self.rank, self.address()), thread: PhantomData }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sleeping<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => (*value).fmt(f),
            None => f.write_str("<locked>"),
        }
    }
}

/// Holds a [`Sleeping`] lock until dropped, in the thread that locked it.
pub struct SleepingGuard<'a, T> {
    lock: &'a Sleeping<T>,
    /// The lock of the same rank that was the highest before this one.
    below: usize,
    /// Not `Send`: the lock's word names the thread.
    thread: PhantomData<*const ()>,
}

#[expect(unsafe_code, reason = "the marker against sending takes this away")]
// SAFETY: a shared guard gives shared references to the value and nothing else.
unsafe impl<T: Sync> Sync for SleepingGuard<'_, T> {}

impl<T> Deref for SleepingGuard<'_, T> {
    type Target = T;
    #[inline]
    #[expect(unsafe_code, reason = "what the lock is for")]
    fn deref(&self) -> &T {
        // SAFETY: made with the lock taken, which is freed only when this is dropped: no other thread has a reference, and
        // this guard's own follow its borrows.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SleepingGuard<'_, T> {
    #[inline]
    #[expect(unsafe_code, reason = "what the lock is for")]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: made with the lock taken, which is freed only when this is dropped: no other thread has a reference, and
        // this guard's own follow its borrows.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SleepingGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        rank::release(self.lock.rank, self.below);
        self.lock.raw.unlock();
    }
}
