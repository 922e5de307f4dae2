//! A signal: raised by anyone, in any mode and under any spinlock; one thread waits for it.
#![forbid(unsafe_code)]

use super::parking::{Prepared, try_parking};
use core::sync::atomic::{AtomicBool, Ordering};

/// Something that was said and has not been heard yet, or nothing. Said twice, it is heard once.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicBool,
}

impl Signal {
    /// Nothing was said.
    pub const fn new() -> Self {
        Signal { raised: AtomicBool::new(false) }
    }

    fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Wakes who waits, or will wait next.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::SeqCst)
            && let Some(parking) = try_parking()
        {
            (parking.wake)(self.key(), 1);
        }
    }

    /// Whether it was raised since the last time that this was asked, or waited for.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::SeqCst)
    }

    /// Sleeps until it is raised, or until the monotonic clock reaches `deadline` (nanoseconds).
    ///
    /// # Panics
    ///
    /// Before a scheduler is installed.
    pub fn wait(&self, deadline: Option<u64>) {
        let parking = super::parking::parking();
        // Prepared first: who raises it from now on finds this thread, and who did before is seen here.
        let prepared = (parking.prepare)(self.key(), None);
        debug_assert_eq!(prepared, Prepared::Ready);
        if self.take() {
            (parking.cancel)();
        } else {
            (parking.park)(deadline);
            self.take();
        }
    }
}
