//! The order of locks, and the check of it that every lock of the kernel makes in debug builds.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::ranked::held;

/// A lock's place in the order: one is taken only while every lock held has a lower rank, or the same rank and
/// a lower address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// Operations on ranges of the address space, one at a time.
    Space,
    /// The regions.
    Region,
    /// One slot: its page states, its home, its tables.
    Slot,
    /// The level-1 table, and where a GiB's slots are entered.
    Directory,
    /// Slabs of the memory manager's own records.
    Slab,
    /// Kernel stacks.
    Stacks,
    /// What a core keeps of frames and records for itself.
    Cache,
    /// Frames, block records, pools.
    Frames,
    /// Threads that wait for something.
    Wait,
    /// Priorities that they lend.
    Inherit,
    /// Threads that are ready, by core; timers.
    Run,
    /// The console.
    Console,
}

/// How many ranks there are.
pub(super) const RANKS: usize = Rank::Console as usize + 1;

/// The locks that one thread holds: for each rank the address of the highest, or 0. Kept up in debug builds only.
#[derive(Debug)]
pub struct Held([AtomicUsize; RANKS]);

impl Held {
    /// None.
    pub const fn new() -> Self {
        Self([const { AtomicUsize::new(0) }; RANKS])
    }

    /// Whether there is none. Release builds don't know of any.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|lock| lock.load(Ordering::Relaxed) == 0)
    }
}

impl Default for Held {
    fn default() -> Self {
        Self::new()
    }
}

/// The locks of who runs before there is anyone to tell threads apart.
pub(super) static BOOT: Held = Held::new();

/// Looks whether the running thread may take the lock of `rank` at `address` now.
///
/// # Panics
///
/// In debug builds, if it holds one of a higher rank, or of the same rank at this address or a higher one.
#[inline]
pub(super) fn check(rank: Rank, address: usize) {
    if !cfg!(debug_assertions) {
        return;
    }
    let load = |rank: usize| held().0[rank].load(Ordering::Relaxed);
    if let Some(above) = (rank as usize + 1..RANKS).find(|&rank| load(rank) != 0) {
        panic!("lock of rank {rank:?} taken while one of rank number {above} is held");
    }
    assert!(load(rank as usize) < address, "lock of rank {rank:?} taken out of address order, or twice");
}

/// Notes that the running thread has the lock of `rank` at `address`. Returns what [`release`] wants back: the lock of the
/// same rank that was the highest before.
#[inline]
pub(super) fn hold(rank: Rank, address: usize) -> usize {
    if cfg!(debug_assertions) { held().0[rank as usize].swap(address, Ordering::Relaxed) } else { 0 }
}

/// Notes that the running thread gives a lock of `rank` back that it took above `below`.
#[inline]
pub(super) fn release(rank: Rank, below: usize) {
    if cfg!(debug_assertions) {
        held().0[rank as usize].store(below, Ordering::Relaxed);
    }
}
