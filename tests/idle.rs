//! What idle time does for memory: zeroing ahead, filling what is in use by half, a pool of zeroed blocks.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use ashlar::mm::MapRequest;
use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::frame::Class;
use ashlar::mm::huge::{FaultMode, HugePolicy, Mechanism, Rest};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::PinRequest;
use world::{MIB, World, assert_filled, fill, sizes};

/// A world of which no frame holds zeros, and one slot that is mapped.
fn used_world() -> (World, VirtAddr) {
    let world = World::new(32 * MIB, 2, 1);
    let all = world.map(24 * MIB);
    for page in 0..(24 * MIB / PAGE_SIZE) as u64 {
        world.put(all + page * PAGE_SIZE as u64 + 8, !0);
    }
    world.mm.unmap(all, 24 * MIB).expect("mapped");
    let start = world.map(BLOCK_SIZE);
    (world, start)
}

/// Does all that idle time has to do, checked step by step.
fn idle(world: &World) {
    while world.mm.idle_step() {
        world.check();
    }
}

fn touch_groups(world: &World, start: VirtAddr, groups: core::ops::Range<usize>) {
    groups.for_each(|group| world.put(start + (group * GROUP_SIZE) as u64, 1));
}

fn idle_time_zeroes_what_stays_absent() {
    let (world, start) = used_world();
    touch_groups(&world, start, 0..3);
    let counters = world.mm.counters();
    let (absent, zeroed) = (world.mm.frames().statistics().absent, counters.zeroed_bytes.get());
    idle(&world);
    assert_eq!(sizes(&world), (0, 3, 0), "nothing more is mapped");
    assert_eq!((absent, world.mm.frames().statistics().absent), (29 * 16, 29 * 16), "and the frames are available");
    assert!(counters.zeroed_idle_bytes.get() >= 29 * GROUP_SIZE as u64);
    touch_groups(&world, start, 5..7);
    assert_eq!((counters.zeroed_bytes.get(), counters.zeroed_group_hit.get()), (zeroed, 2), "faults zero nothing");
    for page in (16 * 5..16 * 7).filter(|page| page % 16 > 0) {
        assert_eq!(world.get(start + page * PAGE_SIZE as u64 + 8), 0);
    }
    // What was mapped and released is dirty, whatever was known of it.
    fill(&world, start);
    world.mm.release(start + 5 * GROUP_SIZE as u64, 2 * GROUP_SIZE).expect("mapped");
    world.check();
    idle(&world);
    assert_filled(&world, start, 16 * 5..16 * 7);
    world.check();
}

fn idle_time_promotes_what_is_in_use_by_half() {
    let (world, start) = used_world();
    touch_groups(&world, start, 0..15);
    idle(&world);
    assert_eq!(sizes(&world), (0, 15, 0), "less than half is no reason");
    touch_groups(&world, start, 15..16);
    idle(&world);
    assert_eq!((sizes(&world), world.mm.counters().promote_idle.get()), ((1, 0, 0), 1));
    assert_eq!(world.mm.frames().statistics().absent, 0);
    let words = (0..512).map(|page| world.get(start + page * PAGE_SIZE as u64)).sum::<u64>();
    assert_eq!(words, 16, "what the application wrote, and zeros");
    assert!((0..512).all(|page| world.get(start + page * PAGE_SIZE as u64 + 8) == 0));
    world.check();
}

fn idle_time_fills_no_holes_and_no_part_of_a_slot() {
    for cut in 0..4 {
        let (world, start) = used_world();
        touch_groups(&world, start, 0..20);
        let hole = start + 3 * GROUP_SIZE as u64;
        let end = start + (BLOCK_SIZE - PAGE_SIZE) as u64;
        match cut {
            0 => world.mm.release(hole, PAGE_SIZE).expect("mapped"),
            3 => world.mm.release(hole, GROUP_SIZE).expect("mapped"),
            1 => world.mm.unmap(end, PAGE_SIZE).expect("mapped"),
            _ => world.mm.protect(end, PAGE_SIZE, Access::READ).expect("mapped"),
        }
        idle(&world);
        assert!(!world.mm.is_huge(start));
        assert_eq!(world.mm.counters().promote_idle.get(), 0, "cut {cut}");
        world.check();
    }
}

fn zeroed_memory_becomes_executable() {
    let (world, start) = used_world();
    touch_groups(&world, start, 0..16);
    world.mm.protect(start, BLOCK_SIZE, Access::READ_EXECUTE).expect("mapped");
    idle(&world);
    assert!(world.mm.is_huge(start));
    (0..512).for_each(|page| world.execute(start + page * PAGE_SIZE as u64).expect("executable"));
    world.check();
}

