//! Slots that become blocks, pages that move and frames that are pinned while other cores use them: no store is lost, what is pinned
//! stays, and whoever walks sees each page once.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;
#[cfg(not(target_os = "none"))]
#[path = "common/race.rs"]
mod race;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::race::{PAGES, START, World, assert_contents, at, mark, race, scattered};
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PhysAddr};
    use ashlar::mm::huge::{Collapsed, Enabled, FaultMode, Unit};
    use ashlar::mm::mmu::Access;
    use ashlar::mm::pin::{PinId, PinRequest};
    use ashlar::mm::{FaultError, MapRequest, Refusal};
    use std::sync::Arc;

    /// As that, in one of two regions of two slots.
    fn scattered_with_room(machine: SimMachine) -> Arc<World> {
        let world = scattered(machine);
        world.mm.map(MapRequest::new(2 * BLOCK_SIZE).at(at(1024))).expect("room");
        world
    }

    fn collapse(world: &World, page: u64) -> Result<Collapsed, Refusal> {
        let mut found = Err(Refusal::Empty);
        world.mm.collapse(at(page), BLOCK_SIZE, || false, |_, result| found = result).expect("a sound range");
        found
    }

    pub fn stores_against_a_collapse() {
        let own = |world: &World| {
            world.work(5);
            world.work(18);
        };
        let other = |world: &World| assert!(collapse(world, 0).is_ok());
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!((world.get(5), world.get(18)), (4, 4));
            assert_contents(world, &[5, 18]);
        };
        race(scattered, own, other, end);
    }

    pub fn touches_of_holes_against_a_collapse() {
        let own = |world: &World| {
            for page in [17, 19, 200, 510] {
                assert_eq!(world.get(page), 0);
                world.put(page, 7);
                assert_eq!(world.get(page), 7, "a store was lost");
            }
        };
        let other = |world: &World| assert!(collapse(world, 0).is_ok());
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!([17, 19, 200, 510].map(|page| world.get(page)), [7; 4]);
            assert_contents(world, &[]);
        };
        race(scattered, own, other, end);
    }

    pub fn stores_against_a_group_that_moves() {
        let other = |world: &World| {
            for _ in 0..3 {
                world.mm.migrate(at(4), Unit::Group).expect("frames are free");
            }
        };
        let end = |world: &World| {
            assert_eq!(world.get(5), 4);
            assert_eq!(world.mm.usage().groups, 1);
            assert_contents(world, &[5]);
        };
        race(scattered, |world| world.work(5), other, end);
    }

    /// The page that moves is one of a contiguous group.
    pub fn stores_against_a_page_that_leaves_its_group() {
        let make = |machine| {
            let world = scattered(machine);
            world.mm.migrate(at(4), Unit::Group).expect("frames are free");
            world
        };
        let own = |world: &World| {
            world.work(5);
            world.work(6);
        };
        let other = |world: &World| world.mm.migrate(at(5), Unit::Page).expect("frames are free");
        let end = |world: &World| assert_eq!((world.get(5), world.get(6)), (4, 4));
        race(make, own, other, end);
    }

    pub fn code_runs_while_it_moves() {
        let make = |machine| {
            let world = scattered(machine);
            world.mm.protect(START, BLOCK_SIZE, Access::READ_EXECUTE).expect("mapped");
            world
        };
        let own = |world: &World| {
            for page in [0, 5, 16, 5, 511] {
                world.access(|machine| machine.execute(at(page))).expect("executable");
            }
        };
        race(make, own, |world| assert!(collapse(world, 0).is_ok()), |world| assert_contents(world, &[]));
    }

    pub fn two_collapses_of_one_slot() {
        let other = |world: &World| assert!(collapse(world, 0).is_ok());
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!(world.mm.frames().statistics().homes, 1);
            assert_contents(world, &[]);
        };
        race(scattered, other, other, end);
    }

    pub fn a_collapse_against_unmap() {
        let own = |world: &World| match collapse(world, 0) {
            Ok(_) | Err(Refusal::NotCovered | Refusal::Empty) => {}
            Err(refusal) => panic!("{refusal}"),
        };
        let end = |world: &World| {
            assert_eq!(world.mm.usage().mapped_bytes(), 0);
            let frames = world.mm.frames().statistics();
            assert_eq!((frames.homes, frames.movable, frames.whole), (0, 0, 0));
        };
        race(scattered, own, |world| world.mm.unmap(START, BLOCK_SIZE).expect("a region"), end);
    }

    pub fn a_collapse_against_releases() {
        let own = |world: &World| assert!(collapse(world, 0).is_ok());
        let other = |world: &World| {
            world.mm.release(at(4), 2 * PAGE_SIZE).expect("mapped");
            world.mm.release(at(300), 16 * PAGE_SIZE).expect("mapped");
        };
        let end = |world: &World| {
            assert_eq!([4, 5, 300, 310].map(|page| world.get(page)), [0; 4]);
            assert_contents(world, &[4, 5, 300]);
        };
        race(scattered, own, other, end);
    }

    pub fn a_collapse_against_protections() {
        let own = |world: &World| match collapse(world, 0) {
            Ok(_) | Err(Refusal::MixedAttributes) => {}
            Err(refusal) => panic!("{refusal}"),
        };
        let other = |world: &World| {
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
            world.put(0, 1);
            assert_contents(world, &[]);
        };
        race(scattered, own, other, end);
    }

    /// Two slots that each have most pages in the block that was the other's neighbour's: a dissolved block, half of it free, and
    /// pages of the second slot in its free frames.
    fn with_strangers(machine: SimMachine) -> Arc<World> {
        let world = World::new(machine);
        world.mm.policy().set_fault_mode(FaultMode::Eager);
        world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(1024))).expect("room");
        PAGES.iter().for_each(|&page| world.put(page, mark(page)));
        world.mm.release(at(32), 256 * PAGE_SIZE).expect("mapped");
        world.mm.dissolve(START).expect("nothing is pinned");
        world.mm.policy().set_enabled(Enabled::Never);
        world.mm.frames().drain_caches();
        (0..6).for_each(|page| world.put(1024 + page, 100 + page as u8));
        let block = |page| world.mm.machine().translate(at(page)).expect("present").frame().block();
        assert!((0..6).any(|page| block(1024 + page) == block(0)), "there are strangers");
        world
    }

    pub fn stores_of_a_stranger_that_is_moved_out() {
        let own = |world: &World| (1024..1030).for_each(|page| world.work(page));
        let other = |world: &World| assert!(collapse(world, 0).is_ok());
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert!((1024..1030).all(|page| world.get(page) == 4));
            assert_contents(world, &[]);
        };
        race(with_strangers, own, other, end);
    }

    /// What is moved out is freed meanwhile, and touched again.
    pub fn strangers_come_and_go() {
        let own = |world: &World| {
            world.mm.release(at(1024), 3 * PAGE_SIZE).expect("mapped");
            world.put(1024, 9);
            world.mm.unmap(at(1027), 3 * PAGE_SIZE).expect("mapped");
        };
        let other = |world: &World| assert!(collapse(world, 0).is_ok());
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!([1024, 1025, 1026].map(|page| world.get(page)), [9, 0, 0]);
            assert_contents(world, &[]);
        };
        race(with_strangers, own, other, end);
    }

    /// The stranger's slot is made a block at the same time, and both look for frames in the same block.
    pub fn two_slots_that_share_a_block_collapse() {
        let own = |world: &World| assert!(collapse(world, 1024).is_ok());
        let other = |world: &World| assert!(collapse(world, 0).is_ok());
        let end = |world: &World| {
            assert!(world.mm.is_huge(START) && world.mm.is_huge(at(1024)));
            assert!((0..6).all(|page| world.get(1024 + page) == 100 + page as u8));
            assert_contents(world, &[]);
        };
        race(with_strangers, own, other, end);
    }

    pub fn a_collapse_against_memory_taken_back() {
        let make = |machine| {
            let world = scattered_with_room(machine);
            world.mm.policy().set_enabled(Enabled::Always);
            world
        };
        let own = |world: &World| match collapse(world, 0) {
            Ok(_) | Err(Refusal::NoFreeBlock) => {}
            Err(refusal) => panic!("{refusal}"),
        };
        let other = |world: &World| {
            world.exhaust();
            for page in 1024..1027 {
                if let Err(error) = world.try_put(page, 1) {
                    assert_eq!(error, FaultError::OutOfMemory { address: at(page) });
                }
            }
        };
        race(make, own, other, |world| assert_contents(world, &[]));
    }

    /// A collapse was given up with one group at home, all zeros, and the rest away; then memory is short. The home may be locked
    /// when it is asked for absent frames, and free again when it is asked for zero pages.
    pub fn the_zeros_of_a_begun_collapse_are_taken_back() {
        let make = |machine| {
            let world = scattered_with_room(machine);
            (0..16).for_each(|page| world.put(page, 0));
            world.put(1024, 1);
            let mut steps = 0;
            let is_up = || {
                steps += 1;
                steps > 4
            };
            world.mm.collapse(START, BLOCK_SIZE, is_up, |_, _| ()).expect("a sound range");
            assert_eq!(world.mm.frames().statistics().absent, 512 - 16, "one group is at home");
            world.exhaust();
            world
        };
        let own = |world: &World| {
            // Has the slot's lock, most of the time.
            (0..6).for_each(|_| world.mm.walk(at(0).page().0..at(40).page().0, |_| ()));
            // Once all but the last zero page are gone.
            while world.mm.machine().translate(at(14)).is_some() && world.mm.frames().statistics().homes == 1 {
                shuttle::thread::yield_now();
            }
            world.put(15, 7);
            assert_eq!(world.get(15), 7, "a store was lost");
        };
        let other = |world: &World| (1025..1028).for_each(|page| world.put(page, 9));
        let end = |world: &World| {
            assert_eq!((world.get(3), world.get(15)), (0, 7));
            assert!((1025..1028).all(|page| world.get(page) == 9));
            assert_contents(world, &PAGES[..16]);
        };
        race(make, own, other, end);
    }

    /// The only free frames are in a block that is isolated for a while: who needs one waits for the end of that.
    pub fn touches_while_the_last_frames_are_isolated() {
        let make = |machine| {
            let world = World::with_block(machine);
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(1024))).expect("room");
            (0..512).for_each(|page| world.put(page, mark(page)));
            world.mm.policy().set_enabled(Enabled::Never);
            world.put(1024, 1);
            world.exhaust();
            world.mm.release(at(32), 3 * PAGE_SIZE).expect("mapped");
            world.mm.dissolve(START).expect("nothing is pinned");
            world
        };
        let own = |world: &World| {
            for page in 1025..1028 {
                // Mostly in the midst of one, if there is one more.
                (0..100).take_while(|_| !world.mm.frames().is_isolating()).for_each(|_| shuttle::thread::yield_now());
                (0..50).for_each(|_| shuttle::thread::yield_now());
                world.put(page, 9);
            }
        };
        let other = |world: &World| {
            let block = world.mm.machine().translate(START).expect("present").frame().block();
            for _ in 0..3 {
                assert!(world.mm.frames().isolate(block));
                (0..40).for_each(|_| shuttle::thread::yield_now());
                world.mm.frames().end_isolation(block);
            }
        };
        let end = |world: &World| {
            assert!((1025..1028).all(|page| world.get(page) == 9));
            assert_contents(world, &[32, 33, 34]);
        };
        race(make, own, other, end);
    }

    /// Pins `pages` pages from `page` on, and sees that what a device writes arrives while others do their worst.
    fn use_pinned(world: &World, page: u64, pages: u64) {
        let pin = world.mm.pin(at(page), pages as usize * PAGE_SIZE, PinRequest::new().write()).expect("mapped");
        let frames = frames_of(world, &pin);
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

    fn frames_of(world: &World, pin: &PinId) -> Vec<PhysAddr> {
        let pages = |extent: std::ops::Range<PhysAddr>| {
            (0..extent.end - extent.start).step_by(PAGE_SIZE).map(move |offset| extent.start + offset)
        };
        world.mm.extents(pin).flat_map(pages).collect()
    }

    pub fn pins_against_a_collapse() {
        let other = |world: &World| match collapse(world, 0) {
            Ok(_) | Err(Refusal::Pinned) => {}
            Err(refusal) => panic!("{refusal}"),
        };
        let end = |world: &World| {
            assert!(collapse(world, 0).is_ok());
            assert_eq!(world.mm.frames().statistics().pinned, 0);
            assert_contents(world, &[14, 15, 16]);
        };
        race(scattered, |world| use_pinned(world, 14, 4), other, end);
    }

    pub fn pins_against_pages_that_move() {
        let other = |world: &World| {
            for unit in [Unit::Page, Unit::Group, Unit::Page] {
                match world.mm.migrate(at(4), unit) {
                    Ok(()) | Err(Refusal::Pinned) => {}
                    Err(refusal) => panic!("{refusal}"),
                }
            }
        };
        race(scattered, |world| use_pinned(world, 3, 3), other, |world| assert_contents(world, &[3, 4, 5]));
    }

    pub fn pins_against_a_home_that_ends() {
        let other = |world: &World| {
            for _ in 0..2 {
                match world.mm.dissolve(START) {
                    Ok(_) | Err(Refusal::Pinned | Refusal::NoHome) => {}
                    Err(refusal) => panic!("{refusal}"),
                }
            }
        };
        race(World::with_block, |world| use_pinned(world, 3, 3), other, |world| assert_eq!(world.get(3), 2));
    }

    pub fn pins_against_a_split_and_a_promotion() {
        let other = |world: &World| {
            world.mm.protect(at(7), PAGE_SIZE, Access::READ).expect("mapped");
            world.mm.protect(at(7), PAGE_SIZE, Access::READ_WRITE).expect("mapped");
        };
        race(World::with_block, |world| use_pinned(world, 3, 3), other, |world| assert!(world.mm.is_huge(START)));
    }

    /// Pages are released and unmapped while they are pinned and while the pin is dropped: the frames are nobody's until then, and
    /// free afterwards.
    pub fn a_pin_is_dropped_while_its_pages_go() {
        let own = |world: &World| {
            let pin = world.mm.pin(at(4), 6 * PAGE_SIZE, PinRequest::new().write());
            if let Ok(pin) = pin {
                frames_of(world, &pin).iter().for_each(|&frame| world.mm.machine().write_physical(frame, &[77]));
                world.mm.unpin(pin);
            }
        };
        let other = |world: &World| {
            world.mm.release(at(2), 4 * PAGE_SIZE).expect("mapped");
            // The device may have written to a page that came after, or to one that went.
            assert!([0, 77].contains(&world.get(5)));
            world.mm.unmap(at(6), 10 * PAGE_SIZE).expect("mapped");
        };
        let end = |world: &World| {
            let frames = world.mm.frames().statistics();
            assert_eq!((frames.pinned, frames.orphans), (0, 0));
            assert_contents(world, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        };
        race(scattered, own, other, end);
        let block = |machine| {
            let world = World::with_block(machine);
            PAGES.iter().for_each(|&page| world.put(page, mark(page)));
            world
        };
        race(block, own, other, end);
    }

    pub fn a_long_pin_against_stores() {
        let own = |world: &World| (0..6).for_each(|page| world.work(page));
        let other = |world: &World| {
            let pin = world.mm.pin(START, 4 * PAGE_SIZE, PinRequest::new().long()).expect("mapped");
            assert!(frames_of(world, &pin).iter().all(|frame| world.mm.frames().is_unmovable(frame.frame())));
            world.mm.unpin(pin);
        };
        let end = |world: &World| assert!((0..6).all(|page| world.get(page) == 4));
        race(World::with_block, own, other, end);
    }

    /// Sees every page of the slot that is there all the time once, with the frame that it has.
    fn walk(world: &World) {
        let mut pages = Vec::new();
        world.mm.walk(at(0).page().0..at(512).page().0, |leaf| {
            (0..leaf.pages as u64).for_each(|offset| pages.push(leaf.page.0 + offset));
        });
        assert!(pages.is_sorted() && pages.windows(2).all(|two| two[0] < two[1]), "a page was seen twice");
        for page in PAGES {
            assert!(pages.contains(&at(page).page().0), "page {page} was not seen");
        }
    }

    /// In the middle of a split or a promotion the level-2 descriptor is invalid, and the slot is mapped all the same.
    pub fn walks_against_splits_and_promotions() {
        let make = |machine| {
            let world = World::with_block(machine);
            PAGES.iter().for_each(|&page| world.put(page, mark(page)));
            world
        };
        let own = |world: &World| (0..40).for_each(|_| walk(world));
        let other = |world: &World| {
            for access in [Access::READ, Access::READ_WRITE, Access::READ, Access::READ_WRITE] {
                world.mm.protect(at(400), PAGE_SIZE, access).expect("mapped");
            }
        };
        race(make, own, other, |world| assert_contents(world, &[]));
    }

    /// Pages of the block that is adopted leave it meanwhile.
    pub fn pages_that_move_against_an_adoption() {
        let make = |machine| {
            let world = World::with_block(machine);
            PAGES.iter().for_each(|&page| world.put(page, mark(page)));
            world.mm.dissolve(START).expect("nothing is pinned");
            world
        };
        let own = |world: &World| {
            for round in 0..4 {
                for unit in [Unit::Page, Unit::Group] {
                    match world.mm.migrate(at(2 + 16 * round), unit) {
                        Ok(()) => {}
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
            }
        };
        let other = |world: &World| {
            for _ in 0..3 {
                assert!(collapse(world, 0).is_ok());
                let _ = world.mm.dissolve(START);
            }
        };
        race(make, own, other, |world| assert_contents(world, &[]));
    }

    pub fn a_walk_against_a_collapse_and_a_split() {
        let own = |world: &World| (0..4).for_each(|_| walk(world));
        let other = |world: &World| {
            assert!(collapse(world, 0).is_ok());
            world.mm.protect(at(400), PAGE_SIZE, Access::READ).expect("mapped");
            world.mm.dissolve(START).expect("nothing is pinned");
        };
        race(scattered, own, other, walk);
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    stores_against_a_collapse,
    #[cfg(not(target_os = "none"))]
    touches_of_holes_against_a_collapse,
    #[cfg(not(target_os = "none"))]
    stores_against_a_group_that_moves,
    #[cfg(not(target_os = "none"))]
    stores_against_a_page_that_leaves_its_group,
    #[cfg(not(target_os = "none"))]
    code_runs_while_it_moves,
    #[cfg(not(target_os = "none"))]
    two_collapses_of_one_slot,
    #[cfg(not(target_os = "none"))]
    a_collapse_against_unmap,
    #[cfg(not(target_os = "none"))]
    a_collapse_against_releases,
    #[cfg(not(target_os = "none"))]
    a_collapse_against_protections,
    #[cfg(not(target_os = "none"))]
    stores_of_a_stranger_that_is_moved_out,
    #[cfg(not(target_os = "none"))]
    strangers_come_and_go,
    #[cfg(not(target_os = "none"))]
    two_slots_that_share_a_block_collapse,
    #[cfg(not(target_os = "none"))]
    a_collapse_against_memory_taken_back,
    #[cfg(not(target_os = "none"))]
    the_zeros_of_a_begun_collapse_are_taken_back,
    #[cfg(not(target_os = "none"))]
    touches_while_the_last_frames_are_isolated,
    #[cfg(not(target_os = "none"))]
    pins_against_a_collapse,
    #[cfg(not(target_os = "none"))]
    pins_against_pages_that_move,
    #[cfg(not(target_os = "none"))]
    pins_against_a_home_that_ends,
    #[cfg(not(target_os = "none"))]
    pins_against_a_split_and_a_promotion,
    #[cfg(not(target_os = "none"))]
    a_pin_is_dropped_while_its_pages_go,
    #[cfg(not(target_os = "none"))]
    a_long_pin_against_stores,
    #[cfg(not(target_os = "none"))]
    walks_against_splits_and_promotions,
    #[cfg(not(target_os = "none"))]
    pages_that_move_against_an_adoption,
    #[cfg(not(target_os = "none"))]
    a_walk_against_a_collapse_and_a_split,
}
