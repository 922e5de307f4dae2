//! What the application says of its memory: that it can do without it, that it will not need it soon.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use ashlar::mm::MemoryError;
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
use ashlar::mm::huge::{Collapsed, Rest};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::PinRequest;
use world::{MIB, World, assert_filled, block, collapse, fill, give_back, page, scattered, sizes, take_all};

fn world() -> World {
    World::new(64 * MIB, 2, 17)
}

/// Lets the background work until it waits.
fn background(world: &World) {
    let mut now = 0;
    for _ in 0..1000 {
        match world.mm.background_step(now) {
            Rest::None => {}
            Rest::Until(at) => now = at,
            Rest::Wait => return,
        }
    }
    panic!("the background does not rest");
}

/// Has all that can be taken back taken back: no frame is free then.
fn squeeze(world: &World) {
    let other = world.map(PAGE_SIZE);
    let taken = take_all(world);
    let _ = world.store(other, &[1]);
    world.mm.unmap(other, PAGE_SIZE).expect("mapped");
    give_back(world, taken);
}

fn what_is_freed_stays_while_there_is_memory() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    world.check();
    assert!(world.mm.is_huge(start), "a whole block stays one");
    assert_filled(&world, start, 0..0);
    assert!(world.mm.is_huge(start));
    assert_eq!(world.mm.counters().pglazyfree.get(), 512);
    world.check();
}

fn what_is_freed_goes_when_memory_is_short() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    squeeze(&world);
    assert_eq!(sizes(&world), (0, 0, 0), "the block is free");
    assert_eq!(world.mm.counters().pglazyfreed.get(), 512);
    assert_filled(&world, start, 0..512);
    world.check();
}

fn a_write_keeps_the_block() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    let faults = world.mm.counters().pgfault.get();
    world.put(page(start, 9), 0xCAFE);
    world.put(page(start, 300), 0xCAFE);
    assert_eq!(world.mm.counters().pgfault.get(), faults + 1, "one fault for all of it");
    squeeze(&world);
    assert!(world.mm.is_huge(start));
    assert_eq!(world.get(page(start, 9)), 0xCAFE);
    world.check();
}

fn a_write_keeps_its_group() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(page(start, 64), 64 * PAGE_SIZE).expect("mapped");
    assert!(!world.mm.is_huge(start), "a part of it is another thing");
    world.put(page(start, 70) + 8 * 70, 0x5EED_0000 + 70);
    world.check();
    squeeze(&world);
    assert_eq!(world.mm.counters().pglazyfreed.get(), 48);
    (64..80).for_each(|index| assert_eq!(world.get(page(start, index) + 8 * index), 0x5EED_0000 + index));
    assert_filled(&world, start, 80..128);
    world.check();
}

fn all_groups_kept_are_a_block_again() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(start, BLOCK_SIZE / 2).expect("mapped");
    assert!(!world.mm.is_huge(start));
    (0..256).step_by(16).for_each(|index| world.put(page(start, index) + 8 * index, 0x5EED_0000 + index));
    assert!(world.mm.is_huge(start), "nothing of it may be taken back");
    assert_filled(&world, start, 0..0);
    world.check();
}

fn protection_keeps_what_it_makes_writable() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    world.mm.protect(start, BLOCK_SIZE, Access::READ).expect("mapped");
    world.mm.protect(start, BLOCK_SIZE, Access::READ_WRITE).expect("mapped");
    world.put(start, 0x5EED_0000);
    squeeze(&world);
    assert_filled(&world, start, 0..0);
    world.check();
}

fn pinned_pages_are_passed_over() {
    let world = world();
    let start = scattered(&world);
    let pin = world.mm.pin(page(start, 5), PAGE_SIZE, PinRequest::new().write()).expect("memory is free");
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    squeeze(&world);
    assert_eq!(world.mm.counters().pglazyfreed.get(), 511);
    assert_eq!(world.get(page(start, 5) + 8 * 5), 0x5EED_0005);
    world.mm.unpin(pin);
    world.check();
}

