//! What cores keep of frames for themselves, the pool of zeroed blocks, and many cores at once.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::single_range_in_vec_init, reason = "a machine with one bank of RAM")]

extern crate alloc;

mod common;
#[path = "common/frame_setup.rs"]
mod frame_setup;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ashlar::mm::Refusal;
use ashlar::mm::address::{Block, Frame};
use ashlar::mm::bits::Bits512;
use ashlar::mm::frame::{CacheLimits, Class, Home};
use ashlar::mm::mmu::Mmu;
use core::sync::atomic::{AtomicUsize, Ordering};
use frame_setup::{CACHED, GIB, MIB, owner, setup};

/// Every core's cache holds something of everything; one core then wants all there is.
fn exhaustion_finds_what_other_cores_cached() {
    let all = |order: Option<u32>| {
        let frames = setup(&[GIB..GIB + 32 * MIB]);
        frames.set_cache_limits(CACHED);
        let (empty, taken) = (frames.statistics(), || frames.allocate(0, Class::Movable).unwrap());
        for core in 0..4 {
            common::set_core(core);
            let singles: Vec<Frame> = (0..5).map(|_| taken()).collect();
            let table = frames.allocate(0, Class::Unmovable).unwrap();
            let group = frames.allocate(4, Class::Movable).unwrap();
            let block = frames.allocate_block().unwrap();
            singles.into_iter().for_each(|frame| frames.free(frame, 0));
            frames.free(table, 0);
            frames.free(group, 4);
            frames.free_block(block);
        }
        frames.check();
        let statistics = frames.statistics();
        let blocks = statistics.cached_blocks;
        assert!(statistics.cached > 512 * blocks + 16 && blocks >= 1, "{statistics}");
        assert_eq!(statistics.unused(), empty.free);
        assert_eq!((statistics.movable, statistics.unmovable, statistics.whole), (0, 0, 0), "nobody uses any");
        common::set_core(5);
        let found = match order {
            Some(order) => core::iter::from_fn(|| frames.allocate(order, Class::Movable)).count() << order,
            None => 512 * core::iter::from_fn(|| frames.allocate_block()).count(),
        };
        let runs = |order: usize| (order..19).map(|run| (empty.free_runs[run] as usize) << run).sum::<usize>();
        assert_eq!(found, runs(order.unwrap_or(9) as usize), "order {order:?}");
        frames.check();
        common::set_core(0);
    };
    [None, Some(8), Some(4), Some(3), Some(0)].into_iter().for_each(all);
}

/// Nothing is found in vain twice, and nothing that is freed meanwhile is overlooked.
fn what_is_freed_ends_a_scarcity() {
    for limits in [CACHED, CacheLimits::NONE] {
        let frames = setup(&[GIB..GIB + 16 * MIB]);
        frames.set_cache_limits(limits);
        let blocks: Vec<Block> = core::iter::from_fn(|| frames.allocate_block()).collect();
        let mut singles: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0, Class::Unmovable)).collect();
        let nothing = || {
            assert_eq!((frames.allocate(0, Class::Movable), frames.allocate(4, Class::Movable)), (None, None));
            assert_eq!((frames.allocate_block(), frames.allocate_home(owner(1), 0)), (None, None));
        };
        nothing();
        common::set_core(3);
        frames.free(singles.pop().unwrap(), 0);
        common::set_core(0);
        assert_eq!((frames.allocate_block(), frames.allocate(1, Class::Movable)), (None, None));
        singles.extend(frames.allocate(0, Class::Movable));
        nothing();
        frames.free_block(blocks[0]);
        assert_eq!(frames.allocate(8, Class::Unmovable), Some(blocks[0].frame(0)));
        frames.free(blocks[0].frame(0), 8);
        assert_eq!(frames.allocate_block(), Some(blocks[0]));
        frames.make_home(blocks[0], owner(7));
        nothing();
        assert_eq!(frames.dissolve(blocks[0], &Bits512::EMPTY), Ok(512));
        assert_eq!(frames.allocate_home(owner(2), 0), Some(Home { block: blocks[0], zeroed: false }));
        nothing();
        frames.put_zeroed(blocks[1]);
        assert_eq!(frames.allocate_home(owner(3), 0), Some(Home { block: blocks[1], zeroed: true }));
        frames.pin(blocks[2].frame(9));
        frames.free_block(blocks[2]);
        (0..511).for_each(|_| assert!(frames.allocate(0, Class::Movable).is_some()));
        nothing();
        frames.unpin(blocks[2].frame(9));
        assert_eq!(frames.allocate(0, Class::Unmovable), Some(blocks[2].frame(9)));
        frames.check();
        assert_eq!(
            singles.len() + 512 * (blocks.len() - 3) + 512 + 1024,
            frames.statistics().total - frames.statistics().metadata
        );
    }
}

