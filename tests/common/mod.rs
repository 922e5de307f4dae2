//! What the tests of the memory manager's parts share: frames from the heap, and seeded random numbers.
#![allow(dead_code, reason = "no test file uses all of it")]

extern crate alloc;

use alloc::boxed::Box;
use ashlar::mm::slab::{Chunk, FrameSource};
use core::sync::atomic::{AtomicUsize, Ordering};

/// A source of frames that can run dry. The frames are never given back: slabs keep theirs for good.
pub struct Frames {
    left: AtomicUsize,
    given: AtomicUsize,
}

impl Frames {
    pub fn new(count: usize) -> Self {
        threads_are_contexts();
        Self { left: AtomicUsize::new(count), given: AtomicUsize::new(0) }
    }

    pub fn plenty() -> Self {
        Self::new(usize::MAX)
    }

    /// How many frames there are from now on.
    pub fn set(&self, count: usize) {
        self.left.store(count, Ordering::Relaxed);
    }

    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }
}

#[cfg(not(target_os = "none"))]
std::thread_local! {
    static CORE: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
    static LOCKS: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
    static YIELDS: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// From now on the running thread lets others run before it takes a lock, with whatever it holds.
#[cfg(not(target_os = "none"))]
pub fn yield_at_locks() {
    YIELDS.set(true);
}

/// Says which core the running thread is, until it says otherwise. A kernel is what it is.
pub fn set_core(core: usize) {
    #[cfg(not(target_os = "none"))]
    CORE.set(core);
    #[cfg(target_os = "none")]
    let _ = core;
}

/// How many locks the running thread takes, or tries, for `operation`. Only debug builds can tell.
#[cfg(not(target_os = "none"))]
pub fn locks(operation: impl FnOnce()) -> usize {
    let before = LOCKS.get();
    operation();
    LOCKS.get() - before
}

#[cfg(not(target_os = "none"))]
std::thread_local! {
    static HELD: &'static ashlar::sync::Held = Box::leak(Box::new(ashlar::sync::Held::new()));
    static INTERLUDE: core::cell::RefCell<Option<Interlude>> = const { core::cell::RefCell::new(None) };
}

/// How often it is not come to yet, and what is done then.
#[cfg(not(target_os = "none"))]
type Interlude = (usize, Box<dyn FnOnce()>);

/// Runs `operation`, and `interlude` once on the way: when the running thread is about to take a lock, holds none, and has been
/// there `after` times before. Says whether it came to that.
#[cfg(not(target_os = "none"))]
pub fn with_interlude(after: usize, interlude: impl FnOnce() + 'static, operation: impl FnOnce()) -> bool {
    INTERLUDE.set(Some((after, Box::new(interlude))));
    operation();
    INTERLUDE.take().is_none()
}

#[cfg(not(target_os = "none"))]
fn come_to_interlude() {
    if !HELD.with(|held| held.is_empty()) {
        return;
    }
    match INTERLUDE.take() {
        Some((0, interlude)) => interlude(),
        Some((left, interlude)) => INTERLUDE.set(Some((left - 1, interlude))),
        None => {}
    }
}

/// Tests run side by side; each thread's locks have an order of their own.
#[cfg(not(target_os = "none"))]
pub fn threads_are_contexts() {
    let waiting = ashlar::sync::Waiting {
        held: || HELD.with(|&held| held),
        core: || CORE.get(),
        relax: std::thread::yield_now,
        breathe: || (),
        switch: || {
            LOCKS.set(LOCKS.get() + 1);
            come_to_interlude();
            if YIELDS.get() {
                std::thread::yield_now();
            }
        },
    };
    waiting.install();
}

/// A kernel runs its tests one after another.
#[cfg(target_os = "none")]
pub fn threads_are_contexts() {}

impl FrameSource for Frames {
    fn chunk(&self) -> Option<&'static mut Chunk> {
        let take = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        self.given.fetch_add(1, Ordering::Relaxed);
        Some(Box::leak(Box::new(Chunk::new())))
    }
}

/// SplitMix64: a seed gives the same numbers on every machine.
pub struct Random(u64);

impl Random {
    /// Says which seed it is, so that a failure can be had again.
    pub fn new(seed: u64) -> Self {
        #[cfg(not(target_os = "none"))]
        println!("seed {seed:#x}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index below `bound`.
    pub fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}
