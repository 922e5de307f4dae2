//! What is done in the background on one core while others touch, change, pin and free the same memory: no store is lost, no
//! candidate, no wake-up.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;
#[cfg(not(target_os = "none"))]
#[path = "common/race.rs"]
mod race;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::race::{START, World, race};
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, Block, PAGE_SIZE, VirtAddr};
    use ashlar::mm::huge::{Defrag, Enabled, HugePolicy, Rest, Unit};
    use ashlar::mm::mmu::Access;
    use ashlar::mm::pin::PinRequest;
    use ashlar::mm::{FaultError, MapRequest, Refusal};
    use shuttle::rand::{Rng, thread_rng};
    use std::cell::Cell;
    use std::sync::Arc;

    /// Pages of the first slot that are there from the start.
    const PAGES: [u64; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 300, 511];
    /// The second slot that is mapped, where it is.
    const OTHER: u64 = 1024;
    /// Slots that are never made blocks.
    const PLAIN: u64 = 4096;

    /// Steps of the machine until the background is asleep, or about to be.
    const FALLS_ASLEEP: usize = 1200;

    thread_local! {
        /// The background's clock: all cores of a schedule are on one thread.
        static CLOCK: Cell<u64> = const { Cell::new(0) };
    }

    /// What a page holds from the start on.
    fn mark(page: u64) -> u8 {
        (page % 200) as u8 + 1
    }

    fn at(page: u64) -> VirtAddr {
        START + page * PAGE_SIZE as u64
    }

    fn map(world: &World, page: u64, slots: usize, policy: HugePolicy) {
        world.mm.map(MapRequest::new(slots * BLOCK_SIZE).at(at(page)).policy(policy)).expect("room");
    }

    fn block_of(world: &World, page: u64) -> Block {
        world.mm.machine().translate(at(page)).expect("present").frame().block()
    }

    /// Leaves so many blocks free. Nobody gives the others back.
    fn take_blocks(world: &World, free: usize) {
        while world.mm.frames().statistics().free_blocks() > free {
            world.mm.frames().allocate_block().expect("it is free");
        }
    }

    fn assert_contents(world: &World, but: &[u64]) {
        for page in PAGES.into_iter().filter(|page| !but.contains(page)) {
            assert_eq!(world.get(page), mark(page), "page {page}");
        }
    }

    /// Lets the background work until it would sleep, whatever wakes it.
    fn work_until_asleep(world: &World) -> Rest {
        loop {
            let rest = world.mm.background_step(CLOCK.get());
            if rest != Rest::None {
                return rest;
            }
        }
    }

    /// Lets the background work until only a signal would wake it.
    fn background(world: &World) {
        while let Rest::Until(time) = work_until_asleep(world) {
            CLOCK.set(CLOCK.get().max(time));
        }
    }

    /// Lets the other core come to any point of what it does.
    fn after_a_while(most: usize) {
        (0..thread_rng().gen_range(0..most)).for_each(|_| shuttle::thread::yield_now());
    }

    /// What follows a signal has been done, and that was enough: it does not sleep with a candidate and a block for it.
    fn nothing_was_missed(world: &World) {
        if world.mm.background_signal().take() {
            background(world);
        }
        // Only now: this is heard as well.
        world.mm.frames().drain_caches();
        let free = world.mm.frames().statistics().free_blocks();
        assert!(world.mm.candidates() == 0 || free == 0, "it sleeps, with a candidate and {free} blocks");
    }

    /// A slot of single pages, each with its mark. Background collapse may fill whatever is absent.
    fn scattered(machine: SimMachine) -> Arc<World> {
        let world = World::new(machine);
        world.mm.policy().set_max_ptes_none(511);
        world.mm.policy().set_enabled(Enabled::Never);
        PAGES.iter().rev().for_each(|&page| world.put(page, mark(page)));
        world.mm.policy().set_enabled(Enabled::Always);
        world
    }

    /// As that, and it is a candidate.
    fn candidate(machine: SimMachine) -> Arc<World> {
        let world = scattered(machine);
        world.mm.reconsider();
        assert_eq!(world.mm.candidates(), 1);
        world
    }

    pub fn stores_against_a_background_collapse() {
        let own = |world: &World| {
            world.work(5);
            world.work(18);
        };
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!((world.get(5), world.get(18), world.mm.candidates()), (4, 4, 0));
            assert_contents(world, &[5, 18]);
        };
        race(candidate, own, background, end);
    }

    pub fn touches_of_holes_against_a_background_collapse() {
        let own = |world: &World| {
            for page in [17, 19, 200, 510] {
                assert_eq!(world.get(page), 0);
                world.put(page, 7);
                assert_eq!(world.get(page), 7, "a store was lost");
            }
        };
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!([17, 19, 200, 510].map(|page| world.get(page)), [7; 4]);
            assert_contents(world, &[]);
        };
        race(candidate, own, background, end);
    }

    /// What is released before the collapse, or in the midst of it, is not filled again.
    pub fn releases_against_a_background_collapse() {
        let own = |world: &World| {
            world.mm.release(at(4), 2 * PAGE_SIZE).expect("mapped");
            world.mm.release(at(300), 16 * PAGE_SIZE).expect("mapped");
        };
        let end = |world: &World| {
            let released = [4, 5, 300, 310];
            assert!(released.iter().all(|&page| world.mm.machine().translate(at(page)).is_none()));
            assert_eq!(released.map(|page| world.get(page)), [0; 4]);
            assert_contents(world, &[4, 5, 300]);
            assert_eq!(world.mm.candidates(), 0);
        };
        race(candidate, own, background, end);
    }

    pub fn unmap_against_a_background_collapse() {
        let own = |world: &World| world.mm.unmap(START, BLOCK_SIZE).expect("a region");
        let end = |world: &World| {
            assert_eq!((world.mm.usage().mapped_bytes(), world.mm.candidates()), (0, 0));
            let frames = world.mm.frames().statistics();
            assert_eq!((frames.homes, frames.movable, frames.whole), (0, 0, 0));
        };
        race(candidate, own, background, end);
    }

    /// Something else is mapped at the same addresses meanwhile.
    pub fn unmap_and_map_against_a_background_collapse() {
        let own = |world: &World| {
            world.mm.unmap(at(256), BLOCK_SIZE / 2).expect("mapped");
            world.mm.map(MapRequest::new(BLOCK_SIZE / 2).at(at(256))).expect("room");
            assert_eq!((world.get(300), world.get(400), world.get(511)), (0, 0, 0));
            world.put(300, 9);
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_eq!((world.get(300), world.get(301), world.get(511)), (9, 0, 0));
            assert_contents(world, &[300, 511]);
        };
        race(candidate, own, background, end);
    }

    pub fn protections_against_a_background_collapse() {
        let own = |world: &World| {
            world.mm.protect(at(3), 4 * PAGE_SIZE, Access::READ).expect("mapped");
            assert!(world.try_put(3, 9).is_err());
            world.mm.protect(at(256), BLOCK_SIZE / 2, Access::READ).expect("mapped");
            assert!(world.try_put(300, 9).is_err());
        };
        let end = |world: &World| {
            for page in [3, 300] {
                let denied =
                    FaultError::Denied { address: at(page), wanted: Access::READ_WRITE, allowed: Access::READ };
                assert_eq!(world.try_put(page, 9), Err(denied));
            }
            assert_contents(world, &[]);
            assert_eq!(world.mm.candidates(), 0);
        };
        race(candidate, own, background, end);
    }

    /// The holes are filled as the region allows by then.
    pub fn a_protection_of_holes_against_a_background_collapse() {
        let own = |world: &World| {
            after_a_while(400);
            world.mm.protect(at(256), BLOCK_SIZE / 2, Access::READ).expect("mapped");
            assert!(world.try_put(400, 9).is_err());
        };
        let end = |world: &World| {
            assert!(world.try_put(300, 9).is_err() && world.try_put(400, 9).is_err());
            assert_eq!((world.get(400), world.mm.candidates()), (0, 0));
            assert_contents(world, &[]);
        };
        race(candidate, own, background, end);
    }

    pub fn no_block_is_made_of_a_slot_that_is_to_be_of_pages() {
        let own = |world: &World| {
            after_a_while(400);
            world.mm.advise(START, BLOCK_SIZE, HugePolicy::Never).expect("mapped");
            let was_huge = world.mm.is_huge(START);
            (0..300).for_each(|_| shuttle::thread::yield_now());
            assert_eq!(world.mm.is_huge(START), was_huge, "it became one afterwards");
        };
        race(candidate, own, background, |world| assert_contents(world, &[]));
    }

    /// All pages of the slot are at home, but for the one that is away.
    pub fn stores_against_a_page_that_comes_home() {
        let make = |machine| {
            let world = World::with_block(machine);
            PAGES.iter().for_each(|&page| world.put(page, mark(page)));
            world.mm.migrate(at(5), Unit::Page).expect("frames are free");
            world.mm.reconsider();
            world
        };
        let own = |world: &World| (4..7).for_each(|page| world.work(page));
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!([4, 5, 6].map(|page| world.get(page)), [4; 3]);
            assert_contents(world, &[4, 5, 6]);
        };
        race(make, own, background, end);
    }

    pub fn pins_against_a_background_collapse() {
        let end = |world: &World| {
            assert_eq!(world.mm.frames().statistics().pinned, 0);
            // A pin was in the way, or not: afterwards none is.
            nothing_was_missed(world);
            world.mm.reconsider();
            background(world);
            assert!(world.mm.is_huge(START));
            assert_contents(world, &[14, 15, 16]);
        };
        race(candidate, |world| use_pinned(world, 14, 3), background, end);
    }

    /// Pins `pages` pages from `page` on, and sees that what a device writes arrives.
    fn use_pinned(world: &World, page: u64, pages: u64) {
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

    pub fn two_callers_with_a_block() {
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!((world.mm.candidates(), world.mm.frames().statistics().homes), (0, 1));
            assert_eq!(world.mm.counters().khugepaged_collapsed.get(), 1);
            assert_contents(world, &[]);
        };
        race(candidate, background, background, end);
    }

    /// Both are there to see that time passes, and neither when the other was.
    pub fn two_callers_without_a_block() {
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_eq!(world.mm.candidates(), 2);
            assert_every_page_is_accessed(world);
            assert_contents(world, &[]);
        };
        race(sampled, background, background, end);
    }

    /// Two candidates, so that it matters which is hotter; no block is free, nor can one be made.
    fn sampled(machine: SimMachine) -> Arc<World> {
        let world = scattered(machine);
        map(&world, OTHER, 1, HugePolicy::Default);
        // One translation of sixteen pages.
        world.mm.migrate(at(4), Unit::Group).expect("frames are free");
        take_blocks(&world, 0);
        world.put(OTHER, mark(OTHER));
        world.mm.reconsider();
        assert!(world.mm.candidates() == 2 && !world.mm.is_huge(at(OTHER)));
        world
    }

    fn assert_every_page_is_accessed(world: &World) {
        let mappings = world.mm.machine().mappings();
        assert!(mappings.iter().all(|mapping| mapping.accessed), "a sample left a trace");
    }

    pub fn stores_against_samples() {
        let own = |world: &World| [0, 5, 300, OTHER, 511].into_iter().for_each(|page| world.work(page));
        let end = |world: &World| {
            let counters = world.mm.counters();
            assert!(counters.heat_samples.get() >= 12);
            assert!(counters.access_flag_fault.get() <= counters.heat_samples.get());
            assert_every_page_is_accessed(world);
            assert_eq!([0, 5, 300, OTHER, 511].map(|page| world.get(page)), [4; 5]);
            assert_contents(world, &[0, 5, 300, 511]);
        };
        race(sampled, own, background, end);
    }

    /// Candidates are nominated again and again, wherever they are: each is one all the time.
    pub fn nominations_against_what_becomes_of_candidates() {
        let own = |world: &World| {
            for _ in 0..40 {
                world.mm.reconsider();
                after_a_while(20);
            }
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_eq!(world.mm.candidates(), 2);
            world.mm.unmap(START, BLOCK_SIZE).expect("mapped");
            world.mm.unmap(at(OTHER), BLOCK_SIZE).expect("mapped");
            background(world);
            assert_eq!(world.mm.candidates(), 0, "one was lost, or is there twice");
        };
        race(sampled, own, background, end);
    }

    /// What is sampled changes, goes and comes again.
    pub fn changes_against_samples() {
        let own = |world: &World| {
            world.mm.protect(START, 2 * PAGE_SIZE, Access::READ).expect("mapped");
            assert!(world.try_put(0, 9).is_err());
            assert_eq!(world.get(0), mark(0));
            world.mm.protect(START, 2 * PAGE_SIZE, Access::READ_WRITE).expect("mapped");
            world.mm.release(at(300), PAGE_SIZE).expect("mapped");
            world.put(300, 8);
            world.mm.migrate(at(511), Unit::Page).expect("frames are free");
            world.mm.protect(at(511), PAGE_SIZE, Access::NONE).expect("mapped");
            world.mm.protect(at(511), PAGE_SIZE, Access::READ_WRITE).expect("mapped");
            world.mm.unmap(at(OTHER), BLOCK_SIZE).expect("mapped");
            map(world, OTHER, 1, HugePolicy::Default);
            world.put(OTHER, 7);
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_every_page_is_accessed(world);
            assert_eq!((world.get(300), world.get(OTHER)), (8, 7));
            assert_contents(world, &[300]);
        };
        race(sampled, own, background, end);
    }

    /// Two slots are sampled that get a block afterwards; the application asks for one of them meanwhile.
    pub fn a_collapse_against_samples() {
        let make = |machine| {
            let world = scattered(machine);
            world.mm.policy().set_enabled(Enabled::Never);
            map(&world, OTHER, 1, HugePolicy::Default);
            world.put(OTHER, mark(OTHER));
            world.mm.policy().set_enabled(Enabled::Always);
            world.mm.migrate(at(4), Unit::Group).expect("frames are free");
            take_blocks(&world, 2);
            world.mm.reconsider();
            world
        };
        let own = |world: &World| {
            world.work(0);
            let each = |_, result: Result<_, Refusal>| assert!(result.is_ok());
            world.mm.collapse(START, BLOCK_SIZE, || false, each).expect("a sound range");
            world.work(300);
        };
        let end = |world: &World| {
            assert!(world.mm.counters().heat_samples.get() > 0);
            assert!(world.mm.is_huge(START) && world.mm.is_huge(at(OTHER)));
            assert_every_page_is_accessed(world);
            assert_eq!((world.get(0), world.get(300), world.get(OTHER)), (4, 4, mark(OTHER)));
            assert_contents(world, &[0, 300]);
        };
        race(make, own, background, end);
    }

    /// No block is free. The one with the first slot's pages can be emptied: there is room among the pages of another region.
    fn crumbled(machine: SimMachine) -> Arc<World> {
        let world = scattered(machine);
        map(&world, OTHER, 2, HugePolicy::Default);
        map(&world, PLAIN, 2, HugePolicy::Never);
        // The rest of the first slot's block, then a part of the next one.
        let pages = 640;
        world.mm.populate(at(PLAIN), pages as usize * PAGE_SIZE).expect("frames are free");
        world.mm.frames().drain_caches();
        let shared = (0..pages).take_while(|page| block_of(&world, PLAIN + page) == block_of(&world, 0)).count();
        assert!(shared > 400);
        world.mm.release(at(PLAIN), shared * PAGE_SIZE).expect("mapped");
        world.put(PLAIN + pages - 1, 77);
        take_blocks(&world, 0);
        world
    }

    /// As that, and a slot waits for a block.
    fn crumbled_with_candidate(machine: SimMachine) -> Arc<World> {
        let world = crumbled(machine);
        world.put(OTHER, 9);
        assert!(world.mm.candidates() == 1 && world.mm.background_signal().take());
        world
    }

    fn assert_compacted(world: &World) {
        assert!(world.mm.is_huge(at(OTHER)));
        assert_eq!((world.mm.counters().compact_blocks.get(), world.mm.candidates()), (1, 0));
        assert_eq!((world.get(OTHER), world.get(PLAIN + 639)), (9, 77));
    }

    pub fn stores_against_pages_that_are_moved_out() {
        let own = |world: &World| [5, 18, 300].into_iter().for_each(|page| world.work(page));
        let end = |world: &World| {
            assert_compacted(world);
            assert_eq!([5, 18, 300].map(|page| world.get(page)), [4; 3]);
            assert_contents(world, &[5, 18, 300]);
        };
        race(crumbled_with_candidate, own, background, end);
    }

    /// What is moved out goes meanwhile, and comes again: whatever is made of the block by then, nothing gets lost.
    pub fn releases_against_pages_that_are_moved_out() {
        let own = |world: &World| {
            world.mm.release(at(4), 3 * PAGE_SIZE).expect("mapped");
            world.put(4, 8);
            world.mm.unmap(at(300), PAGE_SIZE).expect("mapped");
            world.put(17, 8);
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert!(world.mm.is_huge(at(OTHER)));
            assert_eq!((world.get(OTHER), world.get(PLAIN + 639)), (9, 77));
            assert_eq!([4, 5, 6, 17].map(|page| world.get(page)), [8, 0, 0, 8]);
            assert_contents(world, &[4, 5, 6, 300]);
        };
        race(crumbled_with_candidate, own, background, end);
    }

    pub fn pins_against_pages_that_are_moved_out() {
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_compacted(world);
            assert_contents(world, &[14, 15, 16]);
        };
        race(crumbled_with_candidate, |world| use_pinned(world, 14, 3), background, end);
    }

    /// The slot that waits for the block is used, and filled from the block that is emptied.
    pub fn touches_of_the_slot_that_waits() {
        let own = |world: &World| {
            for page in [OTHER + 3, OTHER + 20, OTHER + 400] {
                world.put(page, 6);
                assert_eq!(world.get(page), 6, "a store was lost");
            }
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert!(world.mm.is_huge(at(OTHER)));
            assert_eq!([0, 3, 20, 400].map(|page| world.get(OTHER + page)), [9, 6, 6, 6]);
            assert_contents(world, &[]);
        };
        race(crumbled_with_candidate, own, background, end);
    }

    /// A home that holds little ends, so that its block is another slot's.
    pub fn touches_of_a_home_that_is_emptied() {
        let make = |machine| {
            let world = crumbled(machine);
            map(&world, 2 * OTHER, 1, HugePolicy::Default);
            // The first slot's pages make room for the home: there is one block.
            world.mm.unmap(START, BLOCK_SIZE).expect("mapped");
            world.mm.frames().drain_caches();
            world.put(2 * OTHER, 5);
            assert_eq!(world.mm.frames().statistics().homes, 1);
            world.put(OTHER, 9);
            assert_eq!(world.mm.candidates(), 1);
            world
        };
        let own = |world: &World| {
            for page in [1, 15, 16, 500] {
                world.put(2 * OTHER + page, 3);
                assert_eq!(world.get(2 * OTHER + page), 3, "a store was lost");
            }
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_eq!((world.get(2 * OTHER), world.get(OTHER)), (5, 9));
            assert_eq!([1, 15, 16, 500].map(|page| world.get(2 * OTHER + page)), [3; 4]);
        };
        race(make, own, background, end);
    }

    fn waiting_faults(machine: SimMachine) -> Arc<World> {
        let world = crumbled(machine);
        world.mm.policy().set_defrag(Defrag::Always);
        world
    }

    pub fn stores_against_a_fault_that_compacts() {
        let own = |world: &World| [5, 18, 300].into_iter().for_each(|page| world.work(page));
        let end = |world: &World| {
            let counters = world.mm.counters();
            assert_eq!((counters.compact_stall.get(), counters.compact_success.get()), (1, 1));
            assert_eq!((world.mm.frames().statistics().homes, world.get(OTHER)), (1, 9));
            assert_eq!([5, 18, 300].map(|page| world.get(page)), [4; 3]);
            assert_contents(world, &[5, 18, 300]);
        };
        race(waiting_faults, own, |world| world.put(OTHER, 9), end);
    }

    /// One block can be emptied: one of them gets it, or the other.
    pub fn two_faults_that_compact() {
        let end = |world: &World| {
            let counters = world.mm.counters();
            assert!(counters.compact_stall.get() >= 1 && counters.compact_success.get() >= 1);
            assert_eq!((world.mm.frames().statistics().homes, world.mm.candidates()), (1, 1));
            assert_eq!((world.get(OTHER), world.get(OTHER + 512)), (9, 8));
            assert_contents(world, &[]);
        };
        race(waiting_faults, |world| world.put(OTHER + 512, 8), |world| world.put(OTHER, 9), end);
        // Of one slot, the fault that does not compact may go on in pages before the block is free.
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_eq!((world.mm.frames().statistics().homes, world.mm.candidates()), (1, 0));
            assert_eq!((world.get(OTHER), world.get(OTHER + 40)), (9, 8));
            assert_contents(world, &[]);
        };
        race(waiting_faults, |world| world.put(OTHER + 40, 8), |world| world.put(OTHER, 9), end);
    }

    /// The background empties the same block for another slot.
    pub fn a_fault_that_compacts_against_the_background() {
        let make = |machine| {
            let world = crumbled_with_candidate(machine);
            world.mm.policy().set_defrag(Defrag::Always);
            world
        };
        let own = |world: &World| {
            world.put(OTHER + 512, 8);
            world.work(5);
        };
        let end = |world: &World| {
            nothing_was_missed(world);
            assert_eq!(world.mm.frames().statistics().homes, 1);
            assert_eq!((world.get(OTHER), world.get(OTHER + 512), world.get(5)), (9, 8, 4));
            assert_contents(world, &[5]);
        };
        race(make, own, background, end);
    }

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
            // What the other has by then, compaction may have taken for this one.
            assert_eq!((world.mm.is_huge(at(OTHER)), world.mm.candidates()), (true, 0));
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
    stores_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    touches_of_holes_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    releases_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    unmap_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    unmap_and_map_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    protections_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    a_protection_of_holes_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    no_block_is_made_of_a_slot_that_is_to_be_of_pages,
    #[cfg(not(target_os = "none"))]
    stores_against_a_page_that_comes_home,
    #[cfg(not(target_os = "none"))]
    pins_against_a_background_collapse,
    #[cfg(not(target_os = "none"))]
    two_callers_with_a_block,
    #[cfg(not(target_os = "none"))]
    two_callers_without_a_block,
    #[cfg(not(target_os = "none"))]
    stores_against_samples,
    #[cfg(not(target_os = "none"))]
    nominations_against_what_becomes_of_candidates,
    #[cfg(not(target_os = "none"))]
    changes_against_samples,
    #[cfg(not(target_os = "none"))]
    a_collapse_against_samples,
    #[cfg(not(target_os = "none"))]
    stores_against_pages_that_are_moved_out,
    #[cfg(not(target_os = "none"))]
    releases_against_pages_that_are_moved_out,
    #[cfg(not(target_os = "none"))]
    pins_against_pages_that_are_moved_out,
    #[cfg(not(target_os = "none"))]
    touches_of_the_slot_that_waits,
    #[cfg(not(target_os = "none"))]
    touches_of_a_home_that_is_emptied,
    #[cfg(not(target_os = "none"))]
    stores_against_a_fault_that_compacts,
    #[cfg(not(target_os = "none"))]
    two_faults_that_compact,
    #[cfg(not(target_os = "none"))]
    a_fault_that_compacts_against_the_background,
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
