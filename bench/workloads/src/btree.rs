//! Lookups in a static B+tree that lies in one array: the leaves are the sorted keys, a level of nodes above them says which of
//! seventeen children to take, and so on. A child's place follows from its number, so there are no pointers.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::Platform;
use crate::random::{Random, mix};
use arrayvec::ArrayVec;
use core::hint::black_box;

/// Keys of a node: two cache lines.
const KEYS: usize = 16;
const CHILDREN: usize = KEYS + 1;
const LEVELS: usize = 16;
/// Greater than any key: what fills the last nodes up.
const NONE: u64 = u64::MAX;
const LOOKUPS: usize = 50_000;
/// Keys lie within so many of each other.
const SPREAD: u64 = 8;

/// Key `number`, of those in order.
fn key(number: u64) -> u64 {
    number * SPREAD + mix(number) % SPREAD
}

/// How many keys are below `wanted`.
fn rank(wanted: u64) -> u64 {
    let number = wanted / SPREAD;
    number + u64::from(key(number) < wanted)
}

/// Where the nodes of each level begin, in nodes from the leaves', and one more: where all end.
fn levels(keys: usize) -> ArrayVec<usize, LEVELS> {
    let mut starts = ArrayVec::new();
    let (mut start, mut nodes) = (0, keys.div_ceil(KEYS));
    loop {
        starts.push(start);
        start += nodes;
        if nodes == 1 {
            starts.push(start);
            return starts;
        }
        nodes = nodes.div_ceil(CHILDREN);
    }
}

/// A tree of keys 0 to `keys`, in `nodes`.
fn build(nodes: &mut [[u64; KEYS]], keys: usize, starts: &[usize]) {
    for (number, place) in (0..).zip(nodes[..starts[1]].as_flattened_mut()) {
        *place = if number < keys as u64 { key(number) } else { NONE };
    }
    // Leaves below each child of the level.
    let mut leaves = 1;
    for level in starts.windows(2).skip(1) {
        for node in level[0]..level[1] {
            for place in 0..KEYS {
                // What separates two children is the first key below the right one.
                let leaf = ((node - level[0]) * CHILDREN + place + 1) * leaves;
                nodes[node][place] = if leaf < starts[1] { nodes[leaf][0] } else { NONE };
            }
        }
        leaves *= CHILDREN;
    }
}

/// How many keys are below `wanted`.
#[inline]
fn lookup(nodes: &[[u64; KEYS]], starts: &[usize], wanted: u64) -> usize {
    let mut node = 0;
    for &start in starts[1..starts.len() - 1].iter().rev() {
        node = node * CHILDREN + nodes[start + node].iter().filter(|&&key| key <= wanted).count();
    }
    node * KEYS + nodes[node].iter().filter(|&&key| key < wanted).count()
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let keys = lab.plan.size / size_of::<u64>();
    let name = Name::new("btree", lab.plan.size);
    let starts = levels(keys);
    let mut memory = lab.map(starts[starts.len() - 1] * KEYS * 8)?;
    let nodes: &mut [[u64; KEYS]] = bytemuck::cast_slice_mut(&mut memory);
    let ((), ticks) = lab.time(|| build(nodes, keys, &starts));
    lab.once(name.part("setup"), ticks, 1);
    let limit = keys * SPREAD as usize;
    let mut random = Random::new(5);
    lab.rate(name, LOOKUPS as u64, || {
        let mut sum = 0;
        (0..LOOKUPS).for_each(|_| sum += lookup(nodes, &starts, random.below(limit) as u64));
        black_box(sum);
    });
    let mut random = Random::new(5);
    let is_right = |wanted| lookup(nodes, &starts, wanted) as u64 == rank(wanted);
    verify((0..LOOKUPS).all(|_| is_right(random.below(limit) as u64)), "a rank")
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn every_rank_in_trees_of_all_shapes() {
        for keys in [1, 15, 16, 17, 16 * 17, 16 * 17 + 1, 5000] {
            let starts = levels(keys);
            let mut nodes = std::vec![[0; KEYS]; starts[starts.len() - 1]];
            build(&mut nodes, keys, &starts);
            for wanted in 0..keys as u64 * SPREAD {
                assert_eq!(lookup(&nodes, &starts, wanted) as u64, rank(wanted), "{wanted} of {keys}");
            }
        }
    }
}
