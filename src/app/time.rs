//! Monotonic time, from the architecture's virtual counter (Arm ARM D12.2).

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0};
use core::ops::Sub;
use core::time::Duration;
use tock_registers::interfaces::Readable;

/// A moment. Later ones are not smaller, on whatever core they are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instant {
    /// What the counter showed.
    ticks: u64,
}

/// This moment.
pub fn now() -> Instant {
    // Without it the counter may be read before what precedes in program order (Arm ARM D12.2.2).
    barrier::isb(barrier::SY);
    Instant { ticks: CNTVCT_EL0.get() }
}

/// How long the counter has been running: about since the machine was switched on.
pub fn since_start() -> Duration {
    duration(now().ticks)
}

/// Ticks a second.
fn frequency() -> u64 {
    // Firmware that does not set the register leaves 0; then a tick passes for a nanosecond.
    match CNTFRQ_EL0.get() {
        0 => 1_000_000_000,
        frequency => frequency,
    }
}

fn duration(ticks: u64) -> Duration {
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(frequency());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

impl Instant {
    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        now() - self
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to this moment; zero if `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        duration(self.ticks.saturating_sub(earlier.ticks))
    }
}
