//! A spinlock for many readers or one writer that knows its place in the lock order.
#![forbid(unsafe_code)]

use super::rank::{self, Rank};
use super::ranked::{Relax, count_wait, relax, switch};
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A value that many read, or one changes, behind a spinlock with a rank. Readers never wait for each other, and those
/// that come while a writer waits let it go first.
///
/// # Panics
///
/// In debug builds, taking it out of order panics and names both ranks; so does reading twice in one thread, which a
/// writer between the two would stop for good.
pub struct RankedRw<T> {
    rank: Rank,
    /// Writers that wait: readers hold back meanwhile.
    waiting: AtomicUsize,
    lock: RwLock<T, Relax>,
}

impl<T> RankedRw<T> {
    /// A free lock of `rank` around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, waiting: AtomicUsize::new(0), lock: RwLock::new(value) }
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(&self.lock).addr()
    }

    /// Takes the lock for reading; spins while another writes or waits to write.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        self.approach();
        match self.read_now() {
            Some(inner) => self.reader(inner),
            None => self.read_contended(),
        }
    }

    /// Takes the lock for writing; spins while others have it.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        self.approach();
        let inner = match self.lock.try_write() {
            Some(inner) => inner,
            None => self.write_contended(),
        };
        WriteGuard { lock: self, below: self.note(), inner }
    }

    /// Takes the lock for reading unless another writes, whatever else is held: for crash reports.
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        switch();
        self.lock.try_read().map(|inner| self.reader(inner))
    }

    #[inline]
    fn approach(&self) {
        switch();
        rank::check(self.rank, self.address());
    }

    #[inline]
    fn read_now(&self) -> Option<RwLockReadGuard<'_, T, Relax>> {
        if self.waiting.load(Ordering::Relaxed) > 0 { None } else { self.lock.try_read() }
    }

    #[cold]
    fn read_contended(&self) -> ReadGuard<'_, T> {
        count_wait(self.rank);
        loop {
            relax();
            if let Some(inner) = self.read_now() {
                return self.reader(inner);
            }
        }
    }

    #[cold]
    fn write_contended(&self) -> RwLockWriteGuard<'_, T, Relax> {
        count_wait(self.rank);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let inner = self.lock.write();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        inner
    }

    #[inline]
    fn reader<'a>(&'a self, inner: RwLockReadGuard<'a, T, Relax>) -> ReadGuard<'a, T> {
        ReadGuard { lock: self, below: self.note(), inner }
    }

    #[inline]
    fn note(&self) -> usize {
        rank::hold(self.rank, self.address())
    }

    #[inline]
    fn forget(&self, below: usize) {
        rank::release(self.rank, below);
    }
}

impl<T: fmt::Debug> fmt::Debug for RankedRw<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lock.try_read() {
            Some(value) => value.fmt(f),
            None => f.write_str("<locked>"),
        }
    }
}

/// Holds a [`RankedRw`] lock for reading until dropped.
pub struct ReadGuard<'a, T> {
    lock: &'a RankedRw<T>,
    /// The lock of the same rank that was the highest before this one.
    below: usize,
    inner: RwLockReadGuard<'a, T, Relax>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.forget(self.below);
    }
}

/// Holds a [`RankedRw`] lock for writing until dropped.
pub struct WriteGuard<'a, T> {
    lock: &'a RankedRw<T>,
    /// The lock of the same rank that was the highest before this one.
    below: usize,
    inner: RwLockWriteGuard<'a, T, Relax>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.forget(self.below);
    }
}