fn a_zeroed_block_serves_a_first_touch_that_expects_one() {
    let (world, start) = used_world();
    let counters = world.mm.counters();
    let next = |request| {
        idle(&world);
        world.mm.map(request).expect("room").start
    };
    let check = |at: VirtAddr, hits, zeroed| {
        world.put(at + 16, 1);
        assert_eq!((counters.zeroed_pool_hit.get(), counters.zeroed_bytes.get()), (hits, zeroed));
        assert_eq!((world.get(at + 8), world.get(at + (BLOCK_SIZE - PAGE_SIZE + 8) as u64)), (0, 0));
        world.check();
    };
    let before = counters.zeroed_bytes.get();
    // Asked for.
    let two = next(MapRequest::new(2 * BLOCK_SIZE).policy(HugePolicy::Always));
    check(two, 1, before);
    assert!(world.mm.is_huge(two));
    // The slot before is a block.
    world.mm.advise(two, 2 * BLOCK_SIZE, HugePolicy::Default).expect("mapped");
    idle(&world);
    check(two + BLOCK_SIZE as u64, 2, before);
    // The slot before is a block, of another region.
    let lone = next(MapRequest::new(2 * BLOCK_SIZE).access(Access::READ_WRITE).at(two + 2 * BLOCK_SIZE as u64));
    world.mm.protect(two, 2 * BLOCK_SIZE, Access::READ).expect("mapped");
    world.put(lone, 1);
    assert_eq!((sizes(&world), counters.zeroed_pool_hit.get()), ((2, 1, 0), 2));
    // `fault=eager`.
    world.mm.policy().set_fault_mode(FaultMode::Eager);
    check(start, 3, before + GROUP_SIZE as u64);
    // None is left.
    check(lone + BLOCK_SIZE as u64, 3, before + (GROUP_SIZE + BLOCK_SIZE) as u64);
    // Split and filled again: the deposit was not zeroed, and serves.
    fill(&world, start);
    world.mm.release(start + PAGE_SIZE as u64, PAGE_SIZE).expect("mapped");
    assert_filled(&world, start, 1..2);
    world.check();
}

/// A device may still write to a frame whose page went away: nothing is known of it until the pin is dropped.
fn idle_time_leaves_pinned_homes_alone() {
    let (world, start) = used_world();
    touch_groups(&world, start, 0..2);
    let pin = world.mm.pin(start + GROUP_SIZE as u64, 1, PinRequest::new()).expect("touched");
    world.mm.unmap(start + GROUP_SIZE as u64, GROUP_SIZE).expect("mapped");
    world.mm.map(MapRequest::new(GROUP_SIZE).at(start + GROUP_SIZE as u64)).expect("room");
    idle(&world);
    touch_groups(&world, start, 5..6);
    assert_eq!(world.mm.counters().zeroed_group_hit.get(), 0);
    world.mm.unpin(pin);
    world.check();
}

fn what_idle_time_has_zeroed_is_there_when_memory_is_short() {
    let (world, start) = used_world();
    let frames = world.mm.frames();
    while world.mm.counters().zeroed_idle_bytes.get() == 0 {
        assert!(world.mm.idle_step(), "a block can be had to be zeroed");
    }
    while frames.allocate(0, Class::Movable).is_some() {}
    touch_groups(&world, start, 0..20);
    assert_eq!(world.mm.counters().out_of_memory.get(), 0);
}

/// Each mechanism is off by itself, and memory is right without it.
fn mechanisms_can_be_left_out() {
    let (world, start) = used_world();
    let policy = world.mm.policy();
    policy.set_without(Some(Mechanism::Pool));
    idle(&world);
    assert_eq!(world.mm.frames().statistics().zeroed, 0);
    policy.set_without(Some(Mechanism::Groups));
    touch_groups(&world, start, 0..32);
    assert_eq!(sizes(&world), (0, 0, 32), "a page for each touch");
    (0..512).for_each(|page| world.put(start + page * PAGE_SIZE as u64, 1));
    assert!(world.mm.is_huge(start), "and a block of them in the end");
    world.mm.unmap(start, BLOCK_SIZE).expect("mapped");
    let start = world.map(BLOCK_SIZE);
    policy.set_without(Some(Mechanism::Promotion));
    touch_groups(&world, start, 0..32);
    idle(&world);
    assert_eq!((sizes(&world), world.mm.candidates()), ((0, 32, 0), 1), "it waits for the background");
    policy.set_without(None);
    while world.mm.background_step(0) == Rest::None {
        world.check();
    }
    assert!(world.mm.is_huge(start));
}

ashlar_test::tests! {
    mechanisms_can_be_left_out,
    idle_time_zeroes_what_stays_absent,
    idle_time_promotes_what_is_in_use_by_half,
    idle_time_fills_no_holes_and_no_part_of_a_slot,
    idle_time_leaves_pinned_homes_alone,
    zeroed_memory_becomes_executable,
    a_zeroed_block_serves_a_first_touch_that_expects_one,
    what_idle_time_has_zeroed_is_there_when_memory_is_short,
}
