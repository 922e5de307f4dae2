//! Which block becomes the home of a slot that is collapsed: one that holds most of it already, with what others have in it moved
//! out; what comes between.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ashlar::mm::Refusal;
use ashlar::mm::address::{BLOCK_SIZE, Block, Frame, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::{Collapsed, Enabled, Unit};
use ashlar::mm::pin::PinRequest;
use common::set_core;
use world::{MIB, World, assert_filled, copied, fill, give_back, page, scattered, sizes, take_all};

fn world() -> World {
    World::new(32 * MIB, 2, 1)
}

/// As [`world::collapse`], and all is well afterwards.
fn collapse(world: &World, start: VirtAddr) -> Result<Collapsed, Refusal> {
    let result = world::collapse(world, start);
    world.check();
    result
}

/// Blocks of which nothing but single frames is in use.
fn taken_blocks(taken: &[Frame]) -> Vec<Block> {
    let mut blocks = BTreeMap::<u64, usize>::new();
    taken.iter().for_each(|frame| *blocks.entry(frame.block().0).or_default() += 1);
    blocks.into_iter().filter(|(_, frames)| *frames == 512).map(|(block, _)| Block(block)).collect()
}

fn a_block_that_was_dissolved_is_the_home_again() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    let frame = world.mm.machine().translate(start);
    assert_eq!(world.mm.dissolve(start), Ok(0), "no frame was absent");
    world.check();
    assert_eq!((sizes(&world), world.mm.frames().statistics().homes), ((0, 32, 0), 0));
    assert_eq!(collapse(&world, start), Ok(Collapsed::Promoted));
    assert_eq!((world.mm.machine().translate(start), copied(&world)), (frame, 0));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 1);
    assert_filled(&world, start, 0..0);
}

/// A slot whose home was dissolved with a quarter of its frames absent, and other slots' pages in them.
fn with_strangers(world: &World) -> (VirtAddr, VirtAddr) {
    let start = world.map(BLOCK_SIZE);
    fill(world, start);
    let block = world.mm.machine().translate(start).expect("present").frame().block();
    world.mm.release(page(start, 128), 128 * PAGE_SIZE).expect("mapped");
    assert_eq!(world.mm.dissolve(start), Ok(128));
    world.mm.policy().set_enabled(Enabled::Never);
    let other = world.map(BLOCK_SIZE);
    let mut strangers = 0;
    for index in 0..100 {
        world.put(page(other, index), index + 1);
        let at = world.mm.machine().translate(page(other, index)).expect("present");
        strangers += (at.frame().block() == block) as usize;
    }
    assert!(strangers > 50, "the fullest block is used first: {strangers}");
    world.mm.policy().set_enabled(Enabled::Always);
    (start, other)
}

fn others_leave_a_block_that_becomes_a_home() {
    let world = world();
    let (start, other) = with_strangers(&world);
    let before = copied(&world);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 0, filled: 128 }));
    let moved = (copied(&world) - before) / PAGE_SIZE as u64;
    assert!((51..=100).contains(&moved), "only others moved: {moved}");
    assert_eq!(world.mm.counters().collapse_adopt.get(), 1);
    assert_filled(&world, start, 128..256);
    assert!((0..100).all(|index| world.get(page(other, index)) == index + 1));
    world.check();
}

fn a_block_with_a_pinned_stranger_is_no_home() {
    let world = world();
    let (start, other) = with_strangers(&world);
    let pin = world.mm.pin(page(other, 0), 100 * PAGE_SIZE, PinRequest::new()).expect("present");
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 384, filled: 128 }));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 0);
    assert_filled(&world, start, 128..256);
    world.mm.unpin(pin);
    world.check();
}

fn without_a_free_block_one_is_emptied() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    // A page stays in the block, the others lie elsewhere.
    world.mm.dissolve(start).expect("nothing is pinned");
    for index in 1..512 {
        world.mm.migrate(page(start, index), Unit::Page).expect("frames are free");
    }
    world.check();
    let frames = world.mm.frames();
    while frames.allocate_block().is_some() {}
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 511, filled: 0 }));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 1);
    assert_filled(&world, start, 0..0);
}

