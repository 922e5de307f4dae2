//! Atomic operations of FEAT_LSE, where the processor has them: under contention one travels to the memory instead of the
//! memory to the core. A Cortex-A72 has none, so code is compiled for exclusives, and the words that threads meet at look
//! here first.

use super::features;
use aarch64_cpu::registers::ID_AA64ISAR0_EL1;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tock_registers::interfaces::Readable;

static HAS_LSE: AtomicBool = AtomicBool::new(false);

/// Reads the identification register: on the boot core, before other cores run. All cores of a machine are alike in this.
pub(super) fn detect() {
    HAS_LSE.store(features::has_lse(ID_AA64ISAR0_EL1.get()), Ordering::Relaxed);
}

/// Whether the operations below are there.
#[inline]
pub fn has_lse() -> bool {
    HAS_LSE.load(Ordering::Relaxed)
}

macro_rules! operation {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(word: &AtomicU64, value: u64) -> u64 {
            debug_assert!(has_lse());
            let old: u64;
            // SAFETY: one atomic access, of acquire and release semantics, to a word that may be accessed atomically.
            unsafe {
                asm!(
                    ".arch_extension lse",
                    concat!($instruction, " {value}, {old}, [{word}]"),
                    ".arch_extension nolse",
                    value = in(reg) value, old = lateout(reg) old, word = in(reg) word.as_ptr(),
                    options(nostack, preserves_flags)
                );
            }
            old
        }
    };
}

operation!(
    /// Stores `value` and returns what was there. With [`has_lse`] only, as all of these.
    swap, "swpal"
);
operation!(
    /// Adds `value` and returns what was there.
    fetch_add, "ldaddal"
);
operation!(
    /// Sets the bits of `value` and returns what was there.
    fetch_or, "ldsetal"
);
operation!(
    /// Clears the bits of `value` and returns what was there.
    fetch_clear, "ldclral"
);

/// Puts `new` in the place of `old`; returns what was there, which is `old` if it did.
#[inline]
pub fn compare_exchange(word: &AtomicU64, old: u64, new: u64) -> u64 {
    debug_assert!(has_lse());
    let mut found = old;
    // SAFETY: as above.
    unsafe {
        asm!(
            ".arch_extension lse",
            "casal {found}, {new}, [{word}]",
            ".arch_extension nolse",
            found = inout(reg) found, new = in(reg) new, word = in(reg) word.as_ptr(),
            options(nostack, preserves_flags)
        );
    }
    found
}
