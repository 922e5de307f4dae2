//! Pins: what a device may rely on, what they forbid and what they allow, and what is left of a page that goes away under one.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::string::String;
use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PhysAddr, VirtAddr};
use ashlar::mm::frame::Class;
use ashlar::mm::huge::{Collapsed, Enabled, FaultMode, Unit};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::{PinError, PinId, PinRequest};
use ashlar::mm::{FaultError, MapRequest, Refusal};
use core::ops::Range;
use world::{MIB, World, assert_filled, block, collapse, page, scattered};

const READ: PinRequest = PinRequest::new();
const WRITE: PinRequest = READ.write();

fn world() -> World {
    World::new(32 * MIB, 2, 1)
}

fn pin(world: &World, start: VirtAddr, pages: usize, request: PinRequest) -> PinId {
    world.mm.pin(start, pages * PAGE_SIZE, request).expect("it can be pinned")
}

fn extents(world: &World, pin: &PinId) -> Vec<Range<PhysAddr>> {
    world.mm.extents(pin).collect()
}

fn length(extents: &[Range<PhysAddr>]) -> u64 {
    extents.iter().map(|extent| extent.end - extent.start).sum()
}

fn pages_are_faulted_in_and_the_extents_are_theirs() {
    let world = world();
    let start = world.map(3 * BLOCK_SIZE);
    let from = start + (BLOCK_SIZE - 100) as u64;
    let pin = world.mm.pin(from, 2 * PAGE_SIZE, WRITE).expect("it can be had");
    let extents = extents(&world, &pin);
    assert_eq!(length(&extents), 3 * PAGE_SIZE as u64, "all pages that the bytes touch");
    let mut at = from.align_down(PAGE_SIZE);
    for extent in extents {
        for offset in (0..extent.end - extent.start).step_by(PAGE_SIZE) {
            assert_eq!(world.mm.machine().translate(at), Some(extent.start + offset));
            at = at + PAGE_SIZE as u64;
        }
    }
    assert_eq!(world.mm.frames().statistics().pinned, 3);
    world.check();
    world.mm.unpin(pin);
    assert_eq!(world.mm.frames().statistics().pinned, 0);
    world.check();
}

fn a_block_is_one_extent_and_stays_a_block() {
    let world = world();
    let start = block(&world);
    let whole = pin(&world, start, 512, WRITE);
    let part = pin(&world, page(start, 100), 5, READ);
    assert_eq!(extents(&world, &whole).len(), 1);
    assert_eq!(length(&extents(&world, &part)), 5 * PAGE_SIZE as u64);
    assert!(world.mm.is_huge(start));
    assert_eq!(world.mm.frames().statistics().pinned, 512, "a frame counts once");
    world.mm.unpin(whole);
    assert_eq!(world.mm.frames().statistics().pinned, 5);
    world.check();
    world.mm.unpin(part);
    world.check();
}

fn an_extent_goes_on_in_the_next_block() {
    let world = world();
    world.mm.policy().set_fault_mode(FaultMode::Eager);
    let start = world.map(4 * BLOCK_SIZE);
    (0..4).for_each(|slot| world.put(start + slot * BLOCK_SIZE as u64, slot));
    let pin = pin(&world, page(start, 100), 3 * 512, WRITE);
    let extents = extents(&world, &pin);
    assert!(extents.len() < 4, "blocks are taken one after the other: {extents:?}");
    assert_eq!(length(&extents), (3 * BLOCK_SIZE) as u64);
    world.check();
    world.mm.unpin(pin);
    assert_eq!(world.mm.frames().statistics().pinned, 0);
    world.check();
}

fn a_device_and_the_application_see_each_others_writes() {
    let world = world();
    let start = scattered(&world);
    let pin = pin(&world, page(start, 7), 40, WRITE);
    let machine = world.mm.machine();
    for (index, extent) in (7..).zip(extents(&world, &pin).into_iter().flat_map(pages_of)) {
        assert_eq!(machine.read_physical(extent + 8 * index, 8), (0x5EED_0000 + index).to_le_bytes());
        machine.write_physical(extent + 8 * index, &index.to_le_bytes());
        assert_eq!(world.get(page(start, index) + 8 * index), index);
        world.put(page(start, index), index + 1);
        assert_eq!(machine.read_physical(extent, 8), (index + 1).to_le_bytes());
    }
    world.mm.unpin(pin);
    world.check();
}