/// What one core freed is its own to take again, and takes the pool's lock neither way.
#[cfg(not(target_os = "none"))]
fn caches_spare_the_lock() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    let block = frames.allocate_home(owner(1), 496).unwrap().block;
    let (frame, group) = (frames.allocate(0, Class::Unmovable).unwrap(), frames.allocate(4, Class::Movable).unwrap());
    let takes = |operation: &dyn Fn()| common::locks(operation);
    assert_eq!(takes(&|| frames.free(frame, 0)), 1);
    assert_eq!(takes(&|| assert_eq!(frames.allocate(0, Class::Unmovable), Some(frame))), 1);
    assert_eq!(takes(&|| frames.free(group, 4)), 1);
    assert_eq!(takes(&|| assert_eq!(frames.allocate(4, Class::Movable), Some(group))), 1);
    // What belongs to one slot takes no lock at all, but for the first and the last that the deferred queue hears of it.
    assert_eq!(takes(&|| frames.set_absent(block, 17)), 0);
    assert_eq!(takes(&|| assert_eq!(frames.absent(block), Some(17))), 0);
    assert_eq!(takes(&|| assert!(!frames.defer(block))), 0);
    assert_eq!(takes(&|| frames.set_owners(group, 16, owner(1), 32)), 0);
    assert_eq!(takes(&|| assert_eq!(frames.owner(group + 3), Some((owner(1), 35)))), 0);
    assert_eq!(takes(&|| assert_eq!(frames.owner(block.frame(3)), Some((owner(1), 3)))), 0);
    assert_eq!(takes(&|| assert!(!frames.is_pinned(block))), 0);
    assert_eq!(takes(&|| frames.set_absent(block, 0)), 1);
    assert_eq!(takes(&|| frames.set_absent(block, 0)), 0);
    assert_eq!(takes(&|| frames.end_home(block)), 1);
    assert_eq!(takes(&|| assert_eq!(frames.allocate_home(owner(2), 496).unwrap().block, block)), 1);
    frames.check();
}

/// The queue learns of homes late, and of those that left it never.
fn homes_leave_the_queue_before_they_came_to_it() {
    let frames = setup(&[GIB..GIB + 128 * MIB]);
    let homes: Vec<Block> = (1..=40).map(|number| frames.allocate_home(owner(number), 500).unwrap().block).collect();
    assert_eq!(frames.statistics().deferred, 40);
    common::set_core(1);
    frames.set_absent(homes[39], 0);
    frames.undefer(homes[0]);
    frames.end_home(homes[38]);
    assert_eq!(frames.dissolve(homes[37], &Bits512::EMPTY), Ok(512));
    frames.pin(homes[36].frame(0));
    assert_eq!(frames.dissolve(homes[36], &Bits512::FULL), Err(Refusal::Pinned));
    frames.check();
    assert_eq!(frames.statistics().deferred, 36);
    for number in 2..=37 {
        let home = homes[number - 1];
        assert_eq!(frames.oldest_deferred(), Some((home, owner(number as u32))));
        frames.undefer(home);
    }
    assert_eq!(frames.oldest_deferred(), None);
    assert!(frames.defer(homes[1]));
    common::set_core(2);
    assert!(frames.defer(homes[2]));
    frames.requeue(homes[1]);
    assert_eq!(frames.oldest_deferred(), Some((homes[2], owner(3))));
    frames.check();
    common::set_core(0);
}

