//! The background on one of several simulated cores: its clock, its turns, and what it must not have missed.

#![allow(dead_code, reason = "no test file uses all of it")]

use crate::race::{World, at};
use ashlar::mm::MapRequest;
use ashlar::mm::address::{BLOCK_SIZE, Block, PAGE_SIZE};
use ashlar::mm::huge::{HugePolicy, Rest};
use ashlar::mm::pin::PinRequest;
use shuttle::rand::{Rng, thread_rng};
use std::cell::Cell;

/// The second slot that is mapped, where it is.
pub const OTHER: u64 = 1024;
/// Slots that are never made blocks.
pub const PLAIN: u64 = 4096;

thread_local! {
    /// The background's clock: all cores of a schedule are on one thread.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

/// Maps whole slots from `page` on.
pub fn map(world: &World, page: u64, slots: usize, policy: HugePolicy) {
    world.mm.map(MapRequest::new(slots * BLOCK_SIZE).at(at(page)).policy(policy)).expect("room");
}

/// The block that a page is in.
pub fn block_of(world: &World, page: u64) -> Block {
    world.mm.machine().translate(at(page)).expect("present").frame().block()
}

/// Leaves so many blocks free. Nobody gives the others back.
pub fn take_blocks(world: &World, free: usize) {
    while world.mm.frames().statistics().free_blocks() > free {
        world.mm.frames().allocate_block().expect("it is free");
    }
}

/// Lets the background work until it would sleep, whatever wakes it.
pub fn work_until_asleep(world: &World) -> Rest {
    loop {
        let rest = world.mm.background_step(CLOCK.get());
        if rest != Rest::None {
            return rest;
        }
    }
}

/// Lets the background work until only a signal would wake it.
pub fn background(world: &World) {
    while let Rest::Until(time) = work_until_asleep(world) {
        CLOCK.set(CLOCK.get().max(time));
    }
}

/// Lets the other core come to any point of what it does.
pub fn after_a_while(most: usize) {
    (0..thread_rng().gen_range(0..most)).for_each(|_| shuttle::thread::yield_now());
}

/// What follows a signal has been done, and that was enough: it does not sleep with a candidate and a block for it.
pub fn nothing_was_missed(world: &World) {
    if world.mm.background_signal().take() {
        background(world);
    }
    // Only now: this is heard as well.
    world.mm.frames().drain_caches();
    let free = world.mm.frames().statistics().free_blocks();
    assert!(world.mm.candidates() == 0 || free == 0, "it sleeps, with a candidate and {free} blocks");
}

/// Pins `pages` pages from `page` on, and sees that what a device writes arrives.
pub fn use_pinned(world: &World, page: u64, pages: u64) {
    let pin = world.mm.pin(at(page), pages as usize * PAGE_SIZE, PinRequest::new().write()).expect("mapped");
    let frames: Vec<_> = (world.mm.extents(&pin))
        .flat_map(|extent| (0..extent.end - extent.start).step_by(PAGE_SIZE).map(move |at| extent.start + at))
        .collect();
    assert_eq!(frames.len() as u64, pages);
    for round in 1..3 {
        for (&frame, page) in frames.iter().zip(page..) {
            world.mm.machine().write_physical(frame, &[100 + round]);
            assert_eq!(world.get(page), 100 + round, "the device's write was lost");
            world.put(page, round);
            assert_eq!(world.mm.machine().read_physical(frame, 1), [round], "the application's was");
        }
    }
    world.mm.unpin(pin);
}
