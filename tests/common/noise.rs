//! Threads that print and do not stop.

extern crate alloc;

use ashlar::{println, thread};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Lines printed so far.
static LINES: AtomicUsize = AtomicUsize::new(0);

/// Starts a thread that prints for each core but the one that may be left for what is to happen, and waits until they do.
pub fn start() {
    let threads = thread::available_parallelism().get().saturating_sub(1).max(1);
    for number in 0..threads {
        thread::spawn(move || {
            loop {
                println!("noise of thread {number}, which goes on and on for as long as anybody lets it print");
                LINES.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while LINES.load(Ordering::Relaxed) < 20 {
        thread::yield_now();
    }
}
