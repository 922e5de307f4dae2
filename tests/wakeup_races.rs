//! The background goes to sleep on one core while others free what it waits for, or use what it gives back: no wake-up is lost, no
//! store, and nobody is told that there is no memory while there is some.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;
#[cfg(not(target_os = "none"))]
#[path = "common/race.rs"]
mod race;
#[cfg(not(target_os = "none"))]
#[path = "common/worker.rs"]
mod worker;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::race::{PAGES, START, World, assert_contents, at, mark, race};
    use crate::worker::{
        OTHER, PLAIN, after_a_while, background, block_of, map, nothing_was_missed, take_blocks, use_pinned,
        work_until_asleep,
    };
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::mm::huge::{Enabled, HugePolicy, Rest};

    use ashlar::mm::pin::PinRequest;

    use std::sync::Arc;

    /// Steps of the machine until the background is asleep, or about to be.
    const FALLS_ASLEEP: usize = 1200;

    /// A slot that is used as a whole waits for a block. So many are free.
    fn waiting(machine: SimMachine, free: usize) -> Arc<World> {
        let world = World::new(machine);
        world.mm.policy().set_enabled(Enabled::Never);
        map(&world, OTHER, 1, HugePolicy::Default);
        map(&world, PLAIN, 1, HugePolicy::Never);
        // Backwards, so that none is where it would be at home.
        (OTHER..OTHER + 512).rev().for_each(|page| world.put(page, mark(page)));
        world.mm.frames().drain_caches();
        world.mm.policy().set_enabled(Enabled::Always);
        world.mm.advise(at(OTHER), BLOCK_SIZE, HugePolicy::Default).expect("mapped");
        assert_eq!(world.mm.candidates(), 1);
        take_blocks(&world, free);
        world.mm.background_signal().take();
        world
    }

    /// As that. The only block that is nearly free holds a page that has no room elsewhere.
    fn waiting_for_a_page(machine: SimMachine) -> Arc<World> {
        let world = waiting(machine, 1);
        world.put(PLAIN, 1);
        assert_eq!(world.mm.frames().statistics().free_blocks(), 0);
        world
    }

    /// A block became free while the background went to sleep for want of one: it is seen, or it is said.
    fn assert_woken(world: &World) {
        nothing_was_missed(world);
        assert!(world.mm.is_huge(at(OTHER)));
        assert!((0..512).step_by(7).all(|page| world.get(OTHER + page) == mark(OTHER + page)));
    }

    fn go_to_sleep(world: &World) {
        work_until_asleep(world);
    }

    pub fn a_block_becomes_free_by_its_last_page() {
        let own = |world: &World| {
            after_a_while(FALLS_ASLEEP);
            world.mm.release(at(PLAIN), PAGE_SIZE).expect("mapped");
        };
        race(waiting_for_a_page, own, go_to_sleep, assert_woken);
        let own = |world: &World| {
            after_a_while(FALLS_ASLEEP);
            world.mm.unmap(at(PLAIN), BLOCK_SIZE).expect("mapped");
        };
        race(waiting_for_a_page, own, go_to_sleep, assert_woken);
    }

    pub fn a_block_becomes_free_by_its_last_pin() {
        let own = |world: &World| {
            let pin = world.mm.pin(at(PLAIN), PAGE_SIZE, PinRequest::new()).expect("mapped");
            world.mm.release(at(PLAIN), PAGE_SIZE).expect("mapped");
            after_a_while(FALLS_ASLEEP);
            world.mm.unpin(pin);
        };
        race(waiting_for_a_page, own, go_to_sleep, assert_woken);
    }

    pub fn a_block_becomes_free_by_the_end_of_an_isolation() {
        let own = |world: &World| {
            let block = block_of(world, PLAIN);
            // Unless compaction has.
            let isolates = world.mm.frames().isolate(block);
            world.mm.release(at(PLAIN), PAGE_SIZE).expect("mapped");
            after_a_while(FALLS_ASLEEP);
            if isolates {
                world.mm.frames().end_isolation(block);
            }
        };
        race(waiting_for_a_page, own, go_to_sleep, assert_woken);
    }

    /// A home that holds more than what is emptied for others.
    fn use_home(world: &World) {
        (0..6).for_each(|group| world.put(16 * group, 1));
        assert_eq!(world.mm.frames().statistics().homes, 1);
    }

    pub fn a_block_becomes_free_by_the_end_of_a_home() {
        let make = |machine| {
            let world = waiting(machine, 1);
            use_home(&world);
            world
        };
        let own = |world: &World| {
            after_a_while(FALLS_ASLEEP);
            world.mm.unmap(START, BLOCK_SIZE).expect("mapped");
        };
        race(make, own, go_to_sleep, assert_woken);
    }

    /// A page cannot be moved out of its block: nowhere else is room. There is room for what is in a home instead.
    pub fn stores_in_a_home_that_is_emptied_into_what_could_not_be() {
        let make = |machine| {
            let world = waiting(machine, 2);
            world.put(PLAIN, 1);
            world.put(0, 1);
            assert_eq!((world.mm.frames().statistics().homes, world.mm.usage().groups), (1, 1));
            world
        };
        let end = |world: &World| {
            assert_woken(world);
            assert_eq!((world.get(0), world.get(5), world.get(PLAIN)), (1, 4, 1));
        };
        race(make, |world| world.work(5), background, end);
    }

    pub fn a_block_becomes_free_by_its_last_zeros() {
        let make = |machine| {
            let world = waiting(machine, usize::MAX);
            (0..31).for_each(|_| assert!(world.mm.idle_step()));
            take_blocks(&world, 0);
            world
        };
        let own = |world: &World| {
            after_a_while(FALLS_ASLEEP);
            assert!(world.mm.idle_step());
        };
        race(make, own, go_to_sleep, assert_woken);
    }

    /// Neither core frees all of it, and the background sleeps already.
    pub fn a_block_becomes_free_by_two_cores() {
        let make = |machine| {
            let world = waiting_for_a_page(machine);
            world.put(PLAIN + 1, 1);
            assert_eq!(block_of(&world, PLAIN), block_of(&world, PLAIN + 1));
            assert_ne!(work_until_asleep(&world), Rest::None);
            world.mm.background_signal().take();
            world
        };
        let own = |world: &World| world.mm.release(at(PLAIN + 1), PAGE_SIZE).expect("mapped");
        let other = |world: &World| world.mm.release(at(PLAIN), PAGE_SIZE).expect("mapped");
        race(make, own, other, assert_woken);
    }

    /// One more slot lacks a block while the background, that was asleep for want of one, is woken.
    pub fn a_candidate_comes_while_the_background_wakes() {
        let make = |machine| {
            let world = waiting(machine, 2);
            world.mm.policy().set_max_ptes_none(511);
            map(&world, 2 * OTHER, 1, HugePolicy::Default);
            // Its record is there: a frame for more of them would be one of the block that becomes free.
            world.mm.policy().set_enabled(Enabled::Never);
            world.put(2 * OTHER, 1);
            world.mm.policy().set_enabled(Enabled::Always);
            world.mm.release(at(2 * OTHER), PAGE_SIZE).expect("mapped");
            use_home(&world);
            // Where the new one's pages come from.
            world.put(PLAIN, 1);
            assert_ne!(work_until_asleep(&world), Rest::None);
            assert_eq!(world.mm.candidates(), 1);
            world.mm.background_signal().take();
            world
        };
        let other = |world: &World| {
            world.mm.unmap(START, BLOCK_SIZE).expect("mapped");
            if world.mm.background_signal().take() {
                background(world);
            }
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_eq!((world.get(2 * OTHER), world.get(OTHER)), (4, mark(OTHER)));
            // One block becomes free. The slot that has all its pages leaves another to the second; the second has it for
            // good when its first touch came before the background did.
            let [first, second] = [OTHER, 2 * OTHER].map(|page| world.mm.is_huge(at(page)));
            assert_eq!((first || second, world.mm.candidates()), (true, usize::from(!first)));
        };
        race(make, |world| world.put(2 * OTHER, 4), other, end);
    }

    /// Memory is low, and nothing can be given back: single pages have all of it.
    fn starved(machine: SimMachine) -> Arc<World> {
        let world = World::new(machine);
        map(&world, PLAIN, 2, HugePolicy::Never);
        background(&world);
        let frames = world.mm.frames();
        assert!(frames.tells_low());
        take_blocks(&world, 1);
        (PLAIN..).take_while(|_| !world.mm.background_signal().take()).for_each(|page| world.put(page, 1));
        assert!(frames.spare() < frames.watermarks().0);
        world
    }

    /// Just as much is freed as is missing.
    pub fn memory_becomes_free_while_the_background_goes_to_sleep() {
        let own = |world: &World| {
            let frames = world.mm.frames();
            let missing = frames.watermarks().0.saturating_sub(frames.spare());
            world.mm.release(at(PLAIN), missing * PAGE_SIZE).expect("mapped");
        };
        let end = |world: &World| {
            let frames = world.mm.frames();
            assert!(world.mm.background_signal().take() || frames.tells_low(), "it sleeps, and memory is not low");
            background(world);
            assert!(frames.tells_low());
        };
        race(starved, own, go_to_sleep, end);
    }

    /// Or just as much is taken as there was.
    pub fn memory_becomes_low_while_the_background_goes_to_sleep() {
        let make = |machine| {
            let world = starved(machine);
            let frames = world.mm.frames();
            // It was said that it is low, and is not any more.
            let is_low = || frames.spare() < frames.watermarks().0;
            (PLAIN..).take_while(|_| is_low()).for_each(|page| {
                world.mm.release(at(page), PAGE_SIZE).expect("mapped");
                frames.drain_caches();
            });
            world
        };
        let own = |world: &World| {
            after_a_while(40);
            world.put(PLAIN, 1);
        };
        let end = |world: &World| {
            let frames = world.mm.frames();
            let is_low = frames.spare() < frames.watermarks().0;
            assert!(
                !is_low || world.mm.background_signal().take() || !frames.tells_low(),
                "it is low, nobody was told"
            );
        };
        race(make, own, go_to_sleep, end);
    }

    /// Memory is short, and a block of zeros could be given back, but for the pages with marks. Who finds none is first told so, and
    /// the background as well.
    fn underused(machine: SimMachine) -> Arc<World> {
        let world = World::with_block(machine);
        PAGES.iter().for_each(|&page| world.put(page, mark(page)));
        map(&world, PLAIN, 1, HugePolicy::Never);
        world.put(PLAIN, 1);
        background(&world);
        world.exhaust();
        assert!(world.mm.background_signal().take(), "it is low");
        world
    }

    /// Zeros are given back while they are written: always those that are next.
    pub fn stores_against_zeros_that_are_given_back() {
        let own = |world: &World| {
            let mut written = Vec::new();
            let is_next = |page: &u64| world.mm.machine().translate(at(*page)).is_some();
            let next = |from| (from..510).filter(|page| !PAGES.contains(page)).find(is_next);
            while let Some(page) = next(written.last().map_or(19, |page| page + 1)) {
                world.put(page, 7);
                written.push(page);
                (0..4).for_each(|_| shuttle::thread::yield_now());
            }
            assert!(written.iter().all(|&page| world.get(page) == 7), "a store was lost");
            world.work(5);
        };
        let end = |world: &World| {
            assert_eq!((world.get(510), world.get(5)), (0, 4));
            assert_contents(world, &[5]);
        };
        race(underused, own, background, end);
    }

    /// A fault that finds no frame takes memory back at the same time.
    pub fn a_fault_without_memory_against_giving_back() {
        let own = |world: &World| (1..5).for_each(|page| world.put(PLAIN + page, 9));
        let end = |world: &World| {
            assert!((1..5).all(|page| world.get(PLAIN + page) == 9));
            assert!(world.mm.counters().zero_pages_released.get() > 0);
            assert_eq!((world.mm.counters().out_of_memory.get(), world.get(100)), (0, 0));
            assert_contents(world, &[]);
        };
        race(underused, own, background, end);
    }

    pub fn pins_against_zeros_that_are_given_back() {
        let end = |world: &World| {
            assert_eq!(world.mm.frames().statistics().pinned, 0);
            assert_eq!((world.get(15), world.get(16), world.get(17)), (2, 2, 2));
            assert_contents(world, &[15, 16]);
        };
        race(underused, |world| use_pinned(world, 15, 3), background, end);
    }

    /// The frames that a home lacks are given back while pages come there.
    pub fn touches_against_absent_frames_that_are_given_back() {
        let make = |machine| {
            let world = World::new(machine);
            map(&world, PLAIN, 1, HugePolicy::Never);
            world.put(PLAIN, 1);
            world.put(0, mark(0));
            assert_eq!(world.mm.frames().statistics().absent, 512 - 16);
            background(&world);
            world.exhaust();
            assert!(world.mm.background_signal().take(), "it is low");
            world
        };
        let own = |world: &World| {
            for page in [5, 16, 200, PLAIN + 1, 511] {
                world.put(page, 7);
                assert_eq!(world.get(page), 7, "a store was lost");
            }
        };
        let end = |world: &World| {
            assert_eq!([0, 1, 5, 16, 17, 200, PLAIN + 1, 511].map(|page| world.get(page)), [1, 0, 7, 7, 0, 7, 7, 7]);
            assert_eq!(world.mm.counters().out_of_memory.get(), 0);
        };
        race(make, own, background, end);
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    a_block_becomes_free_by_its_last_page,
    #[cfg(not(target_os = "none"))]
    a_block_becomes_free_by_its_last_pin,
    #[cfg(not(target_os = "none"))]
    a_block_becomes_free_by_the_end_of_an_isolation,
    #[cfg(not(target_os = "none"))]
    a_block_becomes_free_by_the_end_of_a_home,
    #[cfg(not(target_os = "none"))]
    stores_in_a_home_that_is_emptied_into_what_could_not_be,
    #[cfg(not(target_os = "none"))]
    a_block_becomes_free_by_its_last_zeros,
    #[cfg(not(target_os = "none"))]
    a_block_becomes_free_by_two_cores,
    #[cfg(not(target_os = "none"))]
    a_candidate_comes_while_the_background_wakes,
    #[cfg(not(target_os = "none"))]
    memory_becomes_free_while_the_background_goes_to_sleep,
    #[cfg(not(target_os = "none"))]
    memory_becomes_low_while_the_background_goes_to_sleep,
    #[cfg(not(target_os = "none"))]
    stores_against_zeros_that_are_given_back,
    #[cfg(not(target_os = "none"))]
    a_fault_without_memory_against_giving_back,
    #[cfg(not(target_os = "none"))]
    pins_against_zeros_that_are_given_back,
    #[cfg(not(target_os = "none"))]
    touches_against_absent_frames_that_are_given_back,
}
