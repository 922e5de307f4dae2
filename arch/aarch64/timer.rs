//! The virtual timer (Arm ARM D12.2): the clock of all cores, and an alarm on each.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0};
use core::sync::atomic::{AtomicU64, Ordering};
use tock_registers::interfaces::{Readable, Writeable};

/// The virtual timer's interrupt where the device tree does not say: PPI 11.
pub(super) const DEFAULT_INTERRUPT: u32 = 27;

/// Bits behind the binary point of the rates below.
const SHIFT: u32 = 32;
/// Nanoseconds to a tick, and ticks to a nanosecond.
static NANOSECONDS: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Reads how fast the counter goes: on the boot core, before anything asks for the time.
pub(super) fn prepare() {
    // Firmware that does not set the register leaves 0; then a tick passes for a nanosecond.
    let frequency = match CNTFRQ_EL0.get() {
        0 => 1_000_000_000,
        frequency => frequency,
    };
    let rate = |units: u64, other: u64| ((u128::from(units) << SHIFT) / u128::from(other)) as u64;
    NANOSECONDS.store(rate(1_000_000_000, frequency), Ordering::Relaxed);
    TICKS.store(rate(frequency, 1_000_000_000), Ordering::Relaxed);
}

fn convert(value: u64, rate: &AtomicU64) -> u64 {
    ((u128::from(value) * u128::from(rate.load(Ordering::Relaxed))) >> SHIFT) as u64
}

/// The time since the counter began, in nanoseconds: of one clock for all cores.
#[inline]
pub fn now() -> u64 {
    // Without it the counter may be read before what precedes in program order (Arm ARM D12.2.2).
    barrier::isb(barrier::SY);
    convert(CNTVCT_EL0.get(), &NANOSECONDS)
}

/// Has the running core interrupted when [`now`] has reached `at`, or not at all.
pub(super) fn set_alarm(at: Option<u64>) {
    match at {
        Some(at) => {
            // Rounded up, so that the alarm is never early.
            CNTV_CVAL_EL0.set(convert(at, &TICKS).saturating_add(2));
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
        }
        None => CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR),
    }
}

/// Whether the alarm's time has come.
pub(super) fn is_due() -> bool {
    CNTV_CTL_EL0.matches_all(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::ISTATUS::SET)
}
