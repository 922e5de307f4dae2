//! Simulated cores as threads that run one at a time and may be switched at every step of the machine. The order is
//! drawn from a seed, so a failure comes back.

#![allow(dead_code, reason = "no test file uses all of it")]

use ashlar::arch::sim::{Rule, SimConfig, SimMachine, Violation};
use ashlar::sync::parking::{Parking, Prepared, ThreadId, Wake};
use ashlar::sync::{Held, Waiting};
use shuttle::scheduler::RandomScheduler;
use shuttle::thread::JoinHandle;
use shuttle::{Config, Runner};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Simulated cores of a machine at most; each has its own locks, apart for each test that runs.
const CORES: usize = 4;
const TESTS: usize = 16;
const SEED: u64 = 0x5eed;

static HELD: [Held; TESTS * CORES] = [const { Held::new() }; TESTS * CORES];

shuttle::thread_local! {
    static CORE: Cell<usize> = const { Cell::new(0) };
}

thread_local! {
    /// Which of the tests that run side by side this one is.
    static TEST: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % TESTS
    };
    static NOTED: Cell<usize> = const { Cell::new(0) };
}

/// The core that the running thread is.
pub fn current() -> usize {
    CORE.with(Cell::get)
}

/// Starts `program` as core `core`.
pub fn start(core: usize, program: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    assert!(core < CORES);
    shuttle::thread::spawn(move || {
        CORE.with(|current| current.set(core));
        program();
    })
}

/// Counts a schedule as one on which something happened.
pub fn note(happened: bool) {
    NOTED.set(NOTED.get() + usize::from(happened));
}

/// What came of all schedules.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rules broken on any schedule.
    pub rules: BTreeSet<Rule>,
    /// Schedules noted.
    pub noted: usize,
}

impl Outcome {
    /// Whether `rule` was broken on any schedule.
    pub fn flagged(&self, rule: Rule) -> bool {
        self.rules.contains(&rule)
    }
}

/// Who waits for a sleeping lock tries again when it is its turn: cores have nothing else to do here.
fn install_parking() {
    Parking {
        me: || ThreadId::new(current() as u64 + 1).expect("below 2^62"),
        prepare: |_, _| Prepared::Ready,
        park: |_| {
            shuttle::thread::yield_now();
            Wake::Woken
        },
        cancel: || (),
        wake: |_, _| 0,
        own: |_| (),
        stopped: |_| false,
        now: || 0,
        spin: || false,
    }
    .install();
}

/// Runs `program` as core 0 on a fresh machine for each of `schedules` schedules; it returns the violations.
pub fn interleave(schedules: usize, program: impl Fn(SimMachine) -> Vec<Violation> + Send + Sync + 'static) -> Outcome {
    Waiting {
        held: || &HELD[TEST.with(|test| test * CORES) + current()],
        core: current,
        relax: shuttle::thread::yield_now,
        breathe: shuttle::thread::yield_now,
        switch: shuttle::thread::yield_now,
    }
    .install();
    install_parking();
    NOTED.set(0);
    let rules = Arc::new(Mutex::new(BTreeSet::new()));
    let (found, seed) = (rules.clone(), AtomicU64::new(SEED));
    let scheduler = RandomScheduler::new_from_seed(SEED, schedules);
    Runner::new(scheduler, Config::default()).run(move || {
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        let machine = SimMachine::new(SimConfig { cores: CORES, seed, panics: false, ..SimConfig::default() });
        machine.set_yield(shuttle::thread::yield_now);
        machine.set_current_core(current);
        let violations = program(machine);
        found.lock().expect("no panic").extend(violations.iter().map(|violation| violation.rule));
    });
    Outcome { rules: std::mem::take(&mut rules.lock().expect("no panic")), noted: NOTED.get() }
}
