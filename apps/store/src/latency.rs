//! How long requests took.

use core::fmt;
use core::time::Duration;

/// Times by their powers of two, in nanoseconds.
#[derive(Default)]
pub struct Latencies {
    counts: [u64; 32],
    count: u64,
    longest: Duration,
}

impl Latencies {
    pub fn add(&mut self, time: Duration) {
        let power = (time.as_nanos() as u64).max(1).ilog2() as usize;
        self.counts[power.min(self.counts.len() - 1)] += 1;
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    /// What `share` of the requests took at most, to the next power of two.
    fn within(&self, share: f64) -> Duration {
        let mut left = (self.count as f64 * share) as u64;
        for (power, &count) in self.counts.iter().enumerate() {
            if count > left {
                return Duration::from_nanos(2 << power);
            }
            left -= count;
        }
        self.longest
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (half, most) = (self.within(0.5), self.within(0.999));
        write!(
            f,
            "{:>8} requests: half within {half:?}, 99.9 % within {most:?}, longest {:?}",
            self.count, self.longest
        )
    }
}
