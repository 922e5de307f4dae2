//! What a stopped thread held is poisoned, and says so: the errors of `std::sync`, which `core` has not.
#![forbid(unsafe_code)]

use core::error::Error;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// What a lock returns: the guard, or the guard in an error if the lock is poisoned. Like `std::sync::LockResult`.
pub type LockResult<G> = Result<G, PoisonError<G>>;

/// What a lock that is tried returns. Like `std::sync::TryLockResult`.
pub type TryLockResult<G> = Result<G, TryLockError<G>>;

/// A thread was stopped by a panic while it held the lock: what the lock guards may be broken. Like
/// `std::sync::PoisonError`.
pub struct PoisonError<G> {
    data: G,
}

impl<G> PoisonError<G> {
    /// The error around a guard, or around whatever a lock would have returned.
    pub const fn new(data: G) -> Self {
        Self { data }
    }

    /// The guard: for who can use what is behind the lock, broken or not.
    pub fn into_inner(self) -> G {
        self.data
    }

    /// The guard.
    pub const fn get_ref(&self) -> &G {
        &self.data
    }

    /// The guard, mutably.
    pub const fn get_mut(&mut self) -> &mut G {
        &mut self.data
    }
}

impl<G> fmt::Debug for PoisonError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoisonError").finish_non_exhaustive()
    }
}

impl<G> fmt::Display for PoisonError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("poisoned lock: a thread was stopped while it held it")
    }
}

impl<G> Error for PoisonError<G> {}

/// Why a lock that was tried was not taken. Like `std::sync::TryLockError`.
pub enum TryLockError<G> {
    /// It was taken, but it is poisoned.
    Poisoned(PoisonError<G>),
    /// Another thread has it.
    WouldBlock,
}

impl<G> From<PoisonError<G>> for TryLockError<G> {
    fn from(error: PoisonError<G>) -> Self {
        Self::Poisoned(error)
    }
}

impl<G> fmt::Debug for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisoned(_) => "Poisoned(..)",
            Self::WouldBlock => "WouldBlock",
        })
    }
}

impl<G> fmt::Display for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(error) => error.fmt(f),
            Self::WouldBlock => f.write_str("the lock is held by another thread"),
        }
    }
}

impl<G> Error for TryLockError<G> {}

/// Whether a lock is poisoned. Written by the lock's holder only; who reads it beside the lock gets a hint.
#[derive(Debug)]
pub(super) struct Poison(AtomicBool);

impl Poison {
    pub(super) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// What a lock returns with `data`.
    #[inline]
    pub(super) fn wrap<G>(&self, data: G) -> LockResult<G> {
        if self.is_set() { Err(PoisonError::new(data)) } else { Ok(data) }
    }
}
