//! Threads, as `std::thread` has them.
//!
//! ```ignore
//! let sums: Vec<u64> = ashlar::thread::scope(|scope| {
//!     let workers: Vec<_> = data.chunks(1 << 20).map(|part| scope.spawn(move || part.iter().sum::<u64>())).collect();
//!     workers.into_iter().map(|worker| worker.join().unwrap()).collect()
//! });
//! ```
//!
//! A thread runs on whatever core is free ([`available_parallelism`] says how many there are) and is preempted when
//! others are ready. Its stack is backed as it is touched, with guard pages below it; [`Builder::stack_size`] says how large it
//! may grow, [`STACK_SIZE`] without it. A panic is reported with the thread's name and ends the machine; in a thread made with
//! [`Builder::isolate`] it ends that thread alone: nothing is unwound, so nothing that it owns is dropped, locks that it
//! holds are poisoned, and [`JoinHandle::join`] gives [`Stopped`].

mod local;
mod scope;

pub use crate::arch::aarch64::threads::NoThread;
pub use crate::task::Priority;
pub use local::LocalKey;
pub use scope::{Scope, ScopedJoinHandle, scope};

use crate::arch::aarch64::gate;
use crate::arch::aarch64::threads::{self, SCHEDULER, Spec};
use crate::sync::parking::{ThreadId, deadline_after, parking};
use crate::task::{self, Life, Name, Scheduler};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use local::Local;

/// Bytes of a thread's stack unless its [`Builder`] says otherwise. It counts against the commit limit, touched or not.
pub const STACK_SIZE: usize = 256 << 10;
/// The least that a stack has.
const SMALLEST_STACK: usize = 16 << 10;

/// A handle to a thread, which may have ended.
#[derive(Clone)]
pub struct Thread {
    inner: Arc<Inner>,
}

struct Inner {
    name: Option<String>,
    /// Known once the thread is made: to its maker, and to itself.
    id: AtomicU64,
    /// 1 when [`Thread::unpark`] was called since the last [`park`].
    token: AtomicU32,
}

impl Thread {
    /// A handle to a thread that is still to be made, or to say which it is.
    fn new(name: Option<String>) -> Self {
        Thread { inner: Arc::new(Inner { name, id: AtomicU64::new(0), token: AtomicU32::new(0) }) }
    }

    fn set_id(&self, id: ThreadId) {
        self.inner.id.store(id.number(), Ordering::Relaxed);
    }

    /// What tells it from all other threads there are or ever were.
    pub fn id(&self) -> ThreadId {
        let id = ThreadId::new(self.inner.id.load(Ordering::Relaxed));
        id.unwrap_or_else(|| unreachable!("who has a handle to a thread was told which it is"))
    }

    /// Its name: "main", or what its [`Builder`] was given.
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// Its name as reports show it.
    fn short_name(&self) -> Name {
        Name::new(self.name().unwrap_or("unnamed"))
    }

    /// Lets the thread's [`park`] return: the one that it is in, or else the next.
    pub fn unpark(&self) {
        let token = &self.inner.token;
        if token.swap(1, Ordering::Release) == 0 {
            (parking().wake)(core::ptr::from_ref(token).addr(), 1);
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// The running thread.
pub fn current() -> Thread {
    Local::current().thread.clone()
}

/// Waits until someone calls [`Thread::unpark`] for this thread, unless that has happened already. May return sooner.
pub fn park() {
    park_until(None);
}

/// As [`park`], for no longer than `timeout`.
pub fn park_timeout(timeout: Duration) {
    park_until(deadline_after(timeout));
}

fn park_until(deadline: Option<u64>) {
    let thread = current();
    let token = &thread.inner.token;
    if token.swap(0, Ordering::Acquire) == 1 {
        return;
    }
    (parking().prepare)(core::ptr::from_ref(token).addr(), None);
    if token.load(Ordering::Relaxed) == 1 {
        (parking().cancel)();
    } else {
        (parking().park)(deadline);
    }
    token.swap(0, Ordering::Acquire);
}

/// Sleeps for at least `duration`: to within some microseconds, where a core is free by then.
pub fn sleep(duration: Duration) {
    let deadline = deadline_after(duration);
    gate::call(move || {
        // Nobody wakes what waits for its own record.
        let key = core::ptr::from_ref(threads::current()).addr() + 1;
        SCHEDULER.prepare(key, None);
        SCHEDULER.park(deadline);
    });
}

/// Lets other threads that are ready run first.
pub fn yield_now() {
    gate::call(|| SCHEDULER.yield_now());
}

/// How many threads can run at once: cores that are up. At least 1.
pub fn available_parallelism() -> NonZeroUsize {
    NonZeroUsize::new(SCHEDULER.cores()).unwrap_or(NonZeroUsize::MIN)
}

/// What a new thread is to be like.
#[derive(Clone, Debug, Default)]
#[must_use = "a thread is made by spawn"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
    priority: Priority,
    isolated: bool,
}

impl Builder {
    /// A thread of [`Priority::Application`], without a name, on a stack of [`STACK_SIZE`], whose panic ends the machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its name, which reports show: up to [`task::NAME`] bytes of it.
    pub fn name(self, name: impl Into<String>) -> Self {
        Builder { name: Some(name.into()), ..self }
    }

    /// Bytes of its stack, rounded up to whole pages.
    pub fn stack_size(self, bytes: usize) -> Self {
        Builder { stack_size: Some(bytes), ..self }
    }

    /// Its priority. A thread that holds a lock for which a more urgent one waits runs as that one would.
    pub fn priority(self, priority: Priority) -> Self {
        Builder { priority, ..self }
    }

    /// Has a panic stop this thread alone, instead of ending the machine.
    pub fn isolate(self) -> Self {
        Builder { isolated: true, ..self }
    }

    /// Runs `f` in a new thread.
    ///
    /// # Errors
    ///
    /// There is no memory for it; `f` is dropped.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, NoThread>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: `f` and its result live for as long as they like.
        unsafe { self.spawn_unchecked(f) }.map(JoinHandle)
    }

    /// # Safety
    ///
    /// The thread ends, or is stopped for good, while all that `F` and `T` borrow still lives.
    unsafe fn spawn_unchecked<'a, F, T>(self, f: F) -> Result<Joinable<T>, NoThread>
    where
        F: FnOnce() -> T + Send + 'a,
        T: Send + 'a,
    {
        let packet = Arc::new(Packet { result: UnsafeCell::new(None) });
        let theirs = packet.clone();
        let run = move || {
            let result = f();
            // SAFETY: the other side looks when this thread has ended only.
            unsafe { *theirs.result.get() = Some(result) };
        };
        let run: Box<dyn FnOnce() + Send + 'a> = Box::new(run);
        // SAFETY: a longer life in name alone: the caller vouches for the real one.
        let run: Box<dyn FnOnce() + Send + 'static> = unsafe { core::mem::transmute(run) };
        let thread = Thread::new(self.name);
        let start = Box::into_raw(Box::new(Start { thread: thread.clone(), run }));
        let spec = Spec {
            name: thread.short_name().0,
            priority: self.priority,
            start: run_in_kernel_mode,
            argument: start.expose_provenance(),
            stack: self.stack_size.unwrap_or(STACK_SIZE).max(SMALLEST_STACK),
            isolated: self.isolated,
        };
        match gate::call(move || threads::spawn(spec)) {
            Ok((record, id)) => {
                thread.set_id(id);
                Ok(Joinable { record, id, thread, packet })
            }
            Err(error) => {
                // SAFETY: it was not handed over: the thread does not exist.
                drop(unsafe { Box::from_raw(start) });
                Err(error)
            }
        }
    }
}

/// Runs `f` in a new thread.
///
/// # Panics
///
/// When there is no memory for a thread: [`Builder::spawn`] says so instead.
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn(f).unwrap_or_else(|error| panic!("{error}"))
}

