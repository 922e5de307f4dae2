//! The threads that index, and how long they were at work.
#![forbid(unsafe_code)]

use ashlar::thread;
use ashlar::time::{self, Instant};
use core::fmt;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use index::Workers;

/// Threads that are made for each job: the calling one works, too.
pub struct Team {
    threads: NonZeroUsize,
    /// Nanoseconds that the others worked since [`Stages::end`] last asked.
    helped: AtomicU64,
    /// Nanoseconds that the calling thread waited for them.
    waited: AtomicU64,
}

impl Team {
    /// A team of so many.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self { threads, helped: AtomicU64::new(0), waited: AtomicU64::new(0) }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Workers for Team {
    fn count(&self) -> usize {
        self.threads.get()
    }

    fn run(&self, calls: usize, work: &(dyn Fn() + Sync)) {
        let help = || {
            let start = time::now();
            work();
            self.helped.fetch_add(nanoseconds(start.elapsed()), Ordering::Relaxed);
        };
        let done = thread::scope(|scope| {
            for _ in 1..calls.min(self.count()) {
                // Without memory for another thread, those that are there do its work.
                if thread::Builder::new().name("indexer").spawn_scoped(scope, help).is_err() {
                    break;
                }
            }
            work();
            time::now()
        });
        self.waited.fetch_add(nanoseconds(done.elapsed()), Ordering::Relaxed);
    }
}

/// Times one stage of a [`Team`]'s work after another.
pub struct Stages<'a> {
    team: &'a Team,
    last: Instant,
}

/// What a stage took. Displayed in milliseconds; as `{:#}`, how many threads were at work on average.
pub struct Stage {
    /// The time that passed.
    pub elapsed: Duration,
    /// The time that the threads worked, added up, in nanoseconds.
    work: u64,
}

impl<'a> Stages<'a> {
    /// The first stage begins.
    pub fn begin(team: &'a Team) -> Self {
        Self { team, last: time::now() }
    }

    /// A stage ends, and the next one begins.
    pub fn end(&mut self) -> Stage {
        let now = time::now();
        let elapsed = now - core::mem::replace(&mut self.last, now);
        let waited = self.team.waited.swap(0, Ordering::Relaxed);
        let helped = self.team.helped.swap(0, Ordering::Relaxed);
        Stage { elapsed, work: (nanoseconds(elapsed) + helped).saturating_sub(waited) }
    }

    /// What was done since the last stage counts for none; the next one begins.
    pub fn skip(&mut self) {
        self.end();
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let threads = self.work.saturating_mul(100) / nanoseconds(self.elapsed).max(1);
            write!(f, "{}.{:02}", threads / 100, threads % 100)
        } else {
            self.elapsed.as_millis().fmt(f)
        }
    }
}
