//! What the memory manager promises, one scenario each: which descriptors serve which touch, what a split leaves, what comes back.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, LOWER_END, PAGE_SIZE, VirtAddr};
use ashlar::mm::frame::Class;
use ashlar::mm::huge::{Enabled, FaultMode, HugePolicy};
use ashlar::mm::mmu::Access;
use ashlar::mm::{FaultError, MapRequest, MemoryError};
use world::{MIB, World, assert_filled, block, fill, sizes};

fn world() -> World {
    World::new(32 * MIB, 2, 1)
}

fn eager_fault_maps_a_block() {
    let world = world();
    world.mm.policy().set_fault_mode(FaultMode::Eager);
    let start = world.map(BLOCK_SIZE);
    assert!(start.is_aligned(BLOCK_SIZE));
    assert!(!world.mm.is_huge(start));
    world.put(start + 12345 * 8, 7);
    assert!(world.mm.is_huge(start));
    assert_eq!(sizes(&world), (1, 0, 0));
    assert_eq!(world.mm.counters().zeroed_bytes.get(), BLOCK_SIZE as u64);
    assert_eq!(world.mm.counters().thp_fault_alloc.get(), 1);
    assert_eq!((world.get(start), world.get(start + 12345 * 8)), (0, 7));
    world.check();
}

fn adaptive_fault_maps_a_group_and_promotes_when_full() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    world.put(start, 1);
    assert_eq!(sizes(&world), (0, 1, 0));
    assert_eq!(world.mm.counters().zeroed_bytes.get(), GROUP_SIZE as u64);
    for group in 1..32 {
        assert!(!world.mm.is_huge(start));
        world.put(start + (group * GROUP_SIZE) as u64, 1);
        world.check();
    }
    assert_eq!(world.mm.counters().pgfault_group.get(), 24, "from the half on, a touch fills two groups");
    assert_eq!(sizes(&world), (1, 0, 0));
    assert_eq!(world.mm.counters().promote.get(), 1);
    assert_eq!(world.mm.counters().zeroed_bytes.get(), BLOCK_SIZE as u64, "each byte is zeroed once");
    assert_eq!((0..32).map(|group| world.get(start + group * GROUP_SIZE as u64)).sum::<u64>(), 32);
}

fn sparse_use_does_not_bloat() {
    let world = world();
    let start = world.map(4 * BLOCK_SIZE);
    for slot in 0..4 {
        world.put(start + slot * BLOCK_SIZE as u64, 1);
    }
    assert_eq!(world.mm.usage().mapped_bytes(), 4 * GROUP_SIZE);
    let frames = world.mm.frames().statistics();
    assert_eq!(frames.absent, 4 * (512 - 16), "the rest of the homes is available");
}

fn no_block_falls_back_to_groups_then_pages() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    let frames = world.mm.frames();
    while frames.allocate_block().is_some() {}
    // Keep one group and a few frames.
    let mut groups = alloc::vec::Vec::new();
    while let Some(frame) = frames.allocate(4, Class::Movable) {
        groups.push(frame);
    }
    while frames.allocate(0, Class::Movable).is_some() {}
    for _ in 0..2 {
        frames.free(groups.pop().expect("there were groups"), 4);
    }
    let counters = world.mm.counters();
    world.put(start, 1);
    assert_eq!(sizes(&world), (0, 1, 0), "{}", frames.statistics());
    assert_eq!((counters.thp_fault_fallback.get(), counters.thp_fault_alloc.get()), (1, 0));
    let statistics = frames.statistics();
    let second = world.store(start + GROUP_SIZE as u64, &2u64.to_le_bytes());
    assert_eq!(second, Ok(()), "{statistics}");
    assert_eq!(sizes(&world), (0, 1, 1));
    assert_eq!(counters.group_fault_fallback.get(), 1);
    assert_eq!((world.get(start), world.get(start + GROUP_SIZE as u64)), (1, 2));
}

fn policy_never_means_pages() {
    let world = world();
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    assert_eq!(sizes(&world), (0, 0, 512));
    assert_eq!(world.mm.counters().thp_fault_fallback_policy.get(), 1);
    assert_filled(&world, start, 0..0);
    world.check();
}

