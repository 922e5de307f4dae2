//! The application's mutex.
#![deny(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::sync::poison::{LockResult, Poison, TryLockError, TryLockResult};
use crate::sync::raw_mutex::{Acquired, RawMutex};

/// A value that one thread at a time can use. Like `std::sync::Mutex`.
///
/// Who waits sleeps, and lends the holder its priority. A panic stops its thread alone and unwinds nothing: what the thread
/// held stays locked until the next thread that locks it takes it over, poisoned.
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    poison: Poison,
    value: UnsafeCell<T>,
}

#[expect(unsafe_code, reason = "the lock makes the cell safe to share")]
// SAFETY: a thread reaches the value only with the lock held, so one at a time: as if it were sent to each.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        Self { raw: RawMutex::new(), poison: Poison::new(), value: UnsafeCell::new(value) }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// It is in the error if the mutex is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        self.note_abandoned();
        self.poison.wrap(self.value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock; sleeps while another thread has it.
    ///
    /// # Errors
    ///
    /// The guard is in the error if the mutex is poisoned: a thread was stopped while it held the lock.
    ///
    /// # Panics
    ///
    /// If the running thread has it already.
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        if self.raw.lock() == Acquired::TakenOver {
            self.poison.set();
        }
        self.poison.wrap(MutexGuard::new(self))
    }

    /// Takes the lock if no running thread has it.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if one has; [`TryLockError::Poisoned`], with the guard, if the mutex is poisoned.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if !self.raw.try_lock() {
            if !self.raw.take_over() {
                return Err(TryLockError::WouldBlock);
            }
            self.poison.set();
        }
        Ok(self.poison.wrap(MutexGuard::new(self))?)
    }

    /// The value, without locking: the borrow shows that nobody else has it.
    ///
    /// # Errors
    ///
    /// It is in the error if the mutex is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.note_abandoned();
        self.poison.wrap(self.value.get_mut())
    }

    /// Whether a thread was stopped while it held the lock. Unless the lock is held, the answer may be old.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set() || self.raw.is_abandoned()
    }

    /// Forgets that a thread was stopped: what it left is fine, or was made so.
    pub fn clear_poison(&self) {
        if self.raw.take_over() {
            self.raw.unlock();
        }
        self.poison.clear();
    }

    fn note_abandoned(&self) {
        if self.raw.is_abandoned() {
            self.poison.set();
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => shown.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => shown.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => shown.field("data", &format_args!("<locked>")),
        };
        shown.field("poisoned", &self.poison.is_set()).finish_non_exhaustive()
    }
}

/// Holds a [`Mutex`] until dropped, in the thread that locked it. Like `std::sync::MutexGuard`.
#[must_use = "the mutex is free again once this is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Not `Send`: the lock's word names the thread.
    thread: PhantomData<*const ()>,
}

#[expect(unsafe_code, reason = "the marker against sending takes this away")]
// SAFETY: a shared guard gives shared references to the value and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// For who has just taken the lock.
    #[inline]
    fn new(mutex: &'a Mutex<T>) -> Self {
        Self { mutex, thread: PhantomData }
    }

    /// The mutex that it holds.
    #[inline]
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    #[expect(unsafe_code, reason = "what the lock is for")]
    fn deref(&self) -> &T {
        // SAFETY: made with the lock taken, which is freed only when this is dropped: no other thread has a reference, and
        // this guard's own follow its borrows.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    #[expect(unsafe_code, reason = "what the lock is for")]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: made with the lock taken, which is freed only when this is dropped: no other thread has a reference, and
        // this guard's own follow its borrows.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
