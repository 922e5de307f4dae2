//! What is done for huge pages in the background: which slots become blocks, when, in what order, and what is left alone.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::string::ToString;
use alloc::vec::Vec;
use ashlar::mm::MapRequest;
use ashlar::mm::address::{BLOCK_SIZE, Block, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::{Defrag, Enabled, HugePolicy, Rest};
use ashlar::mm::pin::PinRequest;
use ashlar::mm::pressure::Stalls;
use ashlar_test::fragment::{Fragments, State, fragment};
use world::{MIB, World, assert_filled, copied, fill, page};

/// A millisecond, in the background's unit of time.
const MS: u64 = 1_000_000;

/// A world in which the background is at rest.
fn world(ram: usize) -> World {
    let world = World::new(ram, 2, 1);
    rest(&world, 0);
    world
}

/// Lets the background work from time `now` on, each step checked, until it rests for a second or for good. Returns the time by then.
fn rest(world: &World, mut now: u64) -> u64 {
    loop {
        let next = world.mm.background_step(now);
        world.check();
        match next {
            Rest::None => {}
            Rest::Until(at) if at < now + 1000 * MS => now = now.max(at),
            Rest::Until(_) | Rest::Wait => return now,
        }
    }
}

/// A world of which RAM is in `state`, and a slot that was filled then.
fn fallen_back(ram: usize, state: State) -> (World, Fragments, VirtAddr) {
    let world = world(ram);
    let fragments = fragment(&world.mm, state);
    assert_eq!(world.mm.frames().statistics().free_blocks(), 0);
    let start = world.map(BLOCK_SIZE);
    fill(&world, start);
    assert!(!world.mm.is_huge(start));
    assert!(world.mm.background_signal().take(), "there is a candidate");
    (world, fragments, start)
}

fn a_slot_without_a_block_becomes_one_when_there_is_one() {
    let (world, fragments, start) = fallen_back(16 * MIB, State::Pinned);
    let now = rest(&world, 0);
    assert!(!world.mm.is_huge(start), "no block can be had");
    assert_eq!(world.mm.candidates(), 1);
    world.mm.background_signal().take();
    fragments.give_back(&world.mm);
    assert!(world.mm.background_signal().take(), "a block is free");
    rest(&world, now);
    assert!(world.mm.is_huge(start));
    assert_filled(&world, start, 0..0);
    let counters = world.mm.counters();
    assert_eq!((world.mm.candidates(), counters.khugepaged_collapsed.get()), (0, 1));
}

/// A slot that is used little lets others go first; once it is used by half, it waits as they do.
fn a_slot_is_a_candidate_again_when_it_is_used_more() {
    let world = world(16 * MIB);
    let fragments = fragment(&world.mm, State::Pinned);
    let start = world.map(BLOCK_SIZE);
    world.put(start, 1);
    assert_eq!(world.mm.candidates(), 1);
    let now = rest(&world, 0);
    assert_eq!(world.mm.candidates(), 0, "it has little of a block");
    // All but one in 64: no more than may be filled.
    (0..512).filter(|index| index % 64 != 5).for_each(|index| world.put(page(start, index), index + 1));
    assert_eq!(world.mm.candidates(), 1);
    let now = rest(&world, now);
    fragments.give_back(&world.mm);
    rest(&world, now);
    assert!(world.mm.is_huge(start));
    (0..512).for_each(|index| assert_eq!(world.get(page(start, index)), if index % 64 == 5 { 0 } else { index + 1 }));
}

fn without_a_cause_nothing_is_done() {
    let world = world(16 * MIB);
    assert_eq!(world.mm.background_step(0), Rest::Wait);
    let start = world.map(4 * BLOCK_SIZE);
    fill(&world, start);
    world.mm.unmap(start, BLOCK_SIZE).expect("mapped");
    world.mm.release(start + BLOCK_SIZE as u64, PAGE_SIZE).expect("mapped");
    assert!(!world.mm.background_signal().take(), "nobody lacked a block");
    assert_eq!(world.mm.background_step(1), Rest::Wait);
    // It may be switched off.
    let (world, fragments, start) = fallen_back(16 * MIB, State::Held);
    world.mm.policy().set_khugepaged(false);
    fragments.give_back(&world.mm);
    assert_eq!(world.mm.background_step(2), Rest::Wait);
    assert!(!world.mm.is_huge(start) && world.mm.candidates() == 1);
    world.mm.policy().set_khugepaged(true);
    rest(&world, 3);
    assert!(world.mm.is_huge(start));
}

/// A slot of pages in a region that has just been allowed blocks: all but those in `holes` were touched.
fn with_holes(world: &World, holes: core::ops::Range<u64>) -> VirtAddr {
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    (0..512).filter(|index| !holes.contains(index)).for_each(|index| world.put(page(start, index), index + 1));
    world.mm.policy().set_enabled(Enabled::Always);
    world.mm.advise(start, BLOCK_SIZE, HugePolicy::Default).expect("mapped");
    start
}

fn no_more_is_filled_than_the_policy_allows() {
    for (limit, holes, huge) in [(64, 64, true), (64, 65, false), (0, 0, true), (0, 1, false), (511, 511, true)] {
        let world = world(16 * MIB);
        world.mm.policy().set_max_ptes_none(limit);
        let start = with_holes(&world, 0..holes);
        rest(&world, 0);
        assert_eq!(world.mm.is_huge(start), huge, "{holes} of {limit}");
        (0..512).for_each(|index| {
            let expected = if index < holes { 0 } else { index + 1 };
            if huge || index >= holes {
                assert_eq!(world.get(page(start, index)), expected);
            }
        });
        assert_eq!(world.mm.counters().thp_scan_exceed_none_pte.get(), u64::from(!huge));
        // Its pages came home all the same: when the rest is touched, it is a block without a copy.
        let before = copied(&world);
        (0..512).for_each(|index| world.put(page(start, index), index));
        assert!(world.mm.is_huge(start));
        assert_eq!(copied(&world), before);
        world.check();
    }
}

fn what_was_released_is_not_refilled() {
    let world = world(16 * MIB);
    world.mm.policy().set_max_ptes_none(511);
    let start = with_holes(&world, 0..0);
    world.mm.release(page(start, 7), PAGE_SIZE).expect("mapped");
    rest(&world, 0);
    assert!(!world.mm.is_huge(start));
    assert_eq!(world.mm.counters().refused_released.get(), 1);
    assert_eq!(world.mm.usage().mapped_bytes(), BLOCK_SIZE - PAGE_SIZE);
    // Nor what is released of a block.
    world.put(page(start, 7), 1);
    assert!(world.mm.is_huge(start));
    world.mm.release(page(start, 9), PAGE_SIZE).expect("mapped");
    world.mm.reconsider();
    rest(&world, 0);
    assert!(!world.mm.is_huge(start));
    assert_eq!(world.mm.usage().mapped_bytes(), BLOCK_SIZE - PAGE_SIZE);
}

/// `count` slots of pages, candidates; every free block is taken, and few frames are free to empty another.
fn waiting(world: &World, count: usize) -> (Vec<VirtAddr>, Vec<Block>) {
    world.mm.policy().set_enabled(Enabled::Never);
    let slots: Vec<_> = (0..count).map(|_| world.map(BLOCK_SIZE)).collect();
    // Backwards, so that no page is where it would be in a block.
    slots.iter().for_each(|&start| (0..512).rev().for_each(|index| world.put(page(start, index), 0)));
    slots.iter().for_each(|&start| fill(world, start));
    let blocks = core::iter::from_fn(|| world.mm.frames().allocate_block()).collect();
    // The rest is in pages of another region.
    let rest = world.map(8 * MIB);
    let free = || world.mm.frames().statistics().unused();
    // Too little for anything, and not so little that memory is low.
    let (_, high) = world.mm.frames().watermarks();
    (0..2048).take_while(|_| free() > high).for_each(|index| world.put(page(rest, index), 1));
    world.mm.policy().set_enabled(Enabled::Always);
    slots.iter().for_each(|&start| world.mm.advise(start, BLOCK_SIZE, HugePolicy::Default).expect("mapped"));
    (slots, blocks)
}

fn the_hottest_comes_first() {
    for hot in 0..4 {
        let world = world(24 * MIB);
        let (slots, mut blocks) = waiting(&world, 4);
        let mut now = rest(&world, 0);
        world.mm.background_signal().take();
        world.mm.frames().free_block(blocks.pop().expect("several"));
        assert!(world.mm.background_signal().take(), "a block is free, and wanted");
        now += 100 * MS;
        // Samples are taken, and while they are, one slot is used.
        let Rest::Until(sampled) = world.mm.background_step(now) else { panic!("it decided at once") };
        assert_eq!(slots.iter().filter(|&&slot| world.mm.is_huge(slot)).count(), 0);
        assert_filled(&world, slots[hot], 0..0);
        assert!(world.mm.counters().access_flag_fault.get() > 0);
        while !slots.iter().any(|&slot| world.mm.is_huge(slot)) {
            assert_eq!(world.mm.background_step(sampled), Rest::None);
        }
        assert!(world.mm.is_huge(slots[hot]), "the one that was used is first");
        // What it leaves is room for the next one.
        rest(&world, sampled);
        assert!(slots.iter().all(|&slot| world.mm.is_huge(slot)));
        slots.iter().for_each(|&slot| assert_filled(&world, slot, 0..0));
        let counters = world.mm.counters();
        assert!(counters.access_flag_fault.get() <= counters.heat_samples.get());
    }
}

/// More slots wait than are sampled at the same time, and one block is free: nobody gets it before it is known who is hot.
fn a_scarce_block_is_not_given_before_the_sample_is_over() {
    let world = world(100 * MIB);
    let (slots, mut blocks) = waiting(&world, 36);
    let now = rest(&world, 0) + 100 * MS;
    world.mm.frames().free_block(blocks.pop().expect("several"));
    let samples = || world.mm.counters().heat_samples.get();
    let before = samples();
    let Rest::Until(sampled) = world.mm.background_step(now) else { panic!("it decided at once") };
    let huge = || slots.iter().filter(|&&slot| world.mm.is_huge(slot)).count();
    assert_eq!((huge(), sampled > now), (0, true));
    // The others are sampled later: so many access flags are cleared in so long a time, and no more.
    assert_eq!(samples() - before, 32 * 4);
    world.mm.background_step(sampled);
    assert_eq!(samples() - before, 32 * 4);
    rest(&world, sampled);
    assert_eq!(huge(), slots.len());
}

fn samples_are_few_and_leave_no_trace() {
    let world = world(64 * MIB);
    let (slots, blocks) = waiting(&world, 12);
    let counters = world.mm.counters();
    let mut now = 0;
    // However often it is asked.
    while now < 100 * MS {
        world.mm.background_step(now);
        now += MS;
    }
    let windows = 100 / 20 + 1;
    let samples = counters.heat_samples.get();
    assert!(samples > 0 && samples <= windows * 4 * slots.len() as u64, "{samples} samples");
    slots.iter().for_each(|&slot| assert_filled(&world, slot, 0..0));
    assert!(counters.access_flag_fault.get() <= samples);
    rest(&world, now);
    let before = counters.access_flag_fault.get();
    slots.iter().for_each(|&slot| assert_filled(&world, slot, 0..0));
    assert_eq!(counters.access_flag_fault.get(), before, "no access flag is clear any more");
    blocks.into_iter().for_each(|block| world.mm.frames().free_block(block));
}

/// Slots that were filled when no block was free become blocks although those who hold a page in each block stay.
fn blocks_are_emptied_of_what_can_move() {
    let (world, fragments, start) = fallen_back(32 * MIB, State::Held);
    let slots = [start, world.map(BLOCK_SIZE), world.map(BLOCK_SIZE)];
    slots.iter().for_each(|&start| fill(&world, start));
    let counters = world.mm.counters();
    let held = world.mm.frames().statistics().movable - 3 * 512;
    rest(&world, 0);
    assert!(slots.iter().all(|&slot| world.mm.is_huge(slot)));
    slots.iter().for_each(|&slot| assert_filled(&world, slot, 0..0));
    // As cheaply as can be: one page for a block.
    let (moved, emptied) = (counters.migrate_pages.get(), counters.compact_blocks.get());
    assert!((1..=3).contains(&emptied), "{emptied} blocks were emptied");
    assert!(moved <= 3 * 512 + emptied, "{moved} pages were moved to empty {emptied} blocks of {held}");
    assert_eq!(counters.compact_daemon_wake.get(), 1);
    fragments.give_back(&world.mm);
    world.check();
}

/// Pages go where it is fullest, and no free block is broken for them.
fn pages_leave_the_emptiest_for_the_fullest() {
    let world = world(32 * MIB);
    let fragments = fragment(&world.mm, State::Random(30));
    let before = world.mm.frames().statistics();
    let start = world.map(2 * BLOCK_SIZE);
    fill(&world, start);
    fill(&world, start + BLOCK_SIZE as u64);
    let now = rest(&world, 0);
    assert!(world.mm.is_huge(start) && world.mm.is_huge(start + BLOCK_SIZE as u64));
    let counters = world.mm.counters();
    let copied = counters.migrate_pages.get();
    // The pages themselves, and less than half a block for each one that was emptied.
    let emptied = counters.compact_blocks.get();
    assert!(copied <= 2 * 512 + emptied * 256, "{copied} pages were copied, {emptied} blocks emptied of {before:?}");
    assert_eq!(world.mm.background_step(now), Rest::Wait, "nothing is compacted for its own sake");
    fragments.give_back(&world.mm);
    world.check();
}

fn compaction_that_does_not_pay_is_left_alone() {
    let (world, fragments, start) = fallen_back(32 * MIB, State::Pinned);
    let counters = world.mm.counters();
    let (mut now, mut tries) = (0, 0);
    let mut gaps = Vec::new();
    loop {
        match world.mm.background_step(now) {
            Rest::None => {}
            Rest::Wait => break,
            Rest::Until(at) => {
                tries += 1;
                gaps.push(at - now);
                now = at;
            }
        }
        assert!(tries < 20, "it never ends");
    }
    assert!(gaps.windows(2).all(|gaps| gaps[1] >= gaps[0]), "twice as long each time: {gaps:?}");
    let scanned = counters.compact_migrate_scanned.get();
    // Nor for what is freed in small pieces; but as soon as it may pay again.
    world.mm.background_signal().take();
    world.mm.release(page(start, 0), 64 * PAGE_SIZE).expect("mapped");
    assert!(!world.mm.background_signal().take());
    assert_eq!(counters.compact_migrate_scanned.get(), scanned);
    assert_eq!(counters.compact_blocks.get(), 0);
    fragments.give_back(&world.mm);
    assert!(world.mm.background_signal().take());
    rest(&world, now);
    // What was released is absent from it.
    assert!(world.mm.usage().mapped_bytes() == BLOCK_SIZE - 64 * PAGE_SIZE);
}

/// A first touch without a free block, by every policy and wish: whether it got one.
fn a_fault_waits_for_compaction_only_if_the_policy_says_so() {
    use Defrag::{Always, Defer, DeferMadvise, Madvise, Never};
    let direct = [(Always, true, true), (Defer, false, false), (DeferMadvise, true, false), (Madvise, true, false)];
    for (defrag, asked, unasked) in direct.into_iter().chain([(Never, false, false)]) {
        for (wish, waits) in [(HugePolicy::Always, asked), (HugePolicy::Default, unasked)] {
            let world = world(32 * MIB);
            let fragments = fragment(&world.mm, State::Held);
            world.mm.policy().set_defrag(defrag);
            let request = MapRequest::new(BLOCK_SIZE).policy(wish);
            let start = world.mm.map(request).expect("room").start;
            world.put(start, 1);
            let counters = world.mm.counters();
            let stalls = (counters.compact_stall.get(), counters.compact_success.get(), counters.thp_fault_alloc.get());
            assert_eq!(stalls, if waits { (1, 1, 1) } else { (0, 0, 0) }, "{defrag:?}, {wish:?}");
            let deferred = match (defrag, wish) {
                (Defer, _) | (DeferMadvise, HugePolicy::Default) => 1,
                _ => 0,
            };
            // The slot has too little for a block to be emptied for its sake.
            rest(&world, 0);
            assert_eq!(counters.compact_blocks.get(), deferred + u64::from(waits), "{defrag:?}, {wish:?}");
            // Without one to be had, the fault goes on in pages.
            fragments.give_back(&world.mm);
            world.check();
            let fragments = fragment(&world.mm, State::Pinned);
            let other = world.map(BLOCK_SIZE);
            world.put(other, 2);
            assert_eq!((world.get(other), world.get(start)), (2, 1));
            fragments.give_back(&world.mm);
        }
    }
}

/// Memory is low: a world of blocks of which half is absent, some of zeros, one pinned.
fn low_memory_is_given_back_in_the_background() {
    let world = world(32 * MIB);
    let (low, high) = world.mm.frames().watermarks();
    assert!(low < high);
    let sparse = world.map(2 * BLOCK_SIZE);
    fill(&world, sparse);
    fill(&world, sparse + BLOCK_SIZE as u64);
    world.mm.release(page(sparse, 0), 100 * PAGE_SIZE).expect("mapped");
    let zeros = world.map(2 * BLOCK_SIZE);
    // Nothing but zeros, and a word.
    (0..1024).for_each(|index| world.put(page(zeros, index), u64::from(index == 700)));
    world.put(page(zeros, 0), 1);
    let pin = world.mm.pin(zeros, PAGE_SIZE, PinRequest::new()).expect("present");
    assert!(world.mm.is_huge(zeros) && world.mm.is_huge(page(zeros, 512)));
    let mut now = rest(&world, 0);
    assert_eq!(world.mm.counters().reclaim.get(), 0);

    world.mm.set_overcommit(true);
    let others = world.map(40 * MIB);
    world.mm.advise(others, 40 * MIB, HugePolicy::Never).expect("mapped");
    let unused = || world.mm.frames().spare();
    let mut next = 0;
    let mut touch_until = |bound: usize| {
        while unused() > bound {
            world.put(page(others, next), 1);
            next += 1;
        }
    };
    world.mm.background_signal().take();
    touch_until(low + 40);
    assert!(!world.mm.background_signal().take(), "it is not low yet");
    touch_until(low / 2);
    assert!(world.mm.background_signal().take(), "it is low");
    let counters = world.mm.counters();
    now = rest(&world, now);
    assert!(
        unused() >= high || counters.zero_pages_released.get() > 0,
        "{} of {high}, {}\n{:?}",
        unused(),
        world.mm.frames().statistics(),
        counters.iter().filter(|c| c.1 > 0).collect::<Vec<_>>()
    );
    assert!(counters.kswapd_steal.get() >= 1 && counters.thp_split_page.get() >= 1);
    assert!(!world.mm.is_huge(sparse) && world.mm.is_huge(page(sparse, 512)), "absent frames first");
    touch_until(low / 2);
    rest(&world, now);
    assert!(counters.zero_pages_released.get() >= 500, "then zeros");
    assert!(world.mm.is_huge(zeros), "not those of a block that is pinned");
    assert_eq!(counters.reclaim.get(), 0, "no fault had to");
    assert_eq!((world.get(page(zeros, 700)), world.get(page(zeros, 701)), world.get(page(zeros, 0))), (1, 0, 1));
    world.mm.unpin(pin);
    world.check();
}

fn blocks_with_few_zeros_are_left_alone() {
    for (zeros, bound, on, given) in [(64, 64, true, false), (65, 64, true, true), (300, 64, false, false)] {
        let world = world(16 * MIB);
        world.mm.policy().set_max_ptes_none(bound);
        if !on {
            let mut settings = world.mm.policy().settings();
            settings.set("shrink_underused", "0").expect("it is a policy");
            world.mm.policy().apply(&settings);
        }
        let start = world.map(BLOCK_SIZE);
        (0..512).for_each(|index| world.put(page(start, index), u64::from(index >= zeros)));
        assert!(world.mm.is_huge(start));
        world.mm.set_overcommit(true);
        let others = world.map(16 * MIB);
        world.mm.advise(others, 16 * MIB, HugePolicy::Never).expect("mapped");
        let (low, _) = world.mm.frames().watermarks();
        rest(&world, 0);
        (0..4096).take_while(|_| world.mm.frames().statistics().unused() > low / 2).for_each(|index| {
            world.put(page(others, index), 1);
        });
        rest(&world, 0);
        assert_eq!(world.mm.counters().zero_pages_released.get(), if given { zeros } else { 0 }, "{zeros} of {bound}");
        (0..512).for_each(|index| assert_eq!(world.get(page(start, index)), u64::from(index >= zeros)));
    }
}

/// What the averages make of time that was lost, as Linux's do.
fn stalls_are_averaged() {
    let world = world(16 * MIB);
    let stalls = |seconds: u64| world.mm.pressure().stalls_at(seconds * 1000 * MS);
    assert_eq!(stalls(100), Stalls::default());
    assert_eq!(stalls(100).to_string(), "some avg10=0.00 avg60=0.00 avg300=0.00 total=0");
    let fraction = Stalls { total: 1_234_567, averages: [1, 205, 10_000] };
    assert_eq!(fraction.to_string(), "some avg10=0.01 avg60=2.05 avg300=100.00 total=1234");
}

ashlar_test::tests! {
    a_slot_without_a_block_becomes_one_when_there_is_one,
    a_slot_is_a_candidate_again_when_it_is_used_more,
    without_a_cause_nothing_is_done,
    no_more_is_filled_than_the_policy_allows,
    what_was_released_is_not_refilled,
    the_hottest_comes_first,
    a_scarce_block_is_not_given_before_the_sample_is_over,
    samples_are_few_and_leave_no_trace,
    blocks_are_emptied_of_what_can_move,
    pages_leave_the_emptiest_for_the_fullest,
    compaction_that_does_not_pay_is_left_alone,
    a_fault_waits_for_compaction_only_if_the_policy_says_so,
    low_memory_is_given_back_in_the_background,
    blocks_with_few_zeros_are_left_alone,
    stalls_are_averaged,
}
