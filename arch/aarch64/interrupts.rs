//! Interrupts: of the timer, and of other cores. Kernel mode never takes one: it looks whether one is pending.

use super::threads::SCHEDULER;
use super::timer;
use crate::platform::interrupts::{self, Interrupt};
use crate::report;
use aarch64_cpu::asm::barrier;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether there is an interrupt controller. Without one a thread keeps its core until it waits, and an idle core polls.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

/// Says that the interrupt controller is set up.
pub(super) fn set_installed() {
    IS_INSTALLED.store(true, Ordering::Relaxed);
}

/// Handles all interrupts that are pending. Other threads may run before it returns, and the core may be another one.
pub(super) fn handle() {
    while let Some(interrupt) = interrupts::acknowledge() {
        match interrupt {
            // Off until it is set again, or it would be pending for good.
            Interrupt::Timer => timer::set_alarm(None),
            Interrupt::Kick => {}
            Interrupt::Other(number) => log::warn!("interrupt {number}, which nobody has asked for"),
        }
        interrupts::end(interrupt);
    }
    if report::is_begun() {
        stop();
    }
    SCHEDULER.interrupt();
}

/// Whether an interrupt is pending, masked or not (ISR_EL1.I).
fn is_pending() -> bool {
    let pending: u64;
    // SAFETY: reads a status register.
    unsafe { asm!("mrs {}, isr_el1", out(reg) pending, options(nomem, nostack, preserves_flags)) };
    pending & 1 << 7 != 0
}

/// Handles interrupts if any is pending, in kernel mode.
pub(super) fn poll() {
    if is_pending() {
        handle();
    } else if !IS_INSTALLED.load(Ordering::Relaxed) && timer::is_due() {
        timer::set_alarm(None);
        SCHEDULER.interrupt();
    }
}

/// Interrupts core `core`, perhaps the running one.
pub(super) fn kick(core: usize) {
    if IS_INSTALLED.load(Ordering::Relaxed) {
        // What the other core is to see comes before the interrupt does.
        barrier::dsb(barrier::ISHST);
        interrupts::kick(core);
    }
}

/// Sleeps until an interrupt is pending.
pub(super) fn sleep() {
    if IS_INSTALLED.load(Ordering::Relaxed) {
        barrier::dsb(barrier::SY);
        aarch64_cpu::asm::wfi();
    } else {
        core::hint::spin_loop();
    }
}

/// The end of this core: another one reports what ends the machine.
pub(super) fn stop() -> ! {
    loop {
        aarch64_cpu::asm::wfi();
    }
}
