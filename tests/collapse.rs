//! Slots that become blocks when asked to, and what refuses: which pages are copied, which are not, what stays when it is given up
//! half-way.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::{Collapsed, Enabled, FaultMode, HugePolicy, Unit};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::PinRequest;
use ashlar::mm::{FaultError, MapRequest, MemoryError, Refusal};
use world::{MIB, World, assert_filled, copied, fill, give_back, page, scattered, sizes, take_all};

fn world() -> World {
    World::new(32 * MIB, 2, 1)
}

fn results(world: &World, start: VirtAddr, length: usize) -> Vec<Result<Collapsed, Refusal>> {
    let mut results = Vec::new();
    world.mm.collapse(start, length, || false, |_, result| results.push(result)).expect("a sound range");
    results
}

/// As [`world::collapse`], and all is well afterwards.
fn collapse(world: &World, start: VirtAddr) -> Result<Collapsed, Refusal> {
    let result = world::collapse(world, start);
    world.check();
    result
}

fn scattered_pages_are_copied_whatever_the_global_policy() {
    let world = world();
    let start = scattered(&world);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 512, filled: 0 }));
    assert_eq!(sizes(&world), (1, 0, 0));
    assert_filled(&world, start, 0..0);
    let counters = world.mm.counters();
    assert_eq!((counters.collapse.get(), counters.thp_collapse_alloc.get()), (1, 1));
    assert_eq!(counters.migrate_pages.get(), 512);
    assert_eq!(world.mm.frames().statistics().movable, 0, "the old frames are free");
    assert_eq!(collapse(&world, start), Ok(Collapsed::AlreadyBlock));
    assert_eq!(counters.collapse.get(), 1);
}

fn pages_at_home_promote_without_a_copy() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    world.put(start, 1);
    world.mm.policy().set_enabled(Enabled::Never);
    fill(&world, start);
    assert!(!world.mm.is_huge(start));
    assert_eq!(collapse(&world, start), Ok(Collapsed::Promoted));
    assert_eq!(copied(&world), 0);
    assert_eq!(world.mm.counters().thp_collapse_alloc.get(), 0);
    assert_filled(&world, start, 0..0);
}

fn holes_are_filled_released_ones_too() {
    let world = world();
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    for index in [3, 4, 100] {
        world.put(page(start, index), index);
    }
    world.mm.release(page(start, 4), PAGE_SIZE).expect("mapped");
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 2, filled: 510 }));
    assert!(world.mm.is_huge(start));
    assert_eq!([3, 4, 100, 511].map(|index| world.get(page(start, index))), [3, 0, 100, 0]);
}

fn holes_of_a_home_are_filled_in_place() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    world.put(page(start, 40), 7);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 0, filled: 512 - 16 }));
    assert_eq!(copied(&world), 0);
    assert_eq!([0, 40, 511].map(|index| world.get(page(start, index))), [0, 7, 0]);
}

fn zeroed_blocks_need_no_zeroing() {
    let world = World::new(64 * MIB, 2, 1);
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    world.put(page(start, 5), 5);
    world.put(page(start, 300), 6);
    while world.mm.idle_step() {}
    assert!(world.mm.frames().zeroed() > 0);
    let frames = world.mm.frames();
    frames.drain_caches();
    // Only zeroed blocks are left.
    let plain = frames.statistics().free_blocks() - frames.zeroed();
    (0..plain).for_each(|_| _ = frames.allocate_block());
    let zeroed = world.mm.counters().zeroed_bytes.get();
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 2, filled: 510 }));
    let more = world.mm.counters().zeroed_bytes.get() - zeroed;
    assert!(more <= 2 * GROUP_SIZE as u64, "{more} bytes were zeroed again");
    assert_eq!([5, 6, 300].map(|index| world.get(page(start, index))), [5, 0, 6]);
}

