//! The end of the machine.

use super::machine::Conduit;
use super::raspberry::watchdog::{Watchdog, WatchdogRegisters};
use crate::{console, println};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use smccc::{Hvc, Smc, psci};

static IS_CONFIGURED: AtomicBool = AtomicBool::new(false);
static HAS_SEMIHOSTING: AtomicBool = AtomicBool::new(false);
/// 0: none; 1: [`Conduit::Hvc`]; 2: [`Conduit::Smc`].
static CONDUIT: AtomicU8 = AtomicU8::new(0);

static WATCHDOG: AtomicPtr<WatchdogRegisters> = AtomicPtr::new(null_mut());
static STARTS_ANEW: AtomicBool = AtomicBool::new(false);

/// Says how [`exit`] can end the machine: by which instruction firmware is called; by a Raspberry Pi's watchdog, whose registers are
/// mapped for good; by `semihosting`, if the boot argument says so: without a host that answers, the instruction is undefined. With
/// `reset` the machine starts anew in the end.
pub fn configure(
    conduit: Option<Conduit>,
    watchdog: Option<NonNull<WatchdogRegisters>>,
    semihosting: bool,
    reset: bool,
) {
    let number = match conduit {
        None => 0,
        Some(Conduit::Hvc) => 1,
        Some(Conduit::Smc) => 2,
    };
    CONDUIT.store(number, Ordering::Relaxed);
    WATCHDOG.store(watchdog.map_or(null_mut(), NonNull::as_ptr), Ordering::Relaxed);
    STARTS_ANEW.store(reset, Ordering::Relaxed);
    HAS_SEMIHOSTING.store(semihosting, Ordering::Relaxed);
    IS_CONFIGURED.store(true, Ordering::Relaxed);
}

/// How the firmware is called, as [`configure`] was told.
pub(super) fn conduit() -> Option<Conduit> {
    match CONDUIT.load(Ordering::Relaxed) {
        1 => Some(Conduit::Hvc),
        2 => Some(Conduit::Smc),
        _ => None,
    }
}

/// Whether [`configure`] was called.
pub fn is_configured() -> bool {
    IS_CONFIGURED.load(Ordering::Relaxed)
}

/// Whether a host answers semihosting calls.
pub fn has_semihosting() -> bool {
    HAS_SEMIHOSTING.load(Ordering::Relaxed)
}

/// Ends the machine with `status`: through the host, or with a last line `ashlar: exit N` on the console and by PSCI's `SYSTEM_OFF` or
/// `SYSTEM_RESET`, or the watchdog. Where none works, the core sleeps for good.
pub fn exit(status: u8) -> ! {
    if has_semihosting() {
        console::drain();
        // On a 64-bit machine this is SYS_EXIT with a status, which is what SYS_EXIT_EXTENDED does.
        semihosting::process::exit(i32::from(status));
    }
    console::end_line();
    println!("ashlar: exit {status}");
    console::drain();
    let reset = STARTS_ANEW.load(Ordering::Relaxed);
    // These return only if they failed, and there is nobody left to tell.
    let _ = match (conduit(), reset) {
        (Some(Conduit::Hvc), false) => psci::system_off::<Hvc>(),
        (Some(Conduit::Hvc), true) => psci::system_reset::<Hvc>(),
        (Some(Conduit::Smc), false) => psci::system_off::<Smc>(),
        (Some(Conduit::Smc), true) => psci::system_reset::<Smc>(),
        (None, _) => Ok(()),
    };
    if let Some(registers) = NonNull::new(WATCHDOG.load(Ordering::Relaxed)) {
        // SAFETY: `configure` was given these registers.
        unsafe { Watchdog::new(registers) }.reset(!reset);
    }
    loop {
        aarch64_cpu::asm::wfi();
    }
}