fn policy_of_a_region_beats_the_default() {
    let world = world();
    world.mm.policy().set_fault_mode(FaultMode::Eager);
    let never = world.mm.map(MapRequest::new(BLOCK_SIZE).policy(HugePolicy::Never)).expect("room").start;
    world.put(never, 1);
    assert_eq!(sizes(&world), (0, 0, 1));
    world.mm.policy().set_enabled(Enabled::Madvise);
    let default = world.map(BLOCK_SIZE);
    world.put(default, 1);
    assert_eq!(sizes(&world), (0, 0, 2));
    world.mm.advise(default + 0, BLOCK_SIZE, HugePolicy::Always).expect("mapped");
    let always = world.mm.map(MapRequest::new(BLOCK_SIZE).policy(HugePolicy::Always)).expect("room").start;
    world.put(always, 1);
    assert_eq!(sizes(&world), (1, 0, 2));
    world.mm.policy().set_enabled(Enabled::Always);
    world.mm.advise(never, BLOCK_SIZE, HugePolicy::Default).expect("mapped");
    assert_eq!(world.mm.regions()[0].2, HugePolicy::Default, "there is a way back");
}

fn a_region_smaller_than_a_slot_gets_groups() {
    let world = world();
    let start = world.map(BLOCK_SIZE - PAGE_SIZE);
    assert!(start.is_aligned(GROUP_SIZE));
    world.put(start, 1);
    world.put(start + (BLOCK_SIZE - 2 * PAGE_SIZE) as u64, 1);
    assert_eq!(sizes(&world), (0, 1, 1), "the last group is not the region's alone");
    assert_eq!(world.mm.counters().thp_fault_fallback_unaligned.get(), 1);
    world.check();
}

fn release_splits_and_the_same_frame_comes_back() {
    let world = world();
    let start = block(&world);
    let machine = world.mm.machine();
    let hole = start + 100 * PAGE_SIZE as u64;
    let frame = machine.translate(hole);
    world.mm.release(hole, PAGE_SIZE).expect("mapped");
    assert_eq!(machine.translate(hole), None);
    assert_eq!(sizes(&world), (0, 31, 15), "one group is broken, the others are not");
    assert_eq!(world.mm.counters().thp_split_pmd_release.get(), 1);
    assert_eq!(world.mm.counters().thp_deferred_split_page.get(), 1);
    assert_eq!(world.mm.frames().statistics().absent, 1);
    world.check();
    assert_filled(&world, start, 100..101);
    world.put(hole, 0);
    assert_eq!(machine.translate(hole), frame, "the page is at home again");
    assert!(world.mm.is_huge(start), "and the slot promotes in place");
    assert_eq!(world.mm.counters().promote.get(), 2);
    world.check();
}

fn unmap_of_a_part_keeps_the_rest() {
    let world = world();
    let start = block(&world);
    let hole = start + 200 * PAGE_SIZE as u64;
    world.mm.unmap(hole, 3 * PAGE_SIZE).expect("a sound range");
    assert_eq!(world.mm.counters().thp_split_pmd_unmap.get(), 1);
    assert_eq!(world.load(hole, 1), Err(FaultError::NoRegion { address: hole }));
    assert_eq!(world.get(start + 203 * PAGE_SIZE as u64 + 8 * 203), 0x5EED_0000 + 203);
    assert_eq!(world.mm.frames().statistics().absent, 3);
    world.check();
    world.mm.map(MapRequest::new(3 * PAGE_SIZE).at(hole)).expect("the hole is free");
    assert_eq!(world.mm.regions().len(), 1, "the regions are one again");
    assert_filled(&world, start, 200..203);
    (0..3).for_each(|index| world.put(hole + index * PAGE_SIZE as u64, 0));
    assert!(world.mm.is_huge(start));
    world.check();
}

