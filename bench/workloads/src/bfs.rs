//! Breadth-first search of a Kronecker graph, by Graph500's rules: its generator's probabilities, sixteen edges for a vertex, labels
//! that are shuffled, and parents that are validated. One root is searched from, again and again.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::Platform;
use crate::random::{Random, mix};
use core::hint::black_box;

/// Edges for each vertex.
const EDGES: usize = 16;
/// Bytes that a vertex takes: its edges once in the list and twice in the rows, a row's start, a parent, a level and a place in
/// the queue.
const VERTEX: usize = EDGES * 16 + 16;
/// Vertices, as a power of two, at most: generating more takes longer than all else.
const LARGEST: u32 = 17;
/// An initiator's quarters in 65 536ths: 0.57, 0.19, 0.19, and the rest. What ends the first, the second and the third.
const BORDERS: [u64; 3] = [37_355, 49_807, 62_259];
/// No vertex.
const NONE: u32 = u32::MAX;

type Edge = [u32; 2];

/// Another label for `vertex` of `1 << scale`, each its own.
fn shuffled(vertex: u32, scale: u32) -> u32 {
    let mask = (1 << scale) - 1;
    let mut label = vertex;
    for round in 0..3 {
        label = label.wrapping_mul(mix(round) as u32 | 1) & mask;
        label ^= label >> (scale / 2).max(1);
    }
    label
}

fn edge(random: &mut Random, scale: u32) -> Edge {
    let (mut from, mut to, mut bits) = (0_u32, 0_u32, 0);
    for level in 0..scale {
        bits = if level % 4 == 0 { random.draw() } else { bits >> 16 };
        let quarter: u32 = BORDERS.iter().map(|&border| u32::from(bits & 0xffff >= border)).sum();
        from = from << 1 | quarter >> 1;
        to = to << 1 | quarter & 1;
    }
    [shuffled(from, scale), shuffled(to, scale)]
}

/// An undirected graph by rows.
struct Graph<'a> {
    /// Where each vertex's row begins, and where the last ends.
    starts: &'a [u32],
    neighbours: &'a [u32],
}

impl<'a> Graph<'a> {
    /// Sorts `edges` into rows. Loops go in, too, and so do edges that are there twice.
    fn new(starts: &'a mut [u32], neighbours: &'a mut [u32], edges: &[Edge]) -> Self {
        // Rows' ends first, from which they are filled downwards.
        starts.fill(0);
        edges.as_flattened().iter().for_each(|&vertex| starts[vertex as usize] += 1);
        let mut sum = 0;
        for start in &mut *starts {
            sum += *start;
            *start = sum;
        }
        for &[from, to] in edges {
            for (from, to) in [(from, to), (to, from)] {
                starts[from as usize] -= 1;
                neighbours[starts[from as usize] as usize] = to;
            }
        }
        Graph { starts, neighbours }
    }

    #[inline]
    fn row(&self, vertex: u32) -> &[u32] {
        &self.neighbours[self.starts[vertex as usize] as usize..self.starts[vertex as usize + 1] as usize]
    }
}

/// Finds everybody's parent; returns how many have one.
fn search(graph: &Graph<'_>, root: u32, parents: &mut [u32], queue: &mut [u32]) -> usize {
    parents.fill(NONE);
    parents[root as usize] = root;
    queue[0] = root;
    let (mut next, mut end) = (0, 1);
    while next < end {
        let vertex = queue[next];
        next += 1;
        for &neighbour in graph.row(vertex) {
            if parents[neighbour as usize] == NONE {
                parents[neighbour as usize] = vertex;
                queue[end] = neighbour;
                end += 1;
            }
        }
    }
    end
}