fn executable_pages_can_be_run_afterwards() {
    let world = world();
    let start = scattered(&world);
    world.mm.protect(start, BLOCK_SIZE, Access::READ_EXECUTE).expect("mapped");
    world.execute(page(start, 9)).expect("executable");
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 512, filled: 0 }));
    for index in 0..512 {
        world.execute(page(start, index)).expect("executable");
    }
    world.check();
}

fn a_deadline_leaves_the_other_slots_unasked() {
    let world = world();
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(3 * BLOCK_SIZE);
    (0..3).for_each(|slot| world.put(start + slot * BLOCK_SIZE as u64, slot + 1));
    let mut calls = 0;
    let mut results = Vec::new();
    let is_up = || {
        calls += 1;
        calls > 36
    };
    world.mm.collapse(start, 3 * BLOCK_SIZE, is_up, |at, result| results.push((at, result))).expect("a sound range");
    assert_eq!(results.len(), 3);
    assert_eq!(results[0], (start, Ok(Collapsed::Copied { pages: 1, filled: 511 })));
    assert_eq!(results[2], (start + 2 * BLOCK_SIZE as u64, Err(Refusal::Deadline)));
    world.check();
}

fn refusals_say_why() {
    let world = world();
    let mm = &world.mm;
    let start = world.map(2 * BLOCK_SIZE);
    assert_eq!(collapse(&world, start), Err(Refusal::Empty));
    assert_eq!(
        mm.collapse(start + 1, BLOCK_SIZE, || false, |_, _| ()),
        Err(MemoryError::Misaligned { address: start + 1 })
    );
    world.put(start, 1);
    world.put(start + BLOCK_SIZE as u64, 2);
    // A part of a slot is none.
    assert_eq!(results(&world, start, BLOCK_SIZE - PAGE_SIZE), [Err(Refusal::NotCovered)]);
    let two = results(&world, page(start, 1), BLOCK_SIZE);
    assert_eq!(two, [Err(Refusal::NotCovered), Err(Refusal::NotCovered)]);
    mm.protect(page(start, 5), PAGE_SIZE, Access::READ).expect("mapped");
    assert_eq!(collapse(&world, start), Err(Refusal::MixedAttributes));
    mm.unmap(page(start, 5), PAGE_SIZE).expect("mapped");
    assert_eq!(collapse(&world, start), Err(Refusal::NotCovered));
    let second = start + BLOCK_SIZE as u64;
    mm.advise(second, BLOCK_SIZE, HugePolicy::Never).expect("mapped");
    assert_eq!(collapse(&world, second), Err(Refusal::Policy));
    mm.advise(second, BLOCK_SIZE, HugePolicy::Default).expect("mapped");
    assert!(collapse(&world, second).is_ok());
    let counters = mm.counters();
    let counts = [&counters.refused_empty, &counters.refused_not_covered, &counters.refused_mixed_attributes];
    assert_eq!(counts.map(|counter| counter.get()), [1, 4, 1]);
    assert_eq!((world.get(start), world.get(second)), (1, 2));
}

fn no_block_and_none_that_can_be_emptied() {
    let world = world();
    let start = scattered(&world);
    let taken = take_all(&world);
    assert_eq!(results(&world, start, BLOCK_SIZE), [Err(Refusal::NoFreeBlock)]);
    give_back(&world, taken);
    assert_eq!(world.mm.counters().thp_collapse_alloc_failed.get(), 1);
    assert_filled(&world, start, 0..0);
}

fn a_pinned_page_refuses_before_anything_is_copied() {
    let world = world();
    let start = scattered(&world);
    let pin = world.mm.pin(page(start, 500), 1, PinRequest::new()).expect("present");
    let homes = world.mm.frames().statistics().homes;
    assert_eq!(collapse(&world, start), Err(Refusal::Pinned));
    assert_eq!((copied(&world), world.mm.frames().statistics().homes), (0, homes));
    world.mm.unpin(pin);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 512, filled: 0 }));
}

