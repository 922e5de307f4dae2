//! A hash join: the tuples of one relation are built into a table, those of another look their partners up. Half of them have one.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::Platform;
use crate::random::{Random, mix};
use core::hint::black_box;

/// A key, which is not zero, and what belongs to it.
type Tuple = [u64; 2];

/// The key of tuple `number`.
fn key(number: usize) -> u64 {
    mix(number as u64 + 1)
}

/// Where the search for `key` begins in a table of `1 << bits` places.
#[inline]
fn place(key: u64, bits: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as usize
}

fn build(table: &mut [Tuple], tuples: &[Tuple]) {
    let (bits, mask) = (table.len().ilog2(), table.len() - 1);
    for &tuple in tuples {
        let mut at = place(tuple[0], bits);
        while table[at & mask][0] != 0 {
            at += 1;
        }
        table[at & mask] = tuple;
    }
}

/// How many of `keys` have a partner, and the sum of what belongs to those.
#[inline]
fn probe(table: &[Tuple], keys: &[u64]) -> (u64, u64) {
    let (bits, mask) = (table.len().ilog2(), table.len() - 1);
    let (mut found, mut sum) = (0, 0_u64);
    for &key in keys {
        let mut at = place(key, bits);
        loop {
            let [other, value] = table[at & mask];
            if other == key {
                found += 1;
                sum = sum.wrapping_add(value);
            }
            if other == key || other == 0 {
                break;
            }
            at += 1;
        }
    }
    (found, sum)
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    // The table is half of it, and half full.
    let bytes = lab.plan.size / 2;
    let name = Name::new("join", bytes);
    let mut relation = lab.platform.map(bytes / 2)?;
    let mut others = lab.platform.map(bytes / 4)?;
    let tuples: &mut [Tuple] = bytemuck::cast_slice_mut(&mut relation);
    let keys: &mut [u64] = bytemuck::cast_slice_mut(&mut others);
    tuples.iter_mut().enumerate().for_each(|(number, tuple)| *tuple = [key(number), number as u64]);
    let mut random = Random::new(3);
    let (mut found, mut sum) = (0, 0_u64);
    for wanted in &mut *keys {
        let number = random.below(2 * tuples.len());
        *wanted = key(number);
        if number < tuples.len() {
            found += 1;
            sum = sum.wrapping_add(number as u64);
        }
    }

    let mut memory = lab.platform.map(bytes)?;
    let table: &mut [Tuple] = bytemuck::cast_slice_mut(&mut memory);
    let ((), ticks) = lab.time(|| build(table, tuples));
    lab.once(name.part("build"), ticks, tuples.len() as u64);
    let some = keys.len() / 4;
    let mut quarters = keys.chunks_exact(some).cycle();
    lab.rate(name.part("probe"), some as u64, || {
        black_box(probe(table, quarters.next().unwrap_or(&[])));
    });
    verify(probe(table, keys) == (found, sum), "partners")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_are_found_and_strangers_not() {
        let mut table = [[0; 2]; 64];
        let tuples: [Tuple; 32] = core::array::from_fn(|number| [key(number), number as u64]);
        build(&mut table, &tuples);
        assert_eq!(probe(&table, &[key(3), key(31), key(32), key(33)]), (2, 34));
    }
}
