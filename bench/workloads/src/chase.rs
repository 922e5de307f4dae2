//! A chain of pointers through every cache line of some memory, in a random order: each load waits for the one before, and what
//! the TLB does not hold is waited for as well.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::Platform;
use crate::random::Random;
use core::hint::black_box;

/// Words of a cache line.
const LINE: usize = 8;
const SMALLEST: usize = 64 << 10;
/// Steps of a sample at most.
const STEPS: usize = 200_000;

/// Makes one ring of all lines by Sattolo's shuffle: each line's first word is the number of the next line's.
fn link(words: &mut [u64], mut random: Random) {
    let lines = words.len() / LINE;
    (0..lines).for_each(|line| words[line * LINE] = (line * LINE) as u64);
    for line in (1..lines).rev() {
        words.swap(line * LINE, random.below(line) * LINE);
    }
}

#[inline]
fn walk(words: &[u64], mut at: usize, steps: usize) -> usize {
    for _ in 0..steps {
        at = words[at] as usize;
    }
    at
}

/// Steps until the start is met again.
fn length(words: &[u64]) -> usize {
    let (mut at, mut steps) = (words[0] as usize, 1);
    while at != 0 && steps <= words.len() {
        at = words[at] as usize;
        steps += 1;
    }
    steps
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let mut bytes = SMALLEST;
    while bytes <= lab.plan.reach() {
        let name = Name::new("chase", bytes);
        let mut memory = lab.platform.map(bytes)?;
        let words: &mut [u64] = bytemuck::cast_slice_mut(&mut memory);
        link(words, Random::new(bytes as u64));
        verify(length(words) == words.len() / LINE, "the chain is not one of all lines")?;
        let mut at = 0;
        lab.rate(name, STEPS as u64, || at = black_box(walk(words, at, STEPS)));
        bytes *= 4;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn one_ring_of_all_lines() {
        for lines in [2, 3, 64, 1000] {
            let mut words = std::vec![0; lines * LINE];
            link(&mut words, Random::new(7));
            assert_eq!(length(&words), lines);
            assert_eq!(walk(&words, 0, lines), 0);
        }
    }

    #[test]
    fn a_short_ring_is_noticed() {
        let mut words = std::vec![0; 8 * LINE];
        link(&mut words, Random::new(7));
        let second = words[0] as usize;
        words[second] = 0;
        assert_eq!(length(&words), 2);
    }
}