fn protect_of_a_part_splits_and_heals() {
    let world = world();
    let start = block(&world);
    let part = start + 64 * PAGE_SIZE as u64;
    world.mm.protect(part, PAGE_SIZE, Access::READ).expect("mapped");
    assert_eq!(world.mm.counters().thp_split_pmd_protect.get(), 1);
    assert_eq!(sizes(&world), (0, 31, 16));
    let denied = FaultError::Denied { address: part, wanted: Access::READ_WRITE, allowed: Access::READ };
    assert_eq!(world.store(part, &[1]), Err(denied));
    assert_filled(&world, start, 0..0);
    world.check();
    world.mm.protect(part, PAGE_SIZE, Access::READ_WRITE).expect("mapped");
    assert_eq!(world.mm.regions().len(), 1);
    // The group that was cut keeps its single pages until the slot promotes, which it does here and now.
    assert!(world.mm.is_huge(start));
    assert_filled(&world, start, 0..0);
    world.check();
}

fn protect_of_whole_slots_keeps_the_block() {
    let world = world();
    let start = block(&world);
    for access in [Access::READ, Access::NONE, Access::READ_EXECUTE, Access::READ_WRITE] {
        world.mm.protect(start, BLOCK_SIZE, access).expect("mapped");
        assert!(world.mm.is_huge(start));
        let result = world.load(start, 1).map(|_| ());
        let denied = FaultError::Denied { address: start, wanted: Access::READ, allowed: Access::NONE };
        assert_eq!(result, if access == Access::NONE { Err(denied) } else { Ok(()) });
        world.check();
    }
    assert_eq!(world.mm.counters().thp_split_pmd.get(), 0);
    assert_filled(&world, start, 0..0);
}

fn release_of_everything_frees_the_block() {
    let world = world();
    let before = world.mm.frames().statistics().free_blocks();
    let start = block(&world);
    assert_eq!(world.mm.counters().thp_split_pmd.get(), 0);
    world.mm.release(start, BLOCK_SIZE).expect("mapped");
    assert_eq!(world.mm.counters().thp_split_pmd.get(), 0, "nothing is left that a split would serve");
    let frames = world.mm.frames().statistics();
    assert_eq!((frames.homes, frames.absent), (0, 0));
    assert!(frames.free_blocks() + 1 >= before, "all but the block of the tables is free");
    assert_eq!(world.get(start), 0);
    world.put(start, 1);
    assert_eq!(sizes(&world), (0, 1, 0), "the next touch is a first touch");
    world.check();
}

fn absent_frames_are_taken_back_oldest_first() {
    let world = World::new(16 * MIB, 1, 1);
    let slots = 3;
    let start = world.map(slots * BLOCK_SIZE);
    let slot = |index: u64| start + index * BLOCK_SIZE as u64;
    for index in 0..slots as u64 {
        fill(&world, slot(index));
    }
    // Half of slots 2, 0, 1 is given up, in this order.
    for index in [2, 0, 1] {
        world.mm.release(slot(index), BLOCK_SIZE / 2).expect("mapped");
    }
    let frames = world.mm.frames();
    assert_eq!(frames.statistics().absent, 3 * 256);
    while frames.allocate(0, Class::Movable).is_some() {}
    let other = world.map(BLOCK_SIZE);
    for page in 0..200 {
        world.put(other + page * PAGE_SIZE as u64, page);
    }
    assert_eq!(world.mm.counters().thp_split_page.get(), 1, "one home was enough");
    assert_eq!(frames.statistics().absent, 2 * 256);
    // The oldest was slot 2's: its pages stay where they are and hold what they held.
    world.mm.release(slot(2), BLOCK_SIZE / 2).expect("mapped");
    for page in 256..512 {
        assert_eq!(world.get(slot(2) + page * PAGE_SIZE as u64 + 8 * page), 0x5EED_0000 + page);
    }
    let homes: alloc::vec::Vec<_> =
        core::iter::successors(frames.next_home(None), |&(block, _)| frames.next_home(Some(block))).collect();
    assert_eq!(homes.len(), 2);
}

