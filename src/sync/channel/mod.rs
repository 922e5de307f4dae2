//! Queues from threads to threads. As `std::sync::mpsc`, with two differences: there may be several receivers, each value goes
//! to one of them; and a queue that cannot grow is an error with the value in it, where `std` aborts.
//!
//! A thread that was stopped by a panic drops nothing: as long as it had a sender or a receiver, the other side is not
//! disconnected.
#![forbid(unsafe_code)]

mod error;
mod queue;

pub use error::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::sync::channel::queue::{Patience, Queue};
use crate::sync::parking;

/// A channel whose queue grows as needed. Like `std::sync::mpsc::channel`.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue::new(None));
    (Sender { queue: queue.clone() }, Receiver { queue })
}

/// A channel that queues at most `bound` values: whoever sends more waits until one is received. With 0, a sender waits until a
/// receiver has taken its value. Like `std::sync::mpsc::sync_channel`.
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let queue = Arc::new(Queue::new(Some(bound)));
    (SyncSender { queue: queue.clone() }, Receiver { queue })
}

/// Sends to a [`channel`]. Like `std::sync::mpsc::Sender`.
pub struct Sender<T> {
    queue: Arc<Queue<T>>,
}

/// Sends to a [`sync_channel`]. Like `std::sync::mpsc::SyncSender`.
pub struct SyncSender<T> {
    queue: Arc<Queue<T>>,
}

/// Receives from a channel. Like `std::sync::mpsc::Receiver`, but there may be several.
pub struct Receiver<T> {
    queue: Arc<Queue<T>>,
}

impl<T> Sender<T> {
    /// Queues `value`; never waits for a receiver.
    ///
    /// # Errors
    ///
    /// If there is no receiver, or no memory.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.queue.push(value)
    }
}

impl<T> SyncSender<T> {
    /// Queues `value`, once there is room.
    ///
    /// # Errors
    ///
    /// If there is no receiver, or no memory.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.queue.push(value)
    }

    /// Queues `value` if there is room.
    ///
    /// # Errors
    ///
    /// If there is no room, no receiver, or no memory.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.queue.try_push(value)
    }
}

impl<T> Receiver<T> {
    /// Takes the value that has been queued longest; sleeps until there is one.
    ///
    /// # Errors
    ///
    /// Once nothing is queued and there is no sender.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.queue.pop(Patience::Until(None)).map_err(|_| RecvError)
    }

    /// Takes the value that has been queued longest, if there is one.
    ///
    /// # Errors
    ///
    /// If nothing is queued; it says whether there is a sender.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.queue.pop(Patience::None).map_err(|error| match error {
            RecvTimeoutError::Timeout => TryRecvError::Empty,
            RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Takes the value that has been queued longest; sleeps until there is one, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// If the time passed; or once nothing is queued and there is no sender.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.queue.pop(Patience::Until(parking::deadline_after(timeout)))
    }

    /// What is received, until there is no sender; sleeps for each.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// What is queued; never sleeps.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.queue.add_sender();
        Self { queue: self.queue.clone() }
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> Self {
        self.queue.add_sender();
        Self { queue: self.queue.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.queue.add_receiver();
        Self { queue: self.queue.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.queue.remove_sender();
    }
}

impl<T> Drop for SyncSender<T> {
    fn drop(&mut self) {
        self.queue.remove_sender();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.queue.remove_receiver();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// What a channel's receiver receives. Like `std::sync::mpsc::Iter`.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// What is queued in a channel. Like `std::sync::mpsc::TryIter`.
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// What a channel's receiver receives, with the receiver. Like `std::sync::mpsc::IntoIter`.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;
    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
