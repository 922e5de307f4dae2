//! What the two ends of a channel share.
#![forbid(unsafe_code)]

use alloc::collections::VecDeque;

use crate::sync::channel::error::{RecvTimeoutError, SendError, TrySendError};
use crate::sync::condvar::Condvar;
use crate::sync::mutex::{Mutex, MutexGuard};
use crate::sync::poison::PoisonError;

/// How long a receiver waits.
pub(super) enum Patience {
    /// Not at all.
    None,
    /// Until the clock reaches this, if it is something.
    Until(Option<u64>),
}

/// The queue of a channel.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Something was queued, or the last sender left.
    filled: Condvar,
    /// Something was taken, or the last receiver left.
    emptied: Condvar,
    /// How many values there may be; 0 is for one whose sender waits until it is taken. `None`: no bound.
    bound: Option<usize>,
}

struct State<T> {
    values: VecDeque<T>,
    senders: usize,
    receivers: usize,
    /// Receivers that sleep until something is queued. Each looks at the queue again before it gives up.
    waiting: usize,
    /// How many values were queued so far, and how many of them taken.
    queued: u64,
    taken: u64,
}

impl<T> Queue<T> {
    /// An empty queue, for a sender and a receiver.
    pub(super) fn new(bound: Option<usize>) -> Self {
        let values = VecDeque::new();
        let state = State { values, senders: 1, receivers: 1, waiting: 0, queued: 0, taken: 0 };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new(), bound }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while the state is locked, and no value is dropped: what a stopped thread left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `value` once there is room; with bound 0, returns once it was taken.
    pub(super) fn push(&self, value: T) -> Result<(), SendError<T>> {
        let room = self.bound.map_or(usize::MAX, |bound| bound.max(1));
        let full = |state: &mut State<T>| state.receivers > 0 && state.values.len() >= room;
        let state = self.emptied.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        let ticket = state.queued;
        self.put(state, value)?;
        if self.bound == Some(0) { self.wait_for_taker(ticket) } else { Ok(()) }
    }

    /// Queues `value` if there is room; with bound 0, if a receiver waits for it.
    pub(super) fn try_push(&self, value: T) -> Result<(), TrySendError<T>> {
        let state = self.lock();
        let room = match self.bound {
            Some(0) => state.waiting,
            Some(bound) => bound,
            None => usize::MAX,
        };
        if state.receivers > 0 && state.values.len() >= room {
            return Err(TrySendError::Full(value));
        }
        Ok(self.put(state, value)?)
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, value: T) -> Result<(), SendError<T>> {
        if state.receivers == 0 {
            return Err(SendError::Disconnected(value));
        }
        // Who waited for room needs no memory: the queue held as many before. So no wake-up is lost with who fails here.
        if state.values.try_reserve(1).is_err() {
            return Err(SendError::OutOfMemory(value));
        }
        state.values.push_back(value);
        state.queued += 1;
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    fn wait_for_taker(&self, ticket: u64) -> Result<(), SendError<T>> {
        let queued = |state: &mut State<T>| state.taken <= ticket && state.receivers > 0;
        let mut state = self.emptied.wait_while(self.lock(), queued).unwrap_or_else(PoisonError::into_inner);
        // It was queued while nothing else was: as long as it is not taken, it is the first.
        if state.taken > ticket {
            return Ok(());
        }
        state.values.pop_front().map_or(Ok(()), |value| Err(SendError::Disconnected(value)))
    }

    /// Takes the first value, once there is one.
    pub(super) fn pop(&self, patience: Patience) -> Result<T, RecvTimeoutError> {
        let mut state = self.lock();
        let mut gives_up = false;
        loop {
            if let Some(value) = state.values.pop_front() {
                state.taken += 1;
                drop(state);
                match self.bound {
                    None => {}
                    // Its sender waits, and perhaps others for the room.
                    Some(0) => self.emptied.notify_all(),
                    Some(_) => self.emptied.notify_one(),
                }
                return Ok(value);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            let Patience::Until(deadline) = patience else { return Err(RecvTimeoutError::Timeout) };
            if gives_up {
                return Err(RecvTimeoutError::Timeout);
            }
            state.waiting += 1;
            let waited = self.filled.wait_until(state, deadline);
            let (again, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.waiting -= 1;
            gives_up = result.timed_out();
        }
    }

    pub(super) fn add_sender(&self) {
        self.lock().senders += 1;
    }

    pub(super) fn add_receiver(&self) {
        self.lock().receivers += 1;
    }

    pub(super) fn remove_sender(&self) {
        let mut state = self.lock();
        state.senders -= 1;
        let last = state.senders == 0;
        drop(state);
        if last {
            self.filled.notify_all();
        }
    }

    pub(super) fn remove_receiver(&self) {
        let mut state = self.lock();
        state.receivers -= 1;
        if state.receivers > 0 {
            return;
        }
        // Without a bound's room, a value is its waiting sender's, who takes it back.
        let mut values = VecDeque::new();
        if self.bound != Some(0) {
            core::mem::swap(&mut values, &mut state.values);
            state.taken = state.queued;
        }
        drop(state);
        self.emptied.notify_all();
    }
}
