//! The frame allocator: which frames it gives, that it gives all of them, and what it makes of misuse.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::single_range_in_vec_init, reason = "a machine with one bank of RAM")]

extern crate alloc;

mod common;
#[path = "common/frame_setup.rs"]
mod frame_setup;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ashlar::mm::address::{Block, Frame, PAGE_SIZE, PhysAddr};
use ashlar::mm::frame::{CacheLimits, Class, FrameStatistics, Frames, FramesError, PHYSICAL_LIMIT};
use common::Random;
use core::ops::Range;
#[cfg(not(target_os = "none"))]
use frame_setup::owner;
use frame_setup::{CACHED, GIB, MIB, pool_of, setup, try_setup};

/// The numbers below `count`, in a random order.
fn shuffled(count: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.index(last + 1));
    }
    order
}

/// Takes everything there is, in order `order` or as blocks, and gives it back in a random order.
fn exhaust(frames: &Frames, order: Option<u32>, random: &mut Random) {
    let before = frames.statistics();
    let mut taken = Vec::new();
    let mut blocks = Vec::new();
    match order {
        Some(order) => taken.extend(core::iter::from_fn(|| frames.allocate(order, Class::Movable))),
        None => blocks.extend(core::iter::from_fn(|| frames.allocate_block())),
    }
    let expected = match order {
        Some(order) => (order as usize..19).map(|run| (before.free_runs[run] as usize) << (run - order as usize)).sum(),
        None => before.free_blocks(),
    };
    assert_eq!(taken.len() + blocks.len(), expected, "order {order:?}");
    frames.check();
    for index in shuffled(taken.len(), random) {
        frames.free(taken[index], order.unwrap());
    }
    for index in shuffled(blocks.len(), random) {
        frames.free_block(blocks[index]);
    }
    frames.check();
    frames.drain_caches();
    let after = FrameStatistics { movable_spills: before.movable_spills, ..frames.statistics() };
    assert_eq!(after, before, "order {order:?}");
}

fn exhausted_memory_comes_back_whole() {
    let frames = try_setup(&[GIB..4 * GIB], &[3 * GIB..4 * GIB]).unwrap();
    assert_eq!(frames.statistics().free_runs[18], 2, "two whole GiB");
    let mut random = Random::new(1);
    for order in [None, Some(8), Some(4), Some(0)] {
        exhaust(&frames, order, &mut random);
    }
    let frames = setup(&[0x3f3f_f000..0x3fc0_1000, 0x3fc0_5000..0x3ff0_0000, 0x3ff8_0000..0x4051_7000]);
    for order in (0..9).map(Some) {
        exhaust(&frames, order, &mut random);
    }
}