fn a_deadline_may_pass_after_every_step() {
    let world = world();
    let (start, other) = with_strangers(&world);
    for steps in 0.. {
        let mut left = steps;
        let mut result = None;
        let is_up = || {
            left -= 1;
            left < 0
        };
        world.mm.collapse(start, BLOCK_SIZE, is_up, |_, found| result = Some(found)).expect("a sound range");
        world.check();
        assert_filled(&world, start, 128..256);
        assert!((0..100).all(|index| world.get(page(other, index)) == index + 1));
        match result.expect("a slot is in the range") {
            Err(refusal) => assert_eq!(refusal, Refusal::Deadline),
            Ok(_) => break,
        }
        // What was done so far is put back, so that the next attempt meets all steps again.
        if !world.mm.is_huge(start) {
            world.mm.release(page(start, 128), 128 * PAGE_SIZE).expect("mapped");
            let _ = world.mm.dissolve(start);
        }
    }
    assert!(world.mm.is_huge(start));
    assert!(world.mm.counters().refused_deadline.get() > 10);
}

/// Collapses the slot at `start` until so many pages have moved since boot.
fn collapse_until(world: &World, start: VirtAddr, pages: u64) {
    let is_up = || world.mm.counters().migrate_pages.get() >= pages;
    world.mm.collapse(start, BLOCK_SIZE, is_up, |_, result| assert_eq!(result, Err(Refusal::Deadline))).expect("sound");
    world.check();
}

/// A slot whose first three groups are in a broken block at their own offsets, all else elsewhere.
fn with_three_groups_in_place(world: &World) -> VirtAddr {
    let start = scattered(world);
    collapse_until(world, start, 48);
    assert_eq!(world.mm.dissolve(start), Ok(464));
    start
}

fn pins_in_two_blocks_refuse_before_anything_is_copied() {
    let world = world();
    let start = with_three_groups_in_place(&world);
    // Two of them come to another block.
    collapse_until(&world, start, 80);
    assert_eq!(world.mm.dissolve(start), Ok(480));
    let pin_at = |index| world.mm.pin(page(start, index), 1, PinRequest::new()).expect("present");
    let pins = [pin_at(16), pin_at(32)];
    let before = copied(&world);
    assert_eq!(collapse(&world, start), Err(Refusal::Pinned));
    assert_eq!(copied(&world), before);
    let [first, second] = pins;
    world.mm.unpin(first);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 496, filled: 0 }), "where the other one is");
    world.mm.unpin(second);
    assert_filled(&world, start, 0..0);
}

fn a_few_pages_in_place_are_copied_while_blocks_are_free() {
    let world = world();
    let start = with_three_groups_in_place(&world);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 512, filled: 0 }));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 0);
    assert_filled(&world, start, 0..0);
}

/// Pages lie in more blocks than are counted, and most of them in the last.
fn the_block_with_most_pages_is_found_among_many() {
    let world = world();
    let start = scattered(&world);
    let (mm, frames) = (&world.mm, world.mm.frames());
    let mut taken = take_all(&world);
    let blocks = taken_blocks(&taken);
    // A page moves to the only frame that is free, and leaves the next one that is.
    let mut move_to = |index: u64, frame: Frame| {
        taken.retain(|&other| other != frame);
        frames.free(frame, 0);
        mm.migrate(page(start, index), Unit::Page).expect("a frame is free");
        assert_eq!(mm.machine().translate(page(start, index)), Some(frame.start()));
        taken.extend(take_all(&world));
    };
    (0..9).for_each(|index| move_to(index, blocks[index as usize].frame(index as usize)));
    (9..109).for_each(|index| move_to(index, blocks[9].frame(index as usize)));
    give_back(&world, taken);
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 412, filled: 0 }));
    assert_eq!(mm.machine().translate(start), Some(blocks[9].frame(0).start()));
    assert_filled(&world, start, 0..0);
}

fn a_block_that_holds_more_of_others_is_no_home_while_blocks_are_free() {
    let world = world();
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    world.mm.release(start, 400 * PAGE_SIZE).expect("mapped");
    assert_eq!(world.mm.dissolve(start), Ok(400));
    world.mm.policy().set_enabled(Enabled::Never);
    let other = world.map(BLOCK_SIZE);
    (0..400).for_each(|index| world.put(page(other, index), index + 1));
    assert_eq!(collapse(&world, start), Ok(Collapsed::Copied { pages: 112, filled: 400 }));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 0);
    assert_filled(&world, start, 0..400);
}

