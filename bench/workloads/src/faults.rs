//! First touches: of everything, and one by one.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::{PAGE, Platform};
use core::hint::black_box;

/// Stores a byte in every page.
pub fn touch(memory: &mut [u8]) {
    memory.iter_mut().step_by(PAGE).for_each(|byte| *black_box(byte) = 1);
}

/// Whether each page holds that byte, and nothing else where one looks.
fn is_touched(memory: &[u8]) -> bool {
    memory.chunks_exact(PAGE).all(|page| page[0] == 1 && page[1] == 0 && page[PAGE - 1] == 0)
}

/// Four times the size is touched, and unmapped. Then as much as the pool of zeroed blocks may hold of it, once it is filled; where
/// there is none, the same again.
pub fn populate<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let bytes = 4 * lab.plan.size;
    let name = Name::new("populate", bytes);
    let before = lab.platform.usage();
    let mut memory = lab.platform.map(bytes)?;
    let ((), ticks) = lab.time(|| touch(&mut memory));
    lab.once(name, ticks, 1);
    if let Some(zeroing) = lab.platform.zeroing(bytes) {
        lab.once(name.part("zeroing"), zeroing, 1);
        lab.once(name.part("beyond_zeroing"), ticks.saturating_sub(zeroing), 1);
    }
    let in_blocks = (lab.platform.usage().in_blocks.saturating_sub(before.in_blocks)) as f64 * 100.0 / bytes as f64;
    lab.figure(name.part("in_blocks_pct"), format_args!("{in_blocks:.1}"), "percent");
    verify(is_touched(&memory), "a page")?;
    let ((), ticks) = lab.time(|| drop(memory));
    lab.once(name.part("unmap"), ticks, 1);

    lab.rest();
    let some = lab.plan.size / 2;
    let mut memory = lab.platform.map(some)?;
    let ((), ticks) = lab.time(|| touch(&mut memory));
    lab.once(Name::new("populate", some).part("rested"), ticks, 1);
    verify(is_touched(&memory), "a page of the pool's")
}

/// Each first touch by itself: page after page, and in an order that leaves no slot full before long.
pub fn latency<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let bytes = lab.plan.size;
    let pages = bytes / PAGE;
    let mut times = lab.map(pages * 8)?;
    let samples: &mut [u64] = &mut bytemuck::cast_slice_mut(&mut times)[..pages];
    for (workload, step) in [("latency", 1), ("latency_random", 0x9e37_79b1)] {
        let name = Name::new(workload, bytes);
        // Present before the first of them is taken.
        samples.fill(1);
        let mut memory = lab.platform.map(bytes)?;
        let empty = lab.nothing();
        // The step is odd, and pages are a power of two: all have their turn.
        for (number, sample) in samples.iter_mut().enumerate() {
            let byte = &mut memory[number.wrapping_mul(step) % pages * PAGE];
            let start = lab.platform.now();
            *black_box(byte) = 1;
            *sample = (lab.platform.now() - start).saturating_sub(empty);
        }
        verify(is_touched(&memory), "a page")?;
        let sum = samples.iter().sum();
        lab.report(name, samples, 1);
        lab.histogram(name, samples);
        let last = pages - 1;
        for (part, at) in [("p99", last * 99 / 100), ("p999", last * 999 / 1000), ("max", last)] {
            lab.once(name.part(part), samples[at], 1);
        }
        lab.once(name.part("mean"), sum, pages as u64);
    }
    Ok(())
}
