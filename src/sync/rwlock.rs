//! The application's lock for what is read by many and written by few.
#![deny(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering;

use crate::sync::parking::{self, Prepared};
use crate::sync::poison::{LockResult, Poison, TryLockError, TryLockResult};
use crate::sync::raw_mutex::{Acquired, RawMutex};
use crate::sync::word::Word;

/// Beside the number of readers: a writer has the lock or waits for the readers to leave, so no reader comes in.
const WRITER: u64 = 1 << 63;

/// A value that many threads at a time can read, or one can write. Like `std::sync::RwLock`.
///
/// A writer that waits keeps new readers out, so a thread that reads twice at the same time may wait for itself. Writers,
/// and readers who find one, wait at a mutex whose owner they lend their priority. A writer that was stopped by a panic
/// poisons the lock. A reader that was stopped never leaves: readers still come in, writers wait for good.
pub struct RwLock<T: ?Sized> {
    /// Held by who writes; by who reads only while it comes in behind a writer.
    mutex: RawMutex,
    /// The number of readers, and the flag. Who writes sleeps here until the last reader has left.
    readers: Word,
    poison: Poison,
    value: UnsafeCell<T>,
}

#[expect(unsafe_code, reason = "the lock makes the cell safe to share")]
// SAFETY: threads reach the value with the lock held for reading, as through a shared reference, or for writing, one at a
// time: as if it were sent to each.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { mutex: RawMutex::new(), readers: Word::new(0), poison: Poison::new(), value: UnsafeCell::new(value) }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// It is in the error if the lock is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        self.note_abandoned();
        self.poison.wrap(self.value.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading; sleeps while a writer has it or waits for it.
    ///
    /// # Errors
    ///
    /// The guard is in the error if the lock is poisoned: a thread was stopped while it wrote.
    ///
    /// # Panics
    ///
    /// If the running thread writes.
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        if !self.enter() {
            self.enter_behind_writer();
        }
        self.poison.wrap(RwLockReadGuard::new(self))
    }

    /// Takes the lock for reading if no running thread writes or waits to.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if one does; [`TryLockError::Poisoned`], with the guard, if the lock is poisoned.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !self.enter() {
            if !self.mutex.take_over() {
                return Err(TryLockError::WouldBlock);
            }
            self.inherit();
            self.readers.fetch_add(1, Ordering::Acquire);
            self.mutex.unlock();
        }
        Ok(self.poison.wrap(RwLockReadGuard::new(self))?)
    }

    /// Takes the lock for writing; sleeps while another thread has it.
    ///
    /// # Errors
    ///
    /// The guard is in the error if the lock is poisoned: a thread was stopped while it wrote.
    ///
    /// # Panics
    ///
    /// If the running thread writes already.
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        if self.mutex.lock() == Acquired::TakenOver {
            self.inherit();
        }
        // Acquire, here and below: what readers did before they left comes before what is written now.
        if self.readers.fetch_or(WRITER, Ordering::Acquire) != 0 {
            self.wait_for_readers();
        }
        self.poison.wrap(RwLockWriteGuard::new(self))
    }

    /// Takes the lock for writing if no running thread has it.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if one has; [`TryLockError::Poisoned`], with the guard, if the lock is poisoned.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if !self.mutex.try_lock() {
            if !self.mutex.take_over() {
                return Err(TryLockError::WouldBlock);
            }
            self.inherit();
        }
        if !self.readers.replace(0, WRITER, Ordering::Acquire) {
            self.mutex.unlock();
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(RwLockWriteGuard::new(self))?)
    }

    /// The value, without locking: the borrow shows that nobody else has it.
    ///
    /// # Errors
    ///
    /// It is in the error if the lock is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.note_abandoned();
        self.poison.wrap(self.value.get_mut())
    }

    /// Whether a thread was stopped while it wrote. Unless the lock is held, the answer may be old.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set() || self.mutex.is_abandoned()
    }

    /// Forgets that a thread was stopped: what it left is fine, or was made so.
    pub fn clear_poison(&self) {
        if self.mutex.take_over() {
            self.inherit();
            self.mutex.unlock();
        }
        self.poison.clear();
    }

    fn note_abandoned(&self) {
        if self.mutex.is_abandoned() {
            self.poison.set();
        }
    }

    /// Takes over from a stopped writer; the mutex is held.
    fn inherit(&self) {
        self.poison.set();
        self.readers.fetch_and(!WRITER, Ordering::Relaxed);
    }

    /// Becomes a reader unless there is a writer.
    #[inline]
    fn enter(&self) -> bool {
        let mut seen = self.readers.load(Ordering::Relaxed);
        while seen & WRITER == 0 {
            if self.readers.replace(seen, seen + 1, Ordering::Acquire) {
                return true;
            }
            seen = self.readers.load(Ordering::Relaxed);
        }
        false
    }

    #[cold]
    fn enter_behind_writer(&self) {
        if self.mutex.lock() == Acquired::TakenOver {
            self.inherit();
        }
        // Who has the mutex and does not write has seen the last writer out: the flag is not set, and stays so.
        self.readers.fetch_add(1, Ordering::Acquire);
        self.mutex.unlock();
    }

    #[inline]
    fn leave(&self) {
        // Release: what was read comes before what the next writer writes.
        if self.readers.fetch_sub(1, Ordering::Release) == WRITER + 1 {
            (parking::parking().wake)(self.readers.key(), 1);
        }
    }

    #[cold]
    fn wait_for_readers(&self) {
        let parking = parking::parking();
        while self.readers.load(Ordering::Acquire) != WRITER {
            // Which threads read is not known, so there is no owner.
            let prepared = (parking.prepare)(self.readers.key(), None);
            debug_assert_eq!(prepared, Prepared::Ready);
            if self.readers.load(Ordering::Relaxed) == WRITER {
                (parking.cancel)();
            } else {
                (parking.park)(None);
            }
        }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => shown.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => shown.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => shown.field("data", &format_args!("<locked>")),
        };
        shown.field("poisoned", &self.poison.is_set()).finish_non_exhaustive()
    }
}

