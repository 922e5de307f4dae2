//! Values that are made once.
#![deny(unsafe_code)]

use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::Ordering;

use crate::sync::poison::Poison;
use crate::sync::raw_mutex::{Acquired, RawMutex};
use crate::sync::word::Word;

/// A place for a value that is put there once. Like `std::sync::OnceLock`.
///
/// Who comes while it is being made sleeps, and lends the maker its priority. Unlike in `std`, a maker that was stopped by a
/// panic poisons the place, as it does `std::sync::Once`: nobody can tell how far it came.
pub struct OnceLock<T> {
    /// 1 once the value is there.
    done: Word,
    /// Held by who makes the value.
    mutex: RawMutex,
    poison: Poison,
    value: UnsafeCell<Option<T>>,
}

#[expect(unsafe_code, reason = "the protocol makes the cell safe to share")]
// SAFETY: the value is written by the one thread that has the mutex and finds it not done, and only read from then on; who
// writes it may be another thread than who drops it.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

/// Frees the mutex.
struct Making<'a>(&'a RawMutex);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

impl<T> OnceLock<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Self { done: Word::new(0), mutex: RawMutex::new(), poison: Poison::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if it is there. Never sleeps.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: pairs with the release after the value was written.
        if self.done.load(Ordering::Acquire) == 0 {
            return None;
        }
        #[expect(unsafe_code, reason = "what the protocol is for")]
        // SAFETY: done, so the value was written before and is never written again through a shared reference.
        unsafe { &*self.value.get() }.as_ref()
    }

    /// The value, if it is there: the borrow shows that nobody else has it.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// The value, made by `make` if it is not there. Sleeps while another thread makes it; of several, one is run.
    ///
    /// # Panics
    ///
    /// If a thread was stopped while it made the value, and if `make` itself asks for it.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(value) => value,
            None => self.init(make),
        }
    }

    /// Puts the value there. Sleeps while another thread makes it.
    ///
    /// # Errors
    ///
    /// `value`, if there is one already.
    ///
    /// # Panics
    ///
    /// If a thread was stopped while it made the value.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("a value is made once"));
        value.map_or(Ok(()), Err)
    }

    /// The value, if it is there.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Whether a thread was stopped while it made the value.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set() || self.mutex.is_abandoned()
    }

    #[cold]
    fn init(&self, make: impl FnOnce() -> T) -> &T {
        if self.mutex.lock() == Acquired::TakenOver {
            self.poison.set();
        }
        let making = Making(&self.mutex);
        if self.done.load(Ordering::Relaxed) == 0 {
            if self.poison.is_set() {
                drop(making);
                panic!("a thread was stopped while it made the value");
            }
            let value = make();
            #[expect(unsafe_code, reason = "what the protocol is for")]
            // SAFETY: not done, so nobody reads; and the mutex is held, so nobody else writes. `make` could not: it would have
            // panicked at the mutex.
            unsafe {
                *self.value.get() = Some(value);
            }
            self.done.store(1, Ordering::Release);
        }
        drop(making);
        self.get().expect("done")
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        Self { done: Word::new(1), value: UnsafeCell::new(Some(value)), ..Self::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceLock").field(value).finish(),
            None => f.write_str("OnceLock(<not made>)"),
        }
    }
}

/// A value that is made when it is first used. Like `std::sync::LazyLock`.
pub struct LazyLock<T, F = fn() -> T> {
    once: OnceLock<T>,
    make: Cell<Option<F>>,
}

#[expect(unsafe_code, reason = "the protocol makes the cell safe to share")]
// SAFETY: the cell is looked into by `make` alone, which the place runs once, with its mutex held.
unsafe impl<T: Send + Sync, F: Send> Sync for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value to be made by `make`.
    pub const fn new(make: F) -> Self {
        Self { once: OnceLock::new(), make: Cell::new(Some(make)) }
    }

    /// The value, made if it is not there. Sleeps while another thread makes it.
    ///
    /// # Panics
    ///
    /// If a thread was stopped while it made the value, and if the making itself asks for it.
    #[inline]
    pub fn force(this: &Self) -> &T {
        this.once.get_or_init(|| (this.make.take().expect("the value is made once"))())
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.once.get() {
            Some(value) => f.debug_tuple("LazyLock").field(value).finish(),
            None => f.write_str("LazyLock(<not made>)"),
        }
    }
}