/// Who holds a home's slot never sees it out of the queue while somebody moves it to the queue's end.
#[cfg(not(target_os = "none"))]
fn a_home_that_is_requeued_is_deferred_all_the_while() {
    let frames = setup(&[GIB..GIB + 64 * MIB]);
    let home = frames.allocate_home(owner(1), 500).unwrap().block;
    assert!(frames.oldest_deferred().is_some());
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..3_000_000).for_each(|_| frames.requeue(home));
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(frames.is_deferred(home));
        }
    });
    frames.check();
}

fn zeroed_blocks_are_for_those_who_ask() {
    let frames = setup(&[GIB..GIB + 64 * MIB]);
    let empty = frames.statistics();
    assert_eq!(frames.allocate_zeroed_home(owner(1)), None);
    let fill = || {
        while let Some(block) = frames.take_unzeroed() {
            frames.machine.zero(block.frame(0), 512);
            frames.put_zeroed(block);
        }
    };
    fill();
    assert_eq!(frames.zeroed(), 2, "1/16 of 32 blocks");
    frames.set_zeroed_mark(1000);
    fill();
    let statistics = frames.statistics();
    assert_eq!(frames.zeroed(), 27, "1/8 of RAM stays free");
    assert_eq!(statistics.unused(), empty.unused());
    assert_eq!((statistics.free_blocks(), statistics.zeroed), (31, 27 * 512));
    frames.check();

    let first = frames.allocate_zeroed_home(owner(1)).unwrap();
    assert!(frames.machine.is_zero(first.frame(77)));
    assert_eq!((frames.home_owner(first), frames.absent(first), frames.zeroed()), (Some(owner(1)), Some(0), 26));
    frames.return_zeroed_home(first);
    assert_eq!((frames.home_owner(first), frames.zeroed()), (None, 27));
    // Others leave them alone while there is something else.
    let others: Vec<Home> = (0..4).map(|_| frames.allocate_home(owner(2), 496).unwrap()).collect();
    assert!(others.iter().all(|home| !home.zeroed));
    assert_eq!(frames.zeroed(), 27);
    let home = frames.allocate_home(owner(3), 496).unwrap();
    assert!(home.zeroed && frames.machine.is_zero(home.block.frame(200)));
    assert_eq!(frames.allocate_zeroed_home(owner(4)).map(|block| frames.absent(block)), Some(Some(0)));
    // Frames that find no others are taken from them, before they spill into blocks of the other class.
    let table = core::iter::from_fn(|| frames.allocate(0, Class::Unmovable)).take(1024).last();
    let group = frames.allocate(4, Class::Movable).unwrap();
    assert_ne!(table.map(Frame::block), Some(group.block()));
    assert_eq!((frames.statistics().movable_spills, frames.statistics().unmovable_spills), (0, 0));
    let zeroed = frames.zeroed();
    assert!((20..25).contains(&zeroed), "{zeroed}");
    assert_eq!(core::iter::from_fn(|| frames.allocate_block()).count(), zeroed);
    assert_eq!(frames.allocate_zeroed_home(owner(5)), None);
    assert_eq!(frames.take_unzeroed(), None);
    frames.check();
}

