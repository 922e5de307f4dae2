//! Memory pressure: the time that is lost to it, and what the application can do about it.
//!
//! Who waits for memory to be taken back, or for a block to be made free, is *stalled*. The time in which anyone is, is summed up
//! (Linux: PSI, `/proc/pressure/memory`, the line `some`), and averaged over the last 10, 60 and 300 seconds.
//!
//! The application can have a *listener*: a thread that waits until memory is low, and gives some of its own up. A fault
//! for which nothing else is left waits for the listener before it fails.
#![forbid(unsafe_code)]

use crate::sync::parking::{self, ThreadId, try_parking};
use crate::sync::{Rank, Ranked, Signal};
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// How grave it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Memory is low, and there is nothing more that the memory manager could give back by itself.
    Low = 1,
    /// A thread waits for memory, and the application ends if there is none.
    Critical = 2,
}

/// How often averages are taken, in nanoseconds.
const PERIOD: u64 = 2_000_000_000;
/// Periods that are made up for at most.
const MOST_PERIODS: u64 = 300;
/// What an average keeps of itself in a period, in 1/2048: e to the power of −2/10, −2/60, −2/300 (Linux: `EXP_10s` and so on).
const KEEPS: [u64; 3] = [1677, 1981, 2034];
/// How long a fault waits for the listener, in nanoseconds.
const PATIENCE: u64 = 1_000_000_000;

/// The time lost to memory so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stalls {
    /// Nanoseconds in which any thread waited for memory, since boot.
    pub total: u64,
    /// The share of that in the last 10, 60 and 300 seconds, in hundredths of a percent.
    pub averages: [u16; 3],
}

impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("some")?;
        for (name, average) in ["avg10", "avg60", "avg300"].iter().zip(self.averages) {
            write!(f, " {name}={}.{:02}", average / 100, average % 100)?;
        }
        write!(f, " total={}", self.total / 1000)
    }
}

/// Averages, in 1/2²⁰, and when they were taken.
#[derive(Default)]
struct Averages {
    at: u64,
    total: u64,
    values: [u64; 3],
}

/// What is known of pressure.
pub struct Pressure {
    /// Threads that are stalled, and since when any is.
    stalled: AtomicUsize,
    since: AtomicU64,
    total: AtomicU64,
    averages: Ranked<Averages>,
    /// Raised for the listener.
    wanted: Signal,
    level: AtomicU8,
    /// The listener's thread; 0 for none.
    listener: AtomicU64,
    /// How often the listener has begun to do what it can, and how often it has done it.
    begun: AtomicU64,
    done: AtomicU64,
}

fn now() -> u64 {
    try_parking().map_or(0, |parking| (parking.now)())
}

/// Counts a thread as stalled until it is dropped.
pub(super) struct Stall<'p>(&'p Pressure);

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        let since = self.0.since.load(Ordering::Relaxed);
        if self.0.stalled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.total.fetch_add(now().saturating_sub(since), Ordering::Relaxed);
        }
    }
}

impl Pressure {
    pub(super) fn new() -> Self {
        Pressure {
            stalled: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            total: AtomicU64::new(0),
            averages: Ranked::new(Rank::Cache, Averages::default()),
            wanted: Signal::new(),
            level: AtomicU8::new(0),
            listener: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// The running thread waits for memory from here on.
    pub(super) fn stall(&self) -> Stall<'_> {
        if self.stalled.fetch_add(1, Ordering::AcqRel) == 0 {
            self.since.store(now(), Ordering::Relaxed);
        }
        Stall(self)
    }

    /// The time lost to memory so far.
    pub fn stalls(&self) -> Stalls {
        self.stalls_at(now())
    }

    /// As [`Pressure::stalls`], at time `now` (nanoseconds).
    pub fn stalls_at(&self, now: u64) -> Stalls {
        let running = match self.stalled.load(Ordering::Acquire) {
            0 => 0,
            _ => now.saturating_sub(self.since.load(Ordering::Relaxed)),
        };
        let total = self.total.load(Ordering::Relaxed) + running;
        let mut averages = self.averages.lock();
        let periods = now.saturating_sub(averages.at) / PERIOD;
        if periods > 0 {
            // Spread evenly over the periods that have passed.
            let lost = total.saturating_sub(averages.total).min(periods * PERIOD);
            let share = lost / periods * (1 << 20) / PERIOD;
            for (value, keeps) in averages.values.iter_mut().zip(KEEPS) {
                for _ in 0..periods.min(MOST_PERIODS) {
                    *value = (*value * keeps + share * (2048 - keeps)) / 2048;
                }
            }
            averages.at += periods * PERIOD;
            averages.total = total;
        }
        Stalls { total, averages: averages.values.map(|value| ((value * 10_000) >> 20) as u16) }
    }

    /// Makes the running thread the listener; false if there is one.
    pub fn listen(&self) -> bool {
        let me = parking::me().number();
        self.listener.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends the listener's part: who waits for it does so no longer. Called by any thread, for the listener to [end](Self::wait).
    pub fn stop_listening(&self) {
        self.listener.store(0, Ordering::Release);
        self.finish_round();
        self.wanted.raise();
    }

    /// Waits, as the listener, until memory is short, and says how; `None` once it is not the listener any more.
    pub fn wait(&self) -> Option<Level> {
        loop {
            if self.listener.load(Ordering::Acquire) != parking::me().number() {
                // What was raised may have been meant for its successor.
                self.wanted.raise();
                return None;
            }
            // Before the level is taken: who asks after that waits for another round.
            self.begun.store(self.done.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
            let level = self.level.swap(0, Ordering::SeqCst);
            if level > 0 {
                return Some(if level == Level::Low as u8 { Level::Low } else { Level::Critical });
            }
            self.begun.fetch_sub(1, Ordering::SeqCst);
            self.wanted.wait(None);
        }
    }

    /// Says, as the listener, that it has done what it could.
    pub fn finish_round(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
        if let Some(parking) = try_parking() {
            (parking.wake)(self.rounds_key(), usize::MAX);
        }
    }

    fn rounds_key(&self) -> usize {
        core::ptr::from_ref(&self.done).addr()
    }

    /// Asks the listener, if there is one.
    pub(super) fn ask(&self, level: Level) -> bool {
        if self.listener.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.level.fetch_max(level as u8, Ordering::SeqCst);
        self.wanted.raise();
        true
    }

    /// Asks the listener and waits until it has done what it could; false where there is none, or it is the one that asks. Holds
    /// no lock.
    pub(super) fn ask_and_wait(&self, level: Level) -> bool {
        let listener = self.listener.load(Ordering::Acquire);
        if listener == 0 || ThreadId::new(listener) == Some(parking::me()) {
            return false;
        }
        let Some(parking) = try_parking() else { return false };
        // A round that has begun by now may not know of it: the end of the next one counts; or that the listener has nothing more to
        // do.
        let target = self.begun.load(Ordering::SeqCst) + 1;
        if !self.ask(level) {
            return false;
        }
        let is_over = || {
            let done = self.done.load(Ordering::SeqCst);
            let rests = || self.level.load(Ordering::SeqCst) == 0 && self.begun.load(Ordering::SeqCst) == done;
            done >= target || rests() || self.listener.load(Ordering::SeqCst) != listener
        };
        let deadline = (parking.now)().saturating_add(PATIENCE);
        while !is_over() && (parking.now)() < deadline {
            (parking.prepare)(self.rounds_key(), None);
            match is_over() {
                true => (parking.cancel)(),
                false => _ = (parking.park)(Some(deadline)),
            }
        }
        true
    }
}
