//! Time: a monotonic clock from the architecture's virtual counter (Arm ARM D12.2), and the date.

use super::clock::{Frequency, WallClock};
use crate::platform::rtc;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0};
use core::ops::{Add, AddAssign, Sub, SubAssign};
use core::time::Duration;
use spin::Once;
use tock_registers::interfaces::Readable;

/// A moment, as exact as the counter: some nanoseconds. Later ones are not smaller, on whatever core they are taken.
///
/// What is added or taken away is rounded up to a tick of the counter: `moment + duration - duration` is `moment`, and
/// `(moment + duration) - moment` is `duration` or up to a tick longer.
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
    frequency().duration(now().ticks)
}

static WALL_CLOCK: Once<WallClock> = Once::new();

/// The date: the time since 1970 began, in UTC. `None` on a machine without a clock that knows it, as a Raspberry Pi.
///
/// The clock is read once, at boot, and the counter goes on from there: later calls return no less, and what they return
/// differs by the time that [`now`] shows. The clock shows whole seconds, so this is up to a second behind it; it is not
/// corrected when the clock is set.
pub fn wall_clock() -> Option<Duration> {
    Some(WALL_CLOCK.get()?.at(now().ticks, frequency()))
}

/// Reads the clock that knows the date, if there is one; only the first reading counts.
pub(crate) fn read_clock() {
    if let Some(seconds) = rtc::read() {
        let ticks = now().ticks;
        WALL_CLOCK.call_once(|| WallClock::new(seconds, ticks));
    }
}

fn frequency() -> Frequency {
    // The upper half of the register is reserved.
    Frequency::new(CNTFRQ_EL0.get() as u32)
}

impl Instant {
    /// This moment, as [`now`].
    pub fn now() -> Self {
        now()
    }

    /// What the counter shows at this moment: what the timer is compared with.
    pub fn ticks(self) -> u64 {
        self.ticks
    }

    /// How long ago it was; zero for a moment to come.
    pub fn elapsed(self) -> Duration {
        now() - self
    }

    /// The time from `earlier` to this moment; zero if `earlier` is the later one.
    pub fn duration_since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }

    /// The time from `earlier` to this moment; `None` if `earlier` is the later one.
    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        Some(frequency().duration(self.ticks.checked_sub(earlier.ticks)?))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is the later one.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.checked_duration_since(earlier).unwrap_or_default()
    }

    /// The moment `duration` later; `None` when the counter cannot show it.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let ticks = self.ticks.checked_add(frequency().ticks(duration)?)?;
        Some(Self { ticks })
    }

    /// The moment `duration` earlier; `None` when it is before the counter's start.
    pub fn checked_sub(self, duration: Duration) -> Option<Self> {
        let ticks = self.ticks.checked_sub(frequency().ticks(duration)?)?;
        Some(Self { ticks })
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// # Panics
    ///
    /// When the counter cannot show the result; see [`Instant::checked_add`].
    fn add(self, duration: Duration) -> Self {
        self.checked_add(duration).expect("overflow when adding duration to instant")
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// # Panics
    ///
    /// When the result is before the counter's start; see [`Instant::checked_sub`].
    fn sub(self, duration: Duration) -> Self {
        self.checked_sub(duration).expect("overflow when subtracting duration from instant")
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to this moment; zero if `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}