/// Graph500's five rules: the parents make a tree with that root, each of its edges is one of the graph's and leads one level up, no
/// edge leads further than that, and the tree is of all that is connected.
fn validate(graph: &Graph<'_>, edges: &[Edge], root: u32, parents: &[u32], levels: &mut [u32]) -> Result<(), Failure> {
    verify(parents[root as usize] == root, "the root's parent")?;
    levels.fill(NONE);
    levels[root as usize] = 0;
    for vertex in (0..parents.len() as u32).filter(|&vertex| parents[vertex as usize] != NONE) {
        // Up to where levels are known, and the same way again with the levels.
        let (mut above, mut steps) = (vertex, 0);
        while levels[above as usize] == NONE {
            let parent = parents[above as usize];
            verify(parent != NONE && steps < parents.len(), "a cycle, or a parent without one")?;
            (above, steps) = (parent, steps + 1);
        }
        let (mut below, mut level) = (vertex, levels[above as usize] + steps as u32);
        while levels[below as usize] == NONE {
            levels[below as usize] = level;
            (below, level) = (parents[below as usize], level - 1);
        }
        let parent = parents[vertex as usize];
        verify(vertex == root || graph.row(vertex).contains(&parent), "a parent that is no neighbour")?;
    }
    for edge in edges {
        let [one, other] = edge.map(|vertex| levels[vertex as usize]);
        verify((one == NONE) == (other == NONE), "a neighbour that was not reached")?;
        verify(one.abs_diff(other) <= 1, "a way that is not the shortest")?;
    }
    Ok(())
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let scale = (lab.plan.size / VERTEX).ilog2().min(LARGEST);
    let vertices = 1_usize << scale;
    let name = Name::new("bfs", vertices * VERTEX);
    let (mut list, mut starts) = (lab.map(vertices * EDGES * 8)?, lab.map((vertices + 1) * 4)?);
    let (mut neighbours, mut parents) = (lab.map(vertices * EDGES * 8)?, lab.map(vertices * 4)?);
    let (mut queue, mut levels) = (lab.map(vertices * 4)?, lab.map(vertices * 4)?);
    let edges: &mut [Edge] = bytemuck::cast_slice_mut(&mut list);
    let mut random = Random::new(8);
    edges.iter_mut().for_each(|place| *place = edge(&mut random, scale));

    let starts = &mut bytemuck::cast_slice_mut(&mut starts)[..vertices + 1];
    let neighbours = bytemuck::cast_slice_mut(&mut neighbours);
    let (graph, ticks) = lab.time(|| Graph::new(starts, neighbours, edges));
    lab.once(name.part("setup"), ticks, 1);
    let [parents, queue, levels] = [&mut parents, &mut queue, &mut levels]
        .map(|memory| &mut bytemuck::cast_slice_mut::<u8, u32>(memory)[..vertices]);
    // Somebody of many: the first edge's.
    let root = edges[0][0];
    let reached = search(&graph, root, parents, queue);
    let walked = queue[..reached].iter().map(|&vertex| graph.row(vertex).len() as u64).sum::<u64>() / 2;
    lab.rate(name, walked, || {
        black_box(search(&graph, root, parents, queue));
    });
    validate(&graph, edges, root, parents, levels)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn labels_are_shuffled_not_merged() {
        for scale in [1, 2, 5, 10] {
            let mut seen = vec![false; 1 << scale];
            (0..1 << scale).for_each(|vertex| seen[shuffled(vertex, scale) as usize] = true);
            assert!(seen.iter().all(|&seen| seen), "{scale}");
        }
    }

    #[test]
    fn quarters_have_their_shares() {
        let mut random = Random::new(1);
        let mut counts = [0; 4];
        for _ in 0..100_000 {
            let [from, to] = edge(&mut random, 1);
            counts[(from * 2 + to) as usize] += 1;
        }
        // Labels may be another's; the shares are the same.
        counts.sort_unstable();
        for (count, share) in counts.into_iter().zip([5_000, 19_000, 19_000, 57_000_i32]) {
            assert!((count - share).abs() < 1000, "{count} of {share}");
        }
    }

    #[test]
    fn what_is_not_a_shortest_tree_is_noticed() {
        // 0 - 1 - 2 - 3, 0 - 2, and 4 - 5 apart.
        let edges = [[0, 1], [1, 2], [2, 3], [0, 2], [4, 5]];
        let (mut starts, mut neighbours) = (vec![0; 7], vec![0; 10]);
        let graph = Graph::new(&mut starts, &mut neighbours, &edges);
        let (mut parents, mut queue, mut levels) = (vec![0; 6], vec![0; 6], vec![0; 6]);
        assert_eq!(search(&graph, 0, &mut parents, &mut queue), 4);
        assert_eq!(parents, [0, 0, 0, 2, NONE, NONE]);
        let mut check = |parents: Vec<u32>| match validate(&graph, &edges, 0, &parents, &mut levels) {
            Err(Failure::Wrong(what)) => what,
            _ => "",
        };
        assert_eq!(check(parents), "");
        assert_eq!(check(vec![1, 0, 0, 2, NONE, NONE]), "the root's parent");
        assert_eq!(check(vec![0, 2, 1, 2, NONE, NONE]), "a cycle, or a parent without one");
        assert_eq!(check(vec![0, 0, 0, 0, NONE, NONE]), "a parent that is no neighbour");
        assert_eq!(check(vec![0, 0, 1, 2, NONE, NONE]), "a way that is not the shortest");
        assert_eq!(check(vec![0, 0, 0, NONE, NONE, NONE]), "a neighbour that was not reached");
    }
}
