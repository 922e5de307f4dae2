//! Homes and the frames by themselves that they leave: absent frames, pins and orphans, isolation and adoption.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::single_range_in_vec_init, reason = "a machine with one bank of RAM")]

extern crate alloc;

mod common;
#[path = "common/frame_setup.rs"]
mod frame_setup;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ashlar::mm::Refusal;
use ashlar::mm::address::{Block, Frame};
use ashlar::mm::bits::Bits512;
use ashlar::mm::frame::{Class, Frames, Occupant};
use core::sync::atomic::{AtomicUsize, Ordering};
use frame_setup::{CACHED, GIB, MIB, owner, pool_of, setup};

fn homes_count_their_absent_frames_and_end_in_either_way() {
    let frames = pool_of(&[GIB..GIB + 16 * MIB]);
    let empty = frames.statistics();
    let [a, b] = [1, 2].map(|number| {
        let block = frames.allocate_block().unwrap();
        assert_eq!(frames.home_owner(block), None);
        frames.make_home(block, owner(number));
        block
    });
    assert_eq!(frames.statistics().absent, 1024);
    assert_eq!(frames.statistics().available(), empty.free);
    frames.set_absent(a, 12);
    assert_eq!((frames.statistics().absent, frames.statistics().home), (524, 500));
    assert_eq!(frames.owner(a.frame(7)), Some((owner(1), 7)));
    assert_eq!(frames.next_home(None), Some((a.min(b), frames.home_owner(a.min(b)).unwrap())));
    assert_eq!(frames.next_home(Some(a.max(b))), None);

    let mut keep = Bits512::EMPTY;
    keep.set_range(0..500);
    frames.pin(a.frame(3));
    let before = frames.statistics();
    assert_eq!(frames.dissolve(a, &keep), Err(Refusal::Pinned));
    assert_eq!(frames.statistics(), before, "a refusal changes nothing");
    assert_eq!(frames.home_owner(a), Some(owner(1)));
    frames.unpin(a.frame(3));
    assert_eq!(frames.dissolve(a, &keep), Ok(12));
    assert_eq!(frames.home_owner(a), None);
    assert_eq!(frames.owner(a.frame(7)), Some((owner(1), 7)), "a frame that stays keeps its owner");
    assert_eq!(frames.owner(a.frame(507)), None);
    assert_eq!(frames.statistics().movable, 500);
    (0..500).for_each(|index| frames.free(a.frame(index), 0));

    frames.end_home(b);
    assert_eq!(frames.statistics(), empty);
    frames.check();
}

fn orphans_wait_for_their_last_pin() {
    let frames = pool_of(&[GIB..GIB + 4 * MIB]);
    let empty = frames.statistics();
    let block = frames.allocate_block().unwrap();
    frames.make_home(block, owner(9));
    frames.pin(block.frame(100));
    frames.pin(block.frame(100));
    assert!(frames.is_pinned(block));
    frames.end_home(block);
    assert_eq!((frames.statistics().orphans, frames.statistics().free), (1, empty.free - 1));
    assert_eq!(frames.owner(block.frame(100)), None, "nobody's");
    let taken: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    assert_eq!(taken.len(), empty.free - 1);
    assert!(!taken.contains(&block.frame(100)), "an orphan was handed out");
    frames.unpin(block.frame(100));
    assert_eq!(frames.allocate(0, Class::Movable), None);
    frames.unpin(block.frame(100));
    assert_eq!(frames.allocate(0, Class::Movable), Some(block.frame(100)));

    // The same for a single frame, in the middle of a run that is freed together.
    frames.pin(block.frame(36));
    frames.free(block.frame(32), 3);
    assert_eq!(frames.statistics().free, 7);
    assert_eq!(frames.pins(block.frame(36)), 1);
    frames.unpin(block.frame(36));
    assert_eq!(frames.allocate(3, Class::Movable), Some(block.frame(32)));
    frames.check();
}

