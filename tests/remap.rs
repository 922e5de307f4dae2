//! Memory that goes elsewhere keeps what it holds: whole slots as blocks and without a copy, others by their pages.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT, VirtAddr};
use ashlar::mm::huge::{Enabled, HugePolicy};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::PinRequest;
use ashlar::mm::{FaultError, MapRequest, MemoryError, RemapRequest};
use core::ops::Range;
use world::{MIB, World, assert_filled, background, block, copied, fill, page, scattered};

fn world() -> World {
    World::new(64 * MIB, 2, 7)
}

/// Free addresses, far from what is mapped anywhere.
const THERE: VirtAddr = VirtAddr(7 << 30);

fn remap(world: &World, start: VirtAddr, length: usize, request: RemapRequest) -> Range<VirtAddr> {
    world.check();
    let range = world.mm.remap(start, length, request).unwrap_or_else(|error| panic!("{error}"));
    world.check();
    range
}

/// Nothing is mapped at `address` any more.
fn assert_gone(world: &World, address: VirtAddr) {
    assert_eq!(world.load(address, 8), Err(FaultError::NoRegion { address }));
}

/// Frames of the slot's pages.
fn frames(world: &World, start: VirtAddr) -> Vec<u64> {
    let frame = |index| world.mm.machine().translate(page(start, index)).map_or(0, |at| at.frame().0);
    (0..PAGES_PER_SLOT as u64).map(frame).collect()
}

fn a_block_moves_as_it_is() {
    let world = world();
    let start = block(&world);
    let (before, bytes) = (frames(&world, start), copied(&world));
    // Both cores have it in their TLBs.
    for core in [0, 1] {
        world.mm.machine().on_core(core);
        world.get(start);
    }
    let range = remap(&world, start, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(THERE));
    assert_eq!(range, THERE..THERE + BLOCK_SIZE as u64);
    assert!(world.mm.is_huge(THERE));
    assert_eq!((frames(&world, THERE), copied(&world)), (before, bytes), "nothing was copied");
    for core in [0, 1] {
        world.mm.machine().on_core(core);
        assert_gone(&world, start);
    }
    assert_filled(&world, THERE, 0..0);
    // Its table went with it.
    world.mm.release(THERE, PAGE_SIZE).expect("mapped");
    assert_filled(&world, THERE, 0..1);
    world.check();
}

fn there_and_back() {
    let world = world();
    let start = scattered(&world);
    let before = frames(&world, start);
    for (from, to) in [(start, THERE), (THERE, start), (start, THERE)] {
        remap(&world, from, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(to));
        assert_gone(&world, from);
        assert_eq!(frames(&world, to), before);
    }
    assert_filled(&world, THERE, 0..0);
    assert_eq!(world.mm.usage().region_pages, 512);
}

fn grows_where_it_is() {
    let world = world();
    let start = block(&world);
    let next = world.mm.map(MapRequest::new(PAGE_SIZE).at(start + 2 * BLOCK_SIZE as u64)).expect("room");
    assert_eq!(remap(&world, start, BLOCK_SIZE, RemapRequest::new(2 * BLOCK_SIZE)), start..next.start);
    assert_eq!(world.mm.regions().len(), 1, "equal neighbours are one");
    fill(&world, start + BLOCK_SIZE as u64);
    assert_filled(&world, start, 0..0);
    let length = 2 * BLOCK_SIZE;
    let refused = world.mm.remap(start, length, RemapRequest::new(length + 1));
    assert_eq!(refused, Err(MemoryError::Overlap { start, end: next.end }));
    // Of one byte more it moves.
    let moved = remap(&world, start, length, RemapRequest::new(length + 1).anywhere());
    assert_eq!((moved.end - moved.start) as usize, length + PAGE_SIZE);
    assert!(world.mm.is_huge(moved.start) && moved.start.is_aligned(BLOCK_SIZE));
    assert_filled(&world, moved.start, 0..0);
    assert_eq!(world.get(moved.start + length as u64), 0);
    assert_gone(&world, start);
}

