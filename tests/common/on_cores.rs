//! Threads that are seen on every core of the booted machine.

use ashlar::arch::aarch64::{gate, percore};
use ashlar::sync::Barrier;
use ashlar::thread;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

/// The boot argument `expect=N`.
pub fn expected() -> usize {
    let argument = ashlar::args().find(|argument| argument.key == "expect").and_then(|argument| argument.value);
    argument.expect("expect=N").parse().expect("a number")
}

/// Runs as many threads as there should be cores at once, none of which leaves its core before all have been seen: a bit
/// for each core that one of them ran on.
pub fn cores_at_once() -> u64 {
    let (seen, together) = (AtomicU64::new(0), Barrier::new(expected()));
    thread::scope(|scope| {
        for _ in 0..expected() {
            scope.spawn(|| {
                together.wait();
                while seen.load(Ordering::Relaxed).count_ones() < expected() as u32 {
                    seen.fetch_or(1 << gate::call(percore::index), Ordering::Relaxed);
                    spin_loop();
                }
            });
        }
    });
    seen.into_inner()
}