fn pages_of(extent: Range<PhysAddr>) -> impl Iterator<Item = PhysAddr> {
    (0..extent.end - extent.start).step_by(PAGE_SIZE).map(move |offset| extent.start + offset)
}

fn pins_forbid_what_moves_and_allow_what_does_not() {
    let world = world();
    let start = block(&world);
    let frame = world.mm.machine().translate(page(start, 9));
    let pin = pin(&world, page(start, 9), 1, WRITE);
    assert_eq!(world.mm.migrate(page(start, 9), Unit::Page), Err(Refusal::Pinned));
    assert_eq!(world.mm.migrate(start, Unit::Group), Err(Refusal::Pinned));
    assert_eq!(world.mm.dissolve(start), Err(Refusal::Pinned));
    assert_eq!((world.mm.is_huge(start), world.mm.counters().thp_split_pmd.get()), (true, 0), "nothing changed");
    // A split, and a promotion.
    world.mm.protect(page(start, 9), PAGE_SIZE, Access::READ).expect("mapped");
    assert!(!world.mm.is_huge(start));
    assert_eq!(world.mm.dissolve(start), Err(Refusal::Pinned));
    world.mm.protect(page(start, 9), PAGE_SIZE, Access::READ_WRITE).expect("mapped");
    assert!(world.mm.is_huge(start));
    assert_eq!(world.mm.machine().translate(page(start, 9)), frame);
    world.check();
    world.mm.unpin(pin);
    world.mm.migrate(page(start, 9), Unit::Page).expect("it is not pinned any more");
    world.mm.dissolve(start).expect("it is not pinned any more");
    assert_filled(&world, start, 0..0);
    world.check();
}

fn pages_at_home_promote_though_pinned() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    let pin = pin(&world, start, 20, WRITE);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 0, filled: 512 - 32 }));
    assert!(world.mm.is_huge(start));
    world.mm.unpin(pin);
    world.check();
}

fn a_dissolved_block_is_adopted_with_its_pins() {
    let world = world();
    let start = block(&world);
    world.mm.dissolve(start).expect("nothing is pinned");
    let pin = pin(&world, page(start, 33), 4, WRITE);
    let before = extents(&world, &pin);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Promoted), "they are where they have to be");
    assert_eq!(extents(&world, &pin), before);
    assert_eq!(world.mm.machine().translate(page(start, 33)), Some(before[0].start));
    world.check();
    world.mm.unpin(pin);
    world.check();
}

fn a_released_page_gets_another_frame_until_the_pin_goes() {
    let world = world();
    let start = block(&world);
    let at = page(start, 50);
    let pin = pin(&world, at, 1, WRITE);
    let frame = extents(&world, &pin)[0].start;
    world.mm.release(page(start, 48), 4 * PAGE_SIZE).expect("mapped");
    assert_eq!(world.mm.frames().statistics().absent, 4);
    assert_eq!(world.get(at), 0);
    assert_ne!(world.mm.machine().translate(at), Some(frame));
    world.mm.machine().write_physical(frame, &[9; 16]);
    assert_eq!(world.get(at), 0, "what the device writes now is nobody's");
    world.put(at, 3);
    world.check();
    // The other pages are at home again, and this one keeps the slot from being a block.
    world.put(page(start, 48), 1);
    world.put(page(start, 49), 1);
    world.put(page(start, 51), 1);
    assert!(!world.mm.is_huge(start));
    assert_eq!(collapse(&world, start), Err(Refusal::Pinned));
    world.mm.unpin(pin);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 1, filled: 0 }));
    assert_eq!((world.mm.machine().translate(at), world.get(at)), (Some(frame), 3));
    assert_filled(&world, start, 48..52);
    world.check();
}