fn shrinks() {
    let world = world();
    let start = block(&world);
    let half = BLOCK_SIZE / 2;
    assert_eq!(remap(&world, start, BLOCK_SIZE, RemapRequest::new(half)), start..start + half as u64);
    assert_gone(&world, start + half as u64);
    assert_eq!(remap(&world, start, half, RemapRequest::new(PAGE_SIZE).at(THERE)), THERE..THERE + PAGE_SIZE as u64);
    assert_gone(&world, start);
    assert_eq!(world.mm.usage().region_pages, 1);
    assert_eq!(world.get(THERE), 0x5EED_0000);
}

fn pages_go_to_another_alignment() {
    let world = world();
    let start = block(&world);
    let before = frames(&world, start);
    let there = THERE + 3 * PAGE_SIZE as u64;
    remap(&world, start, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(there));
    assert_eq!(frames(&world, there), before, "most of it went: nothing was copied");
    assert_filled(&world, there, 0..0);
    assert_gone(&world, start);
    assert_eq!(world.mm.frames().statistics().homes, 0);
    // It can come back to a block, where it is one slot.
    let back = THERE + 4 * BLOCK_SIZE as u64;
    remap(&world, there, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(back));
    assert_filled(&world, back, 0..0);
    world::collapse(&world, back).expect("it is one slot");
    assert_filled(&world, back, 0..0);
}

fn a_few_pages_leave_a_block() {
    let world = world();
    let start = block(&world);
    let before = frames(&world, start);
    remap(&world, page(start, 100), 3 * PAGE_SIZE, RemapRequest::new(3 * PAGE_SIZE).at(THERE));
    for index in 0..3 {
        assert_eq!(world.get(page(THERE, index) + 8 * (100 + index)), 0x5EED_0000 + 100 + index);
        assert_gone(&world, page(start, 100 + index));
    }
    assert_eq!(world.mm.frames().statistics().homes, 1, "the others stay at home");
    assert_eq!(frames(&world, start)[103..], before[103..]);
    assert_eq!(copied(&world), 3 * PAGE_SIZE as u64);
}

fn pages_move_within_a_slot() {
    let world = world();
    let start = VirtAddr(5 << 30);
    world.mm.map(MapRequest::new(32 * PAGE_SIZE).at(start)).expect("room");
    (0..32).for_each(|index| world.put(page(start, index), index + 1));
    remap(&world, start, 32 * PAGE_SIZE, RemapRequest::new(32 * PAGE_SIZE).at(page(start, 41)));
    (0..32).for_each(|index| assert_eq!(world.get(page(start, 41 + index)), index + 1));
    assert_gone(&world, start);
}

fn pinned_pages_stay_in_their_frames() {
    let world = world();
    let start = block(&world);
    let pin = world.mm.pin(page(start, 7), 2 * PAGE_SIZE, PinRequest::new().write()).expect("present");
    let before = frames(&world, start);
    let whole = THERE;
    remap(&world, start, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(whole));
    assert!(world.mm.is_huge(whole));
    // Few pages would be copied, and these cannot be.
    let there = THERE + 4 * BLOCK_SIZE as u64;
    remap(&world, page(whole, 6), 4 * PAGE_SIZE, RemapRequest::new(4 * PAGE_SIZE).at(there));
    assert_eq!(frames(&world, there)[1..3], before[7..9]);
    assert_eq!(world.get(page(there, 1) + 8 * 7), 0x5EED_0007);
    let extents = world.mm.extents(&pin).collect::<Vec<_>>();
    assert_eq!(extents[0].start.frame().0, before[7]);
    world.mm.unpin(pin);
    world.mm.unmap(there, 4 * PAGE_SIZE).expect("mapped");
    world.mm.unmap(whole, BLOCK_SIZE).expect("mapped");
    world.check();
    assert_eq!(world.mm.frames().statistics().movable, 0);
}

fn the_old_range_may_stay_mapped() {
    let world = world();
    let start = block(&world);
    let range = remap(&world, start, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).anywhere().keep());
    assert!(world.mm.is_huge(range.start) && !world.mm.is_huge(start));
    assert_eq!((world.get(start), world.mm.usage().committed_pages), (0, 1024));
    assert_filled(&world, range.start, 0..0);
    let pages = page(range.start, 5);
    remap(&world, pages, PAGE_SIZE, RemapRequest::new(PAGE_SIZE).at(THERE).keep());
    assert_eq!((world.get(THERE + 40), world.get(pages + 40)), (0x5EED_0005, 0));
    let refused = world.mm.remap(start, BLOCK_SIZE, RemapRequest::new(PAGE_SIZE).keep());
    assert_eq!(refused, Err(MemoryError::KeptLength { length: BLOCK_SIZE, wanted: PAGE_SIZE }));
}

