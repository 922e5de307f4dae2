//! Threads: switches, made and ended ones, locks, and the pool that idle time fills.

use crate::sample::{report, ticks, time};
use alloc::vec::Vec;
use ashlar::sync::Mutex;
use ashlar::thread;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

const ROUNDS: u64 = 64;
const SAMPLES: usize = 64;

/// Two threads that hand one core to each other: half of a round trip.
pub fn context_switch() {
    let stop = AtomicBool::new(false);
    let samples = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        });
        thread::yield_now();
        let sample = |_| {
            let start = ticks();
            (0..ROUNDS).for_each(|_| thread::yield_now());
            (ticks() - start) / (2 * ROUNDS)
        };
        let samples: Vec<u64> = (0..SAMPLES).map(sample).collect();
        stop.store(true, Ordering::Relaxed);
        samples
    });
    report("context_switch", samples);
}

/// A thread that does nothing: from its spawn to the return of its join.
pub fn spawn_join() {
    let sample = || time(|| thread::spawn(|| ()).join().expect("it does not panic"));
    (0..4).for_each(|_| _ = sample());
    report("spawn_join", (0..SAMPLES).map(|_| sample()).collect());
}

/// A lock that nobody else wants: taken and freed.
pub fn mutex() {
    let mutex = Mutex::new(0_u64);
    let sample = |_| {
        time(|| {
            for _ in 0..ROUNDS {
                *black_box(&mutex).lock().expect("nobody panics") += 1;
            }
        }) / ROUNDS
    };
    report("mutex_uncontended", (0..SAMPLES).map(sample).collect());
}
