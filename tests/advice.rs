//! What the application says of its memory: that it can do without it, that it will not need it soon.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::vec::Vec;
use ashlar::arch::sim::Mapping;
use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::{Collapsed, Enabled, HugePolicy, Rest};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::PinRequest;
use ashlar::mm::{MemoryError, RemapRequest};
use world::{
    MIB, World, assert_filled, background, block, collapse, copied, fill, give_back, page, scattered, sizes, take_all,
};

fn world() -> World {
    World::new(64 * MIB, 2, 17)
}

/// What [`fill`] puts into page `index` of a slot.
fn write(world: &World, start: VirtAddr, index: u64) {
    world.put(page(start, index) + 8 * index, 0x5EED_0000 + index);
}

/// A slot of pages, of which the last are absent, and the background may make blocks.
fn almost_full(world: &World) -> VirtAddr {
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    (0..500).for_each(|index| write(world, start, index));
    world.mm.policy().set_enabled(Enabled::Always);
    start
}

/// Has the background look at every slot.
fn reconsider(world: &World) {
    world.mm.reconsider();
    background(world);
    world.check();
}

/// Has what can be taken back taken back for a page, while no frame is free: of one slot, if that has frames to give.
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

fn a_write_keeps_nothing_of_another_region() {
    let world = world();
    let start = block(&world);
    world.mm.protect(page(start, 64), 8 * PAGE_SIZE, Access::READ).expect("mapped");
    world.mm.mark_free(page(start, 64), 16 * PAGE_SIZE).expect("mapped");
    write(&world, start, 75);
    world.mm.check();
    assert!(world.store(page(start, 67), &[1]).is_err(), "it may only be read");
    squeeze(&world);
    assert_filled(&world, start, 64..72);
}

fn what_is_kept_is_a_block_only_where_one_is_wanted() {
    for (wish, pages) in [(HugePolicy::Never, 512), (HugePolicy::Never, 256), (HugePolicy::Always, 256)] {
        let world = world();
        let start = block(&world);
        // Then the slot is not of one region, or none that wants blocks.
        world.mm.advise(start, pages * PAGE_SIZE, wish).expect("mapped");
        world.mm.mark_free(start, BLOCK_SIZE - PAGE_SIZE).expect("mapped");
        (0..512).step_by(16).for_each(|index| write(&world, start, index));
        assert_eq!(sizes(&world).0, 0, "{wish:?} {pages}");
        world.check();
    }
}

fn what_is_kept_is_a_candidate_again() {
    let world = world();
    let start = scattered(&world);
    world.mm.policy().set_enabled(Enabled::Always);
    world.mm.mark_free(start, 32 * PAGE_SIZE).expect("mapped");
    let before = copied(&world);
    reconsider(&world);
    assert_eq!((world.mm.counters().refused_freed.get(), copied(&world)), (1, before), "nothing is moved for nothing");
    write(&world, start, 0);
    background(&world);
    assert!(!world.mm.is_huge(start), "a group of it may still go");
    write(&world, start, 16);
    background(&world);
    assert!(world.mm.is_huge(start));
    assert_filled(&world, start, 0..0);
    world.check();
}

fn idle_time_fills_nothing_that_may_go_or_is_cold() {
    for cold in [false, true] {
        let world = world();
        let start = world.map(BLOCK_SIZE);
        (0..320).step_by(16).for_each(|index| write(&world, start, index));
        match cold {
            false => world.mm.mark_free(start, GROUP_SIZE).expect("mapped"),
            true => world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped"),
        }
        while world.mm.idle_step() {}
        world.check();
        assert!(!world.mm.is_huge(start), "cold: {cold}");
        assert!(world.mm.counters().zeroed_idle_bytes.get() > 0, "it was looked at");
    }
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
    assert_eq!(world.mm.counters().pglazyfree.get(), 511);
    squeeze(&world);
    assert_eq!(world.mm.counters().pglazyfreed.get(), 511);
    world.mm.unpin(pin);
    squeeze(&world);
    assert_eq!(world.get(page(start, 5) + 8 * 5), 0x5EED_0005, "a device has written to it perhaps");
    world.check();
}