/// Collapses the slot at `start`, and does something once when so many pages have moved since boot.
fn collapse_and(world: &World, start: VirtAddr, pages: u64, interlude: impl FnOnce()) -> Result<Collapsed, Refusal> {
    let mut interlude = Some(interlude);
    let is_up = || {
        if world.mm.counters().migrate_pages.get() >= pages
            && let Some(interlude) = interlude.take()
        {
            interlude();
        }
        false
    };
    let mut found = Err(Refusal::Busy);
    world.mm.collapse(start, BLOCK_SIZE, is_up, |_, result| found = result).expect("a sound range");
    world.check();
    assert!(interlude.is_none(), "it came to that");
    found
}

fn others_do_not_move_to_what_becomes_free_meanwhile() {
    let world = world();
    let (start, other) = with_strangers(&world);
    let interlude = || world.mm.release(start, PAGE_SIZE).expect("mapped");
    assert_eq!(collapse_and(&world, start, 5, interlude), Ok(Collapsed::Copied { pages: 0, filled: 129 }));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 1);
    assert!((0..100).all(|index| world.get(page(other, index)) == index + 1));
}

fn what_becomes_free_meanwhile_on_another_core_is_a_part_of_the_home() {
    let world = world();
    let (start, _) = with_strangers(&world);
    let interlude = || {
        set_core(1);
        world.mm.release(start, PAGE_SIZE).expect("mapped");
        set_core(0);
    };
    assert_eq!(collapse_and(&world, start, 5, interlude), Ok(Collapsed::Copied { pages: 0, filled: 129 }));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 1);
}

fn others_that_are_pinned_meanwhile_stay() {
    let world = world();
    let (start, other) = with_strangers(&world);
    let mut pin = None;
    let interlude = || pin = world.mm.pin(other, 100 * PAGE_SIZE, PinRequest::new()).ok();
    assert_eq!(collapse_and(&world, start, 5, interlude), Ok(Collapsed::Copied { pages: 384, filled: 128 }));
    assert_eq!(world.mm.counters().collapse_adopt.get(), 0);
    world.mm.unpin(pin.expect("present"));
    assert!((0..100).all(|index| world.get(page(other, index)) == index + 1));
    world.check();
}

fn a_home_that_the_slot_got_meanwhile_is_its_home() {
    let world = world();
    let (start, _) = with_strangers(&world);
    let interlude = || {
        let moved = world.mm.counters().migrate_pages.get();
        collapse_until(&world, start, moved + 16);
    };
    assert_eq!(collapse_and(&world, start, 5, interlude), Ok(Collapsed::Copied { pages: 368, filled: 128 }));
    assert_eq!((world.mm.counters().collapse_adopt.get(), world.mm.frames().statistics().homes), (0, 1));
    assert_filled(&world, start, 128..256);
}

fn a_deadline_during_an_evacuation_gives_the_block_back() {
    let world = world();
    let (start, other) = with_strangers(&world);
    collapse_until(&world, start, 10);
    assert_eq!(world.mm.counters().migrate_pages.get(), 10);
    let taken = take_all(&world);
    assert_eq!(world.mm.frames().statistics().free, 0, "what became free can be had");
    give_back(&world, taken);
    assert_filled(&world, start, 128..256);
    assert!((0..100).all(|index| world.get(page(other, index)) == index + 1));
}

ashlar_test::tests! {
    a_block_that_was_dissolved_is_the_home_again,
    others_leave_a_block_that_becomes_a_home,
    a_block_with_a_pinned_stranger_is_no_home,
    without_a_free_block_one_is_emptied,
    a_deadline_may_pass_after_every_step,
    what_becomes_free_meanwhile_on_another_core_is_a_part_of_the_home,
    pins_in_two_blocks_refuse_before_anything_is_copied,
    the_block_with_most_pages_is_found_among_many,
    others_do_not_move_to_what_becomes_free_meanwhile,
    others_that_are_pinned_meanwhile_stay,
    a_home_that_the_slot_got_meanwhile_is_its_home,
    a_few_pages_in_place_are_copied_while_blocks_are_free,
    a_block_that_holds_more_of_others_is_no_home_while_blocks_are_free,
    a_deadline_during_an_evacuation_gives_the_block_back,
}
