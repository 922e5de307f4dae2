//! What each thread has of its own.

use super::Thread;
use crate::arch::aarch64::threads;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::RefCell;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Rounds of dropping values that make new ones as they are dropped.
const ROUNDS: usize = 5;

/// A thread's own data: made when it begins, or when the main thread first asks.
pub(super) struct Local {
    pub(super) thread: Thread,
    /// Values of [`LocalKey`]s, by their numbers.
    values: RefCell<Vec<Option<Box<dyn Any>>>>,
}

impl Local {
    /// Makes the running thread's, which `thread` is a handle to.
    pub(super) fn install(thread: Thread) -> &'static Local {
        let record = threads::current();
        thread.set_id(record.id().unwrap_or_else(|| unreachable!("a thread runs without an id")));
        let local = Box::new(Local { thread, values: RefCell::new(Vec::new()) });
        let local: &'static Local = Box::leak(local);
        record.local.store(core::ptr::from_ref(local).expose_provenance(), Ordering::Relaxed);
        local
    }

    /// The running thread's.
    pub(super) fn current() -> &'static Local {
        match threads::current().local.load(Ordering::Relaxed) {
            0 => Local::install(Thread::new(Some(String::from("main")))),
            // SAFETY: `install` of this thread stored it; it is freed when the thread's function has returned only.
            at => unsafe { &*core::ptr::with_exposed_provenance::<Local>(at) },
        }
    }

    /// Drops the running thread's, and all values in it.
    pub(super) fn remove() {
        let local = Local::current();
        for _ in 0..ROUNDS {
            let values = local.values.take();
            if values.is_empty() {
                break;
            }
            drop(values);
        }
        let at = threads::current().local.swap(0, Ordering::Relaxed);
        // SAFETY: `install` leaked it; this is the last that the thread does with it.
        drop(unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Local>(at)) });
    }
}

/// A value that each thread has of its own, made by [`thread_local!`](crate::thread_local): as in `std`, initialized at a
/// thread's first use of it, and dropped at the thread's end (the main thread's are not: with it the machine ends).
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    /// Its number and 1; 0 before it has one.
    number: AtomicUsize,
}

impl<T: 'static> LocalKey<T> {
    /// A key whose values `init` makes. Use [`thread_local!`](crate::thread_local).
    pub const fn new(init: fn() -> T) -> Self {
        LocalKey { init, number: AtomicUsize::new(0) }
    }

    fn number(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        match self.number.load(Ordering::Relaxed) {
            0 => {
                let new = NEXT.fetch_add(1, Ordering::Relaxed);
                // Who comes second takes the number of who came first; the other one is lost.
                let won = self.number.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
                won.map_or_else(|number| number, |_| new) - 1
            }
            number => number - 1,
        }
    }

    /// Calls `f` with the running thread's value.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let (local, number) = (Local::current(), self.number());
        let made = local.values.borrow().get(number).is_some_and(Option::is_some);
        if !made {
            // Not borrowed meanwhile: `init` may use other keys.
            let value: Box<dyn Any> = Box::new((self.init)());
            let mut values = local.values.borrow_mut();
            if values.len() <= number {
                values.resize_with(number + 1, || None);
            }
            let before = values[number].replace(value);
            // `init` may have used this key itself; what it made then is dropped with nothing borrowed.
            drop(values);
            drop(before);
        }
        let value: *const T = {
            let values = local.values.borrow();
            let value = values[number].as_deref().and_then(<dyn Any>::downcast_ref::<T>);
            value.unwrap_or_else(|| unreachable!("a key's values are of its type"))
        };
        // SAFETY: the value is in a box of its own, which stays until the thread ends; only this thread reaches it, and by
        // shared references alone.
        f(unsafe { &*value })
    }
}

impl<T: 'static> LocalKey<core::cell::Cell<T>> {
    /// Sets the running thread's value.
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    /// The running thread's value.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(core::cell::Cell::get)
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// Declares values that each thread has of its own, as `std::thread_local!` does.
///
/// ```ignore
/// ashlar::thread_local! {
///     static DEPTH: Cell<u32> = Cell::new(0);
/// }
/// DEPTH.with(|depth| depth.set(depth.get() + 1));
/// ```
#[macro_export]
macro_rules! thread_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr; $($rest:tt)*) => {
        $(#[$attribute])*
        $visibility static $name: $crate::thread::LocalKey<$type> = $crate::thread::LocalKey::new(|| $init);
        $crate::thread_local!($($rest)*);
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr) => {
        $crate::thread_local!($(#[$attribute])* $visibility static $name: $type = $init;);
    };
}
