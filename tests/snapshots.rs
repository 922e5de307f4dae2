//! Snapshots: what memory held at an instant can be read while it changes, and a write costs a copy of its page and no more.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::{Collapsed, Enabled, HugePolicy, Rest, Unit};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::PinRequest;
use ashlar::mm::{Destination, FaultError, MapRequest, MemoryError, Refusal, RemapRequest};
use core::ops::Range;
use world::{
    MIB, World, assert_filled, background, block, collapse, copied, fill, give_back, page, scattered, sizes, take_all,
};

fn world() -> World {
    World::new(64 * MIB, 2, 23)
}

/// A snapshot of the slot at `start`.
fn snapshot(world: &World, start: VirtAddr) -> VirtAddr {
    let seen = world.mm.snapshot(start, BLOCK_SIZE).expect("memory is free");
    assert_eq!(seen.end - seen.start, BLOCK_SIZE as u64);
    world.check();
    seen.start
}

fn end(world: &World, seen: VirtAddr) {
    world.mm.end_snapshot(seen).expect("it is one");
    assert_eq!(world.load(seen, 8), Err(FaultError::NoRegion { address: seen }));
    world.check();
}

/// Writes another word to page `index`, beside the one of `fill`.
fn change(world: &World, start: VirtAddr, index: u64) {
    world.put(page(start, index) + 8 * index, 0xBAD_0000 + index);
}

fn assert_changed(world: &World, start: VirtAddr, pages: Range<u64>) {
    pages.for_each(|index| assert_eq!(world.get(page(start, index) + 8 * index), 0xBAD_0000 + index));
}

/// Pages that have changed since, by their places.
fn changed(world: &World, start: VirtAddr, seen: VirtAddr) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let place = |at: VirtAddr| (at - start) / PAGE_SIZE as u64;
    world.mm.changed_since(start, BLOCK_SIZE, seen, |run| found.push(place(run.start)..place(run.end))).expect("sound");
    found
}

fn a_block_stays_one_and_is_seen_as_one() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    assert!(world.mm.is_huge(start));
    assert_filled(&world, seen, 0..0);
    assert!(world.mm.is_huge(seen), "it is read through one descriptor");
    assert!(world.mm.is_huge(start));
    assert_eq!((copied(&world), world.mm.usage().shared, sizes(&world)), (0, 512, (1, 0, 0)));
    world.check();
    end(&world, seen);
    fill(&world, start);
    assert_eq!(world.mm.counters().thp_split_pmd.get(), 0);
    assert!(world.mm.is_huge(start));
}

fn a_write_copies_its_page() {
    for read_first in [false, true] {
        let world = world();
        let start = block(&world);
        let seen = snapshot(&world, start);
        if read_first {
            assert_filled(&world, seen, 0..0);
        }
        let frame = world.mm.machine().translate(page(start, 70));
        change(&world, start, 70);
        assert_eq!(copied(&world), PAGE_SIZE as u64);
        assert_eq!(world.mm.machine().translate(page(start, 70)), frame, "the live page stays at home");
        change(&world, start, 70);
        change(&world, start, 71);
        assert_eq!(world.mm.counters().snapshot_pages_copied.get(), 2);
        world.check();
        assert_filled(&world, seen, 0..0);
        assert_changed(&world, start, 70..72);
        world.check();
        end(&world, seen);
        assert!(world.mm.is_huge(start), "all of it is at home: it is a block again");
        assert_changed(&world, start, 70..72);
        assert_eq!(sizes(&world), (1, 0, 0));
    }
}

fn when_all_is_written_it_is_a_block_again() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    (0..512).for_each(|index| change(&world, start, index));
    assert!(world.mm.is_huge(start));
    assert_eq!(copied(&world), BLOCK_SIZE as u64);
    assert_filled(&world, seen, 0..0);
    world.check();
    end(&world, seen);
}

fn what_was_untouched_reads_as_zero() {
    for zeros in [true, false] {
        let world = world();
        world.mm.policy().set_use_zero_page(zeros);
        let start = world.map(2 * BLOCK_SIZE);
        world.put(page(start, 5), 55);
        let seen = world.mm.snapshot(start, 2 * BLOCK_SIZE).expect("memory is free").start;
        for index in [100, 600] {
            world.put(page(start, index), 7);
            assert_eq!(world.get(page(seen, index)), 0, "it was touched later");
            assert_eq!(world.get(page(seen, index + 1)), 0);
        }
        assert_eq!((world.get(page(seen, 5)), world.get(page(seen, 6))), (55, 0));
        world.put(page(start, 6), 66);
        assert_eq!((world.get(page(seen, 5)), world.get(page(seen, 6))), (55, 0));
        world.check();
        end(&world, seen);
    }
}

