//! RAM that boot holds back, an initrd's, and gives to the frame allocator later.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;

use alloc::vec::Vec;
use ashlar::arch::sim::{SimConfig, SimMachine};
use ashlar::mm::address::{BLOCK_SIZE, Block, Frame, PAGE_SIZE, PhysAddr};
use ashlar::mm::frame::{Class, Frames, MemoryMap};
use core::ops::Range;

const RAM: PhysAddr = PhysAddr(0x4000_0000);
const BLOCKS: usize = 16;

/// 32 MiB of RAM, `held` of it held back.
fn machine(held: Range<PhysAddr>) -> (SimMachine, Frames) {
    common::threads_are_contexts();
    let machine = SimMachine::new(SimConfig { banks: &[(RAM, BLOCKS * BLOCK_SIZE)], ..Default::default() });
    let mut map = MemoryMap::new();
    map.add(RAM..RAM + (BLOCKS * BLOCK_SIZE) as u64).unwrap();
    map.hold(held).unwrap();
    // SAFETY: nobody else uses the machine's RAM, and it lives as long as the allocator.
    let frames = unsafe { Frames::new(&machine, &mut map) }.unwrap();
    frames.check();
    (machine, frames)
}

/// Takes everything there is: blocks, then frames.
fn drain(frames: &Frames) -> (Vec<Block>, Vec<Frame>) {
    let blocks = core::iter::from_fn(|| frames.allocate_block()).collect();
    let singles = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    (blocks, singles)
}

fn held_ram_is_not_handed_out_before_and_all_of_it_after() {
    let (start, end) = (RAM + 3 * BLOCK_SIZE as u64 + 5 * PAGE_SIZE as u64, RAM + 7 * BLOCK_SIZE as u64 + 0x1234);
    let (_machine, frames) = machine(start..end);
    let held = (end.align_down(PAGE_SIZE) - start) / PAGE_SIZE as u64;
    let before = frames.statistics();
    let (blocks, singles) = drain(&frames);
    let inside = |at: PhysAddr, bytes: usize| at < end && at + bytes as u64 > start;
    assert!(blocks.iter().all(|block| !inside(block.start(), BLOCK_SIZE)));
    assert!(singles.iter().all(|frame| !inside(frame.start(), PAGE_SIZE)));

    frames.admit(start..end);
    frames.check();
    let after = frames.statistics();
    assert_eq!((after.total, after.free), (before.total + held as usize, held as usize));
    let (more_blocks, more_singles) = drain(&frames);
    assert_eq!(more_blocks.len(), 3);
    assert_eq!(more_blocks.len() * 512 + more_singles.len(), held as usize);
    assert!(more_singles.iter().all(|frame| inside(frame.start(), PAGE_SIZE)));
    frames.check();
}

fn admitted_ram_joins_its_neighbours() {
    let held = RAM + 4 * BLOCK_SIZE as u64..RAM + 6 * BLOCK_SIZE as u64;
    let (_machine, frames) = machine(held.clone());
    let runs = |frames: &Frames| frames.statistics().free_runs;
    let (_machine_without, without) = machine(RAM..RAM);
    assert_ne!(runs(&frames), runs(&without));
    frames.admit(held);
    frames.check();
    assert_eq!(runs(&frames), runs(&without), "the runs are those of a machine that held nothing back");
}

fn parts_of_one_block_make_a_block() {
    let middle = RAM + 4 * BLOCK_SIZE as u64 + 0x8000;
    let held = RAM + 4 * BLOCK_SIZE as u64..RAM + 5 * BLOCK_SIZE as u64;
    let (_machine, frames) = machine(held.clone());
    let free = frames.statistics().free_blocks();
    frames.admit(held.start..middle);
    frames.check();
    assert_eq!(frames.statistics().free_blocks(), free);
    frames.admit(middle..held.end);
    frames.check();
    assert_eq!(frames.statistics().free_blocks(), free + 1);
}

#[cfg(not(target_os = "none"))]
fn admitting_twice_or_what_was_not_held_panics() {
    let held = RAM + 4 * BLOCK_SIZE as u64..RAM + 5 * BLOCK_SIZE as u64 + 0x3000;
    for wrong in [held.clone(), PhysAddr(held.end.0 - 0x1000)..held.end, RAM..RAM + 0x1000] {
        let (_machine, frames) = machine(held.clone());
        frames.admit(held.clone());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| frames.admit(wrong.clone())));
        assert!(panicked.is_err(), "{wrong:?} was admitted");
    }
}

ashlar_test::tests! {
    held_ram_is_not_handed_out_before_and_all_of_it_after,
    admitted_ram_joins_its_neighbours,
    parts_of_one_block_make_a_block,
    #[cfg(not(target_os = "none"))]
    admitting_twice_or_what_was_not_held_panics,
}
