//! Memory pressure, as the application sees it and helps against it.

use super::thread::Builder;
use crate::arch::aarch64::{gate, memory, threads::NoThread};
use crate::mm::pressure::{Level, Stalls};
use crate::sync::channel::sync_channel;
use core::fmt;

/// Why there is no listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenError {
    /// There is one already.
    Taken,
    /// No thread for it.
    NoThread(NoThread),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Taken => f.write_str("memory pressure has a listener already"),
            ListenError::NoThread(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ListenError {}

/// Keeps the application's listener for as long as it lives.
#[derive(Debug)]
#[must_use = "it listens until it is dropped"]
pub struct Listener(());

/// Calls `spare` whenever memory is low and the memory manager has nothing more to give back: it is the application's turn, to
/// drop caches for instance. With [`Level::Critical`] a thread waits for memory, for a second at most, and the application ends if
/// there is none then. `spare` runs in a thread of its own. Where it takes a lock that a thread holds while it touches new memory,
/// that thread may be the one that waits, and then in vain: so it is with the heap's lock, and it is better to release mappings
/// than to free.
///
/// ```ignore
/// let listener = ashlar::memory::on_pressure(|_| CACHE.try_lock().map_or((), |mut cache| cache.release_mappings()))?;
/// ```
///
/// # Errors
///
/// There is a listener already, or no memory for a thread.
pub fn on_pressure(mut spare: impl FnMut(Level) + Send + 'static) -> Result<Listener, ListenError> {
    let (sender, receiver) = sync_channel(1);
    let listen = move || {
        let first = gate::call(|| memory::manager().pressure().listen());
        let _ = sender.send(first);
        while let Some(level) = gate::call(|| memory::manager().pressure().wait()) {
            spare(level);
            gate::call(|| {
                memory::manager().pressure().finish_round();
                // What it has released may be absent, and is to be taken back.
                memory::manager().background_signal().raise();
            });
        }
    };
    Builder::new().name("pressure").spawn(listen).map_err(ListenError::NoThread)?;
    match receiver.recv() {
        Ok(true) => Ok(Listener(())),
        _ => Err(ListenError::Taken),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        gate::call(|| memory::manager().pressure().stop_listening());
    }
}

/// The time that threads have lost for want of memory: while it was given back, or a block was made free, on the way of a fault
/// (Linux: `/proc/pressure/memory`).
pub fn pressure() -> Stalls {
    gate::call(|| memory::manager().pressure().stalls())
}