fn failures_come_when_asked_for_and_freed_frames_are_seen() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.fail_after(2);
    let block = frames.allocate_block().unwrap();
    assert_eq!(frames.allocate(0, Class::Movable), None);
    assert!(!frames.fail_never(), "it has happened");
    let frame = frames.allocate(4, Class::Movable).unwrap();
    frames.fail_after(1);
    assert_eq!(frames.allocate_block(), None);
    frames.fail_after(1);
    assert!(frames.fail_never(), "it had yet to happen");

    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    frames.observe_free(Box::new(move |_, frames| {
        count.fetch_add(frames, Ordering::Relaxed);
    }));
    frames.pin(frame);
    frames.free(frame, 4);
    assert_eq!(seen.load(Ordering::Relaxed), 15);
    frames.unpin(frame);
    assert_eq!(seen.load(Ordering::Relaxed), 16);
    frames.make_home(block, owner(1));
    let mut keep = Bits512::EMPTY;
    keep.set_range(100..200);
    frames.dissolve(block, &keep).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 16 + 412);
}

fn users_are_watched_and_fail_and_caches_do_not() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    frames.fail_after(5);
    let singles: Vec<Option<Frame>> = (0..6).map(|_| frames.allocate(0, Class::Movable)).collect();
    let failed: Vec<usize> = (0..6).filter(|&index| singles[index].is_none()).collect();
    assert_eq!(failed, [4], "what the cache took does not count");
    frames.fail_after(2);
    assert!(frames.allocate_home(owner(1), 0).is_some());
    assert_eq!(frames.allocate_zeroed_home(owner(2)), None);
    assert!(!frames.fail_never());

    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    frames.observe_free(Box::new(move |_, frames| {
        count.fetch_add(frames, Ordering::Relaxed);
    }));
    let seen = || seen.swap(0, Ordering::Relaxed);
    singles.into_iter().flatten().for_each(|frame| frames.free(frame, 0));
    assert_eq!(seen(), 5);
    let group = frames.allocate(4, Class::Movable).unwrap();
    frames.free(group, 4);
    assert_eq!(seen(), 16);
    let block = frames.allocate_block().unwrap();
    frames.free_block(block);
    assert_eq!(seen(), 512);
    assert!(frames.statistics().cached > 512);
    frames.drain_caches();
    assert_eq!((seen(), frames.statistics().cached), (0, 0), "nobody frees what is free");
    frames.set_zeroed_mark(1);
    let block = frames.take_unzeroed().unwrap();
    frames.put_zeroed(block);
    assert_eq!(seen(), 512);
    while frames.allocate(0, Class::Movable).is_some() {}
    assert_eq!((seen(), frames.zeroed()), (0, 0));
}

/// Several cores take and give back at once, and threads move between them; nobody gets what another has.
#[cfg(not(target_os = "none"))]
fn shared_use() {
    for limits in [CACHED, CacheLimits::NONE] {
        share(limits);
    }
}