/// As above, with all of a group released, and touches that would fill groups.
fn an_orphan_is_left_out_of_groups() {
    let world = world();
    let start = block(&world);
    let pin = pin(&world, page(start, 200), 1, WRITE);
    let frame = extents(&world, &pin)[0].start;
    world.mm.release(page(start, 192), 16 * PAGE_SIZE).expect("mapped");
    world.mm.machine().write_physical(frame, &[9; 16]);
    for index in 192..208 {
        assert_eq!(world.get(page(start, index)), 0);
    }
    assert_ne!(world.mm.machine().translate(page(start, 200)), Some(frame));
    assert!(!world.mm.is_huge(start));
    world.check();
    world.mm.unpin(pin);
    world.check();
}

/// As above, where touches past the half fill groups nobody asked for.
fn an_orphan_is_left_out_when_a_slot_is_filled() {
    let world = world();
    let start = block(&world);
    let pin = pin(&world, page(start, 200), 1, WRITE);
    let frame = extents(&world, &pin)[0].start;
    for group in [192, 304, 320] {
        world.mm.unmap(page(start, group), 16 * PAGE_SIZE).expect("mapped");
        let again = MapRequest::new(16 * PAGE_SIZE).at(page(start, group));
        world.mm.map(again).expect("nothing is there");
    }
    world.mm.machine().write_physical(frame, &[9; 16]);
    world.put(page(start, 320), 1);
    world.put(page(start, 304), 1);
    assert_eq!(world.mm.machine().translate(page(start, 200)), None);
    assert_eq!(world.get(page(start, 200)), 0);
    world.check();
    world.mm.unpin(pin);
    world.check();
}

fn an_unmapped_pinned_page_is_an_orphan_and_nothing_else_is() {
    let world = world();
    let (one, other) = (block(&world), scattered(&world));
    let pins = [pin(&world, page(one, 5), 1, WRITE), pin(&world, page(other, 5), 1, WRITE)];
    let frames = world.mm.frames();
    world.mm.unmap(one, BLOCK_SIZE).expect("mapped");
    world.mm.unmap(other, BLOCK_SIZE).expect("mapped");
    let statistics = frames.statistics();
    assert_eq!((statistics.orphans, statistics.pinned), (2, 2));
    assert_eq!((statistics.homes, statistics.movable), (0, 0), "all the others are free");
    world.check();
    // Nobody gets them.
    let held: Vec<_> = pins.iter().map(|pin| extents(&world, pin)[0].start.frame()).collect();
    let taken: Vec<_> = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    assert!(taken.iter().all(|frame| !held.contains(frame)));
    taken.into_iter().for_each(|frame| frames.free(frame, 0));
    for pin in pins {
        world.mm.unpin(pin);
    }
    assert_eq!((frames.statistics().orphans, frames.statistics().pinned), (0, 0));
    world.check();
}

fn an_orphan_in_a_home_does_not_keep_the_rest() {
    let world = world();
    let start = block(&world);
    let pin = pin(&world, page(start, 300), 1, WRITE);
    world.mm.unmap(page(start, 256), 256 * PAGE_SIZE).expect("mapped");
    assert_eq!(world.mm.dissolve(start), Ok(255), "all but the one");
    assert_eq!(world.mm.frames().statistics().orphans, 1);
    world.check();
    world.mm.unpin(pin);
    assert_eq!(world.mm.frames().statistics().orphans, 0);
    world.check();
}

fn memory_short_takes_nothing_that_is_pinned() {
    let world = World::new(16 * MIB, 1, 1);
    let start = block(&world);
    world.mm.release(page(start, 256), 255 * PAGE_SIZE).expect("mapped");
    // Zeros, too.
    let zero = block(&world);
    (0..512).for_each(|index| world.put(page(zero, index) + 8 * index, 0));
    let pins = [pin(&world, page(start, 511), 1, WRITE), pin(&world, page(zero, 3), 1, WRITE)];
    let taken: Vec<_> = core::iter::from_fn(|| world.mm.frames().allocate(0, Class::Movable)).collect();
    world.mm.policy().set_enabled(Enabled::Never);
    let other = world.map(PAGE_SIZE);
    assert_eq!(world.store(other, &[1]), Err(FaultError::OutOfMemory { address: other }));
    for pin in pins {
        world.mm.unpin(pin);
    }
    world.put(other, 1);
    assert_filled(&world, start, 256..511);
    taken.into_iter().for_each(|frame| world.mm.frames().free(frame, 0));
    world.check();
}

