//! Memory that goes to other addresses while other cores touch, collapse, pin and walk over it: no store is lost, what is pinned
//! stays in its frame, and nothing is left where it was.
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
    use crate::race::{self, MAKERS, PAGES, START, World, at, block, half, mark, race, scattered, wherever};
    use crate::worker::background;
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::mm::huge::{Enabled, FaultMode, Unit};
    use ashlar::mm::pin::{PinError, PinRequest};
    use ashlar::mm::{FaultError, MapRequest, Refusal, RemapRequest};
    use std::sync::Arc;

    /// Where a slot goes as it is, and by its pages: so many pages after the first slot's first.
    const WHOLE: u64 = 8 * 512;
    const ASKEW: u64 = 16 * 512 + 20;
    /// Where it may be.
    const PLACES: [u64; 3] = [0, WHOLE, ASKEW];

    const SLOT: RemapRequest = RemapRequest::new(BLOCK_SIZE);

    /// Moves the slot from page `from` to page `to`.
    fn go(world: &World, from: u64, to: u64) {
        let range = world.mm.remap(at(from), BLOCK_SIZE, SLOT.at(at(to))).expect("mapped, and room");
        assert_eq!(range, at(to)..at(to + 512));
    }

    fn go_whole(world: &World) {
        go(world, 0, WHOLE);
    }

    fn go_askew(world: &World) {
        go(world, 0, ASKEW);
    }

    /// There, back by its pages, and there again.
    fn go_about(world: &World) {
        go(world, 0, WHOLE);
        go(world, WHOLE, ASKEW);
        go(world, ASKEW, 0);
        go(world, 0, WHOLE);
    }

    /// Goes back to where it was, before the other core has seen that it was gone.
    fn go_to_and_fro(world: &World) {
        for _ in 0..2 {
            go(world, 0, WHOLE);
            go(world, WHOLE, 0);
        }
    }

    /// Stores to a page, wherever it is, and loads again, a few times.
    fn follow(world: &World, page: u64) {
        race::follow(world, &PLACES, page);
    }

    /// Marked pages that are there from the start, but those in `but`, are at page `place`; nothing is mapped elsewhere.
    fn assert_at(world: &World, place: u64, but: &[u64]) {
        for page in PAGES.into_iter().filter(|page| !but.contains(page)) {
            assert_eq!(world.get(place + page), mark(page), "page {page}");
        }
        assert_eq!(world.mm.usage().region_pages % 512, 0);
        for other in PLACES.into_iter().filter(|&other| other != place) {
            assert!(world.mm.region(at(other)).is_none(), "it is not at {other} any more");
        }
    }

    pub fn stores_to_a_slot_that_moves() {
        for make in MAKERS {
            let own = |world: &World| [5, 18].into_iter().for_each(|page| follow(world, page));
            race(make, own, go_whole, |world| {
                assert_eq!((world.get(WHOLE + 5), world.get(WHOLE + 18)), (4, 4));
                assert_at(world, WHOLE, &[5, 18]);
            });
        }
    }

    pub fn stores_to_pages_that_move() {
        for make in MAKERS {
            let own = |world: &World| [5, 18].into_iter().for_each(|page| follow(world, page));
            race(make, own, go_askew, |world| {
                assert_eq!((world.get(ASKEW + 5), world.get(ASKEW + 18)), (4, 4));
                assert_at(world, ASKEW, &[5, 18]);
            });
        }
    }

    pub fn stores_to_a_slot_that_comes_back() {
        for make in MAKERS {
            let own = |world: &World| [5, 300].into_iter().for_each(|page| follow(world, page));
            race(make, own, go_to_and_fro, |world| {
                assert_eq!((world.get(5), world.get(300)), (4, 4));
                assert_at(world, 0, &[5, 300]);
            });
        }
    }

    pub fn stores_to_a_slot_that_moves_about() {
        for make in [half, scattered] {
            let own = |world: &World| follow(world, 18);
            race(make, own, go_about, |world| {
                assert_eq!(world.get(WHOLE + 18), 4);
                assert_at(world, WHOLE, &[18]);
            });
        }
    }

    /// Pages that are absent are touched first while the slot moves.
    pub fn first_touches_of_a_slot_that_moves() {
        let touch = |world: &World| {
            for page in [17, 200, 301] {
                wherever(&PLACES, page, |page| world.try_put(page, 7));
                assert_eq!(wherever(&PLACES, page, |page| world.try_get(page)), 7, "a store was lost");
            }
        };
        for make in [half, scattered] {
            race(make, touch, go_to_and_fro, |world| {
                assert_eq!([17, 200, 301].map(|page| world.get(page)), [7; 3]);
                assert_at(world, 0, &[]);
            });
            race(make, touch, go_askew, |world| {
                assert_eq!([17, 200, 301].map(|page| world.get(ASKEW + page)), [7; 3]);
                assert_at(world, ASKEW, &[]);
            });
        }
        let end = |world: &World| assert_eq!([17, 200, 301].map(|page| world.get(WHOLE + page)), [7; 3]);
        race(World::new, touch, go_whole, end);
        race(World::new, touch, go_about, end);
    }

    /// Of a slot that has hardly any, so that who waits for it may find that all have left.
    pub fn first_touches_of_pages_that_leave() {
        let make = |machine| {
            let world = World::new(machine);
            world.mm.policy().set_enabled(Enabled::Never);
            world.put(10, mark(10));
            world
        };
        let own = |world: &World| {
            for page in 0..8 {
                wherever(&PLACES, page, |page| world.try_put(page, 7));
            }
        };
        let other = |world: &World| {
            for _ in 0..2 {
                for (from, to) in [(0, ASKEW), (ASKEW, 0)] {
                    let length = 16 * PAGE_SIZE;
                    world.mm.remap(at(from), length, RemapRequest::new(length).at(at(to))).expect("mapped, and room");
                }
            }
        };
        let end = |world: &World| {
            (0..8).for_each(|page| assert_eq!(world.get(page), 7, "page {page}"));
            assert_eq!(world.get(10), mark(10));
        };
        race(make, own, other, end);
    }

    /// A block is zeroed outside the slot's lock.
    pub fn a_slot_that_is_being_filled_moves() {
        let make = |machine| {
            let world = World::new(machine);
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world
        };
        let own = |world: &World| wherever(&PLACES, 3, |page| world.try_put(page, 7));
        race(make, own, go_whole, |world| assert_eq!(world.get(WHOLE + 3), 7));
        race(make, own, go_to_and_fro, |world| assert_eq!(world.get(3), 7));
        race(make, own, go_askew, |world| assert_eq!(world.get(ASKEW + 3), 7));
    }

    /// The old addresses stay mapped: a store is one to what moves, or to what is there after.
    pub fn stores_to_a_slot_that_is_kept() {
        let own = |world: &World| {
            for page in [5, 18, 200] {
                world.put(page, 250);
                let found = world.get(page);
                assert!([0, 250].contains(&found), "page {page} holds {found}");
            }
        };
        fn keep<const TO: u64>(world: &World) {
            let range = world.mm.remap(START, BLOCK_SIZE, SLOT.at(at(TO)).keep()).expect("mapped, and room");
            assert_eq!(range.start, at(TO));
        }
        fn end<const TO: u64>(world: &World) {
            for page in PAGES.into_iter().chain([200]) {
                let before = if page == 200 { 0 } else { mark(page) };
                match (world.get(page), world.get(TO + page)) {
                    (0, there) if [5, 18, 200].contains(&page) => {
                        assert_eq!(there, 250, "page {page}: its store was lost")
                    }
                    (here, there) => {
                        assert_eq!(there, before, "page {page}");
                        assert_eq!(here, if [5, 18, 200].contains(&page) { 250 } else { 0 }, "page {page}");
                    }
                }
            }
            assert_eq!(world.mm.usage().region_pages, 1024);
        }
        for make in MAKERS {
            race(make, own, keep::<WHOLE>, end::<WHOLE>);
            race(make, own, keep::<ASKEW>, end::<ASKEW>);
        }
        // Its record is made meanwhile.
        let end = |world: &World| {
            for page in [5, 18, 200] {
                assert_eq!(world.get(page).max(world.get(WHOLE + page)), 250, "page {page}: its store was lost");
            }
        };
        race(World::new, own, keep::<WHOLE>, end);
        race(World::new, own, keep::<ASKEW>, |world| {
            for page in [5, 18, 200] {
                assert_eq!(world.get(page).max(world.get(ASKEW + page)), 250, "page {page}: its store was lost");
            }
        });
    }

    /// The record of the slot that is kept is made while what is in its way is unmapped.
    pub fn first_touches_of_a_slot_that_is_kept() {
        let make = |machine| {
            let world = World::new(machine);
            world.mm.map(MapRequest::new(2 * BLOCK_SIZE).at(at(16 * 512))).expect("room");
            [ASKEW, ASKEW + 511].into_iter().for_each(|page| world.put(page, 9));
            world
        };
        let own = |world: &World| [5, 500].into_iter().for_each(|page| world.put(page, 250));
        let other = |world: &World| {
            world.mm.remap(START, BLOCK_SIZE, SLOT.over(at(ASKEW)).keep()).expect("mapped");
        };
        let end = |world: &World| {
            for page in [5, 500] {
                assert_eq!(world.get(page).max(world.get(ASKEW + page)), 250, "page {page}: its store was lost");
            }
            assert_eq!((world.get(ASKEW), world.get(ASKEW + 511)), (0, 0));
        };
        race(make, own, other, end);
    }

    /// What is mapped there is in use until the slot takes its place.
    pub fn stores_to_what_makes_room() {
        let make = |machine| {
            let world = block(machine);
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(WHOLE))).expect("room");
            world.put(WHOLE + 5, 9);
            world
        };
        let own = |world: &World| {
            for page in [6, 40, 511] {
                match world.try_put(WHOLE + page, 250) {
                    Ok(()) | Err(FaultError::NoRegion { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let end = |world: &World| {
            for page in [6, 40, 511] {
                let before = if PAGES.contains(&page) { mark(page) } else { 0 };
                assert!([before, 250].contains(&world.get(WHOLE + page)));
            }
            assert_at(world, WHOLE, &[6, 40, 511]);
        };
        let other = |world: &World| {
            world.mm.remap(START, BLOCK_SIZE, SLOT.over(at(WHOLE))).expect("mapped");
        };
        race(make, own, other, end);
    }

    /// A slot beside it, in the same GiB, is touched first while two records change places.
    pub fn first_touches_beside_a_slot_that_moves() {
        let make = |machine| {
            let world = half(machine);
            world.mm.map(MapRequest::new(2 * BLOCK_SIZE).at(at(WHOLE + 512))).expect("room");
            world
        };
        let own = |world: &World| [WHOLE + 512, WHOLE + 1024 + 3].into_iter().for_each(|page| world.work(page));
        race(make, own, go_whole, |world| {
            assert_eq!((world.get(WHOLE + 512), world.get(WHOLE + 1024 + 3)), (4, 4));
            assert_at(world, WHOLE, &[]);
        });
    }

    /// Candidates for the background, whatever is absent.
    fn candidate(machine: SimMachine) -> Arc<World> {
        let world = scattered(machine);
        world.mm.policy().set_max_ptes_none(511);
        world.mm.policy().set_enabled(Enabled::Always);
        world.mm.reconsider();
        assert_eq!(world.mm.candidates(), 1);
        world
    }

    pub fn a_collapse_of_a_slot_that_moves() {
        let own = |world: &World| {
            for place in [0, WHOLE, ASKEW / 512 * 512, 0] {
                let each = |_, result| match result {
                    Ok(_) | Err(Refusal::NotCovered | Refusal::Empty) => {}
                    Err(refusal) => panic!("{refusal}"),
                };
                world.mm.collapse(at(place), BLOCK_SIZE, || false, each).expect("a sound range");
            }
        };
        race(scattered, own, go_whole, |world| assert_at(world, WHOLE, &[]));
        race(scattered, own, go_askew, |world| assert_at(world, ASKEW, &[]));
        race(scattered, own, go_to_and_fro, |world| assert_at(world, 0, &[]));
        race(half, own, go_about, |world| assert_at(world, WHOLE, &[]));
    }

    pub fn the_background_at_a_slot_that_moves() {
        race(candidate, background, go_whole, |world| assert_at(world, WHOLE, &[]));
        race(candidate, background, go_askew, |world| assert_at(world, ASKEW, &[]));
        race(candidate, background, go_about, |world| assert_at(world, WHOLE, &[]));
    }

    pub fn idle_time_at_a_slot_that_moves() {
        let make = |machine| {
            let world = half(machine);
            // It is in use by half, and would be promoted.
            (0..512).step_by(32).for_each(|page| world.put(page + 2, mark(page + 2)));
            world
        };
        let idle = |world: &World| (0..33).for_each(|_| _ = world.mm.idle_step());
        fn end<const TO: u64>(world: &World) {
            (0..512).step_by(32).for_each(|page| assert_eq!(world.get(TO + page + 2), mark(page + 2)));
            assert_at(world, TO, &[]);
        }
        race(make, idle, go_whole, end::<WHOLE>);
        race(make, idle, go_askew, end::<ASKEW>);
        race(make, idle, go_to_and_fro, end::<0>);
        race(make, idle, go_about, end::<WHOLE>);
    }

    /// Another slot's touches find no frame, and take back what the one that moves does not use.
    pub fn memory_taken_back_from_a_slot_that_moves() {
        let make = |machine| {
            let world = block(machine);
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(512 * 4))).expect("room");
            world.put(512 * 4, 1);
            world.mm.release(at(320), 160 * PAGE_SIZE).expect("mapped");
            world.exhaust();
            world
        };
        let own = |world: &World| (1..5).for_each(|group| world.put(512 * 4 + 16 * group, 8));
        fn go_with_what_is_left<const TO: u64>(world: &World) {
            // There are absent frames, and zero pages.
            go(world, 0, TO);
        }
        fn end<const TO: u64>(world: &World) {
            (1..5).for_each(|group| assert_eq!(world.get(512 * 4 + 16 * group), 8));
            assert_at(world, TO, &[]);
        }
        race(make, own, go_with_what_is_left::<WHOLE>, end::<WHOLE>);
        race(make, own, go_with_what_is_left::<ASKEW>, end::<ASKEW>);
    }

    /// Pins pages, and sees that what a device writes arrives, wherever they are by then.
    fn use_pinned(world: &World) {
        let (first, pages) = (3, 3);
        let request = PinRequest::new().write();
        let pin = loop {
            let pinned = PLACES.into_iter().find_map(|place| {
                match world.mm.pin(at(place + first), pages as usize * PAGE_SIZE, request) {
                    Ok(pin) => Some(pin),
                    Err(PinError::Fault(FaultError::NoRegion { .. })) => None,
                    Err(error) => panic!("{error}"),
                }
            });
            match pinned {
                Some(pin) => break pin,
                None => shuttle::thread::yield_now(),
            }
        };
        let frames: Vec<_> = (world.mm.extents(&pin))
            .flat_map(|extent| (0..extent.end - extent.start).step_by(PAGE_SIZE).map(move |at| extent.start + at))
            .collect();
        assert_eq!(frames.len() as u64, pages);
        for round in 1..3 {
            for (&frame, page) in frames.iter().zip(first..) {
                world.mm.machine().write_physical(frame, &[100 + round]);
                assert_eq!(
                    wherever(&PLACES, page, |page| world.try_get(page)),
                    100 + round,
                    "the device's write was lost"
                );
                wherever(&PLACES, page, |page| world.try_put(page, round));
                assert_eq!(world.mm.machine().read_physical(frame, 1), [round], "the application's was");
            }
        }
        world.mm.unpin(pin);
    }

    pub fn pins_of_a_slot_that_moves() {
        const PINNED: [u64; 3] = [3, 4, 5];
        for make in MAKERS {
            race(make, use_pinned, go_whole, |world| assert_at(world, WHOLE, &PINNED));
            race(make, use_pinned, go_askew, |world| assert_at(world, ASKEW, &PINNED));
            race(make, use_pinned, go_to_and_fro, |world| assert_at(world, 0, &PINNED));
        }
        race(half, use_pinned, go_about, |world| assert_at(world, WHOLE, &PINNED));
    }

    /// Pages that would move by themselves, too.
    pub fn pages_migrate_as_they_move() {
        let own = |world: &World| {
            for unit in [Unit::Page, Unit::Group, Unit::Page] {
                for place in PLACES {
                    match world.mm.migrate(at(place + 4), unit) {
                        Ok(()) | Err(Refusal::Absent) => {}
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
            }
        };
        for make in MAKERS {
            race(make, own, go_whole, |world| assert_at(world, WHOLE, &[]));
            race(make, own, go_askew, |world| assert_at(world, ASKEW, &[]));
        }
    }

    /// A home may end before the slot goes, or where it is then.
    pub fn a_home_ends_as_its_slot_moves() {
        let own = |world: &World| {
            for place in [0, WHOLE, 0, WHOLE] {
                match world.mm.dissolve(at(place)) {
                    Ok(_) | Err(Refusal::NoHome) => {}
                    Err(refusal) => panic!("{refusal}"),
                }
            }
        };
        for make in [block, half] {
            race(make, own, go_whole, |world| assert_at(world, WHOLE, &[]));
            race(make, own, go_askew, |world| assert_at(world, ASKEW, &[]));
            race(make, own, go_about, |world| assert_at(world, WHOLE, &[]));
        }
    }

    /// Sees no page of a slot twice, and none without its frame.
    fn walk(world: &World) {
        for place in PLACES {
            let mut next = at(place).page().0;
            let range = next..next + 512;
            world.mm.walk(range.clone(), |leaf| {
                assert!(next <= leaf.page.0 && leaf.pages > 0, "{:?} comes after {next:#x}", leaf.page);
                next = leaf.page.0 + leaf.pages as u64;
                assert!(next <= range.end);
                let index = leaf.page.0 - range.start;
                let byte = world.mm.machine().read_physical(leaf.frame.start(), 1)[0];
                if PAGES.contains(&index) {
                    assert_eq!(byte, mark(index), "page {index} at {place}");
                }
            });
        }
    }

    pub fn walks_over_a_slot_that_moves() {
        for make in MAKERS {
            race(
                make,
                |world| (0..4).for_each(|_| walk(world)),
                go_about,
                |world| {
                    walk(world);
                    assert_at(world, WHOLE, &[]);
                },
            );
        }
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    stores_to_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    stores_to_pages_that_move,
    #[cfg(not(target_os = "none"))]
    stores_to_a_slot_that_comes_back,
    #[cfg(not(target_os = "none"))]
    stores_to_a_slot_that_moves_about,
    #[cfg(not(target_os = "none"))]
    first_touches_of_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    first_touches_of_pages_that_leave,
    #[cfg(not(target_os = "none"))]
    a_slot_that_is_being_filled_moves,
    #[cfg(not(target_os = "none"))]
    stores_to_a_slot_that_is_kept,
    #[cfg(not(target_os = "none"))]
    first_touches_of_a_slot_that_is_kept,
    #[cfg(not(target_os = "none"))]
    stores_to_what_makes_room,
    #[cfg(not(target_os = "none"))]
    first_touches_beside_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    a_collapse_of_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    the_background_at_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    idle_time_at_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    memory_taken_back_from_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    pins_of_a_slot_that_moves,
    #[cfg(not(target_os = "none"))]
    pages_migrate_as_they_move,
    #[cfg(not(target_os = "none"))]
    a_home_ends_as_its_slot_moves,
    #[cfg(not(target_os = "none"))]
    walks_over_a_slot_that_moves,
}
