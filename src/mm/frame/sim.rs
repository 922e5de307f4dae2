//! What tests hang on the allocator: a watcher of freed frames, and allocations that fail.
#![forbid(unsafe_code)]

use super::super::address::Frame;
use alloc::boxed::Box;

/// Called with the first of some frames that became free, and their number, under the allocator's lock.
pub type FreeObserver = Box<dyn Fn(Frame, usize) + Send>;

#[derive(Default)]
pub(super) struct Hooks {
    pub(super) observer: Option<FreeObserver>,
    /// Allocations until the one that fails, that one counted.
    pub(super) until_failure: Option<u64>,
}

impl Hooks {
    pub(super) fn freed(&self, first: Frame, count: usize) {
        if let Some(observer) = &self.observer {
            observer(first, count);
        }
    }

    /// Whether the allocation that begins must fail.
    pub(super) fn fails(&mut self) -> bool {
        self.until_failure = match self.until_failure {
            Some(1) => {
                self.until_failure = None;
                return true;
            }
            left => left.map(|left| left - 1),
        };
        false
    }
}