fn large_runs_stay_whole_while_smaller_ones_exist() {
    let frames = try_setup(&[GIB..2 * GIB + 512 * MIB], &[2 * GIB..2 * GIB + 512 * MIB]).unwrap();
    frames.set_cache_limits(CacheLimits::NONE);
    let small = frames.statistics().free_blocks() - 512;
    for _ in 0..small {
        assert!(frames.allocate_block().unwrap().start().0 >= 2 * GIB);
        assert_eq!(frames.statistics().free_runs[18], 1);
    }
    let block = frames.allocate_block().unwrap();
    assert_eq!(frames.statistics().free_runs[9..], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert_eq!(block, PhysAddr(GIB).frame().block(), "the lowest block of the GiB");
    frames.free_block(block);
    assert_eq!(frames.statistics().free_runs[18], 1);
}

fn classes_keep_apart_until_nothing_else_is_left() {
    let frames = pool_of(&[GIB..GIB + 16 * MIB]);
    let blocks = frames.statistics().free_blocks();
    assert_eq!(blocks, 7, "all blocks but the one that the records are in");
    let edge = PhysAddr(GIB + 15 * MIB).frame().block();
    let mut users = BTreeMap::new();
    let in_edge = frames.statistics().free - 512 * blocks;
    for step in 0..in_edge {
        let frame = frames.allocate(0, Class::Unmovable).unwrap();
        assert_eq!(frame.block(), edge, "unmovable frames begin where no block can be, step {step}");
    }
    assert_eq!(frames.statistics().free_blocks(), blocks);
    for step in 0..512 * blocks {
        let class = if step % 3 == 0 { Class::Unmovable } else { Class::Movable };
        let before = frames.statistics().free_blocks();
        let frame = frames.allocate(0, class).unwrap();
        let spills = frames.statistics().movable_spills + frames.statistics().unmovable_spills;
        if spills == 0 {
            assert_eq!(
                *users.entry(frame.block()).or_insert(class),
                class,
                "{frame:?} is in a block of the other class"
            );
        } else {
            assert_eq!(before, 0, "{frame:?} spilled, with a block free");
        }
    }
    assert_eq!(frames.statistics().free, 0);
    assert_eq!(frames.allocate(0, Class::Movable), None);
    let statistics = frames.statistics();
    let classes = |wanted| users.values().filter(|&&class| class == wanted).count();
    let (unmovable, movable) = (classes(Class::Unmovable), classes(Class::Movable));
    assert_eq!(unmovable + movable, blocks);
    let overflow = |frames: usize, blocks: usize| frames.saturating_sub(512 * blocks) as u64;
    assert_eq!(statistics.movable_spills, overflow(statistics.movable, movable));
    assert_eq!(statistics.unmovable_spills, overflow(statistics.unmovable - in_edge, unmovable));
    assert!(statistics.movable_spills + statistics.unmovable_spills > 0);
}

fn frames_below_a_limit_are_found_wherever_they_are() {
    let frames = setup(&[GIB..GIB + 32 * MIB]);
    frames.set_cache_limits(CACHED);
    let below = |limit: u64, class| frames.allocate_below(PhysAddr(limit), class);
    assert_eq!(below(GIB, Class::Movable), None);
    assert_eq!(below(GIB + 4095, Class::Movable), None, "not all of the frame");
    frames.fail_after(1);
    assert_eq!(below(GIB + 4096, Class::Movable), None);
    // A free block is broken, the first one of the smallest run that begins there; then it is used up to the limit.
    let first = PhysAddr(GIB).frame();
    let limit = GIB + 2 * MIB + 3 * 4096 + 17;
    let found: Vec<Frame> = core::iter::from_fn(|| below(limit, Class::Movable)).collect();
    assert!(found.iter().map(|frame| frame.0).eq(first.0..first.0 + 515));
    assert_eq!(frames.statistics().movable_spills, 0);
    frames.check();
    found[9..200].iter().for_each(|&frame| frames.free(frame, 0));
    assert!((0..191).all(|_| below(limit, Class::Movable).is_some()), "what is in caches is found");
    assert_eq!(below(limit, Class::Movable), None);
    // A broken block of the class comes before a free one, and that before one of the other class.
    let table = below(GIB + 32 * MIB, Class::Unmovable).unwrap();
    let broken = below(GIB + 32 * MIB, Class::Movable).unwrap();
    assert_eq!(broken, first + 515);
    assert_eq!(frames.statistics().unmovable_spills, 0);
    frames.free(found[7], 0);
    assert_eq!(below(limit, Class::Unmovable), Some(found[7]), "with nothing else left, it spills");
    assert_eq!(frames.statistics().unmovable_spills, 1);
    assert_ne!(table.block(), broken.block());
    frames.check();
    // Large runs stay whole.
    let frames = setup(&[GIB..GIB + 32 * MIB]);
    let before = frames.statistics().free_runs;
    assert!(frames.allocate_below(PhysAddr(GIB + 32 * MIB), Class::Movable).is_some());
    assert_eq!((before[9], frames.statistics().free_runs[9]), (1, 0));
    assert_eq!(frames.statistics().free_runs[10..], before[10..]);
    // Zeroed blocks are taken back, as many as need be.
    let frames = setup(&[GIB..GIB + 32 * MIB]);
    let blocks: Vec<Block> = core::iter::from_fn(|| frames.allocate_block()).collect();
    let low = blocks.iter().copied().min().unwrap();
    let others = blocks.iter().copied().filter(|&block| block != low);
    others.clone().take(2).chain([low]).chain(others.skip(2).take(1)).for_each(|block| frames.put_zeroed(block));
    assert_eq!(frames.allocate_below(low.frame(4).start(), Class::Movable), Some(low.frame(0)));
    assert_eq!((frames.zeroed(), frames.statistics().movable_spills), (2, 0));
    frames.check();
}

fn full_blocks_fill_up_and_free_ones_are_broken_last() {
    let frames = pool_of(&[GIB..GIB + 16 * MIB]);
    let blocks = frames.statistics().free_blocks();
    let all: Vec<Frame> = (0..3 * 512).map(|_| frames.allocate(0, Class::Movable).unwrap()).collect();
    assert_eq!(frames.statistics().free_blocks(), blocks - 3);
    let of: Vec<Block> = (0..3).map(|third| all[third * 512].block()).collect();
    // In the first one frame is free, in the second two neighbours, in the third a group.
    frames.free(of[2].frame(32), 4);
    frames.free(of[0].frame(77), 0);
    frames.free(of[1].frame(100), 1);
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[0].frame(77)));
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[1].frame(100)));
    assert_eq!(frames.allocate(1, Class::Movable), Some(of[2].frame(32)));
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[1].frame(101)));
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[2].frame(34)));
    assert_eq!(frames.allocate(3, Class::Movable), Some(of[2].frame(40)));
    assert_eq!(frames.statistics().free_blocks(), blocks - 3);
    assert_ne!(frames.allocate(3, Class::Movable).map(Frame::block), Some(of[2]), "no run of eight was left");
    assert_eq!(frames.statistics().free_blocks(), blocks - 4);
}