fn what_is_given_back_the_snapshot_keeps() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    assert_filled(&world, seen, 0..0);
    world.mm.release(page(start, 20), 100 * PAGE_SIZE).expect("mapped");
    world.check();
    assert_filled(&world, start, 20..120);
    assert_filled(&world, seen, 0..0);
    world.mm.protect(page(start, 200), 100 * PAGE_SIZE, Access::NONE).expect("mapped");
    world.mm.unmap(page(start, 200), 312 * PAGE_SIZE).expect("mapped");
    world.check();
    assert_filled(&world, seen, 0..0);
    world.mm.unmap(start, BLOCK_SIZE).expect("mapped");
    world.check();
    assert_filled(&world, seen, 0..0);
    assert_eq!(world.mm.counters().snapshot_pages_copied.get(), 0, "frames changed hands");
    end(&world, seen);
    assert_eq!(sizes(&world), (0, 0, 0));
    assert_eq!(world.mm.frames().statistics().movable, 0);
}

fn what_goes_at_once_needs_no_memory() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    let taken = take_all(&world);
    world.mm.unmap(start, BLOCK_SIZE).expect("a whole region");
    assert_filled(&world, seen, 0..0);
    give_back(&world, taken);
    end(&world, seen);
}

fn pinned_pages_are_copied_at_once() {
    let world = world();
    let start = block(&world);
    let pin = world.mm.pin(page(start, 9), 2 * PAGE_SIZE, PinRequest::new().write()).expect("memory is free");
    let seen = snapshot(&world, start);
    assert_eq!(copied(&world), 2 * PAGE_SIZE as u64);
    let device = world.mm.extents(&pin).next().expect("an extent").start;
    world.mm.machine().write_physical(device + 8 * 9, &[1; 8]);
    assert_filled(&world, seen, 0..0);
    let faults = world.mm.counters().pgfault.get();
    change(&world, start, 10);
    assert_eq!(world.mm.counters().pgfault.get(), faults, "it may be written to as before");
    assert_eq!(world.get(page(start, 9) + 72), u64::from_le_bytes([1; 8]));
    world.mm.unpin(pin);
    end(&world, seen);
    assert!(world.mm.is_huge(start));
}

fn a_pin_of_the_snapshot_has_a_page_of_its_own() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    let pin = world.mm.pin(page(seen, 3), PAGE_SIZE, PinRequest::new()).expect("it may be read");
    let device = world.mm.extents(&pin).next().expect("an extent").start;
    assert_ne!(world.mm.machine().translate(page(start, 3)), Some(device));
    world.check();
    change(&world, start, 3);
    change(&world, start, 4);
    assert_eq!(world.mm.machine().read_physical(device + 24, 8), 0x5EED_0003_u64.to_le_bytes());
    assert_filled(&world, seen, 0..0);
    let other = world.map(2 * PAGE_SIZE);
    world.put(other, 1);
    let few = world.mm.snapshot(other, 2 * PAGE_SIZE).expect("memory is free").start;
    assert_eq!((world.get(few), world.get(page(few, 1))), (1, 0));
    let zeros = world.mm.pin(page(few, 1), PAGE_SIZE, PinRequest::new()).expect("it may be read");
    world.check();
    world.mm.unpin(zeros);
    world.mm.end_snapshot(few).expect("it is one");
    world.mm.unmap(other, 2 * PAGE_SIZE).expect("mapped");
    let refused = world.mm.pin(seen, PAGE_SIZE, PinRequest::new().write());
    assert!(refused.is_err(), "it is for reading");
    end(&world, seen);
    world.mm.unpin(pin);
    world.check();
    assert!(world.mm.is_huge(start));
}

fn protection_does_not_let_a_write_through() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    change(&world, start, 8);
    for access in [Access::READ, Access::NONE, Access::READ_WRITE] {
        world.mm.protect(start, BLOCK_SIZE, access).expect("mapped");
        world.check();
    }
    world.mm.protect(page(start, 30), 7 * PAGE_SIZE, Access::READ).expect("mapped");
    world.mm.protect(page(start, 30), 7 * PAGE_SIZE, Access::READ_WRITE).expect("mapped");
    (0..40).for_each(|index| change(&world, start, index));
    assert_filled(&world, seen, 0..0);
    assert_changed(&world, start, 0..40);
    world.check();
    end(&world, seen);
    assert!(world.mm.is_huge(start));
}

