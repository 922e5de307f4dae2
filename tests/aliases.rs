//! Memory that is mapped at several places: what is done to it is done at all of them.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::{Collapsed, Enabled, FaultMode, HugePolicy, Unit};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::PinRequest;
use ashlar::mm::{Destination, FaultError, MapRequest, MemoryError, Refusal, RemapRequest};
use world::{MIB, World, assert_filled, block, collapse, copied, fill, page, scattered, sizes};

const SLOT: u64 = BLOCK_SIZE as u64;

fn world() -> World {
    World::new(64 * MIB, 2, 29)
}

/// Another place of the slot at `start`.
fn alias(world: &World, start: VirtAddr) -> VirtAddr {
    let there = world.mm.alias(start, BLOCK_SIZE, Destination::Anywhere).expect("memory is free");
    assert_eq!(there.end - there.start, SLOT);
    world.check();
    there.start
}

fn unmap(world: &World, start: VirtAddr) {
    world.mm.unmap(start, BLOCK_SIZE).expect("a whole slot");
    assert_eq!(world.load(start, 8), Err(FaultError::NoRegion { address: start }));
    world.check();
}

fn what_is_written_here_is_read_there() {
    let world = world();
    let start = block(&world);
    let other = alias(&world, start);
    assert_filled(&world, other, 0..0);
    world.put(page(other, 7), 77);
    assert_eq!(world.get(page(start, 7)), 77);
    world.put(page(start, 8), 88);
    assert_eq!(world.get(page(other, 8)), 88);
    assert!(world.mm.is_huge(start) && world.mm.is_huge(other));
    assert_eq!((world.mm.map_count(start), world.mm.map_count(other)), (2, 2));
    assert_eq!((sizes(&world), world.mm.usage().shared), ((1, 0, 0), 512));
    world.check();
}

fn a_first_touch_is_one_at_all_places() {
    for mode in [FaultMode::Adaptive, FaultMode::Eager] {
        let world = world();
        world.mm.policy().set_fault_mode(mode);
        let start = world.map(BLOCK_SIZE);
        let other = alias(&world, start);
        assert_eq!(world.mm.map_count(start), 0);
        world.put(page(other, 3), 33);
        assert_eq!(world.get(page(start, 3)), 33);
        (0..512).for_each(|index| world.put(page(if index % 2 == 0 { start } else { other }, index), index));
        assert!(world.mm.is_huge(start) && world.mm.is_huge(other), "touches of both fill it");
        (0..512).for_each(|index| assert_eq!(world.get(page(start, index)), index));
        assert_eq!(world.mm.counters().thp_fault_alloc.get(), 1);
        world.check();
    }
}

fn the_zero_block_gives_way_at_all_places() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    let other = alias(&world, start);
    assert_eq!((world.get(start), world.get(other)), (0, 0));
    assert_eq!(world.mm.usage().zeros, 512);
    world.put(page(other, 40), 4);
    assert_eq!((world.get(page(start, 40)), world.get(page(start, 41))), (4, 0));
    world.check();
}

fn a_ring_has_no_end() {
    let world = world();
    let start = world.map(2 * BLOCK_SIZE);
    let over = Destination::Over(start + SLOT);
    assert_eq!(world.mm.alias(start, BLOCK_SIZE, over), Ok(start + SLOT..start + 2 * SLOT));
    world.check();
    let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
    world.store(start + (SLOT - 4), &bytes).expect("mapped");
    assert_eq!(world.load(start, 4), Ok(bytes[4..].to_vec()));
    assert_eq!(world.mm.regions().len(), 1);
    world.mm.unmap(start, 2 * BLOCK_SIZE).expect("both places");
    world.check();
    assert_eq!((sizes(&world), world.mm.frames().statistics().homes), ((0, 0, 0), 0));
}

