//! A place where threads wait until all have come.
#![forbid(unsafe_code)]

use crate::sync::condvar::Condvar;
use crate::sync::mutex::Mutex;
use crate::sync::poison::PoisonError;

/// Lets threads go on only once a given number of them has come. It can be used again and again. Like
/// `std::sync::Barrier`.
#[derive(Debug)]
pub struct Barrier {
    state: Mutex<State>,
    passed: Condvar,
    threads: usize,
}

#[derive(Debug)]
struct State {
    /// How many wait.
    waiting: usize,
    /// How often all had come.
    generation: u64,
}

/// Whether a thread was the last to come. Like `std::sync::BarrierWaitResult`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Of those that went on together, one is the leader.
    pub fn is_leader(self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for `threads` threads; for 0 it holds none up, as for 1.
    pub const fn new(threads: usize) -> Self {
        Self { state: Mutex::new(State { waiting: 0, generation: 0 }), passed: Condvar::new(), threads }
    }

    /// Sleeps until as many threads have come as the barrier is for.
    pub fn wait(&self) -> BarrierWaitResult {
        // Nothing panics while the state is locked, so what a stopped thread left is whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = state.generation;
        state.waiting += 1;
        if state.waiting >= self.threads {
            state.waiting = 0;
            state.generation += 1;
            drop(state);
            self.passed.notify_all();
            return BarrierWaitResult(true);
        }
        let passed = self.passed.wait_while(state, |state| state.generation == generation);
        drop(passed.unwrap_or_else(PoisonError::into_inner));
        BarrierWaitResult(false)
    }
}