fn a_page_pinned_later_is_not_taken() {
    let world = world();
    let start = scattered(&world);
    world.mm.protect(start, BLOCK_SIZE, Access::READ).expect("mapped");
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    let pin = world.mm.pin(page(start, 5), PAGE_SIZE, PinRequest::new()).expect("it may be read");
    squeeze(&world);
    assert_eq!(world.mm.counters().pglazyfreed.get(), 511);
    assert_eq!(world.get(page(start, 5) + 8 * 5), 0x5EED_0005);
    world.mm.unpin(pin);
    world.check();
}

fn nothing_is_promoted_that_may_go() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(page(start, 0), 16 * PAGE_SIZE).expect("mapped");
    world.mm.reconsider();
    background(&world);
    assert!(!world.mm.is_huge(start));
    assert!(world.mm.counters().refused_freed.get() > 0);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Promoted), "who asks for a block wants what is in it");
    squeeze(&world);
    assert_filled(&world, start, 0..0);
    world.check();
}

fn what_moves_may_still_be_taken_back() {
    let world = world();
    let start = scattered(&world);
    world.mm.mark_free(page(start, 32), 16 * PAGE_SIZE).expect("mapped");
    let request = ashlar::mm::RemapRequest::new(BLOCK_SIZE).at(page(start, 1024 + 3));
    let moved = world.mm.remap(start, BLOCK_SIZE, request).expect("memory is free").start;
    world.check();
    squeeze(&world);
    assert_eq!(world.mm.counters().pglazyfreed.get(), 16);
    assert_filled(&world, moved, 32..48);
    world.check();
}

fn the_background_leaves_alone_what_is_cold() {
    let world = world();
    let start = scattered(&world);
    world.mm.policy().set_enabled(ashlar::mm::huge::Enabled::Always);
    world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped");
    world.check();
    world.mm.reconsider();
    background(&world);
    assert!(!world.mm.is_huge(start));
    assert_eq!(world.mm.counters().refused_cold.get(), 1);
    let faults = world.mm.counters().access_flag_fault.get();
    assert_filled(&world, start, 0..0);
    assert_eq!(world.mm.counters().access_flag_fault.get(), faults + 1, "one fault warms all of it");
    background(&world);
    assert!(world.mm.is_huge(start), "it is used again");
    assert_filled(&world, start, 0..0);
    world.check();
}

fn a_cold_block_stays_one() {
    let world = world();
    let start = block(&world);
    world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped");
    assert!(world.mm.is_huge(start));
    fill(&world, start);
    assert!(world.mm.is_huge(start));
    world.check();
}

fn a_part_is_not_cold() {
    let world = world();
    let start = block(&world);
    world.mm.mark_cold(start, BLOCK_SIZE / 2).expect("mapped");
    assert_eq!(world.mm.counters().pgdeactivate.get(), 0);
    world.check();
}

fn advice_on_what_is_not_mapped_is_refused() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    let end = start + BLOCK_SIZE as u64;
    let not_mapped = Err(MemoryError::NotMapped { address: end });
    assert_eq!(world.mm.mark_free(start, BLOCK_SIZE + 1), not_mapped);
    assert_eq!(world.mm.mark_cold(start, BLOCK_SIZE + 1), not_mapped);
    assert_eq!(world.mm.mark_free(start + 1, 1), Err(MemoryError::Misaligned { address: start + 1 }));
    assert_eq!(world.mm.mark_cold(start, 0), Err(MemoryError::Empty));
    assert_eq!(world.mm.counters().pglazyfree.get(), 0);
}

ashlar_test::tests! {
    what_is_freed_stays_while_there_is_memory,
    what_is_freed_goes_when_memory_is_short,
    a_write_keeps_the_block,
    a_write_keeps_its_group,
    all_groups_kept_are_a_block_again,
    protection_keeps_what_it_makes_writable,
    pinned_pages_are_passed_over,
    a_page_pinned_later_is_not_taken,
    nothing_is_promoted_that_may_go,
    what_moves_may_still_be_taken_back,
    the_background_leaves_alone_what_is_cold,
    a_cold_block_stays_one,
    a_part_is_not_cold,
    advice_on_what_is_not_mapped_is_refused,
}
