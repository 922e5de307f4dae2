//! The fragmenter brings RAM into the states that it names, and gives everything back.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use ashlar_test::fragment::{State, fragment};
use world::{MIB, World};

/// Frames in use, free, pinned, and free blocks, with RAM in `state`; and how many there are in all that could be free.
fn counts(state: State) -> (usize, usize, usize, usize, usize) {
    let world = World::new(64 * MIB, 1, 1);
    world.mm.background_step(0);
    let before = world.mm.frames().statistics();
    let fragments = fragment(&world.mm, state);
    world.check();
    let now = world.mm.frames().statistics();
    let (start, length) = fragments.range();
    assert!(length >= before.unused() * 4096 && world.mm.region(start).is_some());
    fragments.give_back(&world.mm);
    world.check();
    let after = world.mm.frames().statistics();
    // But for tables and records, which stay.
    assert!(after.unused() + 64 >= before.unused() && after.movable == 0 && after.pinned == 0, "{before}\n{after}");
    (now.movable, now.unused(), now.pinned, now.free_blocks(), before.unused())
}

fn a_page_is_held_in_every_block() {
    let (used, free, pinned, blocks, all) = counts(State::Held);
    assert_eq!((blocks, pinned), (0, 0));
    assert!(used >= all / 512 - 1 && used <= all / 512 + 2 && free + used + 64 >= all, "{used} of {all}");
}

fn a_page_is_pinned_in_every_block() {
    let (used, _, pinned, blocks, all) = counts(State::Pinned);
    assert_eq!(blocks, 0);
    assert!(used == pinned && used >= all / 512 - 1, "{pinned} of {all}");
}

fn a_share_is_in_use_at_random() {
    for percent in [50, 90] {
        let (used, _, pinned, blocks, all) = counts(State::Random(percent));
        let share = used * 100 / all;
        assert_eq!((blocks, pinned), (0, 0));
        assert!(share.abs_diff(percent as usize) <= 3, "{share} % of {percent} %");
    }
}

ashlar_test::tests! { a_page_is_held_in_every_block, a_page_is_pinned_in_every_block, a_share_is_in_use_at_random }
