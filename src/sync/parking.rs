//! How threads wait for each other: the one boundary between locks and the scheduler.
//!
//! A thread that has to wait *prepares*, looks once more whether it still has to, and then *parks* or *cancels*. Whoever
//! changes what threads may wait for *wakes* them after the change. A wake that comes between prepare and park counts: the
//! park returns at once. So no wake is lost, and nobody but the threads themselves reads the word that they wait for.
//! Preparations and wakes at one key come one after the other, and what a thread wrote before a wake, those see who prepare
//! after it.
//!
//! The scheduler is installed once: the kernel's on the target, a test's on the host.
#![forbid(unsafe_code)]

use core::num::NonZeroU64;
use core::time::Duration;

/// A thread, for as long as the machine runs: no two threads ever have the same. Below 2⁶², so that a lock's word has room
/// for two flags beside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ThreadId(NonZeroU64);

impl ThreadId {
    /// Who runs before a scheduler is installed. The scheduler leaves this number to that thread, or gives it another one
    /// at a time when it holds no lock.
    pub const BOOT: Self = Self(NonZeroU64::new((1 << 62) - 1).unwrap());

    /// The thread of this number; `None` for 0 and for numbers from 2⁶² on.
    #[inline]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) if number.get() >> 62 == 0 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u64 {
        self.0.get()
    }
}

/// How a preparation went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prepared {
    /// The thread is among those that [`Parking::wake`] finds: it must park or cancel next, and prepare nothing else before.
    Ready,
    /// The owner was stopped, alone, by a panic: it will never wake anybody. Nothing is prepared. What it did before its end
    /// is seen.
    OwnerStopped,
}

/// How a park ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Somebody woke the thread; or the owner that it waited for was stopped, which the next preparation tells.
    Woken,
    /// The deadline passed first.
    TimedOut,
}

/// What a scheduler does for those who wait. All are called in either mode.
#[derive(Clone, Copy)]
pub struct Parking {
    /// The running thread.
    pub me: fn() -> ThreadId,
    /// Enters the running thread among those that wait at `key`, an address that stands for what they wait for. `owner` is
    /// the thread that has it: until it wakes somebody at `key`, it runs at no lower a priority than those that wait there.
    pub prepare: fn(key: usize, owner: Option<ThreadId>) -> Prepared,
    /// Sleeps until woken, or until the monotonic clock reaches `deadline` (nanoseconds).
    pub park: fn(deadline: Option<u64>) -> Wake,
    /// Takes a preparation back.
    pub cancel: fn(),
    /// Wakes up to `count` of the threads that wait at `key`, those of the highest priority first, among them those that
    /// have waited longest. Returns how many. Those that go on waiting there have no known owner until the next
    /// preparation at `key` names one.
    pub wake: fn(key: usize, count: usize) -> usize,
    /// Says that the running thread has what those wait for that wait at `key`, if any do: it is their owner now, as if the
    /// last of them had named it. So they learn of its end, though all of them went to sleep under another owner.
    pub own: fn(key: usize),
    /// Whether this thread was stopped, alone, by a panic. What it did before its end is seen.
    pub stopped: fn(thread: ThreadId) -> bool,
    /// The monotonic clock, in nanoseconds: the one that deadlines are on. It never goes back.
    pub now: fn() -> u64,
    /// Whether waiting a moment for another thread, without sleeping, can help: there is another core.
    pub spin: fn() -> bool,
}

static PARKING: spin::Once<Parking> = spin::Once::new();

impl Parking {
    /// Installs this as the machine's; only the first one counts.
    pub fn install(self) {
        PARKING.call_once(|| self);
    }
}

/// The scheduler of this machine.
///
/// # Panics
///
/// Before one is installed: nobody can wait then.
#[inline]
pub fn parking() -> &'static Parking {
    try_parking().expect("a scheduler is installed before threads wait")
}

/// The scheduler of this machine; `None` before one is installed: a single thread runs then.
#[inline]
pub fn try_parking() -> Option<&'static Parking> {
    PARKING.get()
}

/// The running thread; before a scheduler is installed, [`ThreadId::BOOT`].
#[inline]
pub fn me() -> ThreadId {
    try_parking().map_or(ThreadId::BOOT, |parking| (parking.me)())
}

/// When a wait of `timeout` from now on ends; `None` if never, as the clock counts.
///
/// # Panics
///
/// Before a scheduler is installed.
pub fn deadline_after(timeout: Duration) -> Option<u64> {
    let nanoseconds = u64::try_from(timeout.as_nanos()).ok()?;
    (parking().now)().checked_add(nanoseconds)
}
