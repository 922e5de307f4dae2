//! A spinlock that knows its place in the lock order.
#![deny(unsafe_code)]

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};
use spin::RelaxStrategy;

use crate::sync::rank::{self, BOOT, Held, RANKS, Rank};

/// How often a lock was found taken, by rank.
static WAITS: [AtomicU64; RANKS] = [const { AtomicU64::new(0) }; RANKS];

/// How often a lock was found taken by who then waited for it, since boot.
pub fn lock_waits() -> u64 {
    WAITS.iter().map(|waits| waits.load(Ordering::Relaxed)).sum()
}

/// How often a lock of `rank` was found taken by who then waited for it, since boot.
pub fn lock_waits_of(rank: Rank) -> u64 {
    WAITS[rank as usize].load(Ordering::Relaxed)
}

/// Counts a lock of `rank` that was found taken.
#[cold]
pub(super) fn count_wait(rank: Rank) {
    WAITS[rank as usize].fetch_add(1, Ordering::Relaxed);
}

/// How the running thread is told, and what a waiting one does.
static WAITING: spin::Once<Waiting> = spin::Once::new();

/// Who waits for locks, and how. Without one installed there is a single thread, and waiting spins.
#[derive(Clone, Copy)]
pub struct Waiting {
    /// The locks of the running thread.
    pub held: fn() -> &'static Held,
    /// The number of the running core: a hint, which may be old by the time that it is used.
    pub core: fn() -> usize,
    /// What a thread does each time it finds a lock taken.
    pub relax: fn(),
    /// What a long operation does between two steps, while it holds no lock that a fault takes: where a scheduler may
    /// preempt it.
    pub breathe: fn(),
    /// Called in debug builds before a lock is taken or tried: where a scheduler of tests may switch.
    pub switch: fn(),
}

impl Waiting {
    /// Installs this as the machine's; only the first one counts.
    pub fn install(self) {
        WAITING.call_once(|| self);
    }
}

pub(super) fn held() -> &'static Held {
    WAITING.get().map_or(&BOOT, |waiting| (waiting.held)())
}

/// The number of the running core. It may have changed by the time that the caller uses it: good for choosing what is
/// likely to be free and near, never for leaving out a lock.
#[inline]
pub fn core() -> usize {
    WAITING.get().map_or(0, |waiting| (waiting.core)())
}

/// Where a scheduler of tests may switch, in debug builds.
#[inline]
pub(crate) fn switch() {
    if cfg!(debug_assertions)
        && let Some(waiting) = WAITING.get()
    {
        (waiting.switch)();
    }
}

/// What a thread does while it waits for another.
pub fn relax() {
    match WAITING.get() {
        Some(waiting) => (waiting.relax)(),
        None => core::hint::spin_loop(),
    }
}

/// What a thread does between two steps of a long operation.
#[inline]
pub fn breathe() {
    if let Some(waiting) = WAITING.get() {
        (waiting.breathe)();
    }
}

pub(super) struct Relax;

impl RelaxStrategy for Relax {
    fn relax() {
        relax();
    }
}

/// A value behind a spinlock with a rank.
///
/// # Panics
///
/// In debug builds, taking it out of order panics and names both ranks.
pub struct Ranked<T> {
    rank: Rank,
    lock: spin::mutex::SpinMutex<T, Relax>,
}

impl<T> Ranked<T> {
    /// A free lock of `rank` around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, lock: spin::mutex::SpinMutex::new(value) }
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(&self.lock).addr()
    }

    /// Takes the lock; spins while another holds it.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        switch();
        rank::check(self.rank, self.address());
        match self.lock.try_lock() {
            Some(inner) => self.guard(inner),
            None => self.lock_contended(),
        }
    }

    /// As [`Ranked::lock`], beneath a lock of the same rank, at whatever address that is. The caller knows of another order between
    /// the two, which everybody keeps.
    ///
    /// # Panics
    ///
    /// In debug builds, when a lock of a higher rank is held.
    #[inline]
    pub fn lock_nested(&self) -> Guard<'_, T> {
        switch();
        rank::check(self.rank, usize::MAX);
        match self.lock.try_lock() {
            Some(inner) => self.guard(inner),
            None => self.lock_contended(),
        }
    }

    #[cold]
    fn lock_contended(&self) -> Guard<'_, T> {
        count_wait(self.rank);
        self.guard(self.lock.lock())
    }

    /// Takes the lock if it is free, whatever else is held: the way from a frame back to its slot.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        switch();
        self.lock.try_lock().map(|inner| self.guard(inner))
    }

    /// The value, without locking: the borrow shows that nobody else has it.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }

    #[inline]
    fn guard<'a>(&'a self, inner: spin::mutex::SpinMutexGuard<'a, T, Relax>) -> Guard<'a, T> {
        Guard { lock: self, below: rank::hold(self.rank, self.address()), inner }
    }
}

impl<T: fmt::Debug> fmt::Debug for Ranked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lock.try_lock() {
            Some(value) => value.fmt(f),
            None => f.write_str("<locked>"),
        }
    }
}

/// Holds a [`Ranked`] lock until dropped.
pub struct Guard<'a, T> {
    lock: &'a Ranked<T>,
    /// The lock of the same rank that was the highest before this one.
    below: usize,
    inner: spin::mutex::SpinMutexGuard<'a, T, Relax>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        rank::release(self.lock.rank, self.below);
    }
}
