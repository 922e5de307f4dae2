//! Threads: which one runs where, and how they wait for each other. Independent of the machine, which is a [`Port`].
//!
//! | file | what |
//! | --- | --- |
//! | `thread.rs` | the record of a thread |
//! | `ready.rs` | the threads that are ready, a queue for each core, and the budget of background threads |
//! | `switch.rs` | from one thread to the next |
//! | `wait.rs` | waiting, waking, deadlines |
//! | `inherit.rs` | priorities that waiting threads lend |
//!
//! Kernel mode is never preempted: interrupts are masked in it, and a thread leaves its core only where it calls the
//! scheduler. Application mode is preempted by interrupts. So a spinlock's holder never loses its core, and nobody who
//! spins waits for longer than a short section.
//!
//! What holds, with the lock that keeps it so:
//!
//! - **TH-1** A thread is in a ready queue only while no core stands on its stack: the core that leaves it queues it, after
//!   the switch. (That core alone.)
//! - **TH-2** A waiting thread is in the bucket of its key exactly until somebody wakes it, its deadline passes or it
//!   cancels; whoever takes it out says which. (The bucket's lock.)
//! - **TH-3** A thread that was woken is queued exactly once: by the waker if it slept, else by the core that was leaving it,
//!   else not at all, since it never left. (Its wait state.)
//! - **TH-4** A thread's priority is the highest of its own and of those lent to it; it is in the list of its queue that was
//!   its priority's when it was put there, or moved since. (The lock of inheritance, then the queue's.)
//! - **TH-5** A core sleeps only while no thread is ready, or after it was kicked: it looks after it has said that it is
//!   idle, and who queues a thread looks for idle cores after that. (Sequentially consistent fences.)
//!
//! Locks: bucket → inheritance → ready queue, timers ([`Rank::Wait`](crate::sync::Rank::Wait),
//! [`Rank::Inherit`](crate::sync::Rank::Inherit), [`Rank::Run`](crate::sync::Rank::Run)).

mod inherit;
mod ready;
mod switch;
mod thread;
mod wait;

pub use ready::{BACKGROUND_PERCENT, QUANTUM, SLICE};
pub use thread::{Life, NAME, Name, PRIORITIES, Priority, Thread};

use crate::sync::parking::ThreadId;
use crate::sync::{Rank, Ranked};
use core::sync::atomic::{AtomicU64, Ordering};
use ready::CoreState;
use wait::Bucket;

/// Cores at most.
pub const MAX_CORES: usize = 64;

/// Buckets of waiting threads.
const BUCKETS: usize = 64;

/// The machine below the scheduler. Times are in nanoseconds of one monotonic clock for all cores.
///
/// # Safety
///
/// `switch` gives the core to the thread it is told to and returns when the one that called it is given a core again;
/// `current` is the thread that calls; `core` is the core that it runs on.
pub unsafe trait Port: Sync {
    /// The running core, below [`MAX_CORES`]. In kernel mode it changes in `switch` only.
    fn core(&self) -> usize;

    /// The running thread.
    fn current(&self) -> &'static Thread;

    /// The time.
    fn now(&self) -> u64;

    /// Has the running core interrupted at `at`, or not at all; replaces what was set before.
    fn set_alarm(&self, at: Option<u64>);

    /// Has core `core` interrupted soon, perhaps the running one.
    fn kick(&self, core: usize);

    /// The record of a thread, which may have ended since; `None` for what never was one.
    fn find(&self, id: ThreadId) -> Option<&'static Thread>;

    /// Leaves `from`, which calls, for `to`. Returns when another switch leads to `from`, perhaps on another core.
    ///
    /// # Safety
    ///
    /// `to` has a stack, no core stands on it, and the caller calls [`Scheduler::arrive`] when this returns.
    unsafe fn switch(&self, from: &'static Thread, to: &'static Thread);

    /// Takes back what belongs to a thread that ended, but its record's place: no core stands on its stack any more.
    fn retire(&self, thread: &'static Thread);

    /// Sleeps until an interrupt is pending, which one that came before counts as.
    fn sleep(&self);

    /// Calls [`Scheduler::interrupt`] if an interrupt is pending.
    fn poll(&self);
}

/// All threads of a machine.
pub struct Scheduler<P: Port> {
    port: P,
    cores: [CoreState; MAX_CORES],
    /// A bit for each core that takes part.
    online: AtomicU64,
    /// A bit for each core that has nothing to do and was not kicked since it said so.
    idle: AtomicU64,
    buckets: [Bucket; BUCKETS],
    /// The share of a core that background threads get.
    background_percent: AtomicU64,
    /// Guards what threads lend each other.
    inheritance: Ranked<()>,
}

impl<P: Port> Scheduler<P> {
    /// A scheduler without cores.
    pub const fn new(port: P) -> Self {
        Scheduler {
            port,
            cores: [const { CoreState::new() }; MAX_CORES],
            online: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            buckets: [const { Bucket::new() }; BUCKETS],
            background_percent: AtomicU64::new(BACKGROUND_PERCENT),
            inheritance: Ranked::new(Rank::Inherit, ()),
        }
    }

    /// The machine.
    pub fn port(&self) -> &P {
        &self.port
    }

    /// Lets the running core take part. `idle` is the thread that it runs now, and when there is nothing else to run: it goes
    /// on with [`Scheduler::idle`].
    pub fn join(&self, idle: &'static Thread) {
        let core = self.port.core();
        self.cores[core].join(idle, self.port.now());
        idle.core.store(core, Ordering::Relaxed);
        self.online.fetch_or(1 << core, Ordering::AcqRel);
    }

    /// How many cores take part.
    pub fn cores(&self) -> usize {
        self.online.load(Ordering::Acquire).count_ones() as usize
    }

    /// The numbers of those that do. A core that did not come up leaves a gap.
    pub fn online(&self) -> impl Iterator<Item = usize> {
        let online = self.online.load(Ordering::Acquire);
        (0..MAX_CORES).filter(move |core| online >> core & 1 != 0)
    }

    /// Sets the share of a core that background threads get while application threads are ready, in percent; with 0 they get none.
    ///
    /// # Panics
    ///
    /// Above 100.
    pub fn set_background_percent(&self, percent: u64) {
        assert!(percent <= 100, "{percent} percent of a core");
        self.background_percent.store(percent, Ordering::Relaxed);
    }

    fn background_percent(&self) -> u64 {
        self.background_percent.load(Ordering::Relaxed)
    }

    /// How many threads wait at a core that runs another: at the core where the fewest do, and where the most do.
    pub fn waiting(&self) -> (u32, u32) {
        let waiting = || self.online().map(|core| self.cores[core].waiting());
        (waiting().min().unwrap_or(0), waiting().max().unwrap_or(0))
    }

    /// Switches between threads since the start, on all cores.
    pub fn switches(&self) -> u64 {
        self.online().map(|core| self.cores[core].switches.load(Ordering::Relaxed)).sum()
    }
}