fn verbs_act_on_all_places() {
    let world = world();
    let start = block(&world);
    let other = alias(&world, start);
    world.mm.migrate(page(other, 5), Unit::Page).expect("frames are free");
    world.check();
    assert!(!world.mm.is_huge(start), "split at both");
    world.put(page(start, 5) + 40, 0x5EED_0005);
    assert_filled(&world, start, 0..0);
    assert_filled(&world, other, 0..0);
    world.mm.dissolve(start).expect("nothing is pinned");
    world.mm.migrate(page(start, 64), Unit::Group).expect("frames are free");
    world.mm.migrate(page(start, 66), Unit::Page).expect("frames are free");
    world.check();
    assert_filled(&world, other, 0..0);
    assert!(matches!(collapse(&world, other), Ok(Collapsed::Copied { .. })));
    assert!(world.mm.is_huge(start) && world.mm.is_huge(other));
    assert_filled(&world, start, 0..0);
    assert_filled(&world, other, 0..0);
    world.check();
}

fn what_is_released_here_is_gone_there() {
    let world = world();
    let start = block(&world);
    let other = alias(&world, start);
    world.mm.release(page(other, 100), 50 * PAGE_SIZE).expect("mapped");
    world.check();
    assert_filled(&world, start, 100..150);
    assert_filled(&world, other, 100..150);
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    world.put(page(other, 3) + 24, 0x5EED_0003);
    assert_filled(&world, start, 100..150);
    world.mm.mark_cold(start, BLOCK_SIZE).expect("mapped");
    assert_filled(&world, other, 100..150);
    world.check();
    world.mm.release(start, BLOCK_SIZE).expect("mapped");
    assert_eq!(world.get(page(other, 3) + 24), 0);
    world.put(other, 1);
    assert_eq!(world.get(start), 1);
    world.check();
}

fn each_place_may_go_first() {
    for first in [0, 1, 2] {
        let world = world();
        let start = if first == 1 { scattered(&world) } else { block(&world) };
        let places = [start, alias(&world, start), alias(&world, start)];
        assert_eq!(world.mm.map_count(start), 3);
        assert_filled(&world, places[1], 0..0);
        unmap(&world, places[first]);
        let left: alloc::vec::Vec<_> = places.into_iter().filter(|&place| place != places[first]).collect();
        left.iter().for_each(|&place| assert_filled(&world, place, 0..0));
        assert_eq!(world.mm.map_count(left[0]), 2);
        // The place is like any other.
        world.mm.map(MapRequest::new(BLOCK_SIZE).at(places[first])).expect("free");
        world.put(places[first], 9);
        assert_eq!((world.get(places[first]), world.get(left[0])), (9, 0x5EED_0000));
        unmap(&world, left[1]);
        assert_eq!(world.mm.map_count(left[0]), 1);
        fill(&world, left[0]);
        world.mm.protect(left[0], BLOCK_SIZE, Access::READ).expect("it is at one place again");
        world.check();
        unmap(&world, left[0]);
        unmap(&world, places[first]);
        assert_eq!(sizes(&world), (0, 0, 0));
        assert_eq!(world.mm.usage().committed_pages, 0);
    }
}

fn pins_hold_at_all_places() {
    let world = world();
    let start = block(&world);
    let other = alias(&world, start);
    let pin = world.mm.pin(page(other, 9), PAGE_SIZE, PinRequest::new().write()).expect("memory is free");
    assert_eq!(world.mm.migrate(page(start, 9), Unit::Page), Err(Refusal::Pinned));
    let device = world.mm.extents(&pin).next().expect("an extent").start;
    world.mm.machine().write_physical(device, &[7; 8]);
    assert_eq!(world.get(page(start, 9)), u64::from_le_bytes([7; 8]));
    unmap(&world, start);
    assert_eq!(world.mm.dissolve(other), Err(Refusal::Pinned));
    assert_eq!(world.get(page(other, 9)), u64::from_le_bytes([7; 8]));
    world.mm.unpin(pin);
    world.check();
}

