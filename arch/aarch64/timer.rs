//! The virtual timer (Arm ARM D12.2): the clock of all cores, and an alarm on each.

use crate::app::clock::{Frequency, Scale};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0};
use spin::Once;
use tock_registers::interfaces::{Readable, Writeable};

/// The virtual timer's interrupt where the device tree does not say: PPI 11.
pub(super) const DEFAULT_INTERRUPT: u32 = 27;

static SCALE: Once<Scale> = Once::new();

/// Reads how fast the counter goes: on the boot core, before anything asks for the time.
pub(super) fn prepare() {
    // The upper half of the register is reserved.
    SCALE.call_once(|| Scale::new(Frequency::new(CNTFRQ_EL0.get() as u32)));
}

/// How fast the counter goes, in Hz, as the register says (Arm ARM D12.1.2): the firmware's word.
pub(super) fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

fn scale() -> Scale {
    *SCALE.get().expect("the boot core has prepared it")
}

fn counter() -> u64 {
    // Without it the counter may be read before what precedes in program order (Arm ARM D12.2.2).
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// The time since the counter began, in nanoseconds: of one clock for all cores.
#[inline]
pub fn now() -> u64 {
    scale().nanoseconds(counter())
}

/// Has the running core interrupted when [`now`] has reached `at`, or not at all.
pub(super) fn set_alarm(at: Option<u64>) {
    match at {
        Some(at) => {
            CNTV_CVAL_EL0.set(scale().alarm(counter(), at));
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
        }
        None => CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR),
    }
}

/// Whether the alarm's time has come.
pub(super) fn is_due() -> bool {
    CNTV_CTL_EL0.matches_all(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::ISTATUS::SET)
}