fn a_protected_block_is_written_to_later() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    world.mm.protect(start, BLOCK_SIZE, Access::READ).expect("mapped");
    world.mm.protect(start, BLOCK_SIZE, Access::READ_WRITE).expect("mapped");
    assert!(world.mm.is_huge(start));
    change(&world, start, 0);
    assert_filled(&world, seen, 0..0);
    end(&world, seen);
}

fn live_pages_move_and_the_snapshot_follows() {
    let world = world();
    let start = scattered(&world);
    let seen = snapshot(&world, start);
    assert_filled(&world, seen, 0..0);
    for index in [0, 17, 500] {
        world.mm.migrate(page(start, index), Unit::Page).expect("frames are free");
        world.check();
    }
    assert_filled(&world, seen, 0..0);
    world.mm.migrate(page(start, 64), Unit::Group).expect("frames are free");
    assert_filled(&world, seen, 0..0);
    world.check();
    // The only one that is looked at.
    let other = scattered(&world);
    let few = world.mm.snapshot(other, BLOCK_SIZE).expect("memory is free").start;
    world.get(page(few, 17));
    world.mm.migrate(page(other, 17), Unit::Page).expect("frames are free");
    world.check();
    assert_filled(&world, few, 0..0);
    end(&world, few);
    change(&world, start, 17);
    assert_filled(&world, seen, 0..0);
    end(&world, seen);
}

fn a_home_ends_beneath_a_snapshot() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    assert_filled(&world, seen, 0..0);
    world.mm.dissolve(start).expect("nothing is pinned");
    world.check();
    world.mm.migrate(page(start, 5), Unit::Page).expect("frames are free");
    assert_filled(&world, seen, 0..0);
    world.check();
    end(&world, seen);
}

fn who_asks_for_a_block_pays_for_the_copies() {
    let world = world();
    let start = scattered(&world);
    world.mm.policy().set_enabled(Enabled::Always);
    let seen = snapshot(&world, start);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 512, filled: 0 }));
    assert!(world.mm.is_huge(start));
    assert_eq!(world.mm.counters().snapshot_pages_copied.get(), 512);
    assert_filled(&world, seen, 0..0);
    assert_filled(&world, start, 0..0);
    world.check();
    assert_eq!(collapse(&world, seen), Err(Refusal::Shared));
    end(&world, seen);
}

fn the_background_copies_as_many_as_it_may() {
    for (limit, is_huge) in [(256, false), (384, true)] {
        let world = world();
        let start = block(&world);
        let seen = snapshot(&world, start);
        (0..128).for_each(|index| change(&world, start, index));
        world.mm.policy().set_max_ptes_shared(limit);
        world.mm.reconsider();
        background(&world);
        assert_eq!(world.mm.is_huge(start), is_huge);
        assert_eq!(world.mm.counters().thp_scan_exceed_share_pte.get() > 0, !is_huge);
        assert_filled(&world, seen, 0..0);
        world.check();
        end(&world, seen);
        assert!(world.mm.is_huge(start));
    }
}

fn whole_slots_move_beneath_a_snapshot() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    assert_filled(&world, seen, 0..0);
    let moved = world.mm.remap(start, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).at(page(start, 4096)));
    let moved = moved.expect("whole slots").start;
    assert!(world.mm.is_huge(moved));
    world.check();
    change(&world, moved, 7);
    assert_filled(&world, seen, 0..0);
    let unaligned = RemapRequest::new(BLOCK_SIZE).at(page(start, 8192 + 8));
    let refused = world.mm.remap(moved, BLOCK_SIZE, unaligned);
    assert_eq!(refused, Err(MemoryError::Shared { address: moved }));
    world.check();
    assert_eq!(
        world.mm.remap(moved, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE / 2)).map(|range| range.start),
        Ok(moved)
    );
    assert_filled(&world, seen, 0..0);
    end(&world, seen);
}

