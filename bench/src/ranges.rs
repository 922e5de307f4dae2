//! Whole slots that are moved or protected: what is done to a range of addresses, and keeps its blocks.

use crate::collapse::{at, blocks};
use crate::faults::SLOTS;
use crate::sample::{report, time};
use ashlar::arch::aarch64::{gate, memory};
use ashlar::memory::{Access, Destination, VirtAddr, is_huge};
use ashlar::mm::address::BLOCK_SIZE;

/// A block goes to other addresses, where nothing was before.
pub fn remap() {
    let remap = |slot: usize| {
        let memory = blocks(1);
        let (from, to) = (memory.start(), VirtAddr(1 << 36) + (2 * slot * BLOCK_SIZE) as u64);
        let mut moved = memory;
        let ticks = time(|| moved.remap(BLOCK_SIZE, Destination::At(to)).expect("nothing is there"));
        assert!(is_huge(moved.as_slice().as_ptr()) && moved.start() == to && from != to);
        ticks
    };
    report("remap_slot", (0..SLOTS).map(remap).collect());
}

/// 512 MiB in blocks get a snapshot; then the first page of each block is written to.
pub fn snapshot() {
    // Both together are more than there is; so much of it is never copied.
    let overcommit = |on| gate::call(move || memory::manager().set_overcommit(on));
    overcommit(true);
    let mut memory = blocks(256);
    let make = |_| {
        let mut instant = None;
        time(|| instant = Some(memory.snapshot().expect("room")))
    };
    report("snapshot_512m", (0..3).map(make).collect());
    let instant = memory.snapshot().expect("room");
    let write = |slot: usize| {
        let place = &mut memory.as_mut_slice()[slot * BLOCK_SIZE];
        time(|| *place = 2)
    };
    report("snapshot_write", (0..SLOTS).map(write).collect());
    assert!(instant.iter().step_by(BLOCK_SIZE).all(|&byte| byte != 2));
    drop(instant);
    assert!(is_huge(memory.as_slice().as_ptr()));
    overcommit(false);
}

/// A block becomes one that can only be read.
pub fn protect() {
    let memory = blocks(2 * SLOTS);
    let protect = |slot| {
        let start = at(&memory, 2 * slot, 0);
        time(|| gate::call(move || memory::manager().protect(start, BLOCK_SIZE, Access::READ)).expect("mapped"))
    };
    report("protect_slot", (0..SLOTS).map(protect).collect());
    assert!(is_huge(memory.as_slice().as_ptr()));
}
