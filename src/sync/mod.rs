//! Locks, and waiting for other threads.
//!
//! # For applications
//!
//! These are shaped like `std::sync`'s; each says what is different. Who waits sleeps. All have `const` constructors but the
//! channels, so they can be statics.
//!
//! | what | when |
//! | --- | --- |
//! | [`Mutex`] | one thread at a time uses a value; the first choice |
//! | [`RwLock`] | many read for long, few write |
//! | [`Condvar`] | wait until what a mutex guards is so |
//! | [`OnceLock`], [`LazyLock`] | a value that is made once, on first use |
//! | [`channel`] | hand values over: [`channel::channel`] grows, [`channel::sync_channel`] holds the sender up |
//! | [`Semaphore`] | at most *n* threads at a time, or events that are counted |
//! | [`Barrier`] | threads go on together |
//! | [`RawMutex`] | the lock of a `lock_api::Mutex`, or of another crate's generic code |
//! | `core::sync::atomic`, `alloc::sync::Arc` | as everywhere |
//!
//! A thread that waits for a mutex, a writer or a value being made lends its priority to the thread it waits for. A panic stops
//! its thread alone, and unwinds nothing: what the thread had locked is taken over by the next thread that wants it, which is
//! told by a [`PoisonError`].
//!
//! # For the kernel
//!
//! Every lock of the memory manager has a [`Rank`], and debug builds check the order:
//! space → region → slot → directory → slabs → a core's caches → frames → threads → console; locks of one rank by ascending address.
//! [`Ranked`] spins; [`Sleeping`] sleeps, for what is held long. Both kinds of locks meet the scheduler in [`parking`] and
//! in [`Waiting`] alone.

mod barrier;
pub mod channel;
mod condvar;
mod mutex;
mod once;
pub mod parking;
mod poison;
mod rank;
mod ranked;
mod ranked_rw;
mod raw_mutex;
mod rwlock;
mod semaphore;
mod signal;
mod sleeping;
mod word;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use once::{LazyLock, OnceLock};
pub use poison::{LockResult, PoisonError, TryLockError, TryLockResult};
pub use rank::{Held, Rank};
pub(crate) use ranked::switch;
pub use ranked::{Guard, Ranked, Waiting, breathe, core, lock_waits, lock_waits_of, relax};
pub use ranked_rw::{RankedRw, ReadGuard, WriteGuard};
pub use raw_mutex::{Acquired, RawMutex};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphorePermit};
pub use signal::Signal;
pub use sleeping::{Sleeping, SleepingGuard};