fn an_orphan_refuses_before_anything_is_copied() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    let pin = world.mm.pin(page(start, 300), 1, PinRequest::new().write()).expect("present");
    world.mm.release(page(start, 300), PAGE_SIZE).expect("mapped");
    world.put(page(start, 300), 1);
    world.mm.migrate(page(start, 10), Unit::Page).expect("frames are free");
    let before = copied(&world);
    assert_eq!(collapse(&world, start), Err(Refusal::Pinned));
    assert_eq!(copied(&world), before);
    world.mm.unpin(pin);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 2, filled: 0 }));
}

fn a_pinned_page_away_from_its_home_refuses_before_anything_is_copied() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    for index in [10, 300] {
        world.mm.migrate(page(start, index), Unit::Page).expect("frames are free");
    }
    let pin = world.mm.pin(page(start, 300), 1, PinRequest::new()).expect("present");
    let before = copied(&world);
    assert_eq!(collapse(&world, start), Err(Refusal::Pinned));
    assert_eq!(copied(&world), before);
    world.mm.unpin(pin);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 2, filled: 0 }));
}

fn what_is_pinned_between_two_steps_refuses() {
    let world = world();
    let start = scattered(&world);
    let mut pins = Vec::new();
    for at_home in [true, false] {
        let mut calls = 0;
        let is_up = || {
            calls += 1;
            if calls == 10 {
                // One that has come, and goes; then one that is still to come.
                let at = page(start, if at_home { 3 } else { 500 });
                pins.push(world.mm.pin(at, 1, PinRequest::new().write()).expect("present"));
                if at_home {
                    world.mm.release(at, PAGE_SIZE).expect("mapped");
                }
            }
            false
        };
        let mut found = None;
        world.mm.collapse(start, BLOCK_SIZE, is_up, |_, result| found = Some(result)).expect("a sound range");
        assert_eq!(found, Some(Err(Refusal::Pinned)));
        world.check();
        assert_filled(&world, start, 3..4);
        world.mm.unpin(pins.pop().expect("pinned once"));
        world.mm.dissolve(start).expect("it has a home");
    }
    assert!(collapse(&world, start).is_ok());
}

fn a_page_moves_and_leaves_its_frame_absent() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    let hole = page(start, 77);
    let frame = world.mm.machine().translate(hole);
    world.mm.migrate(hole + 5, Unit::Page).expect("frames are free");
    world.check();
    assert_ne!(world.mm.machine().translate(hole), frame);
    assert_eq!(sizes(&world), (0, 31, 16), "its group is broken, the others are not");
    assert_eq!(world.mm.frames().statistics().absent, 1);
    assert_eq!(world.mm.counters().thp_split_pmd_pages.get(), 1);
    assert_filled(&world, start, 0..0);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 1, filled: 0 }));
    assert_eq!(world.mm.machine().translate(hole), frame, "it came home");
    assert_filled(&world, start, 0..0);
}

fn a_home_that_all_pages_leave_ends() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    for group in 0..32 {
        world.mm.migrate(page(start, 16 * group), Unit::Group).expect("frames are free");
        world.check();
    }
    let statistics = world.mm.frames().statistics();
    assert_eq!((statistics.homes, statistics.absent, statistics.movable), (0, 0, 512));
    assert_eq!(sizes(&world), (0, 32, 0));
    assert_filled(&world, start, 0..0);
}

fn a_group_moves_as_one() {
    let world = world();
    let start = scattered(&world);
    world.mm.migrate(page(start, 21), Unit::Group).expect("frames are free");
    world.check();
    assert_eq!(sizes(&world), (0, 1, 512 - 16), "16 single pages are one translation now");
    world.mm.migrate(page(start, 16), Unit::Group).expect("frames are free");
    assert_eq!(sizes(&world), (0, 1, 512 - 16));
    // And a page out of it.
    world.mm.migrate(page(start, 31), Unit::Page).expect("frames are free");
    world.check();
    assert_eq!(sizes(&world), (0, 0, 512));
    assert_filled(&world, start, 0..0);
    assert_eq!(world.mm.counters().migrate_pages.get(), 33);
}

