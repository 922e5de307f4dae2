//! Memory that is only read has none of its own: it is mapped to the zero block, until it is written to.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::{Enabled, FaultMode};
use ashlar::mm::mmu::{Access, Mmu};
use ashlar::mm::pin::PinRequest;
use ashlar::mm::report::Usage;
use ashlar::mm::{FaultError, MapRequest, Refusal};
use world::{MIB, World, block, collapse, give_back, page, sizes, take_all};

fn world() -> World {
    World::new(64 * MIB, 2, 11)
}

/// Pages that are mapped to the zero block, and frames that pages have to themselves.
fn zeros(world: &World) -> (usize, usize) {
    let usage: Usage = world.mm.usage();
    (usage.zeros, usage.mapped_bytes() / PAGE_SIZE)
}

fn a_read_maps_the_zero_block() {
    let world = world();
    let start = world.map(2 * BLOCK_SIZE);
    assert_eq!(world.get(page(start, 77)), 0);
    assert_eq!((zeros(&world), world.mm.is_huge(start)), ((512, 0), false));
    assert_eq!(world.get(page(start, 600)), 0);
    assert_eq!(zeros(&world), (1024, 0));
    let counters = world.mm.counters();
    assert_eq!((counters.thp_zero_page_alloc.get(), counters.thp_zero_page_fault.get()), (1, 2));
    assert_eq!(counters.pgfault.get(), 2, "one fault for each slot");
    world.check();
}

fn a_write_replaces_its_group() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    world.get(start);
    world.put(page(start, 40), 5);
    assert_eq!(zeros(&world), (496, 16));
    assert_eq!(world.mm.frames().statistics().homes, 1, "it has a home as after any first touch");
    assert_eq!(world.mm.counters().thp_split_pmd_zeros.get(), 1);
    world.check();
    let faults = world.mm.counters().pgfault.get();
    (0..512).filter(|&index| index != 40).for_each(|index| assert_eq!(world.get(page(start, index)), 0));
    assert_eq!(world.mm.counters().pgfault.get(), faults, "the others are mapped still");
    assert_eq!(world.get(page(start, 40)), 5);
    (0..512).for_each(|index| world.put(page(start, index), index));
    assert!(world.mm.is_huge(start), "what is written becomes a block");
    assert_eq!(zeros(&world), (0, 512));
    world.check();
}

fn a_write_replaces_all_where_a_block_is_mapped_at_once() {
    let world = world();
    world.mm.policy().set_fault_mode(FaultMode::Eager);
    let start = world.map(BLOCK_SIZE);
    world.get(start);
    world.put(start, 5);
    assert!(world.mm.is_huge(start));
    assert_eq!((zeros(&world), world.get(page(start, 511))), ((0, 512), 0));
    world.check();
}

fn a_hole_that_is_read_is_no_memory() {
    let world = world();
    let start = block(&world);
    world.mm.release(page(start, 32), 17 * PAGE_SIZE).expect("mapped");
    assert_eq!((world.get(page(start, 33)), world.get(page(start, 48))), (0, 0));
    assert_eq!(zeros(&world), (17, 495), "a group, and a page");
    assert_eq!(world.mm.frames().statistics().absent, 17);
    world.check();
    world.put(page(start, 33), 3);
    world.put(page(start, 48), 4);
    assert!(world.mm.is_huge(start), "the slot is a block again");
    assert_eq!((world.get(page(start, 33)), world.get(page(start, 34)), world.get(page(start, 48))), (3, 0, 4));
    world.check();
}

fn it_can_never_be_written_to() {
    let world = world();
    let start = world.mm.map(MapRequest::new(BLOCK_SIZE).access(Access::READ)).expect("room").start;
    world.get(start);
    assert!(matches!(world.store(start, &[1]), Err(FaultError::Denied { .. })));
    // Whatever the region becomes, what is mapped to it stays for reading.
    world.mm.protect(start, BLOCK_SIZE, Access::READ_WRITE).expect("room");
    world.mm.protect(page(start, 100), 40 * PAGE_SIZE, Access::NONE).expect("mapped");
    world.mm.protect(page(start, 100), 40 * PAGE_SIZE, Access::READ_WRITE).expect("mapped");
    world.check();
    world.put(page(start, 101), 9);
    world.put(page(start, 300), 8);
    world.check();
    let zeros = world.mm.zero_block().expect("it is in use");
    assert!((0..512).all(|index| world.mm.machine().is_zero(zeros.frame(index))));
}

fn a_pin_gets_memory_of_its_own() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    let read_only = world.mm.map(MapRequest::new(BLOCK_SIZE).access(Access::READ)).expect("room").start;
    world.get(start);
    world.get(read_only);
    let zeros = world.mm.zero_block().expect("it is in use");
    for (at, request) in [
        (start, PinRequest::new().write()),
        (page(start, 99), PinRequest::new()),
        (read_only, PinRequest::new().long()),
    ] {
        let pin = world.mm.pin(at, 2 * PAGE_SIZE, request).expect("there is memory");
        assert!(world.mm.extents(&pin).all(|extent| extent.start.frame().block() != zeros));
        world.check();
        world.mm.unpin(pin);
    }
    assert_eq!((world.get(start), world.get(read_only)), (0, 0));
}