fn a_part_of_a_slot_has_its_own_snapshot() {
    let world = world();
    let start = world.mm.map(MapRequest::new(BLOCK_SIZE).at(VirtAddr(1 << 33))).expect("free").start;
    fill(&world, start);
    world.mm.advise(start, 100 * PAGE_SIZE, HugePolicy::Never).expect("mapped");
    let part = page(start, 10)..page(start, 60);
    let seen = world.mm.snapshot(part.start, 50 * PAGE_SIZE).expect("memory is free");
    assert_eq!(seen.end - seen.start, 50 * PAGE_SIZE as u64);
    world.check();
    (0..512).for_each(|index| change(&world, start, index));
    for index in 10..60 {
        assert_eq!(world.get(page(seen.start, index - 10) + 8 * index), 0x5EED_0000 + index);
    }
    assert_eq!(world.mm.counters().snapshot_pages_copied.get(), 50);
    world.check();
    let other = world.mm.snapshot(page(start, 100), 50 * PAGE_SIZE).expect("the first one needs nothing any more");
    let refused = world.mm.snapshot(start, 50 * PAGE_SIZE);
    assert_eq!(refused, Err(MemoryError::Shared { address: start }), "a slot has one snapshot at a time");
    world.check();
    end(&world, seen.start);
    (0..512).for_each(|index| world.put(page(start, index), 1));
    for index in 100..150 {
        assert_eq!(world.get(page(other.start, index - 100) + 8 * index), 0xBAD_0000 + index);
    }
    end(&world, other.start);
}

fn a_snapshot_is_for_reading() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    let shared = MemoryError::Shared { address: seen };
    let mm = &world.mm;
    assert_eq!(mm.protect(seen, BLOCK_SIZE, Access::READ_WRITE), Err(shared));
    assert_eq!(mm.advise(seen, BLOCK_SIZE, HugePolicy::Never), Err(shared));
    assert_eq!(mm.release(seen, BLOCK_SIZE), Err(shared));
    assert_eq!(mm.mark_free(seen, BLOCK_SIZE), Err(shared));
    assert_eq!(mm.mark_cold(seen, BLOCK_SIZE), Err(shared));
    assert_eq!(mm.snapshot(seen, BLOCK_SIZE), Err(shared));
    assert_eq!(mm.remap(seen, BLOCK_SIZE, RemapRequest::new(BLOCK_SIZE).anywhere().keep()), Err(shared));
    let middle = page(seen, 3);
    assert_eq!(mm.unmap(seen, 3 * PAGE_SIZE), Err(MemoryError::Shared { address: middle }));
    let over = RemapRequest::new(PAGE_SIZE).over(middle);
    let other = world.map(PAGE_SIZE);
    assert_eq!(mm.remap(other, PAGE_SIZE, over), Err(MemoryError::Shared { address: middle }));
    let denied = FaultError::Denied { address: seen, wanted: Access::READ_WRITE, allowed: Access::READ };
    assert_eq!(world.store(seen, &[1]), Err(denied));
    assert_eq!(mm.snapshot(start, BLOCK_SIZE), Err(MemoryError::Shared { address: start }), "it has one");
    assert_eq!(mm.end_snapshot(start), Err(MemoryError::NotMapped { address: start }));
    assert_filled(&world, seen, 0..0);
    world.check();
    mm.unmap(seen, BLOCK_SIZE).expect("all of it");
    world.check();
    assert!(mm.is_huge(start));
}

fn it_counts_against_the_commit_limit() {
    let world = world();
    let start = world.map(40 * MIB);
    let committed = world.mm.usage().committed_pages;
    let refused = world.mm.snapshot(start, 40 * MIB);
    assert!(matches!(refused, Err(MemoryError::CommitLimit { .. })), "{refused:?}");
    assert_eq!(world.mm.usage().committed_pages, committed);
    let seen = world.mm.snapshot(start, 2 * MIB).expect("there is room for this").start;
    assert_eq!(world.mm.usage().committed_pages, committed + 512);
    end(&world, seen);
    assert_eq!(world.mm.usage().committed_pages, committed);
}

fn without_memory_a_write_fails_and_nothing_is_lost() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    let taken = take_all(&world);
    let at = page(start, 4) + 32;
    assert_eq!(world.store(at, &[0; 8]), Err(FaultError::OutOfMemory { address: at }));
    assert_filled(&world, start, 0..0);
    assert_filled(&world, seen, 0..0);
    give_back(&world, taken);
    change(&world, start, 4);
    assert_filled(&world, seen, 0..0);
    end(&world, seen);
}