/// Whether `misuse` panics. On the target a panic ends the machine: there it is another test's matter.
#[cfg(not(target_os = "none"))]
fn panics(misuse: impl FnOnce()) -> bool {
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(misuse)).is_err()
}

#[cfg(not(target_os = "none"))]
fn misuse_is_a_bug() {
    let with = |misuse: fn(&Frames, Frame, Block)| {
        let with = |limits| {
            let frames = setup(&[GIB..GIB + 16 * MIB]);
            frames.set_cache_limits(limits);
            let frame = frames.allocate(4, Class::Movable).unwrap();
            let block = frames.allocate_block().unwrap();
            panics(|| misuse(&frames, frame, block))
        };
        let panicked = with(CACHED);
        assert_eq!(with(CacheLimits::NONE), panicked, "with and without caches");
        panicked
    };
    assert!(!with(|frames, frame, block| {
        frames.free(frame, 4);
        frames.free_block(block);
    }));
    let double_free = |frames: &Frames, frame, _| {
        frames.free(frame, 4);
        frames.free(frame, 4);
    };
    assert!(with(double_free));
    assert!(with(|frames, frame, _| {
        frames.free(frame + 3, 0);
        frames.free(frame + 3, 0);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame + 3, 0);
        frames.free(frame, 4);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame, 4);
        frames.free(frame + 3, 0);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame, 4);
        frames.pin(frame);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame, 4);
        frames.set_owner(frame + 1, owner(1), 0);
    }));
    assert!(with(|frames, frame, _| frames.set_owners(frame + 1, 16, owner(1), 0)), "one of them is free");
    assert!(with(|frames, frame, _| frames.set_owners(frame, 16, owner(1), 500)), "past the end of a slot");
    assert!(with(|frames, frame, _| frames.free(frame, 5)), "more than was taken");
    assert!(with(|frames, frame, _| frames.free(frame + 1, 1)), "misaligned");
    assert!(with(|frames, _, block| frames.free(block.frame(0), 0)), "a frame of a whole block");
    assert!(with(|frames, _, _| frames.free(PhysAddr(GIB + 16 * MIB - 4096).frame(), 0)), "a frame of the records");
    assert!(with(|frames, _, _| frames.free(PhysAddr(5 * GIB).frame(), 0)), "no RAM");
    assert!(with(|frames, frame, _| frames.free_block(frame.block())), "a broken block");
    assert!(with(|frames, _, block| {
        frames.free_block(block);
        frames.free_block(block);
    }));
    assert!(with(|frames, _, block| {
        frames.make_home(block, owner(1));
        frames.free_block(block);
    }));
    assert!(with(|frames, _, block| {
        frames.put_zeroed(block);
        frames.put_zeroed(block);
    }));
    assert!(with(|frames, _, block| {
        frames.put_zeroed(block);
        frames.free_block(block);
    }));
    assert!(with(|frames, _, block| {
        frames.pin(block.frame(1));
        frames.put_zeroed(block);
    }));
    assert!(with(|frames, _, block| {
        frames.free_block(block);
        frames.make_home(block, owner(1));
    }));
    assert!(with(|frames, _, block| {
        frames.free_block(block);
        frames.pin(block.frame(1));
    }));
    assert!(with(|frames, _, block| frames.set_absent(block, 0)), "no home");
    assert!(with(|frames, _, block| frames.end_home(block)), "no home");
    assert!(with(|frames, _, block| _ = frames.defer(block)), "no home");
    assert!(with(|frames, frame, _| frames.unpin(frame)), "not pinned");
    assert!(with(|frames, _, block| frames.unpin(block.frame(3))), "never pinned");
    assert!(with(|frames, frame, _| {
        frames.pin_run(frame, 2);
        frames.unpin_run(frame, 3);
    }));
    assert!(with(|frames, frame, _| {
        frames.pin(frame);
        frames.free_to_pool(frame);
        frames.pin(frame);
    }));
    assert!(with(|frames, _, block| frames.pin_run(block.frame(500), 13)), "past the end of the block");
    assert!(with(|frames, frame, _| frames.end_isolation(frame.block())), "not isolated");
    assert!(with(|frames, frame, _| frames.pin(frame + 16)), "free");
    assert!(with(|frames, frame, _| frames.set_owner(frame + 16, owner(1), 0)), "free");
    assert!(with(|frames, _, _| assert_eq!(frames.allocate(9, Class::Movable), None)), "a block is not frames");
}

