//! A counter's ticks as time, and back: exact, in 64-bit arithmetic.
#![forbid(unsafe_code)]

use core::num::NonZeroU32;
use core::time::Duration;

const NANOSECONDS: u64 = 1_000_000_000;

/// How often a counter ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frequency(NonZeroU32);

impl Frequency {
    /// `hertz` ticks a second, as in `CNTFRQ_EL0`, which is 32 bits wide. Firmware that does not set that leaves 0; then a
    /// tick passes for a nanosecond.
    pub const fn new(hertz: u32) -> Self {
        match NonZeroU32::new(hertz) {
            Some(hertz) => Self(hertz),
            None => Self(NonZeroU32::new(NANOSECONDS as u32).expect("not zero")),
        }
    }

    fn hertz(self) -> u64 {
        self.0.get().into()
    }

    /// The time that `ticks` ticks take, rounded down to a nanosecond: of more ticks never less.
    pub fn duration(self, ticks: u64) -> Duration {
        let (seconds, rest) = (ticks / self.hertz(), ticks % self.hertz());
        // Below 2^32 * 10^9: it fits.
        Duration::new(seconds, (rest * NANOSECONDS / self.hertz()) as u32)
    }

    /// The ticks that take `duration`, rounded up, so that who waits for them waits no shorter; `None` when they are more than
    /// a counter counts.
    ///
    /// `frequency.duration(frequency.ticks(duration))` is `duration` or longer, by less than a tick.
    pub fn ticks(self, duration: Duration) -> Option<u64> {
        let rest = (u64::from(duration.subsec_nanos()) * self.hertz()).div_ceil(NANOSECONDS);
        duration.as_secs().checked_mul(self.hertz())?.checked_add(rest)
    }
}

/// Bits behind the binary point of a [`Scale`]'s rates.
const POINT: u32 = 32;

/// A counter's ticks as nanoseconds of a scheduler's clock, by a multiplication. The clock is slow by less than one part in 10⁹,
/// and goes by itself: alarms are set by how far away they are, or the two would part with the time that the machine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Nanoseconds to a tick, rounded down.
    nanoseconds: u64,
    /// Ticks to a nanosecond, rounded up.
    ticks: u64,
}

impl Scale {
    /// The scale of a counter of this frequency.
    pub const fn new(frequency: Frequency) -> Self {
        let hertz = frequency.0.get() as u128;
        let nanoseconds = ((NANOSECONDS as u128) << POINT) / hertz;
        let ticks = (hertz << POINT).div_ceil(NANOSECONDS as u128);
        Self { nanoseconds: nanoseconds as u64, ticks: ticks as u64 }
    }

    /// The time when the counter shows `counter`.
    #[inline]
    pub const fn nanoseconds(self, counter: u64) -> u64 {
        ((counter as u128 * self.nanoseconds as u128) >> POINT) as u64
    }

    /// What the counter shows when the time has reached `at`, now that it shows `counter`: never too early, and ahead.
    #[inline]
    pub const fn alarm(self, counter: u64, at: u64) -> u64 {
        let left = at.saturating_sub(self.nanoseconds(counter));
        let ticks = (left as u128 * self.ticks as u128) >> POINT;
        let ticks = if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 };
        counter.saturating_add(ticks).saturating_add(2)
    }
}

/// The date, from one reading of a clock that counts seconds and a counter that goes on.
///
/// The clock is behind by the part of a second that it does not show; so is this, by the same part forever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WallClock {
    /// What the clock showed.
    seconds: u64,
    /// What the counter showed then.
    ticks: u64,
}

impl WallClock {
    /// The clock showed `seconds` seconds since 1970 when the counter showed `ticks`.
    pub const fn new(seconds: u64, ticks: u64) -> Self {
        Self { seconds, ticks }
    }

    /// The time since 1970 when the counter shows `ticks`: never less for more ticks. Before the reading, it is that of the
    /// reading.
    pub fn at(&self, ticks: u64, frequency: Frequency) -> Duration {
        Duration::from_secs(self.seconds).saturating_add(frequency.duration(ticks.saturating_sub(self.ticks)))
    }
}