fn without_memory_there_is_none() {
    let world = world();
    let start = world.map(4 * BLOCK_SIZE);
    (0..4).for_each(|slot| fill(&world, start + slot * BLOCK_SIZE as u64));
    let pin = world.mm.pin(start + 3 * BLOCK_SIZE as u64, BLOCK_SIZE, PinRequest::new()).expect("memory is free");
    let mut taken = take_all(&world);
    for left in [0, 1, 2, 3, 20] {
        (0..left).for_each(|_| world.mm.frames().free(taken.pop().expect("many"), 0));
        assert_eq!(world.mm.snapshot(start, 4 * BLOCK_SIZE), Err(MemoryError::NoMemory));
        taken.extend(take_all(&world));
        assert!((0..3).all(|slot| world.mm.is_huge(start + slot * BLOCK_SIZE as u64)));
    }
    give_back(&world, taken);
    world.mm.unpin(pin);
    (0..4).for_each(|slot| fill(&world, start + slot * BLOCK_SIZE as u64));
    assert_eq!(copied(&world), world.mm.counters().snapshot_pages_copied.get() * PAGE_SIZE as u64);
    world.check();
}

fn it_is_told_what_changed() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    (0..128).for_each(|index| world.put(page(start, index), index));
    let seen = snapshot(&world, start);
    assert_eq!(changed(&world, start, seen), []);
    world.get(page(start, 3));
    world.get(page(start, 300));
    assert_eq!(changed(&world, start, seen), [], "reads change nothing");
    world.put(page(start, 5), 1);
    world.put(page(start, 6), 1);
    world.mm.release(page(start, 40), PAGE_SIZE).expect("mapped");
    world.put(page(start, 304), 1);
    let group = 304..320;
    assert_eq!(changed(&world, start, seen), [5..7, 40..41, group]);
    end(&world, seen);
    assert_eq!(world.mm.changed_since(start, BLOCK_SIZE, seen, |_| ()), Err(MemoryError::NotMapped { address: seen }));
}

fn what_may_be_taken_back_stays_for_the_snapshot() {
    let world = world();
    let start = block(&world);
    world.mm.mark_free(start, BLOCK_SIZE / 2).expect("mapped");
    let seen = snapshot(&world, start);
    world.mm.mark_free(start, BLOCK_SIZE).expect("mapped");
    let other = world.map(PAGE_SIZE);
    let taken = take_all(&world);
    let _ = world.store(other, &[1]);
    give_back(&world, taken);
    assert_filled(&world, seen, 0..0);
    assert_filled(&world, start, 0..0);
    end(&world, seen);
}

fn what_is_away_when_all_is_written_is_a_candidate() {
    let world = world();
    let start = block(&world);
    world.mm.migrate(page(start, 5), Unit::Page).expect("frames are free");
    let seen = snapshot(&world, start);
    (0..511).for_each(|index| change(&world, start, index));
    assert_eq!(world.mm.candidates(), 0);
    change(&world, start, 511);
    assert_eq!(world.mm.candidates(), 1);
    end(&world, seen);
}

fn what_is_read_by_pages_first_is_read_by_pages() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    world.mm.policy().set_enabled(Enabled::Never);
    world.get(page(seen, 3));
    world.mm.policy().set_enabled(Enabled::Always);
    assert_filled(&world, seen, 0..0);
    end(&world, seen);
}

fn idle_time_leaves_what_is_seen_alone() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    // By half.
    (0..16).for_each(|group| world.put(page(start, 16 * group), 1));
    let seen = snapshot(&world, start);
    let idle = || (0..20).for_each(|_| _ = world.mm.idle_step());
    idle();
    assert!(!world.mm.is_huge(start));
    world.check();
    end(&world, seen);
    world.put(page(start, 400), 1);
    idle();
    assert!(world.mm.is_huge(start), "otherwise it had been one");
}

/// What was given back counts as that, whoever has it now.
fn what_is_given_back_is_not_filled_in_the_background() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    world.mm.release(page(start, 20), PAGE_SIZE).expect("mapped");
    let policy = world.mm.policy();
    policy.set_max_ptes_none(511);
    policy.set_max_ptes_shared(511);
    world.mm.reconsider();
    background(&world);
    assert!(!world.mm.is_huge(start));
    end(&world, seen);
}

