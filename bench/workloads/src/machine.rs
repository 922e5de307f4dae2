//! What both systems let an application ask the processor by itself.

/// The virtual counter, read after everything before it, and before everything after.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn counter() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect, and both systems allow it.
    unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

/// Ticks of the counter in a second.
#[cfg(target_arch = "aarch64")]
pub fn frequency() -> u64 {
    let hertz: u64;
    // SAFETY: as in `counter`.
    unsafe { core::arch::asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack, preserves_flags)) };
    hertz & 0xffff_ffff
}

/// A hint that no processor knows does nothing (Arm ARM C6.2, HINT); who watches the instructions go by sees it.
macro_rules! marker {
    ($(#[$doc:meta])* $name:ident, $hint:literal) => {
        $(#[$doc])*
        #[cfg(target_arch = "aarch64")]
        #[inline]
        pub fn $name(tag: u64) {
            // SAFETY: it does nothing. It counts as an access to memory, so that none is moved across it.
            unsafe { core::arch::asm!(concat!("hint #", $hint), in("x0") tag, options(nostack, preserves_flags)) };
        }

        $(#[$doc])*
        #[cfg(not(target_arch = "aarch64"))]
        pub fn $name(_tag: u64) {}
    };
}

marker!(
    /// Counts from here, from zero.
    start,
    "0x70"
);
marker!(
    /// Reports.
    report,
    "0x71"
);
marker!(
    /// Counts no more.
    stop,
    "0x72"
);