fn records_cost_what_they_should() {
    // 64 GiB, of which only the end is looked at.
    let frames = try_setup(&[GIB..65 * GIB], &[64 * GIB..65 * GIB]).unwrap();
    let statistics = frames.statistics();
    assert_eq!(statistics.total as u64, 64 * GIB / PAGE_SIZE as u64);
    assert!(statistics.metadata * 1000 <= statistics.total * 4, "{} frames of records", statistics.metadata);
    assert_eq!(statistics.free_runs[18], 63);
    let block = frames.allocate_block().unwrap();
    assert!(block.start().0 > 64 * GIB);

    // Two small banks, far apart, and two more in one GiB.
    let banks = [GIB..GIB + 16 * MIB, 2 * GIB - 16 * MIB..2 * GIB, 300 * GIB..300 * GIB + 16 * MIB];
    let frames = setup(&banks);
    let statistics = frames.statistics();
    assert_eq!(statistics.total, 3 * 4096);
    let directory = 301 * 64;
    let records = (512 + 8) * (128 + 16);
    let entries = 3 * 4096 * 16;
    assert!(statistics.metadata * PAGE_SIZE <= directory + records + entries + 5 * PAGE_SIZE, "{statistics:?}");
    exhaust(&frames, Some(0), &mut Random::new(2));
}

fn machines_without_a_place_for_records_are_refused() {
    let refused = |banks: &[Range<u64>]| try_setup(banks, &[GIB..GIB + MIB]).err();
    assert_eq!(refused(&[]), Some(FramesError::NoMemory));
    assert_eq!(refused(&[GIB..GIB + 4096]), Some(FramesError::NoRoom { bytes: 144 }));
    let end = PHYSICAL_LIMIT + 4096;
    assert_eq!(refused(&[GIB..GIB + MIB, PHYSICAL_LIMIT.0..end.0]), Some(FramesError::OutOfReach { end }));
    // The smallest machine there is: directory, records, entries, and a frame to give.
    let frames = try_setup(&[GIB..GIB + 5 * 4096], &[GIB..GIB + 5 * 4096]).unwrap();
    assert_eq!(frames.statistics().free, 1);
    assert!(frames.allocate(0, Class::Movable).is_some());
}

// The simulated machine's banks are the application's memory.
ashlar_test::expect!("run memory=900M overcommit=on timeout=300");

ashlar_test::tests! {
    exhausted_memory_comes_back_whole,
    large_runs_stay_whole_while_smaller_ones_exist,
    classes_keep_apart_until_nothing_else_is_left,
    full_blocks_fill_up_and_free_ones_are_broken_last,
    frames_below_a_limit_are_found_wherever_they_are,
    #[cfg(not(target_os = "none"))]
    misuse_is_a_bug,
    records_cost_what_they_should,
    machines_without_a_place_for_records_are_refused,
}