fn what_is_mapped_twice_keeps_its_access_and_its_place() {
    let world = world();
    let start = block(&world);
    let other = alias(&world, start);
    let mm = &world.mm;
    for place in [start, other] {
        let shared = MemoryError::Shared { address: place };
        assert_eq!(mm.protect(place, BLOCK_SIZE, Access::READ), Err(shared));
        let away = RemapRequest::new(BLOCK_SIZE).at(page(start, 8192));
        assert_eq!(mm.remap(place, BLOCK_SIZE, away), Err(shared));
        assert_eq!(mm.snapshot(place, BLOCK_SIZE), Err(shared));
        let part = MemoryError::Shared { address: page(place, 5) };
        assert_eq!(mm.unmap(place, 5 * PAGE_SIZE), Err(part));
        assert_eq!(mm.unmap(page(place, 5), 507 * PAGE_SIZE), Err(part));
        mm.advise(place, BLOCK_SIZE, HugePolicy::Never).expect("a wish is a place's own");
    }
    alias(&world, other);
    alias(&world, start);
    assert_eq!(mm.alias(start, BLOCK_SIZE, Destination::Anywhere), Err(MemoryError::Shared { address: start }));
    assert_filled(&world, start, 0..0);
    world.check();
}

fn bad_requests_change_nothing() {
    let world = world();
    let start = world.map(2 * BLOCK_SIZE);
    fill(&world, start);
    let mm = &world.mm;
    let part = |address| Err(MemoryError::PartOfSlot { address });
    assert_eq!(mm.alias(page(start, 1), BLOCK_SIZE, Destination::Anywhere), part(page(start, 1)));
    assert_eq!(mm.alias(start, PAGE_SIZE, Destination::Anywhere), part(page(start, 1)));
    assert_eq!(mm.alias(start, BLOCK_SIZE, Destination::At(page(start, 4097))), part(page(start, 4097)));
    let second = start + SLOT;
    assert_eq!(
        mm.alias(start, BLOCK_SIZE, Destination::At(second)),
        Err(MemoryError::Overlap { start, end: start + 2 * SLOT })
    );
    let into = Err(MemoryError::IntoItself { address: second });
    assert_eq!(mm.alias(start, 2 * BLOCK_SIZE, Destination::Over(second)), into);
    let end = start + 2 * SLOT;
    assert_eq!(mm.alias(second, 2 * BLOCK_SIZE, Destination::Anywhere), Err(MemoryError::NotMapped { address: end }));
    let seen = mm.snapshot(start, BLOCK_SIZE).expect("memory is free").start;
    assert_eq!(mm.alias(start, BLOCK_SIZE, Destination::Anywhere), Err(MemoryError::Shared { address: start }));
    assert_eq!(mm.alias(seen, BLOCK_SIZE, Destination::Anywhere), Err(MemoryError::Shared { address: seen }));
    mm.end_snapshot(seen).expect("it is one");
    let seen = mm.snapshot(start, 2 * BLOCK_SIZE).expect("memory is free").start;
    let other = world.map(BLOCK_SIZE);
    let half = seen + SLOT;
    assert_eq!(mm.alias(other, BLOCK_SIZE, Destination::Over(half)), Err(MemoryError::Shared { address: half }));
    mm.end_snapshot(seen).expect("it is one");
    let big = world.map(40 * MIB);
    let refused = mm.alias(big, 40 * MIB, Destination::Anywhere);
    assert!(matches!(refused, Err(MemoryError::CommitLimit { .. })), "{refused:?}");
    assert_filled(&world, start, 0..0);
    assert_eq!(copied(&world), 0);
    world.check();
}

fn a_slot_that_moved_is_mapped_twice() {
    let world = world();
    let start = block(&world);
    let moved = world.mm.remap(start, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(page(start, 4096)));
    let moved = moved.expect("whole slots").start;
    let other = world.mm.alias(moved, BLOCK_SIZE, Destination::At(start)).expect("it is free").start;
    assert_filled(&world, other, 0..0);
    unmap(&world, moved);
    assert_filled(&world, other, 0..0);
    world.mm.policy().set_enabled(Enabled::Never);
    let again = world.mm.remap(other, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(moved)).expect("it is free").start;
    assert_filled(&world, again, 0..0);
    assert!(world.mm.is_huge(again));
    world.check();
}

ashlar_test::tests! {
    what_is_written_here_is_read_there,
    a_first_touch_is_one_at_all_places,
    the_zero_block_gives_way_at_all_places,
    a_ring_has_no_end,
    verbs_act_on_all_places,
    what_is_released_here_is_gone_there,
    each_place_may_go_first,
    pins_hold_at_all_places,
    what_is_mapped_twice_keeps_its_access_and_its_place,
    bad_requests_change_nothing,
    a_slot_that_moved_is_mapped_twice,
}
