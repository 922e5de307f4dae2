//! What is to be run, and how large.

use arrayvec::ArrayString;
use core::fmt;

/// Rounds at most.
pub const MOST_ROUNDS: usize = 64;

/// The words' keys.
pub const KEYS: [&str; 4] = ["part", "size", "reach", "rounds"];

/// What is to be run, in the words that all systems take.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `part=NAME,NAME`: all of them unless given.
    parts: Option<ArrayString<128>>,
    /// `size=64M`: what a workload works on, about.
    pub size: usize,
    /// `reach=256M`: the longest chain; four times the size unless given.
    reach: Option<usize>,
    /// `rounds=5`: samples of what is measured as a rate.
    pub rounds: usize,
}

/// A word that is none of a plan's, or has a value that it does not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanError;

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there are part=NAME,…, size=64M (a power of two, 1M or more), reach=256M, rounds=5 (1 to {MOST_ROUNDS})"
        )
    }
}

impl Default for Plan {
    fn default() -> Self {
        Plan { parts: None, size: 64 << 20, reach: None, rounds: 5 }
    }
}

impl Plan {
    /// Takes a word in.
    ///
    /// # Errors
    ///
    /// It is not one of a plan's, or its value is not one that it takes. Nothing is changed.
    pub fn word(&mut self, key: &str, value: &str) -> Result<(), PlanError> {
        match key {
            "part" => self.parts = Some(ArrayString::from(value).map_err(|_| PlanError)?),
            "size" => self.size = bytes(value).filter(|&bytes| bytes >= 1 << 20).ok_or(PlanError)?,
            "reach" => self.reach = Some(bytes(value).filter(|&bytes| bytes >= 1 << 16).ok_or(PlanError)?),
            "rounds" => {
                let rounds = value.parse().ok().filter(|rounds| (1..=MOST_ROUNDS).contains(rounds));
                self.rounds = rounds.ok_or(PlanError)?;
            }
            _ => return Err(PlanError),
        }
        Ok(())
    }

    /// Whether part `name` is to be run.
    pub fn has(&self, name: &str) -> bool {
        self.parts.as_ref().is_none_or(|parts| parts.split(',').any(|part| part == name))
    }

    /// The longest chain.
    pub fn reach(&self) -> usize {
        self.reach.unwrap_or(4 * self.size)
    }
}

/// `64M` and the like: a power of two.
fn bytes(text: &str) -> Option<usize> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    number.checked_shl(shift).filter(|bytes| bytes.is_power_of_two() && bytes >> shift == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_values() {
        let mut plan = Plan::default();
        assert_eq!((plan.size, plan.reach(), plan.has("gups")), (64 << 20, 256 << 20, true));
        for (key, value) in [("size", "2M"), ("part", "gups,bfs"), ("rounds", "3")] {
            plan.word(key, value).unwrap();
        }
        assert_eq!((plan.size, plan.reach(), plan.rounds), (2 << 20, 8 << 20, 3));
        assert_eq!(["gups", "bfs", "chase", "gup"].map(|part| plan.has(part)), [true, true, false, false]);
        for (key, value) in [("size", "3M"), ("size", "4K"), ("size", "M"), ("size", "+4M"), ("rounds", "0"), ("x", "")]
        {
            assert_eq!(plan.word(key, value), Err(PlanError), "{key}={value}");
        }
        assert_eq!(plan.size, 2 << 20);
    }
}