fn deferred_homes_queue_up() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    let homes: Vec<Block> = (1..=5)
        .map(|number| {
            let block = frames.allocate_block().unwrap();
            frames.make_home(block, owner(number));
            frames.set_absent(block, 1);
            block
        })
        .collect();
    assert_eq!(frames.oldest_deferred(), None);
    let news = [3, 0, 4, 1, 3, 2].map(|index| frames.defer(homes[index]));
    assert_eq!(news, [true, true, true, true, false, true], "the second time, it keeps its place");
    assert_eq!(frames.statistics().deferred, 5);
    assert_eq!(frames.oldest_deferred(), Some((homes[3], owner(4))));
    frames.set_absent(homes[3], 0);
    frames.undefer(homes[4]);
    frames.undefer(homes[4]);
    assert_eq!(frames.oldest_deferred(), Some((homes[0], owner(1))));
    frames.end_home(homes[0]);
    assert_eq!(frames.oldest_deferred(), Some((homes[1], owner(2))));
    assert_eq!(frames.dissolve(homes[1], &Bits512::EMPTY), Ok(512));
    assert_eq!(frames.oldest_deferred(), Some((homes[2], owner(3))));
    frames.check();
}

fn whole_blocks_are_pinned_at_once() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    let block = frames.allocate_home(owner(1), 0).unwrap().block;
    frames.pin_run(block.frame(0), 512);
    frames.pin_run(block.frame(500), 12);
    frames.pin(block.frame(0));
    assert_eq!([0, 1, 499, 500, 511].map(|index| frames.pins(block.frame(index))), [2, 1, 1, 2, 2]);
    assert_eq!((frames.statistics().pinned, frames.statistics().orphans), (512, 0));
    frames.check();
    frames.unpin_run(block.frame(0), 512);
    assert_eq!(frames.statistics().pinned, 13);
    assert_eq!(frames.dissolve(block, &range(0..1)), Err(Refusal::Pinned));
    let free = frames.statistics().free;
    frames.end_home(block);
    let statistics = frames.statistics();
    assert_eq!((statistics.pinned, statistics.orphans, statistics.free), (13, 13, free + 499));
    let shown = format!("{statistics}");
    assert!(shown.contains("pinned: 52 KiB, of them 52 KiB orphans"), "{shown}");
    frames.check();
    frames.unpin_run(block.frame(500), 12);
    frames.unpin(block.frame(0));
    let statistics = frames.statistics();
    assert_eq!((statistics.pinned, statistics.orphans, statistics.free), (0, 0, free + 512));
    frames.check();
}

