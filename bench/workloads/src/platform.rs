//! What a system gives to the workloads.

use crate::machine;
use core::fmt;
use core::ops::{DerefMut, Range};

/// What is mapped and touched at least, in bytes.
pub const PAGE: usize = 4096;

/// There is no memory to map.
#[derive(Clone, Copy, Debug)]
pub struct OutOfMemory;

/// What is mapped at the moment, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Memory behind all mappings.
    pub resident: usize,
    /// Of it, in blocks.
    pub in_blocks: usize,
}

/// What the core itself has counted, by name, where it does.
pub type Counts = [Option<(&'static str, u64)>; 3];

/// A system that runs workloads.
pub trait Platform {
    /// Mapped memory, which unmaps itself.
    type Memory: DerefMut<Target = [u8]>;

    /// Maps `bytes`, whole pages, which read as zero and are backed as they are touched.
    ///
    /// # Errors
    ///
    /// There is not so much.
    fn map(&self, bytes: usize) -> Result<Self::Memory, OutOfMemory>;

    /// Gives what is behind `range`, whole pages, back: it reads as zero again.
    fn release(&self, memory: &mut Self::Memory, range: Range<usize>);

    /// What is mapped.
    fn usage(&self) -> Usage;

    /// Leaves the core idle for so many seconds: for what the system does then.
    fn sleep(&self, seconds: u64);

    /// Ticks that zeroing `bytes` takes the system, whole blocks; `None` where nobody can ask.
    fn zeroing(&self, bytes: usize) -> Option<u64>;

    /// Prints a line, and returns when it is out: what it takes must not fall into what is measured next.
    fn line(&self, line: fmt::Arguments<'_>);

    /// The counter.
    fn now(&self) -> u64;

    /// Ticks of the counter in a second.
    fn frequency(&self) -> u64;

    /// Tells an observer of the machine to count from here, under the number `tag`.
    fn start(&self, tag: u64) {
        machine::start(tag);
    }

    /// Has the observer report what was counted, and count no more. Returns what the core counted.
    fn stop(&self, tag: u64) -> Counts {
        machine::report(tag);
        machine::stop(tag);
        Counts::default()
    }
}
