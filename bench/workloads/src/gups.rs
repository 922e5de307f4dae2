//! Random updates of a table, as HPC Challenge's RandomAccess has them: a table of a power of two words, each word its own number
//! at first; a stream of numbers from a shift register, each of which is combined with the word that its low bits name. Run
//! again, the same stream undoes itself. With one thread there is nothing to look ahead for, and no error is excused by a race.
//!
//! One rule is not kept: a run is of no more than [`MOST`] updates, not of four for every word.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::Platform;

/// The register's feedback, a primitive polynomial of degree 63.
const POLYNOMIAL: u64 = 7;
/// The stream's period.
const PERIOD: i128 = 1_317_624_576_693_539_401;
/// Updates of a sample at most.
const MOST: usize = 400_000;
/// Where the stream begins: its first 64 numbers are powers of two, and far apart only in the table's low part.
const FIRST: i64 = 1 << 40;

#[inline]
fn next(number: u64) -> u64 {
    (number << 1) ^ if (number as i64) < 0 { POLYNOMIAL } else { 0 }
}

/// The stream's number `position`, found by squaring.
fn start(position: i64) -> u64 {
    let position = i128::from(position).rem_euclid(PERIOD) as u64;
    if position == 0 {
        return 1;
    }
    let mut squares = [0; 64];
    let mut number = 1;
    for square in &mut squares {
        *square = number;
        number = next(next(number));
    }
    let mut number = 2;
    for bit in (0..position.ilog2()).rev() {
        let squared = (0..64).filter(|bit| number >> bit & 1 == 1).fold(0, |sum, bit| sum ^ squares[bit]);
        number = if position >> bit & 1 == 1 { next(squared) } else { squared };
    }
    number
}

#[inline]
fn update(table: &mut [u64], mut number: u64, updates: usize) -> u64 {
    let mask = table.len() - 1;
    for _ in 0..updates {
        number = next(number);
        table[number as usize & mask] ^= number;
    }
    number
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let name = Name::new("gups", lab.plan.size);
    let mut memory = lab.platform.map(lab.plan.size)?;
    let table: &mut [u64] = bytemuck::cast_slice_mut(&mut memory);
    let ((), setup) = lab.time(|| table.iter_mut().zip(0..).for_each(|(word, number)| *word = number));
    lab.once(name.part("setup"), setup, 1);
    let updates = MOST.min(4 * table.len() / lab.plan.rounds);
    let (mut number, mut samples) = (start(FIRST), 0);
    lab.rate(name, updates as u64, || {
        number = update(table, number, updates);
        samples += 1;
    });
    verify(table.iter().zip(0..).any(|(&word, number)| word != number), "nothing was updated")?;
    update(table, start(FIRST), updates * samples);
    let errors = table.iter().zip(0..).filter(|&(&word, number)| word != number).count();
    verify(errors * 100 < table.len(), "more than a hundredth of the table is not what it was")
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn the_stream_can_begin_anywhere() {
        let mut number = 1;
        for position in 0..1000 {
            assert_eq!(start(position), number, "{position}");
            number = next(number);
        }
        assert_eq!(start(PERIOD as i64), 1);
        assert_eq!(next(start(-1)), 1);
        assert_eq!(next(start(FIRST - 1)), start(FIRST));
    }

    #[test]
    fn a_stream_undoes_itself() {
        let mut table: std::vec::Vec<u64> = (0..1024).collect();
        update(&mut table, start(FIRST), 4096);
        assert!(table.iter().zip(0..).filter(|&(&word, number)| word != number).count() > 512);
        update(&mut table, start(FIRST), 4096);
        assert!(table.iter().zip(0..).all(|(&word, number)| word == number));
    }
}