/// Pins come and go while another holds the pool's lock: here, a thread that frees something.
fn pins_take_no_lock() {
    let frames = Arc::new(pool_of(&[GIB..GIB + 16 * MIB]));
    let single = frames.allocate(0, Class::Movable).unwrap();
    let home = frames.allocate_home(owner(1), 0).unwrap().block;
    frames.pin(home.frame(7));
    let (others, seen) = (Arc::downgrade(&frames), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    frames.observe_free(Box::new(move |_, _| {
        let Some(frames) = others.upgrade() else { return };
        for frame in [single, home.frame(7), home.frame(8)] {
            frames.pin(frame);
            count.fetch_add(frames.pins(frame) as usize, Ordering::Relaxed);
            frames.unpin(frame);
        }
    }));
    let other = frames.allocate(0, Class::Movable).unwrap();
    frames.free(other, 0);
    assert_eq!(seen.load(Ordering::Relaxed), 4);
    frames.unpin(home.frame(7));
    assert_eq!(frames.statistics().pinned, 0);
    frames.check();
}

/// A home of `owner(number)` with pages in all of `pages`, dissolved.
fn dissolved(frames: &Frames, number: u32, pages: &Bits512) -> Block {
    let block = frames.allocate_home(owner(number), 512 - pages.count()).unwrap().block;
    frames.dissolve(block, pages).unwrap();
    block
}

fn range(range: core::ops::Range<usize>) -> Bits512 {
    let mut bits = Bits512::EMPTY;
    bits.set_range(range);
    bits
}

fn what_is_pinned_and_has_no_page_does_not_keep_a_home() {
    let frames = pool_of(&[GIB..GIB + 16 * MIB]);
    let empty = frames.statistics();
    let block = frames.allocate_home(owner(1), 212).unwrap().block;
    [5, 299, 300, 511].into_iter().for_each(|index| frames.pin(block.frame(index)));
    let before = frames.statistics();
    assert_eq!(frames.dissolve(block, &range(0..300)), Err(Refusal::Pinned));
    assert_eq!(frames.statistics(), before, "a refusal changes nothing");
    [5, 299].into_iter().for_each(|index| frames.unpin(block.frame(index)));
    assert_eq!(frames.dissolve(block, &range(0..300)), Ok(210));
    frames.check();
    let statistics = frames.statistics();
    assert_eq!((statistics.orphans, statistics.movable, statistics.absent), (2, 300, 0));
    assert_eq!(frames.owner(block.frame(511)), None);
    assert_eq!(frames.occupant(block.frame(511)), Occupant::Fixed);
    let runs = [0; 3].map(|_| frames.allocate(6, Class::Movable).unwrap());
    assert_eq!(runs[..2], [320, 384].map(|index| block.frame(index)));
    assert_ne!(runs[2].block(), block, "an orphan is in the last run of it");
    runs.into_iter().for_each(|run| frames.free(run, 6));
    frames.unpin(block.frame(511));
    (0..300).for_each(|index| frames.free(block.frame(index), 0));
    assert_eq!(frames.statistics().free, empty.free - 1);
    frames.unpin(block.frame(300));
    assert_eq!(frames.statistics(), empty);
    frames.check();
}

fn nobody_gets_a_frame_of_an_isolated_block() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    let empty = frames.statistics();
    let block = dissolved(&frames, 1, &range(0..500));
    // One of its frames is in a cache, and comes back for the isolation.
    frames.free(block.frame(3), 0);
    assert!(frames.statistics().cached > 0);
    assert!(frames.isolate(block));
    assert!(!frames.isolate(block), "once");
    frames.check();
    let page = |page| Occupant::Page { owner: owner(1), page, pinned: false };
    assert_eq!([0, 3, 505].map(|index| frames.occupant(block.frame(index))), [page(0), Occupant::Free, Occupant::Free]);
    frames.free_to_pool(block.frame(4));
    let others: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    assert_eq!((frames.statistics().free, frames.statistics().unused()), (14, 14));
    assert!(others.iter().all(|frame| frame.block() != block));
    assert_eq!(frames.allocate(0, Class::Unmovable), None);
    frames.end_isolation(block);
    assert_eq!(
        frames.allocate(0, Class::Unmovable).map(Frame::block),
        Some(block),
        "what is free in it is there again"
    );
    frames.check();
    others.into_iter().for_each(|frame| frames.free(frame, 0));

    // Emptied, it is a free block, but not before the isolation ends.
    assert!(frames.isolate(block));
    for index in (0..512).filter(|&index| frames.occupant(block.frame(index)) != Occupant::Free) {
        frames.free_to_pool(block.frame(index));
    }
    frames.check();
    let blocks: Vec<Block> = core::iter::from_fn(|| frames.allocate_block()).collect();
    assert!(!blocks.contains(&block));
    frames.end_isolation(block);
    assert_eq!(frames.allocate_block(), Some(block));
    frames.check();
    blocks.into_iter().chain([block]).for_each(|block| frames.free_block(block));
    frames.drain_caches();
    assert_eq!(frames.statistics().free_runs, empty.free_runs);
}