fn what_cannot_move_says_why() {
    let world = world();
    let mm = &world.mm;
    let start = world.map(BLOCK_SIZE);
    assert_eq!(mm.migrate(start, Unit::Page), Err(Refusal::Absent));
    world.put(start, 1);
    assert_eq!(mm.migrate(page(start, 20), Unit::Page), Err(Refusal::Absent));
    assert_eq!(mm.migrate(VirtAddr(u64::MAX), Unit::Page), Err(Refusal::Absent));
    let pin = mm.pin(page(start, 3), 1, PinRequest::new()).expect("present");
    assert_eq!(mm.migrate(page(start, 3), Unit::Page), Err(Refusal::Pinned));
    assert_eq!(mm.migrate(start, Unit::Group), Err(Refusal::Pinned));
    mm.migrate(page(start, 4), Unit::Page).expect("it is not the pinned one");
    mm.unpin(pin);
    let taken = take_all(&world);
    assert_eq!(mm.migrate(start, Unit::Page), Err(Refusal::NoFreeFrame));
    assert_eq!(mm.migrate(page(start, 3), Unit::Group), Err(Refusal::NoFreeFrame));
    give_back(&world, taken);
    assert_eq!(world.get(start), 1);
    world.check();
}

fn a_protected_slot_collapses_and_stays_protected() {
    let world = world();
    let start = scattered(&world);
    for access in [Access::NONE, Access::READ] {
        world.mm.protect(start, BLOCK_SIZE, access).expect("mapped");
        world.mm.migrate(page(start, 8), Unit::Group).expect("frames are free");
        assert!(matches!(collapse(&world, start), Ok(Collapsed::Copied { .. })));
        let denied = FaultError::Denied { address: start, wanted: Access::READ_WRITE, allowed: access };
        assert_eq!(world.store(start, &[1]), Err(denied));
    }
    assert_filled(&world, start, 0..0);
}

fn slots_of_a_range_each_have_their_result() {
    let world = world();
    world.mm.policy().set_fault_mode(FaultMode::Eager);
    let start = world.mm.map(MapRequest::new(4 * BLOCK_SIZE)).expect("room").start;
    let slot = |index: u64| start + index * BLOCK_SIZE as u64;
    world.put(slot(0), 1);
    world.mm.policy().set_enabled(Enabled::Never);
    world.put(slot(1), 2);
    world.put(slot(3), 4);
    let pin = world.mm.pin(slot(3), 1, PinRequest::new()).expect("present");
    let found = results(&world, start, 4 * BLOCK_SIZE);
    let second = Ok(Collapsed::Copied { pages: 1, filled: 511 });
    assert_eq!(found, [Ok(Collapsed::AlreadyBlock), second, Err(Refusal::Empty), Err(Refusal::Pinned)]);
    world.mm.unpin(pin);
    world.check();
}

ashlar_test::tests! {
    scattered_pages_are_copied_whatever_the_global_policy,
    pages_at_home_promote_without_a_copy,
    holes_are_filled_released_ones_too,
    holes_of_a_home_are_filled_in_place,
    zeroed_blocks_need_no_zeroing,
    executable_pages_can_be_run_afterwards,
    a_deadline_leaves_the_other_slots_unasked,
    refusals_say_why,
    no_block_and_none_that_can_be_emptied,
    a_pinned_page_refuses_before_anything_is_copied,
    an_orphan_refuses_before_anything_is_copied,
    a_pinned_page_away_from_its_home_refuses_before_anything_is_copied,
    a_home_that_all_pages_leave_ends,
    what_is_pinned_between_two_steps_refuses,
    a_page_moves_and_leaves_its_frame_absent,
    a_group_moves_as_one,
    what_cannot_move_says_why,
    a_protected_slot_collapses_and_stays_protected,
    slots_of_a_range_each_have_their_result,
}
