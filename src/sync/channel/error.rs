//! Why something could not be sent or received. A value that was not sent is in the error.
#![forbid(unsafe_code)]

use core::error::Error;
use core::fmt;

/// Why a value was not sent. As `std::sync::mpsc::SendError`, which knows the first reason only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// There is no receiver any more.
    Disconnected(T),
    /// There is no memory for the queue to grow.
    OutOfMemory(T),
}

/// Why a value was not sent at once. As `std::sync::mpsc::TrySendError`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The queue is full; without a queue, no receiver waits.
    Full(T),
    /// There is no receiver any more.
    Disconnected(T),
    /// There is no memory for the queue to grow.
    OutOfMemory(T),
}

/// Nothing is queued, and there is no sender any more. Like `std::sync::mpsc::RecvError`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvError;

/// Why nothing was received at once. Like `std::sync::mpsc::TryRecvError`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// Nothing is queued.
    Empty,
    /// Nothing is queued, and there is no sender any more.
    Disconnected,
}

/// Why nothing was received in time. Like `std::sync::mpsc::RecvTimeoutError`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecvTimeoutError {
    /// Nothing was queued until the time had passed.
    Timeout,
    /// Nothing is queued, and there is no sender any more.
    Disconnected,
}

impl<T> SendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            Self::Disconnected(value) | Self::OutOfMemory(value) => value,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Disconnected(_) => "sending on a channel without a receiver",
            Self::OutOfMemory(_) => "no memory for a channel's queue",
        }
    }
}

impl<T> TrySendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Disconnected(value) | Self::OutOfMemory(value) => value,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Full(_) => "sending on a full channel",
            Self::Disconnected(_) => "sending on a channel without a receiver",
            Self::OutOfMemory(_) => "no memory for a channel's queue",
        }
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Disconnected(value) => Self::Disconnected(value),
            SendError::OutOfMemory(value) => Self::OutOfMemory(value),
        }
    }
}

// The value need not be `Debug`, as in `std`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected(_) => "Disconnected(..)",
            Self::OutOfMemory(_) => "OutOfMemory(..)",
        })
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Disconnected(_) => "Disconnected(..)",
            Self::OutOfMemory(_) => "OutOfMemory(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("receiving on an empty channel without a sender")
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("receiving on an empty channel"),
            Self::Disconnected => RecvError.fmt(f),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("nothing was received in time"),
            Self::Disconnected => RecvError.fmt(f),
        }
    }
}

impl<T> Error for SendError<T> {}
impl<T> Error for TrySendError<T> {}
impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}

impl From<RecvError> for TryRecvError {
    fn from(_: RecvError) -> Self {
        Self::Disconnected
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(_: RecvError) -> Self {
        Self::Disconnected
    }
}