/// What a thread is handed.
struct Start {
    thread: Thread,
    run: Box<dyn FnOnce() + Send>,
}

/// The kernel's part of the thread.
extern "C" fn run_in_kernel_mode(argument: usize) {
    threads::run_in_application_mode(run, argument);
}

/// The application's part.
extern "C" fn run(argument: usize) -> i32 {
    // SAFETY: `spawn_unchecked` gave this away, to this thread alone.
    let start = unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Start>(argument)) };
    Local::install(start.thread);
    (start.run)();
    Local::remove();
    0
}

/// Where the result goes.
struct Packet<T> {
    result: UnsafeCell<Option<T>>,
}

// SAFETY: the thread writes the result before it ends, and whoever joins it reads it after that: never both at once.
unsafe impl<T: Send> Sync for Packet<T> {}

/// A thread that can be waited for.
struct Joinable<T> {
    record: &'static task::Thread,
    id: ThreadId,
    thread: Thread,
    packet: Arc<Packet<T>>,
}

/// A panic stopped the thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// Which thread it was.
    pub id: ThreadId,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a panic stopped thread {}", self.name)
    }
}

impl core::error::Error for Stopped {}

/// Waits until the thread `id` of `record` has ended.
fn wait_for_end(record: &'static task::Thread, id: ThreadId) -> Life {
    let key = Scheduler::<threads::Hardware>::end_key(record);
    while record.life_of(id) == Life::Alive {
        (parking().prepare)(key, None);
        if record.life_of(id) == Life::Alive {
            (parking().park)(None);
        } else {
            (parking().cancel)();
        }
    }
    record.life_of(id)
}

impl<T> Joinable<T> {
    fn join(self) -> Result<T, Stopped> {
        let stopped = Stopped { id: self.id, name: self.thread.short_name() };
        match wait_for_end(self.record, self.id) {
            Life::Stopped => Err(stopped),
            // SAFETY: the thread has ended, and this handle is the only one.
            _ => unsafe { (*self.packet.result.get()).take() }.ok_or(stopped),
        }
    }
}

/// Waits for a thread. Dropping it lets the thread run on, alone.
pub struct JoinHandle<T>(Joinable<T>);

impl<T> JoinHandle<T> {
    /// Waits until the thread has ended, and gives what it returned.
    ///
    /// # Errors
    ///
    /// A panic stopped it ([`Builder::isolate`]).
    pub fn join(self) -> Result<T, Stopped> {
        self.0.join()
    }

    /// Whether the thread has ended: then [`JoinHandle::join`] does not wait.
    pub fn is_finished(&self) -> bool {
        self.0.record.life_of(self.0.id) != Life::Alive
    }

    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.0.thread
    }

    /// What tells the thread from all others.
    pub fn id(&self) -> ThreadId {
        self.0.id
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

// SAFETY: what is reached through it is the result, which is moved out once, by whoever has the handle.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle gives no access to the result.
unsafe impl<T: Send> Sync for JoinHandle<T> {}
