//! What tests hang on the allocator: a watcher of freed frames, and allocations that fail.
#![forbid(unsafe_code)]

use super::super::address::Frame;
use super::Frames;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// Called with the first of some frames that become free, and their number, before anyone can have them; under one of
/// the allocator's locks.
pub type FreeObserver = Box<dyn Fn(Frame, usize) + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Hooks(Arc<State>);

#[derive(Default)]
struct State {
    observer: spin::Once<FreeObserver>,
    /// Allocations until the one that fails, that one counted; 0 for none.
    until_failure: AtomicU64,
}

impl Hooks {
    pub(super) fn freed(&self, first: Frame, count: usize) {
        if let Some(observer) = self.0.observer.get() {
            observer(first, count);
        }
    }

    /// Whether the allocation that begins must fail.
    pub(super) fn fails(&self) -> bool {
        let count = |left: u64| left.checked_sub(1);
        self.0.until_failure.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(1)
    }
}

impl Frames {
    /// Calls `observer` whenever frames are freed by those who had them, before anyone can have them again.
    ///
    /// # Panics
    ///
    /// When there is an observer already.
    pub fn observe_free(&self, observer: FreeObserver) {
        let mut observer = Some(observer);
        self.sim.0.observer.call_once(|| observer.take().expect("called once"));
        assert!(observer.is_none(), "the frames are observed already");
    }

    /// Makes the `n`-th allocation from now (1 is the next one) fail, of a block or of frames, and no other. What the
    /// caches take from the pool does not count.
    ///
    /// # Panics
    ///
    /// When `n` is 0.
    pub fn fail_after(&self, n: u64) {
        assert!(n > 0, "the next allocation is the first");
        self.sim.0.until_failure.store(n, Ordering::Relaxed);
    }

    /// Calls a failure off. Returns whether it had yet to happen.
    pub fn fail_never(&self) -> bool {
        self.sim.0.until_failure.swap(0, Ordering::Relaxed) != 0
    }
}
