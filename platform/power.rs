//! The end of the machine.

use super::machine::Conduit;
use crate::{console, println};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use smccc::{Hvc, Smc, psci};

static IS_CONFIGURED: AtomicBool = AtomicBool::new(false);
static HAS_SEMIHOSTING: AtomicBool = AtomicBool::new(false);
/// 0: none; 1: [`Conduit::Hvc`]; 2: [`Conduit::Smc`].
static CONDUIT: AtomicU8 = AtomicU8::new(0);

/// Says how [`exit`] can end the machine. `semihosting` is the boot argument's: without a host that answers, the
/// instruction is undefined.
pub fn configure(conduit: Option<Conduit>, semihosting: bool) {
    let number = match conduit {
        None => 0,
        Some(Conduit::Hvc) => 1,
        Some(Conduit::Smc) => 2,
    };
    CONDUIT.store(number, Ordering::Relaxed);
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

/// Ends the machine with `status`: through the host, or with a last line `ashlar: exit N` on the console and PSCI
/// `SYSTEM_OFF`. Where neither works, the core sleeps for good.
pub fn exit(status: u8) -> ! {
    if has_semihosting() {
        console::drain();
        // On a 64-bit machine this is SYS_EXIT with a status, which is what SYS_EXIT_EXTENDED does.
        semihosting::process::exit(i32::from(status));
    }
    console::end_line();
    println!("ashlar: exit {status}");
    console::drain();
    // Either returns only if it failed, and there is nobody left to tell.
    let _ = match conduit() {
        Some(Conduit::Hvc) => psci::system_off::<Hvc>(),
        Some(Conduit::Smc) => psci::system_off::<Smc>(),
        None => Ok(()),
    };
    loop {
        aarch64_cpu::asm::wfi();
    }
}
