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
