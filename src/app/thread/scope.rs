//! Threads that may borrow: all end before what they borrow does.

use super::{Builder, Joinable, NoThread, Stopped, Thread, wait_for_end};
use crate::sync::parking::ThreadId;
use crate::sync::{Mutex, PoisonError};
use crate::task::{self, Life};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};

/// Where scoped threads are made; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    /// All threads of the scope.
    threads: Mutex<Vec<Member>>,
    /// Neither life may be shortened or lengthened.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A thread of a scope.
struct Member {
    record: &'static task::Thread,
    id: ThreadId,
    /// Somebody asked for its result, and has learned how it ended.
    is_joined: Arc<AtomicBool>,
}

/// Runs `f` with a scope in which threads can be made that borrow what lives outside; returns when all of them have ended.
///
/// # Panics
///
/// When a panic stopped one of them ([`Builder::isolate`]) and nobody joined it.
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope { threads: Mutex::new(Vec::new()), scope: PhantomData, env: PhantomData };
    // A panic in `f` does not unwind: whatever the threads borrow stays.
    let result = f(&scope);
    let mut stopped = false;
    // One that still runs may make others.
    while let Some(Member { record, id, is_joined }) = scope.change(Vec::pop) {
        let life = wait_for_end(record, id);
        stopped |= life == Life::Stopped && !is_joined.load(Ordering::Relaxed);
    }
    assert!(!stopped, "a panic stopped a thread of this scope");
    result
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Changes the list of threads, which is whole whoever was stopped with it.
    fn change<R>(&self, change: impl FnOnce(&mut Vec<Member>) -> R) -> R {
        change(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `f` in a new thread.
    ///
    /// # Panics
    ///
    /// When there is no memory for a thread: [`Builder::spawn_scoped`] says so instead.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        Builder::new().spawn_scoped(self, f).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Builder {
    /// Runs `f` in a new thread of `scope`.
    ///
    /// # Errors
    ///
    /// There is no memory for it; `f` is dropped.
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> Result<ScopedJoinHandle<'scope, T>, NoThread>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let is_joined = Arc::new(AtomicBool::new(false));
        let joinable = scope.change(|threads| {
            // What may fail comes first: no thread runs that is not listed.
            threads.reserve(1);
            // SAFETY: `scope` returns when all threads listed have ended, and what `f` borrows outlives that.
            let joinable = unsafe { self.spawn_unchecked(f) }?;
            threads.push(Member { record: joinable.record, id: joinable.id, is_joined: is_joined.clone() });
            Ok(joinable)
        })?;
        Ok(ScopedJoinHandle { joinable, is_joined, scope: PhantomData })
    }
}

/// Waits for a thread of a scope. Dropping it leaves the waiting to the scope's end.
pub struct ScopedJoinHandle<'scope, T> {
    joinable: Joinable<T>,
    is_joined: Arc<AtomicBool>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits until the thread has ended, and gives what it returned.
    ///
    /// # Errors
    ///
    /// A panic stopped it ([`Builder::isolate`]).
    pub fn join(self) -> Result<T, Stopped> {
        self.is_joined.store(true, Ordering::Relaxed);
        self.joinable.join()
    }

    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.joinable.thread
    }

    /// Whether the thread has ended: then [`ScopedJoinHandle::join`] does not wait.
    pub fn is_finished(&self) -> bool {
        self.joinable.record.life_of(self.joinable.id) != Life::Alive
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("id", &self.joinable.id).finish_non_exhaustive()
    }
}

// SAFETY: what is reached through it is the result, which is moved out once, by whoever has the handle.
unsafe impl<T: Send> Send for ScopedJoinHandle<'_, T> {}
// SAFETY: a shared handle gives no access to the result.
unsafe impl<T: Send> Sync for ScopedJoinHandle<'_, T> {}