fn it_may_be_switched_off() {
    let world = world();
    world.mm.policy().set_use_zero_page(false);
    let start = world.map(BLOCK_SIZE);
    world.get(start);
    assert_eq!((zeros(&world), sizes(&world), world.mm.zero_block()), ((0, 16), (0, 1, 0), None));
}

fn it_goes_by_pages_where_blocks_are_not_wanted() {
    let world = world();
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    world.get(start);
    world.get(page(start, 1));
    assert_eq!(zeros(&world), (2, 0));
    world.put(start, 1);
    assert_eq!((zeros(&world), sizes(&world)), ((0, 1), (0, 0, 1)), "its group was given up");
    assert_eq!(world.get(page(start, 1)), 0);
    world.check();
}

fn what_is_only_zeros_is_no_block_to_be() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    world.get(start);
    assert_eq!(collapse(&world, start), Err(Refusal::Empty));
    assert_eq!(world.mm.dissolve(start), Err(Refusal::NoHome));
    world.mm.policy().set_enabled(Enabled::Never);
    world.put(page(start, 200), 6);
    collapse(&world, start).expect("a page is present");
    assert_eq!((zeros(&world), world.get(page(start, 200)), world.get(start)), ((0, 512), 6, 0));
    world.check();
}

fn it_is_unmapped_with_the_rest() {
    let world = world();
    let start = world.map(3 * BLOCK_SIZE);
    (0..3).for_each(|slot| assert_eq!(world.get(page(start, 512 * slot)), 0));
    world.put(page(start, 512), 1);
    world.mm.unmap(page(start, 500), 24 * PAGE_SIZE).expect("mapped");
    world.check();
    world.mm.release(page(start, 1024), BLOCK_SIZE).expect("mapped");
    world.check();
    world.mm.unmap(start, 3 * BLOCK_SIZE).expect("mapped");
    assert_eq!(zeros(&world), (0, 0));
    world.check();
}

fn it_is_given_back_when_memory_is_short() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    world.get(start);
    let other = world.map(BLOCK_SIZE);
    let taken = take_all(&world);
    // In use, it stays.
    assert!(matches!(world.store(other, &[1]), Err(FaultError::OutOfMemory { .. })));
    assert_eq!((world.get(start), zeros(&world)), (0, (512, 0)));
    world.mm.release(start, BLOCK_SIZE).expect("mapped");
    world.put(other, 1);
    assert_eq!(world.mm.zero_block(), None);
    give_back(&world, taken);
    assert_eq!(world.get(start), 0);
    world.check();
}

fn without_a_block_for_it_reads_get_memory() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    let mut taken = take_all(&world);
    // Single frames are free, and no block.
    for frame in taken.split_off(taken.len() - 100) {
        world.mm.frames().free(frame, 0);
    }
    assert_eq!((world.get(start), world.mm.zero_block()), (0, None));
    assert_eq!(zeros(&world).0, 0);
    give_back(&world, taken);
}

/// The only free block is taken for the zeros, and then there is no frame for a table: memory of its own is what is left.
fn the_last_block_is_better_used() {
    let world = world();
    let start = world.map(2 * BLOCK_SIZE);
    world.put(page(start, 512), 1);
    world.mm.frames().drain_caches();
    let block = world.mm.frames().allocate_block().expect("a block is free");
    let taken = take_all(&world);
    world.mm.frames().free_block(block);
    assert_eq!((world.get(start), world.get(page(start, 100))), (0, 0));
    assert_eq!((zeros(&world).0, world.mm.zero_block()), (0, None));
    give_back(&world, taken);
}

fn it_moves_with_its_slot() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    world.get(start);
    let there: VirtAddr = VirtAddr(7 << 30);
    let request = ashlar::mm::RemapRequest::new(BLOCK_SIZE);
    world.mm.remap(start, BLOCK_SIZE, request.at(there)).expect("room");
    assert_eq!(zeros(&world), (512, 0));
    world.mm.remap(there, BLOCK_SIZE, request.at(page(start, 1))).expect("room");
    assert_eq!((zeros(&world), world.get(page(start, 1))), ((0, 0), 0));
    world.check();
}

ashlar_test::tests! {
    a_read_maps_the_zero_block,
    a_write_replaces_its_group,
    a_write_replaces_all_where_a_block_is_mapped_at_once,
    a_hole_that_is_read_is_no_memory,
    it_can_never_be_written_to,
    a_pin_gets_memory_of_its_own,
    it_may_be_switched_off,
    it_goes_by_pages_where_blocks_are_not_wanted,
    what_is_only_zeros_is_no_block_to_be,
    it_is_unmapped_with_the_rest,
    it_is_given_back_when_memory_is_short,
    without_a_block_for_it_reads_get_memory,
    the_last_block_is_better_used,
    it_moves_with_its_slot,
}