fn sparse_homes_give_their_absent_frames_back() {
    let world = World::new(16 * MIB, 1, 1);
    world.mm.set_overcommit(true);
    let start = world.map(6 * BLOCK_SIZE);
    // A group in each of six slots, no page of it zero: blocks enough are taken, frames enough are absent.
    for page in (0..6 * 512).filter(|page| page % 512 < 16) {
        world.put(start + page * PAGE_SIZE as u64, page + 1);
    }
    assert_eq!(world.mm.frames().statistics().homes, 6);
    world.mm.policy().set_enabled(Enabled::Never);
    let other = world.map(12 * MIB - 6 * GROUP_SIZE - 512 * 1024);
    let pages = world.mm.usage().region_pages - 6 * 512;
    for page in 0..pages {
        world.put(other + page * PAGE_SIZE as u64, page + 1);
    }
    for page in (0..6 * 512).filter(|page| page % 512 < 16) {
        assert_eq!(world.get(start + page * PAGE_SIZE as u64), page + 1);
    }
    assert!((0..pages).all(|page| world.get(other + page * PAGE_SIZE as u64) == page + 1));
    assert!(world.mm.counters().thp_split_page.get() > 0);
    world.check();
}

fn zero_pages_are_given_back_before_anything_dies() {
    let world = World::new(16 * MIB, 1, 1);
    world.mm.policy().set_fault_mode(FaultMode::Eager);
    let start = world.map(BLOCK_SIZE);
    // One page of a block is used: the rest holds zeros.
    world.put(start + 5 * PAGE_SIZE as u64, 99);
    assert!(world.mm.is_huge(start));
    while world.mm.frames().allocate(0, Class::Movable).is_some() {}
    world.mm.policy().set_enabled(Enabled::Never);
    let other = world.map(BLOCK_SIZE);
    for page in 0..500 {
        world.put(other + page * PAGE_SIZE as u64, page + 1);
    }
    assert!(!world.mm.is_huge(start));
    assert_eq!(world.mm.counters().zero_pages_released.get(), 511);
    assert_eq!(world.mm.counters().thp_split_pmd_underused.get(), 1);
    assert_eq!(world.get(start + 5 * PAGE_SIZE as u64), 99);
    assert!((0..500).all(|page| world.get(other + page * PAGE_SIZE as u64) == page + 1));
}

fn the_end_is_an_error_and_nothing_is_lost() {
    let world = World::new(8 * MIB, 1, 1);
    world.mm.set_overcommit(true);
    let start = world.map(64 * MIB);
    let mut touched = 0;
    let end = loop {
        let at = start + touched * PAGE_SIZE as u64;
        match world.store(at, &(touched + 1).to_le_bytes()) {
            Ok(()) => touched += 1,
            Err(error) => break (at, error),
        }
    };
    assert_eq!(end.1, FaultError::OutOfMemory { address: end.0 });
    assert!(touched as usize * PAGE_SIZE > 6 * MIB, "only {touched} pages fit into 8 MiB");
    assert!((0..touched).all(|page| world.get(start + page * PAGE_SIZE as u64) == page + 1));
    world.check();
    world.mm.release(start, MIB).expect("mapped");
    world.put(end.0, 1);
}

fn the_commit_limit_refuses_a_map() {
    let world = World::new(16 * MIB, 1, 1);
    let Err(MemoryError::CommitLimit { wanted, left }) = world.mm.map(MapRequest::new(17 * MIB)) else {
        panic!("more than RAM");
    };
    assert_eq!(wanted, 17 * MIB as u64);
    assert!(left < 16 * MIB as u64);
    let start = world.mm.map(MapRequest::new(17 * MIB).access(Access::READ)).expect("not writable, not charged").start;
    let refused = world.mm.protect(start, 17 * MIB, Access::READ_WRITE);
    assert!(matches!(refused, Err(MemoryError::CommitLimit { .. })), "{refused:?}");
    world.mm.protect(start, left as usize, Access::READ_WRITE).expect("what was left");
    assert!(world.mm.map(MapRequest::new(PAGE_SIZE)).is_err());
    world.mm.unmap(start, 17 * MIB).expect("a sound range");
    world.map(left as usize);
    world.check();
}