fn long_pins_move_out_of_blocks() {
    let world = world();
    let start = block(&world);
    let home = world.mm.machine().translate(start).expect("present").frame().block();
    let long = pin(&world, page(start, 30), 4, WRITE.long());
    for extent in extents(&world, &long).into_iter().flat_map(pages_of) {
        assert_ne!(extent.frame().block(), home);
        assert!(world.mm.frames().is_unmovable(extent.frame()));
    }
    assert_filled(&world, start, 0..0);
    world.check();
    // So the block can be given up.
    world.mm.release(page(start, 256), 256 * PAGE_SIZE).expect("mapped");
    assert_eq!(world.mm.dissolve(start), Ok(260));
    // Pinned again, for long, they stay.
    let again = pin(&world, page(start, 30), 4, WRITE.long());
    assert_eq!(extents(&world, &again), extents(&world, &long));
    world.mm.unpin(long);
    world.mm.unpin(again);
    world.check();
    assert!(matches!(collapse(&world, start), Ok(Collapsed::Copied { .. })));
    assert_filled(&world, start, 256..512);
    world.check();
}

fn a_long_pin_of_a_whole_block_stays() {
    let world = world();
    let start = block(&world);
    let before = world.mm.machine().translate(start);
    let long = pin(&world, start, 512, WRITE.long());
    assert_eq!(extents(&world, &long)[0].start, before.expect("present"));
    assert!(world.mm.is_huge(start));
    world.mm.unpin(long);
    world.check();
}

/// What a driver asks for at first: memory that was never touched, all of it, for long.
fn a_long_pin_of_an_untouched_slot_is_a_block() {
    let world = world();
    let start = world.map(2 * BLOCK_SIZE);
    let long = pin(&world, start, 1024, WRITE.long());
    assert!(world.mm.is_huge(start) && world.mm.is_huge(start + BLOCK_SIZE as u64));
    assert!(extents(&world, &long).len() <= 2);
    assert_eq!(world.mm.counters().migrate_pages.get(), 0);
    world.mm.unpin(long);
    world.check();
}

fn a_part_of_what_is_pinned_for_long_is_pinned_again() {
    let world = world();
    let start = block(&world);
    let whole = pin(&world, start, 512, WRITE.long());
    let part = pin(&world, page(start, 100), 3, WRITE.long());
    assert!(world.mm.is_huge(start));
    assert_eq!(extents(&world, &part)[0].start, extents(&world, &whole)[0].start + 100 * PAGE_SIZE as u64);
    // A moment's pin holds nothing for long.
    world.mm.unpin(whole);
    let short = pin(&world, page(start, 200), 1, READ);
    let refused = world.mm.pin(page(start, 200), PAGE_SIZE, WRITE.long());
    assert_eq!(refused, Err(PinError::Refused { address: page(start, 200), refusal: Refusal::Pinned }));
    world.mm.unpin(short);
    world.mm.unpin(part);
    world.check();
}

fn pages_that_must_move_for_a_pin_get_frames_that_can_be_taken_back() {
    let world = world();
    let (start, other) = (block(&world), block(&world));
    // So that the record needs no memory.
    world.mm.unpin(pin(&world, start, 1, READ));
    let taken: Vec<_> = core::iter::from_fn(|| world.mm.frames().allocate(0, Class::Movable)).collect();
    world.mm.release(page(other, 100), 400 * PAGE_SIZE).expect("mapped");
    let long = pin(&world, page(start, 30), 4, WRITE.long());
    taken.into_iter().for_each(|frame| world.mm.frames().free(frame, 0));
    assert_filled(&world, start, 0..0);
    assert_filled(&world, other, 100..500);
    world.check();
    world.mm.unpin(long);
    world.check();
}

fn a_long_pin_of_a_group_is_one_extent() {
    let world = world();
    let start = scattered(&world);
    let long = pin(&world, page(start, 32), 16, WRITE.long());
    assert_eq!(extents(&world, &long).len(), 1);
    world.mm.unpin(long);
    assert_filled(&world, start, 0..0);
    world.check();
}