/// The background looks how hot candidates are, and a snapshot's slot may have been one before: access flags are cleared.
fn a_snapshot_is_read_while_it_is_sampled() {
    let world = world();
    let (before, start) = (scattered(&world), scattered(&world));
    world.mm.policy().set_enabled(Enabled::Always);
    world.mm.reconsider();
    world.mm.unmap(before, BLOCK_SIZE).expect("mapped");
    let seen = snapshot(&world, start);
    assert_eq!(seen, before, "the first gap");
    (0..512).for_each(|index| change(&world, start, index));
    let blocks: Vec<_> = core::iter::from_fn(|| world.mm.frames().allocate_block()).collect();
    (0..10).take_while(|_| world.mm.background_step(0) == Rest::None).for_each(drop);
    assert_eq!(world.mm.counters().heat_samples.get(), 8, "of both");
    assert_filled(&world, seen, 0..0);
    assert_eq!(world.mm.counters().access_flag_fault.get(), 4, "of the snapshot's pages");
    world.check();
    blocks.into_iter().for_each(|block| world.mm.frames().free_block(block));
    end(&world, seen);
}

/// There was other memory, of which a block is still being filled: at every moment of that.
#[cfg(not(target_os = "none"))]
fn a_snapshot_is_made_where_a_block_is_filled() {
    use std::rc::Rc;
    let mut made = 0;
    for after in 0.. {
        let world = Rc::new(world());
        let start = block(&world);
        let there = world.map(BLOCK_SIZE);
        world.mm.policy().set_fault_mode(ashlar::mm::huge::FaultMode::Eager);
        let other = world.clone();
        let interlude = move || {
            other.mm.unmap(there, BLOCK_SIZE).expect("mapped");
            assert_eq!(other.mm.snapshot(start, BLOCK_SIZE).expect("memory is free").start, there);
        };
        let store = || assert!(matches!(world.store(there, &[1]), Ok(()) | Err(FaultError::Denied { .. })));
        if !common::with_interlude(after, interlude, store) {
            break;
        }
        made += 1;
        world.check();
        assert_filled(&world, there, 0..0);
        change(&world, start, 5);
        assert_filled(&world, there, 0..0);
        end(&world, there);
    }
    assert!(made > 2, "{made} moments");
}

/// What was seen before has another place, and its record none.
fn a_snapshot_ends_whose_memory_made_room() {
    let world = world();
    let start = block(&world);
    let seen = snapshot(&world, start);
    let other = block(&world);
    let over = world.mm.alias(other, BLOCK_SIZE, Destination::Over(start)).expect("memory is free");
    assert_eq!(over.start, start);
    assert_filled(&world, seen, 0..0);
    change(&world, start, 9);
    end(&world, seen);
    assert_changed(&world, other, 9..10);
    world.mm.unmap(start, BLOCK_SIZE).expect("mapped");
    world.mm.map(MapRequest::new(BLOCK_SIZE).at(start)).expect("free");
    assert_eq!(world.get(start), 0);
    world.check();
}

ashlar_test::tests! {
    a_block_stays_one_and_is_seen_as_one,
    a_write_copies_its_page,
    when_all_is_written_it_is_a_block_again,
    what_was_untouched_reads_as_zero,
    what_is_given_back_the_snapshot_keeps,
    what_goes_at_once_needs_no_memory,
    pinned_pages_are_copied_at_once,
    a_pin_of_the_snapshot_has_a_page_of_its_own,
    protection_does_not_let_a_write_through,
    a_protected_block_is_written_to_later,
    live_pages_move_and_the_snapshot_follows,
    a_home_ends_beneath_a_snapshot,
    who_asks_for_a_block_pays_for_the_copies,
    the_background_copies_as_many_as_it_may,
    whole_slots_move_beneath_a_snapshot,
    a_part_of_a_slot_has_its_own_snapshot,
    a_snapshot_is_for_reading,
    it_counts_against_the_commit_limit,
    without_memory_a_write_fails_and_nothing_is_lost,
    without_memory_there_is_none,
    it_is_told_what_changed,
    what_may_be_taken_back_stays_for_the_snapshot,
    what_is_away_when_all_is_written_is_a_candidate,
    what_is_read_by_pages_first_is_read_by_pages,
    idle_time_leaves_what_is_seen_alone,
    what_is_given_back_is_not_filled_in_the_background,
    a_snapshot_is_read_while_it_is_sampled,
    #[cfg(not(target_os = "none"))]
    a_snapshot_is_made_where_a_block_is_filled,
    a_snapshot_ends_whose_memory_made_room,
}
