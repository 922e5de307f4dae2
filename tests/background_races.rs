//! What is done in the background on one core while others touch, change, pin and free the same memory: no store is lost, and no
//! candidate.
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
    };
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::mm::huge::{Defrag, Enabled, HugePolicy, Unit};
    use ashlar::mm::mmu::Access;

    use ashlar::mm::{FaultError, MapRequest, Refusal};
    use std::sync::Arc;

    /// A slot of single pages, each with its mark. Background collapse may fill whatever is absent.
    fn scattered(machine: SimMachine) -> Arc<World> {
        let world = crate::race::scattered(machine);
        world.mm.policy().set_max_ptes_none(511);
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
}