fn a_group_settles_in_single_frames_where_no_group_is_free() {
    let world = world();
    let start = scattered(&world);
    let frames = world.mm.frames();
    let taken: Vec<_> = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    let (free, taken): (Vec<_>, Vec<_>) = taken.into_iter().partition(|frame| frame.index() % 32 == 5);
    free.into_iter().for_each(|frame| frames.free(frame, 0));
    let long = pin(&world, page(start, 32), 16, WRITE.long());
    assert_eq!(extents(&world, &long).len(), 16);
    assert_filled(&world, start, 0..0);
    world.mm.unpin(long);
    taken.into_iter().for_each(|frame| frames.free(frame, 0));
    world.check();
}

fn a_page_that_is_pinned_cannot_move_for_a_long_pin() {
    let world = world();
    let start = block(&world);
    let short = pin(&world, page(start, 31), 1, READ);
    let refused = world.mm.pin(page(start, 30), 4 * PAGE_SIZE, WRITE.long());
    assert_eq!(refused, Err(PinError::Refused { address: page(start, 31), refusal: Refusal::Pinned }));
    assert_eq!(world.mm.frames().statistics().pinned, 1, "and nothing else is pinned");
    world.mm.unpin(short);
    world.check();
}

fn devices_with_short_addresses_get_low_frames() {
    let world = World::with_banks(&[(PhysAddr(0x4000_0000), 8 * MIB), (PhysAddr(0x8000_0000), 8 * MIB)], 2, 1);
    let limit = PhysAddr(0x4080_0000);
    // The lower bank is taken first, so take it.
    let frames = world.mm.frames();
    frames.drain_caches();
    let low: Vec<_> = core::iter::from_fn(|| frames.allocate_below(limit, Class::Movable)).collect();
    let start = scattered(&world);
    assert!(world.mm.machine().translate(start) > Some(limit));
    let refused = world.mm.pin(start, PAGE_SIZE, WRITE.below(limit));
    assert_eq!(refused, Err(PinError::Refused { address: start, refusal: Refusal::NoFreeFrame }));
    low.into_iter().for_each(|frame| frames.free(frame, 0));
    let pin = pin(&world, start, 20, WRITE.below(limit));
    assert!(extents(&world, &pin).iter().all(|extent| extent.end <= limit));
    assert_filled(&world, start, 0..0);
    let long = world.mm.pin(page(start, 100), PAGE_SIZE, WRITE.long().below(limit)).expect("there is room");
    assert!(extents(&world, &long)[0].end <= limit);
    world.mm.unpin(pin);
    world.mm.unpin(long);
    world.check();
}

fn a_block_across_the_limit_is_left_in_part() {
    let world = world();
    let start = block(&world);
    let limit = world.mm.machine().translate(page(start, 100)).expect("present") + 1;
    let all = pin(&world, start, 512, WRITE.below(limit));
    assert!(extents(&world, &all).iter().all(|extent| extent.end <= limit));
    assert_eq!(length(&extents(&world, &all)), BLOCK_SIZE as u64);
    assert_eq!(world.mm.counters().migrate_pages.get(), 412, "those below stay");
    assert_filled(&world, start, 0..0);
    world.mm.unpin(all);
    world.check();
}

fn scattered_frames_fill_many_records() {
    let world = world();
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    // Backwards, so that no two are consecutive.
    (0..512).rev().for_each(|index| world.put(page(start, index), index + 1));
    let all = pin(&world, start, 512, READ);
    let found = extents(&world, &all);
    assert!(found.len() > 400, "{} extents", found.len());
    for (index, at) in (0..).zip(found.into_iter().flat_map(pages_of)) {
        assert_eq!(world.mm.machine().translate(page(start, index)), Some(at));
    }
    world.check();
    world.mm.unpin(all);
    assert_eq!(world.mm.frames().statistics().pinned, 0);
    world.check();
}