fn what_is_there_makes_room() {
    let world = world();
    let (one, other) = (block(&world), block(&world));
    world.put(other, 77);
    let refused = world.mm.remap(one, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(other));
    assert!(matches!(refused, Err(MemoryError::Overlap { .. })), "{refused:?}");
    remap(&world, one, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).over(other));
    assert!(world.mm.is_huge(other));
    assert_filled(&world, other, 0..0);
    assert_eq!((world.mm.usage().committed_pages, world.mm.usage().region_pages), (512, 512));
}

fn bad_requests_are_refused() {
    let world = world();
    let start = block(&world);
    let request = RemapRequest::new(BLOCK_SIZE);
    let length = BLOCK_SIZE;
    assert_eq!(world.mm.remap(start, 0, request), Err(MemoryError::Empty));
    assert_eq!(world.mm.remap(start, length, RemapRequest::new(0)), Err(MemoryError::Empty));
    assert_eq!(world.mm.remap(start + 1, length, request), Err(MemoryError::Misaligned { address: start + 1 }));
    let address = THERE + 8;
    assert_eq!(world.mm.remap(start, length, request.at(address)), Err(MemoryError::Misaligned { address }));
    let address = page(start, 511);
    assert_eq!(world.mm.remap(start, length, request.over(address)), Err(MemoryError::IntoItself { address }));
    let address = start + BLOCK_SIZE as u64;
    assert_eq!(world.mm.remap(start, 2 * length, request.anywhere()), Err(MemoryError::NotMapped { address }));
    assert_eq!(world.mm.remap(THERE, length, request), Err(MemoryError::NotMapped { address: THERE }));
    let outside = world.mm.remap(start, length, request.at(VirtAddr(1 << 39)));
    assert!(matches!(outside, Err(MemoryError::OutsideSpace { .. })));
    assert!(matches!(
        world.mm.remap(start, length, RemapRequest::new(1 << 40).anywhere()),
        Err(MemoryError::NoGap { .. } | MemoryError::CommitLimit { .. })
    ));
    let limit = world.mm.remap(start, length, RemapRequest::new(128 * MIB).anywhere());
    assert!(matches!(limit, Err(MemoryError::CommitLimit { .. })), "{limit:?}");
    world.mm.protect(page(start, 9), PAGE_SIZE, Access::READ).expect("mapped");
    let address = page(start, 9);
    assert_eq!(world.mm.remap(start, length, request.anywhere().keep()), Err(MemoryError::Divided { address }));
    world.check();
    assert_filled(&world, start, 0..0);
    assert_eq!(world.mm.usage().region_pages, 512);
}

fn access_and_policy_go_along() {
    let world = world();
    let start = block(&world);
    world.mm.protect(start, BLOCK_SIZE, Access::READ).expect("mapped");
    world.mm.advise(start, BLOCK_SIZE, HugePolicy::Never).expect("mapped");
    remap(&world, start, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(page(THERE, 1)));
    let (_, region) = world.mm.region(page(THERE, 1)).expect("mapped");
    assert_eq!((region.access, region.policy), (Access::READ, HugePolicy::Never));
    assert_filled(&world, page(THERE, 1), 0..0);
    assert!(matches!(world.store(page(THERE, 1), &[1]), Err(FaultError::Denied { .. })));
}

fn what_pages_have_filled_becomes_a_block() {
    let world = world();
    let start = world.map(2 * BLOCK_SIZE);
    (0..1024).for_each(|index| world.put(page(start, index), index + 1));
    background(&world);
    remap(&world, start, 2 * BLOCK_SIZE, RemapRequest::new(2 * BLOCK_SIZE).at(page(THERE, 3)));
    assert!(!world.mm.is_huge(page(THERE, 512)));
    background(&world);
    assert!(world.mm.is_huge(page(THERE, 512)), "one region covers it, and all of it is present");
    (0..1024).for_each(|index| assert_eq!(world.get(page(THERE, 3 + index)), index + 1));
}