fn everything_under_the_limit_can_be_touched() {
    let world = World::new(16 * MIB, 1, 1);
    let Err(MemoryError::CommitLimit { left, .. }) = world.mm.map(MapRequest::new(1 << 40 >> 2)) else {
        panic!("more than RAM");
    };
    let start = world.map(left as usize);
    for page in 0..left / PAGE_SIZE as u64 {
        world.put(start + page * PAGE_SIZE as u64, page + 1);
    }
    world.check();
}

fn bad_ranges_are_refused_by_name() {
    let world = world();
    let mm = &world.mm;
    let start = world.map(2 * PAGE_SIZE);
    let odd = start + 1;
    assert_eq!(mm.map(MapRequest::new(0)), Err(MemoryError::Empty));
    assert_eq!(mm.unmap(start, 0), Err(MemoryError::Empty));
    assert_eq!(mm.map(MapRequest::new(1).at(odd)), Err(MemoryError::Misaligned { address: odd }));
    assert_eq!(mm.protect(odd, 1, Access::READ), Err(MemoryError::Misaligned { address: odd }));
    let null = MapRequest::new(1).at(VirtAddr(0));
    assert_eq!(mm.map(null), Err(MemoryError::OutsideSpace { address: VirtAddr(0), length: 1 }));
    let last = VirtAddr(LOWER_END - PAGE_SIZE as u64);
    assert_eq!(
        mm.map(MapRequest::new(2 * PAGE_SIZE).at(last)),
        Err(MemoryError::OutsideSpace { address: last, length: 2 * PAGE_SIZE })
    );
    mm.map(MapRequest::new(PAGE_SIZE).at(last)).expect("the last page may be mapped");
    let high = VirtAddr(!0xFFF);
    assert!(matches!(mm.unmap(high, usize::MAX), Err(MemoryError::OutsideSpace { .. })));
    assert_eq!(
        mm.map(MapRequest::new(PAGE_SIZE).at(start + PAGE_SIZE as u64)),
        Err(MemoryError::Overlap { start, end: start + 2 * PAGE_SIZE as u64 })
    );
    let hole = start + 2 * PAGE_SIZE as u64;
    assert_eq!(mm.protect(start, 3 * PAGE_SIZE, Access::READ), Err(MemoryError::NotMapped { address: hole }));
    assert_eq!(mm.release(start, 3 * PAGE_SIZE), Err(MemoryError::NotMapped { address: hole }));
    let both = Access { read: true, write: true, execute: true };
    assert_eq!(mm.protect(start, 1, both), Err(MemoryError::WriteAndExecute));
    assert_eq!(mm.map(MapRequest::new(1).access(both)), Err(MemoryError::WriteAndExecute));
    mm.set_overcommit(true);
    assert!(matches!(mm.map(MapRequest::new(1 << 39)), Err(MemoryError::NoGap { .. })));
    let wild = VirtAddr(0xFFFF_0000_0000_0000);
    assert_eq!(mm.fault(wild, Access::READ), Err(FaultError::NoRegion { address: wild }));
    assert_eq!(mm.populate(start, 3 * PAGE_SIZE), Err(FaultError::NoRegion { address: hole }));
    assert!(!mm.is_huge(wild));
    world.check();
}

fn regions_share_slots() {
    let world = world();
    let slot = VirtAddr(1 << 32);
    let page = |index: u64| slot + index * PAGE_SIZE as u64;
    world.mm.map(MapRequest::new(PAGE_SIZE).at(page(1))).expect("room");
    world.mm.map(MapRequest::new(PAGE_SIZE).at(page(512 + 5)).access(Access::READ)).expect("room");
    // Between them, in the slots of both.
    world.mm.map(MapRequest::new(510 * PAGE_SIZE).at(page(3))).expect("room");
    for index in [1, 3, 511, 512] {
        world.put(page(index), index);
    }
    assert_eq!(world.mm.regions().len(), 3, "one for each of the three requests");
    world.check();
    world.mm.unmap(slot, 2 * BLOCK_SIZE).expect("a sound range");
    assert_eq!(world.mm.usage().region_pages, 0);
    world.check();
}