fn pinned_pages_away_from_their_home_are_passed_over() {
    let world = world();
    let start = block(&world);
    let pin = world.mm.pin(page(start, 5), PAGE_SIZE, PinRequest::new().write().long()).expect("memory is free");
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    assert_eq!(world.mm.counters().pglazyfree.get(), 511);
    world.mm.unpin(pin);
    world.check();
}

fn what_is_said_twice_counts_once() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(start, 16 * PAGE_SIZE).expect("mapped");
    world.mm.mark_free(start, 32 * PAGE_SIZE).expect("mapped");
    assert_eq!(world.mm.counters().pglazyfree.get(), 32);
    world.check();
    world.mm.release(start, BLOCK_SIZE).expect("mapped");
    world.check();
}

fn each_slot_has_its_turn() {
    let world = world();
    let slots = [block(&world), block(&world)];
    let free = |slot| world.mm.mark_free(slot, BLOCK_SIZE).expect("mapped");
    slots.into_iter().for_each(free);
    for round in 0..3 {
        let (taken, kept) = (slots[round % 2], slots[(round + 1) % 2]);
        squeeze(&world);
        assert!(!world.mm.is_huge(taken) && world.mm.is_huge(kept), "round {round}");
        fill(&world, taken);
        free(taken);
    }
    world.check();
}

fn it_goes_before_homes_end() {
    let world = world();
    let (free, sparse) = (block(&world), block(&world));
    world.mm.release(sparse, 100 * PAGE_SIZE).expect("mapped");
    world.mm.mark_free(free, BLOCK_SIZE).expect("mapped");
    squeeze(&world);
    assert_eq!((world.mm.counters().pglazyfreed.get(), world.mm.frames().statistics().homes), (512, 1));
    // The same in the background, as soon as memory is low.
    background(&world);
    fill(&world, free);
    world.mm.mark_free(free, BLOCK_SIZE).expect("mapped");
    let taken = take_all(&world);
    assert_eq!(world.mm.background_step(0), Rest::None);
    assert_eq!((world.mm.counters().pglazyfreed.get(), world.mm.frames().statistics().homes), (1024, 1));
    give_back(&world, taken);
}