/// Pages that were released are so where they go: the background does not fill them.
fn what_was_released_goes_along() {
    for released in [false, true] {
        let world = world();
        let start = scattered(&world);
        world.mm.policy().set_enabled(Enabled::Always);
        if released {
            world.mm.release(page(start, 5), PAGE_SIZE).expect("mapped");
        }
        let half = BLOCK_SIZE / 2;
        for at in [0, 256] {
            remap(&world, page(start, at), half, RemapRequest::new(half).at(page(THERE, at)));
        }
        world.mm.reconsider();
        background(&world);
        assert_eq!(world.mm.is_huge(THERE), !released);
        assert_eq!(world.mm.machine().translate(page(THERE, 5)).is_none(), released);
        assert_filled(&world, THERE, if released { 5..6 } else { 0..0 });
    }
}

/// Frames that follow each other from one block into the next are no run.
fn pages_of_two_blocks_become_one_group() {
    let world = world();
    let blocks: Vec<_> = (0..6).map(|_| block(&world)).collect();
    let first = |start: VirtAddr| frames(&world, start)[0];
    let follow = |one: VirtAddr| Some((one, *blocks.iter().find(|&&other| first(other) == first(one) + 512)?));
    let (one, other) = blocks.iter().find_map(|&start| follow(start)).expect("free blocks follow each other");
    let (most, request) = (500 * PAGE_SIZE, RemapRequest::new(500 * PAGE_SIZE));
    remap(&world, page(one, 12), most, request.at(THERE));
    remap(&world, other, most, request.at(page(THERE, 500)));
    let to = page(THERE, 4096 + 16);
    remap(&world, THERE, 2 * most, RemapRequest::new(2 * most).at(to));
    for index in 0..500 {
        assert_eq!(world.get(page(to, index) + 8 * (12 + index)), 0x5EED_0000 + 12 + index);
        assert_eq!(world.get(page(to, 500 + index) + 8 * index), 0x5EED_0000 + index);
    }
}

/// Idle time has zeroed what is absent there.
fn pages_land_among_zeros() {
    let world = world();
    let start = block(&world);
    world.mm.map(MapRequest::new(BLOCK_SIZE).at(THERE)).expect("room");
    world.put(THERE, 1);
    (0..33).for_each(|_| _ = world.mm.idle_step());
    world.mm.unmap(page(THERE, 256), BLOCK_SIZE / 2).expect("mapped");
    // All of the block leaves it: frames that follow each other, from the middle of a group on.
    remap(&world, start, 200 * PAGE_SIZE, RemapRequest::new(200 * PAGE_SIZE).at(page(THERE, 1024)));
    remap(&world, page(start, 208), 192 * PAGE_SIZE, RemapRequest::new(192 * PAGE_SIZE).at(page(THERE, 264)));
    (0..192).for_each(|index| {
        assert_eq!(world.get(page(THERE, 264 + index) + 8 * (208 + index)), 0x5EED_0000 + 208 + index)
    });
    assert_eq!(world.get(page(THERE, 255)), 0);
}

fn no_length_is_too_long() {
    let world = world();
    let start = block(&world);
    for length in [usize::MAX, usize::MAX - PAGE_SIZE + 1, usize::MAX / 2] {
        for request in
            [RemapRequest::new(length), RemapRequest::new(length).at(THERE), RemapRequest::new(length).anywhere()]
        {
            let refused = world.mm.remap(start, BLOCK_SIZE, request);
            assert!(
                matches!(refused, Err(MemoryError::OutsideSpace { .. } | MemoryError::NoGap { .. })),
                "{length:#x}: {refused:?}"
            );
        }
    }
    assert_filled(&world, start, 0..0);
}

ashlar_test::tests! {
    a_block_moves_as_it_is,
    there_and_back,
    grows_where_it_is,
    shrinks,
    pages_go_to_another_alignment,
    a_few_pages_leave_a_block,
    pages_move_within_a_slot,
    pinned_pages_stay_in_their_frames,
    the_old_range_may_stay_mapped,
    what_is_there_makes_room,
    bad_requests_are_refused,
    access_and_policy_go_along,
    what_pages_have_filled_becomes_a_block,
    what_was_released_goes_along,
    pages_of_two_blocks_become_one_group,
    pages_land_among_zeros,
    no_length_is_too_long,
}