fn what_cannot_be_pinned_says_why() {
    let world = world();
    let start = world.mm.map(MapRequest::new(2 * PAGE_SIZE).access(Access::READ)).expect("room").start;
    assert_eq!(world.mm.pin(start, 0, READ), Err(PinError::Empty));
    let denied = FaultError::Denied { address: start, wanted: Access::READ_WRITE, allowed: Access::READ };
    assert_eq!(world.mm.pin(start, PAGE_SIZE, WRITE), Err(PinError::Fault(denied)));
    let after = page(start, 2);
    let outside = PinError::Fault(FaultError::NoRegion { address: after });
    assert_eq!(world.mm.pin(start, 3 * PAGE_SIZE, READ), Err(outside));
    let beyond = VirtAddr(u64::MAX - 4);
    assert_eq!(world.mm.pin(beyond, 64, READ), Err(PinError::Fault(FaultError::NoRegion { address: beyond })));
    assert_eq!(world.mm.frames().statistics().pinned, 0);
    world.mm.unpin(pin(&world, start, 2, READ));
    // Present, it is refused as well.
    assert_eq!(world.mm.pin(start, PAGE_SIZE, WRITE), Err(PinError::Fault(denied)));
    world.check();
}

fn reports_name_pins() {
    let world = world();
    let start = block(&world);
    let pins = [pin(&world, page(start, 1), 2, READ), pin(&world, page(start, 8), 7, WRITE.long())];
    let mut report = String::new();
    world.mm.describe_holders(&mut report).expect("strings take it");
    let line = |from, to, what| {
        let kib = (to - from) * 4;
        alloc::format!("  {}..{}: {kib} KiB of {kib} KiB{what}\n", page(start, from), page(start, to))
    };
    let pinned = alloc::format!("pins, of 2:\n{}{}", line(8, 15, ", for long"), line(1, 3, ""));
    assert!(report.ends_with(&pinned), "{report}");
    let statistics = alloc::format!("{}", world.mm.frames().statistics());
    assert!(statistics.contains("pinned: 36 KiB"), "{statistics}");
    for pin in pins {
        world.mm.unpin(pin);
    }
    world.check();
}

/// Idle time does not touch a home with pinned frames, and goes on when the pin is dropped.
fn idle_time_goes_on_after_the_pin() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    (0..16).for_each(|group| world.put(page(start, 16 * group), 1));
    let pin = pin(&world, start, 1, WRITE);
    while world.mm.idle_step() {}
    assert!(!world.mm.is_huge(start));
    world.mm.unpin(pin);
    while world.mm.idle_step() {}
    assert!(world.mm.is_huge(start));
    world.check();
}

ashlar_test::tests! {
    pages_are_faulted_in_and_the_extents_are_theirs,
    a_block_is_one_extent_and_stays_a_block,
    an_extent_goes_on_in_the_next_block,
    a_device_and_the_application_see_each_others_writes,
    pins_forbid_what_moves_and_allow_what_does_not,
    pages_at_home_promote_though_pinned,
    a_dissolved_block_is_adopted_with_its_pins,
    a_released_page_gets_another_frame_until_the_pin_goes,
    an_orphan_is_left_out_of_groups,
    an_orphan_is_left_out_when_a_slot_is_filled,
    an_unmapped_pinned_page_is_an_orphan_and_nothing_else_is,
    an_orphan_in_a_home_does_not_keep_the_rest,
    memory_short_takes_nothing_that_is_pinned,
    long_pins_move_out_of_blocks,
    a_long_pin_of_a_whole_block_stays,
    a_long_pin_of_an_untouched_slot_is_a_block,
    a_part_of_what_is_pinned_for_long_is_pinned_again,
    pages_that_must_move_for_a_pin_get_frames_that_can_be_taken_back,
    a_long_pin_of_a_group_is_one_extent,
    a_group_settles_in_single_frames_where_no_group_is_free,
    a_page_that_is_pinned_cannot_move_for_a_long_pin,
    devices_with_short_addresses_get_low_frames,
    a_block_across_the_limit_is_left_in_part,
    scattered_frames_fill_many_records,
    what_cannot_be_pinned_says_why,
    reports_name_pins,
    idle_time_goes_on_after_the_pin,
}