#[cfg(not(target_os = "none"))]
fn share(limits: CacheLimits) {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(limits);
    frames.set_zeroed_mark(3);
    // Others run while a thread is in the middle of a free, with whatever lock it should have.
    frames.observe_free(Box::new(|_, _| std::thread::yield_now()));
    let before = frames.statistics();
    let taken: Vec<AtomicUsize> = (0..4096).map(|_| AtomicUsize::new(0)).collect();
    let swap = |frame: Frame, count: u64, from: usize, to: usize| {
        for frame in frame.0..frame.0 + count {
            let holder =
                taken[(frame - GIB / ashlar::mm::address::PAGE_SIZE as u64) as usize].swap(to, Ordering::Relaxed);
            assert_eq!(holder, from, "{:?} is in two hands", Frame(frame));
        }
    };
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let (frames, swap) = (&frames, &swap);
            scope.spawn(move || {
                let caches = limits != CacheLimits::NONE;
                if caches {
                    common::yield_at_locks();
                }
                let mut random = common::Random::new(thread as u64);
                let mut mine = Vec::new();
                let give = |frame: Frame, order: u32, back: u64| {
                    swap(frame, 1 << order, thread, 0);
                    match (order, back) {
                        (9, 0) => frames.put_zeroed(frame.block()),
                        (9, _) => frames.free_block(frame.block()),
                        _ => frames.free(frame, order),
                    }
                };
                for _ in 0..5000 {
                    // Without caches all meet in the pool, and nowhere before.
                    common::set_core(if caches { random.index(2) } else { thread });
                    if random.index(2) == 0 || mine.is_empty() {
                        let order = [0, 0, 0, 4, 4, 9, random.index(9) as u32][random.index(7)];
                        let frame = match (order, random.index(4)) {
                            (9, 0) => frames.take_unzeroed().map(|block| block.frame(0)),
                            (9, 1) => frames.allocate_zeroed_home(owner(thread as u32)).map(|block| block.frame(0)),
                            (9, 2) => frames.allocate_home(owner(thread as u32), 9).map(|home| home.block.frame(0)),
                            (9, _) => frames.allocate_block().map(|block| block.frame(0)),
                            (_, 0) => frames.allocate(order, Class::Unmovable),
                            _ => frames.allocate(order, Class::Movable),
                        };
                        let Some(frame) = frame else { continue };
                        swap(frame, 1 << order, 0, thread);
                        mine.push((frame, order));
                    } else {
                        let (frame, order) = mine.swap_remove(random.index(mine.len()));
                        if order == 9 && frames.home_owner(frame.block()).is_some() {
                            frames.set_absent(frame.block(), random.index(2) * 100);
                            swap(frame, 512, thread, 0);
                            frames.end_home(frame.block());
                            continue;
                        }
                        give(frame, order, random.below(3));
                    }
                    if random.index(200) == 0 {
                        let statistics = frames.statistics();
                        assert_eq!(statistics.sum(), statistics.total);
                        _ = frames.oldest_deferred();
                    }
                }
                for (frame, order) in mine {
                    if order == 9 && frames.home_owner(frame.block()).is_some() {
                        swap(frame, 512, thread, 0);
                        frames.end_home(frame.block());
                    } else {
                        give(frame, order, 0);
                    }
                }
            });
        }
    });
    frames.check();
    assert_eq!(frames.statistics().unused(), before.unused());
    while let Some(block) = frames.allocate_zeroed_home(owner(1)) {
        frames.end_home(block);
    }
    frames.drain_caches();
    let after = frames.statistics();
    assert_eq!((after.free, after.free_runs), (before.free, before.free_runs));
}

/// One frame is left and two want it; one frees what the other then must get.
#[cfg(not(target_os = "none"))]
fn the_last_frame_is_found_by_whoever_wants_it() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    let singles: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    // With as many free frames as takers, each of whom holds one at most, nobody is ever refused.
    singles[..3].iter().for_each(|&frame| frames.free(frame, 0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let frames = &frames;
            scope.spawn(move || {
                let mut random = common::Random::new(thread);
                for step in 0..20_000 {
                    // Now all want one cache, now what another has.
                    common::set_core(if step % 1000 < 900 { 0 } else { random.index(4) });
                    let frame = frames.allocate(0, Class::Movable).expect("there is a frame for each");
                    frames.free(frame, 0);
                }
            });
        }
    });
    frames.check();
}

// The simulated machine's banks are the application's memory.
ashlar_test::expect!("run memory=900M timeout=300");

ashlar_test::tests! {
    homes_leave_the_queue_before_they_came_to_it,
    #[cfg(not(target_os = "none"))]
    a_home_that_is_requeued_is_deferred_all_the_while,
    exhaustion_finds_what_other_cores_cached,
    what_is_freed_ends_a_scarcity,
    #[cfg(not(target_os = "none"))]
    caches_spare_the_lock,
    zeroed_blocks_are_for_those_who_ask,
    users_are_watched_and_fail_and_caches_do_not,
    failures_come_when_asked_for_and_freed_frames_are_seen,
    #[cfg(not(target_os = "none"))]
    shared_use,
    #[cfg(not(target_os = "none"))]
    the_last_frame_is_found_by_whoever_wants_it,
}