fn what_was_taken_is_not_filled_again() {
    let world = world();
    let start = scattered(&world);
    world.mm.mark_free(start, 16 * PAGE_SIZE).expect("mapped");
    squeeze(&world);
    world.mm.policy().set_enabled(Enabled::Always);
    reconsider(&world);
    assert!(!world.mm.is_huge(start));
    assert_eq!(world.mm.counters().refused_released.get(), 1);
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

fn a_touch_that_fills_a_slot_promotes_nothing_that_may_go() {
    let world = world();
    let start = block(&world);
    world.mm.release(page(start, 511), PAGE_SIZE).expect("mapped");
    world.mm.mark_free(start, 16 * PAGE_SIZE).expect("mapped");
    write(&world, start, 511);
    assert!(!world.mm.is_huge(start));
    world.check();
    write(&world, start, 0);
    assert!(world.mm.is_huge(start));
    assert_filled(&world, start, 0..0);
}

fn what_moves_may_still_be_taken_back() {
    let world = world();
    let start = scattered(&world);
    world.mm.mark_free(page(start, 32), 16 * PAGE_SIZE).expect("mapped");
    let request = RemapRequest::new(BLOCK_SIZE).at(page(start, 1024 + 3));
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
    world.mm.policy().set_enabled(Enabled::Always);
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

fn a_first_touch_of_a_page_warms_its_slot() {
    for read in [false, true] {
        let world = world();
        let start = almost_full(&world);
        world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped");
        reconsider(&world);
        assert!(!world.mm.is_huge(start));
        match read {
            false => world.put(page(start, 505), 1),
            true => assert_eq!(world.get(page(start, 505)), 0),
        }
        background(&world);
        assert!(world.mm.is_huge(start), "read: {read}");
        world.check();
    }
}

fn a_protection_warms_its_slot() {
    let world = world();
    let start = scattered(&world);
    world.mm.policy().set_enabled(Enabled::Always);
    world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped");
    for access in [Access::READ, Access::READ_WRITE] {
        world.mm.protect(start, BLOCK_SIZE, access).expect("mapped");
    }
    reconsider(&world);
    assert!(world.mm.is_huge(start), "touches of what it made accessible would not be noticed");
    world.check();
}

fn what_arrives_warms_a_slot() {
    let world = world();
    let start = almost_full(&world);
    let other = world.map(12 * PAGE_SIZE);
    (0..12).for_each(|index| world.put(page(other, index), 1));
    world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped");
    world.mm.unmap(page(start, 500), 12 * PAGE_SIZE).expect("mapped");
    world.mm.remap(other, 12 * PAGE_SIZE, RemapRequest::new(12 * PAGE_SIZE).at(page(start, 500))).expect("it is free");
    reconsider(&world);
    assert!(world.mm.is_huge(start));
    world.check();
}

fn a_sample_leaves_cold_slots_cold() {
    let world = world();
    let slots = [scattered(&world), scattered(&world)];
    // Several slots wait for a block, and there is none.
    world.put(world.map(PAGE_SIZE), 1);
    let blocks: Vec<_> = core::iter::from_fn(|| world.mm.frames().allocate_block()).collect();
    world.mm.policy().set_enabled(Enabled::Always);
    world.mm.reconsider();
    let Rest::Until(end) = world.mm.background_step(0) else { panic!("it did not sample") };
    assert!(world.mm.counters().heat_samples.get() >= 8);
    slots.iter().for_each(|&slot| world.mm.mark_cold(slot, BLOCK_SIZE).expect("mapped"));
    world.mm.background_step(end);
    blocks.into_iter().for_each(|block| world.mm.frames().free_block(block));
    world.check();
    let accessed = |&mapping: &Mapping| {
        mapping.accessed && slots.iter().any(|slot| slot.page().slot() == mapping.va.page().slot())
    };
    assert_eq!(world.mm.machine().mappings().iter().find(|mapping| accessed(mapping)), None, "nobody touched it");
    slots.into_iter().for_each(|slot| assert_filled(&world, slot, 0..0));
}

fn a_cold_slot_that_is_asked_for_is_not_cold() {
    let world = world();
    let start = scattered(&world);
    world.mm.policy().set_enabled(Enabled::Always);
    world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped");
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 512, filled: 0 }));
    world.mm.dissolve(start).expect("nothing is pinned");
    reconsider(&world);
    assert!(world.mm.is_huge(start));
    assert_eq!(world.mm.counters().refused_cold.get(), 0);
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
    a_write_keeps_nothing_of_another_region,
    what_is_kept_is_a_block_only_where_one_is_wanted,
    what_is_kept_is_a_candidate_again,
    idle_time_fills_nothing_that_may_go_or_is_cold,
    protection_keeps_what_it_makes_writable,
    pinned_pages_are_passed_over,
    pinned_pages_away_from_their_home_are_passed_over,
    what_is_said_twice_counts_once,
    each_slot_has_its_turn,
    it_goes_before_homes_end,
    what_was_taken_is_not_filled_again,
    a_page_pinned_later_is_not_taken,
    nothing_is_promoted_that_may_go,
    a_touch_that_fills_a_slot_promotes_nothing_that_may_go,
    what_moves_may_still_be_taken_back,
    the_background_leaves_alone_what_is_cold,
    a_first_touch_of_a_page_warms_its_slot,
    a_protection_warms_its_slot,
    what_arrives_warms_a_slot,
    a_sample_leaves_cold_slots_cold,
    a_cold_slot_that_is_asked_for_is_not_cold,
    a_cold_block_stays_one,
    a_part_is_not_cold,
    advice_on_what_is_not_mapped_is_refused,
}