fn names_the_largest_holders_of_memory() {
    let world = world();
    let mut expected = alloc::vec::Vec::new();
    for pages in [3, 40, 1, 17] {
        let start = world.mm.map(MapRequest::new(BLOCK_SIZE).policy(HugePolicy::Never)).expect("room").start;
        (0..pages).for_each(|page| world.put(start + page * PAGE_SIZE as u64, 1));
        expected.push((pages, start));
        // A hole between, so that the regions stay apart.
        world.mm.map(MapRequest::new(BLOCK_SIZE).access(Access::NONE)).expect("room");
    }
    expected.sort_unstable_by_key(|&(pages, _)| core::cmp::Reverse(pages));
    let mut text = alloc::string::String::new();
    world.mm.describe_holders(&mut text).expect("a string takes all");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("regions that hold most, of 8:"));
    for ((pages, start), line) in expected.into_iter().zip(lines) {
        let end = start + BLOCK_SIZE as u64;
        assert_eq!(line, alloc::format!("  {start}..{end}: {} KiB of 2048 KiB", pages * 4));
    }
}

fn describes_an_address() {
    let world = world();
    let start = block(&world);
    world.mm.release(start, PAGE_SIZE).expect("mapped");
    let mut text = alloc::string::String::new();
    world.mm.describe(start, &mut text).expect("a string takes all");
    for part in ["region 0x", "allows read and write", "511 of 512 pages", "page: released", "level 3: Invalid"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    text.clear();
    world.mm.describe(VirtAddr(0x1000), &mut text).expect("a string takes all");
    assert!(text.contains("in no region") && text.contains("never touched"), "{text}");
}

/// Memory that was written, by the application or to zero it, is synchronized before it can be fetched: pages, groups, blocks
/// and parts of them. The simulated machine tells when not.
fn code_is_synchronized_before_it_runs() {
    for policy in [HugePolicy::Never, HugePolicy::Default] {
        for mode in [FaultMode::Adaptive, FaultMode::Eager] {
            let world = World::new(16 * MIB, 1, 1);
            world.mm.policy().set_fault_mode(mode);
            let start = world.mm.map(MapRequest::new(BLOCK_SIZE).policy(policy)).unwrap().start;
            let pages = [0, 1, 16, 511].map(|page| start + (page * PAGE_SIZE) as u64);
            for page in pages {
                world.put(page, 1);
            }
            for (from, length) in [(pages[1], PAGE_SIZE), (start, BLOCK_SIZE)] {
                world.mm.protect(from, length, Access::READ_EXECUTE).unwrap();
                world.execute(pages[1]).unwrap();
            }
            for page in pages {
                world.execute(page).unwrap();
            }
            // Never touched, and touched again after a release.
            world.execute(start + (300 * PAGE_SIZE) as u64).unwrap();
            world.mm.release(start, BLOCK_SIZE).unwrap();
            world.execute(start).unwrap();
            world.check();
        }
    }
}

ashlar_test::tests! {
    code_is_synchronized_before_it_runs,
    eager_fault_maps_a_block,
    adaptive_fault_maps_a_group_and_promotes_when_full,
    sparse_use_does_not_bloat,
    no_block_falls_back_to_groups_then_pages,
    policy_never_means_pages,
    policy_of_a_region_beats_the_default,
    a_region_smaller_than_a_slot_gets_groups,
    release_splits_and_the_same_frame_comes_back,
    unmap_of_a_part_keeps_the_rest,
    protect_of_a_part_splits_and_heals,
    protect_of_whole_slots_keeps_the_block,
    release_of_everything_frees_the_block,
    absent_frames_are_taken_back_oldest_first,
    sparse_homes_give_their_absent_frames_back,
    zero_pages_are_given_back_before_anything_dies,
    the_end_is_an_error_and_nothing_is_lost,
    the_commit_limit_refuses_a_map,
    everything_under_the_limit_can_be_touched,
    bad_ranges_are_refused_by_name,
    regions_share_slots,
    describes_an_address,
    names_the_largest_holders_of_memory,
}