/// Holds a [`RwLock`] for reading until dropped. Like `std::sync::RwLockReadGuard`.
#[must_use = "writers are kept out until this is dropped, and no longer"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Not `Send`, as in `std`.
    thread: PhantomData<*const ()>,
}

/// Holds a [`RwLock`] for writing until dropped, in the thread that locked it. Like `std::sync::RwLockWriteGuard`.
#[must_use = "the lock is free again once this is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Not `Send`: the mutex's word names the thread.
    thread: PhantomData<*const ()>,
}

#[expect(unsafe_code, reason = "the marker against sending takes this away")]
// SAFETY: a shared guard gives shared references to the value and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

#[expect(unsafe_code, reason = "the marker against sending takes this away")]
// SAFETY: a shared guard gives shared references to the value and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// For who has just become a reader.
    #[inline]
    fn new(lock: &'a RwLock<T>) -> Self {
        Self { lock, thread: PhantomData }
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// For who has just become the writer.
    #[inline]
    fn new(lock: &'a RwLock<T>) -> Self {
        Self { lock, thread: PhantomData }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    #[expect(unsafe_code, reason = "what the lock is for")]
    fn deref(&self) -> &T {
        // SAFETY: this guard is counted as a reader until it is dropped, and a writer waits until none is: there are only
        // shared references meanwhile.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    #[expect(unsafe_code, reason = "what the lock is for")]
    fn deref(&self) -> &T {
        // SAFETY: made with the mutex held, no readers and the flag set that keeps them out, all until this is dropped: no
        // other thread has a reference, and this guard's own follow its borrows.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    #[expect(unsafe_code, reason = "what the lock is for")]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: made with the mutex held, no readers and the flag set that keeps them out, all until this is dropped: no
        // other thread has a reference, and this guard's own follow its borrows.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.leave();
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: readers who come in by the count alone see what was written. The flag goes first, so that it is never set
        // while the mutex is free.
        self.lock.readers.fetch_and(!WRITER, Ordering::Release);
        self.lock.mutex.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
