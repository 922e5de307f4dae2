//! Interrupts: of the timer, and of other cores. Kernel mode never takes one: it looks whether one is pending.

use super::threads::SCHEDULER;
use super::{percore, timer};
use crate::platform::interrupts::{self, Interrupt};
use aarch64_cpu::asm::barrier;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How long a core that ends the machine waits for the others to stop, in nanoseconds: one that waits for what this one had
/// locked never does.
const PATIENCE: u64 = 500_000_000;

/// The number of the core that goes on alone to the machine's end, and 1; 0 while all go on.
static LAST: AtomicUsize = AtomicUsize::new(0);
/// A bit for each core that has stopped.
static STOPPED: AtomicU64 = AtomicU64::new(0);

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
            Interrupt::Timer => {
                timer::set_alarm(None);
                percore::current().count_timer_interrupt();
            }
            Interrupt::Kick => {}
            Interrupt::Other(number) => log::warn!("interrupt {number}, which nobody has asked for"),
        }
        interrupts::end(interrupt);
    }
    match LAST.load(Ordering::Acquire) {
        0 => SCHEDULER.interrupt(),
        // No thread but the one that ends the machine runs any more.
        last if last == percore::index() + 1 => {}
        _ => stop(),
    }
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

/// Has all other cores stop, and waits for them: in kernel mode, by whoever ends the machine. Does not return where another
/// core was first.
pub(super) fn stop_others() {
    let me = percore::index();
    let last = LAST.compare_exchange(0, me + 1, Ordering::AcqRel, Ordering::Acquire);
    if last.is_err_and(|last| last != me + 1) {
        stop();
    }
    let others = SCHEDULER.online().filter(|&core| core != me).fold(0, |cores, core| cores | 1 << core);
    SCHEDULER.online().filter(|&core| core != me).for_each(kick);
    let patience = timer::now().saturating_add(PATIENCE);
    while others & !STOPPED.load(Ordering::Acquire) != 0 && timer::now() < patience {
        core::hint::spin_loop();
    }
}

/// The end of this core, in kernel mode: another one ends the machine.
pub(super) fn stop() -> ! {
    STOPPED.fetch_or(1 << percore::index(), Ordering::AcqRel);
    loop {
        aarch64_cpu::asm::wfi();
    }
}