fn only_broken_movable_blocks_are_isolated() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    let edge = frames.allocate(0, Class::Unmovable).unwrap();
    assert!(!frames.isolate(edge.block()), "unmovable, with reserved frames");
    let block = frames.allocate_block().unwrap();
    assert!(!frames.isolate(block));
    frames.make_home(block, owner(1));
    assert!(!frames.isolate(block));
    frames.end_home(block);
    assert!(!frames.isolate(block), "cached");
    frames.drain_caches();
    assert!(!frames.isolate(block), "free");
    let frame = frames.allocate(0, Class::Movable).unwrap();
    frames.free(frame, 0);
    assert!(!frames.isolate(frame.block()), "free, as soon as the cache is drained");
    frames.check();
}

fn a_block_becomes_a_home_when_only_its_own_pages_are_in_it() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    let pages = range(100..400);
    let block = dissolved(&frames, 1, &pages);
    let adopt = |number| {
        let before = frames.statistics();
        frames.drain_caches();
        let adopted = frames.adopt(block, owner(number));
        if adopted.is_none() {
            frames.drain_caches();
            assert_eq!(frames.statistics(), before, "a refusal changes nothing");
        }
        frames.check();
        adopted
    };
    let stray =
        core::iter::from_fn(|| frames.allocate(0, Class::Movable)).find(|frame| frame.block() == block).unwrap();
    assert!(frames.isolate(block));
    assert_eq!(adopt(1), None, "nobody's frame");
    frames.set_owner(stray, owner(2), stray.index());
    assert_eq!(adopt(1), None, "another's page");
    frames.set_owner(stray, owner(1), stray.index() ^ 1);
    assert_eq!(adopt(1), None, "a page that is not in its place");
    frames.pin(stray);
    frames.free_to_pool(stray);
    assert_eq!(adopt(1), None, "an orphan");
    frames.unpin(stray);
    assert_eq!(adopt(2), None, "another's pages");
    frames.pin(block.frame(100));
    frames.free(block.frame(399), 0);
    assert_eq!(adopt(1), Some(range(100..399)), "a pin is no obstacle, nor what a cache has");
    assert_eq!((frames.home_owner(block), frames.absent(block)), (Some(owner(1)), Some(213)));
    assert_eq!(frames.oldest_deferred(), Some((block, owner(1))));
    assert!(frames.is_pinned(block));
    assert_eq!(frames.pins(block.frame(100)), 1);
    assert_eq!(frames.dissolve(block, &range(100..399)), Err(Refusal::Pinned));
    frames.unpin(block.frame(100));
    frames.end_home(block);
    frames.check();

    // Full, it has nothing to give, and needs no place in the queue.
    let block = dissolved(&frames, 3, &Bits512::FULL);
    assert!(frames.isolate(block));
    assert_eq!(frames.adopt(block, owner(3)), Some(Bits512::FULL));
    assert_eq!((frames.absent(block), frames.oldest_deferred()), (Some(0), None));
    frames.check();
}

fn what_is_freed_to_the_pool_is_in_no_cache() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    let frame = frames.allocate(0, Class::Movable).unwrap();
    frames.drain_caches();
    let free = frames.statistics().free;
    frames.free_to_pool(frame);
    assert_eq!((frames.statistics().free, frames.statistics().cached), (free + 1, 0));
    frames.check();
}

// The simulated machine's banks are the application's memory.
ashlar_test::expect!("run memory=900M timeout=300");

ashlar_test::tests! {
    homes_count_their_absent_frames_and_end_in_either_way,
    orphans_wait_for_their_last_pin,
    deferred_homes_queue_up,
    whole_blocks_are_pinned_at_once,
    pins_take_no_lock,
    what_is_pinned_and_has_no_page_does_not_keep_a_home,
    nobody_gets_a_frame_of_an_isolated_block,
    only_broken_movable_blocks_are_isolated,
    a_block_becomes_a_home_when_only_its_own_pages_are_in_it,
    what_is_freed_to_the_pool_is_in_no_cache,
}
