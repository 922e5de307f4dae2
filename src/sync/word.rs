//! The word that a lock's protocol turns on: an atomic number at each of whose operations a test may switch threads. On the
//! target its operations are single instructions where the processor has them.
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
use crate::arch::aarch64::atomics;
use core::sync::atomic::{AtomicU64, Ordering};

/// An [`AtomicU64`]. On the target it is just that; in debug builds on the host every operation first asks the scheduler of
/// the running test, if there is one, who is to go on.
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

#[inline]
fn switch() {
    if cfg!(all(debug_assertions, not(target_os = "none"))) {
        super::ranked::switch();
    }
}

impl Word {
    pub(super) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// What threads wait at that wait for this word to change.
    #[inline]
    pub(super) fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    #[inline]
    pub(super) fn load(&self, order: Ordering) -> u64 {
        switch();
        self.0.load(order)
    }

    #[inline]
    pub(super) fn store(&self, value: u64, order: Ordering) {
        switch();
        self.0.store(value, order);
    }

    #[inline]
    pub(super) fn swap(&self, value: u64, order: Ordering) -> u64 {
        switch();
        #[cfg(target_os = "none")]
        if atomics::has_lse() {
            return atomics::swap(&self.0, value);
        }
        self.0.swap(value, order)
    }

    /// Puts `new` in the place of `old`, with `order`; a failure orders nothing. Whether it was `old`.
    #[inline]
    pub(super) fn replace(&self, old: u64, new: u64, order: Ordering) -> bool {
        switch();
        #[cfg(target_os = "none")]
        if atomics::has_lse() {
            return atomics::compare_exchange(&self.0, old, new) == old;
        }
        self.0.compare_exchange(old, new, order, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(super) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        switch();
        #[cfg(target_os = "none")]
        if atomics::has_lse() {
            return atomics::fetch_add(&self.0, value);
        }
        self.0.fetch_add(value, order)
    }

    #[inline]
    pub(super) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        switch();
        #[cfg(target_os = "none")]
        if atomics::has_lse() {
            return atomics::fetch_add(&self.0, value.wrapping_neg());
        }
        self.0.fetch_sub(value, order)
    }

    #[inline]
    pub(super) fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        switch();
        #[cfg(target_os = "none")]
        if atomics::has_lse() {
            return atomics::fetch_or(&self.0, bits);
        }
        self.0.fetch_or(bits, order)
    }

    #[inline]
    pub(super) fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        switch();
        #[cfg(target_os = "none")]
        if atomics::has_lse() {
            return atomics::fetch_clear(&self.0, !bits);
        }
        self.0.fetch_and(bits, order)
    }
}
