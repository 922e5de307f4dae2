//! Memory that is mapped at several places while other cores use it at one of them: places come and go, and what is written stays.
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
    use crate::race::{self, MAKERS, PAGES, START, World, at, block, half, mark, race_of_three, scattered, wherever};
    use crate::worker::{after_a_while, background, use_pinned};
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::mm::huge::{Enabled, FaultMode, Unit};
    use ashlar::mm::pin::{PinError, PinRequest};
    use ashlar::mm::{Destination, FaultError, MapRequest, Refusal};
    use std::sync::Arc;

    /// Other places of the first slot: so many pages after its first.
    const OTHER: u64 = 8 * 512;
    const THIRD: u64 = 12 * 512;
    /// Where it may be.
    const PLACES: [u64; 3] = [0, OTHER, THIRD];

    /// Maps what is at page `from` at page `to` as well.
    fn come(world: &World, from: u64, to: u64) {
        let there = world.mm.alias(at(from), BLOCK_SIZE, Destination::At(at(to))).expect("mapped, and room");
        assert_eq!(there, at(to)..at(to + 512));
    }

    fn go(world: &World, place: u64) {
        world.mm.unmap(at(place), BLOCK_SIZE).expect("a sound range");
    }

    /// Another place comes and goes, twice.
    fn come_and_go(world: &World) {
        for _ in 0..2 {
            come(world, 0, OTHER);
            go(world, OTHER);
        }
    }

    /// Another place comes, and the first one goes.
    fn change_places(world: &World) {
        come(world, 0, OTHER);
        go(world, 0);
    }

    /// The first one goes, and another comes there again.
    fn go_about(world: &World) {
        come(world, 0, OTHER);
        come(world, OTHER, THIRD);
        go(world, 0);
        go(world, OTHER);
        come(world, THIRD, 0);
        go(world, THIRD);
    }

    type Program = fn(&World);

    /// What changes its places, and where it is then.
    const CHANGES: [(Program, Program); 3] =
        [(come_and_go, end::<0>), (change_places, end::<OTHER>), (go_about, end::<0>)];

    /// Stores to pages, wherever they are, and loads again, a few times.
    fn follow<const PAGE: u64>(world: &World) {
        race::follow(world, &PLACES, PAGE);
    }

    /// What is written to by those who follow, and may be.
    const WRITTEN: [u64; 4] = [5, 17, 18, 300];

    /// All of it is at page `PLACE`, and nowhere else.
    fn end<const PLACE: u64>(world: &World) {
        for page in PAGES.into_iter().filter(|page| !WRITTEN.contains(page)) {
            assert_eq!(world.get(PLACE + page), mark(page), "page {page}");
        }
        for page in WRITTEN {
            let before = if page == 17 { 0 } else { mark(page) };
            assert!([before, 4].contains(&world.get(PLACE + page)), "page {page}");
        }
        assert_eq!(world.mm.map_count(at(PLACE)), 1);
        for other in PLACES.into_iter().filter(|&other| other != PLACE) {
            assert!(world.mm.region(at(other)).is_none(), "it is not at {other} any more");
            // The addresses are like any others.
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(other))).expect("free");
            world.work(other + 5);
            assert_eq!(world.get(other + 6), 0);
        }
    }

    /// The program at one place, and stores, while places change.
    fn against_changes(program: fn(&World)) {
        for make in MAKERS {
            for (change, end) in CHANGES {
                race_of_three(make, [program, follow::<5>, change], end);
            }
        }
    }

    pub fn stores_and_first_touches() {
        against_changes(follow::<17>);
        // Its record, and its pages, come meanwhile.
        for change in [come_and_go, change_places, go_about] {
            race_of_three(World::new, [follow::<17>, follow::<300>, change], |world| {
                assert_eq!([17, 300].map(|page| wherever(&PLACES, page, |page| world.try_get(page))), [4, 4]);
            });
        }
    }

    /// A block is zeroed outside the lock.
    pub fn a_block_is_filled() {
        let make = |machine| {
            let world = World::new(machine);
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world
        };
        for change in [come_and_go, change_places, go_about] {
            race_of_three(make, [follow::<17>, follow::<300>, change], |world| {
                assert_eq!([17, 300].map(|page| wherever(&PLACES, page, |page| world.try_get(page))), [4, 4]);
            });
        }
        // What was there before is still being filled, where the place comes.
        let make = |machine| {
            let world = half(machine);
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(OTHER))).expect("room");
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world
        };
        let touch = |world: &World| match world.try_put(OTHER + 300, 4) {
            Ok(()) | Err(FaultError::NoRegion { .. }) => {}
            Err(error) => panic!("{error}"),
        };
        let over = |world: &World| {
            after_a_while(20);
            world.mm.alias(START, BLOCK_SIZE, Destination::Over(at(OTHER))).expect("mapped");
            assert_eq!(world.get(OTHER + 18), mark(18));
            go(world, OTHER);
        };
        race_of_three(make, [touch, follow::<5>, over], end::<0>);
    }

    /// Two places, and who writes at one reads at the other.
    pub fn touches_at_two_places() {
        fn make<const ZEROS: bool>(machine: SimMachine) -> Arc<World> {
            let world = World::new(machine);
            if ZEROS {
                assert_eq!(world.get(40), 0);
            }
            come(&world, 0, OTHER);
            world
        }
        let write = |world: &World| {
            for page in [3, 40, 41, 300] {
                world.put(page, 7);
                assert_eq!(world.get(OTHER + page), 7);
            }
        };
        let other = |world: &World| {
            for page in [41, 4, 300, 511] {
                world.put(OTHER + page, 7);
                assert_eq!(world.get(page), 7);
            }
        };
        let read = |world: &World| {
            for page in [3, 300, 41, 200] {
                assert!([0, 7].contains(&world.get(OTHER + page)));
                assert!([0, 7].contains(&world.get(page)));
            }
        };
        for make in [make::<false>, make::<true>] {
            race_of_three(make, [write, other, read], |world| {
                for page in [3, 40, 41, 300, 4, 511] {
                    assert_eq!((world.get(page), world.get(OTHER + page)), (7, 7), "page {page}");
                }
                assert_eq!(world.mm.map_count(at(3)), 2);
            });
        }
    }

    /// The zero block, or one that may be taken back, is to be written to at a place that goes.
    pub fn a_fault_at_a_place_that_goes() {
        let zeros = |machine| {
            let world = World::new(machine);
            assert_eq!(world.get(0), 0);
            come(&world, 0, OTHER);
            world
        };
        let freed = |machine| {
            let world = block(machine);
            come(&world, 0, OTHER);
            world.mm.mark_free(START, BLOCK_SIZE).expect("mapped");
            world
        };
        fn write<const FIRST: u64>(world: &World) {
            for page in [FIRST, FIRST + 60, FIRST + 120] {
                match world.try_put(OTHER + page, 4) {
                    Ok(()) => assert_eq!(world.get(page), 4, "a store was lost"),
                    Err(FaultError::NoRegion { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let leave = |world: &World| {
            after_a_while(12);
            go(world, OTHER);
        };
        for make in [zeros, freed] as [fn(SimMachine) -> Arc<World>; 2] {
            race_of_three(make, [write::<5>, leave, write::<20>], |world| {
                assert!(world.mm.map_count(START) <= 1);
                world.work(30);
            });
        }
    }

    /// Who looks for its slot by that number finds none there.
    pub fn a_block_is_split_at_a_place_that_goes() {
        let make = |machine| {
            let world = block(machine);
            come(&world, 0, OTHER);
            world
        };
        let migrate = |world: &World| {
            after_a_while(12);
            match world.mm.migrate(at(OTHER + 5), Unit::Page) {
                Ok(()) | Err(Refusal::Absent) => {}
                Err(refusal) => panic!("{refusal}"),
            }
        };
        let leave = |world: &World| {
            after_a_while(12);
            go(world, OTHER);
        };
        race_of_three(make, [migrate, leave, |_| ()], end::<0>);
    }

    pub fn pages_migrate() {
        against_changes(|world| {
            for (page, unit) in [(5, Unit::Page), (4, Unit::Group), (18, Unit::Page)] {
                for place in PLACES {
                    match world.mm.migrate(at(place + page), unit) {
                        Ok(()) | Err(Refusal::Absent) => {}
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
            }
        });
    }

    pub fn a_home_ends() {
        against_changes(|world| {
            for place in PLACES {
                match world.mm.dissolve(at(place)) {
                    Ok(_) | Err(Refusal::NoHome) => {}
                    Err(refusal) => panic!("{refusal}"),
                }
            }
        });
    }

    pub fn a_collapse() {
        against_changes(|world| {
            for place in PLACES {
                let each = |_, result| match result {
                    Ok(_) | Err(Refusal::NotCovered | Refusal::Empty) => {}
                    // Places change too often.
                    Err(Refusal::Busy) => {}
                    Err(refusal) => panic!("{refusal}"),
                };
                world.mm.collapse(at(place), BLOCK_SIZE, || false, each).expect("a sound range");
            }
        });
    }

    pub fn the_background() {
        let make = |machine| {
            let world = scattered(machine);
            // One that gives its place away for a while.
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(OTHER))).expect("room");
            world.put(OTHER, 1);
            world.mm.policy().set_max_ptes_none(511);
            world.mm.policy().set_enabled(Enabled::Always);
            world.mm.reconsider();
            assert_eq!(world.mm.candidates(), 2);
            go(&world, OTHER);
            world
        };
        for (change, end) in CHANGES {
            race_of_three(make, [background, follow::<5>, change], end);
        }
    }

    pub fn idle_time() {
        let make = |machine| {
            let world = half(machine);
            // It is in use by half, and would be promoted.
            (0..512).step_by(32).for_each(|page| world.put(page + 2, mark(page + 2)));
            world
        };
        let idle = |world: &World| (0..33).for_each(|_| _ = world.mm.idle_step());
        for (change, end) in CHANGES {
            race_of_three(make, [idle, follow::<5>, change], end);
        }
    }

    pub fn what_is_released_is_gone_at_all_places() {
        let release = |world: &World| {
            for place in PLACES {
                for (page, pages) in [(17, 1), (300, 1), (5, 1)] {
                    // Where it is not mapped, nothing is released.
                    let _ = world.mm.release(at(place + page), pages * PAGE_SIZE);
                }
            }
        };
        let write = |world: &World| {
            for page in [17, 300, 5] {
                wherever(&PLACES, page, |page| world.try_put(page, 4));
                assert!([0, 4].contains(&wherever(&PLACES, page, |page| world.try_get(page))), "page {page}");
            }
        };
        let marked = |world: &World| {
            for page in PAGES.into_iter().filter(|page| !WRITTEN.contains(page)) {
                assert_eq!(wherever(&PLACES, page, |page| world.try_get(page)), mark(page), "page {page}");
            }
        };
        for make in MAKERS {
            for change in [come_and_go, change_places, go_about] {
                race_of_three(make, [release, write, change], marked);
            }
        }
    }

    /// What is pinned at one place stays in its frame as others come and go.
    pub fn pins() {
        let own = |world: &World| use_pinned(world, 16, 1);
        let other = |world: &World| use_pinned(world, 300, 2);
        for make in MAKERS {
            race_of_three(make, [own, other, come_and_go], |world| {
                world.put(16, mark(16));
                end_but_300(world);
            });
        }
        fn end_but_300(world: &World) {
            world.put(300, mark(300));
            end::<0>(world);
        }
        // The place at which it was pinned goes.
        let pin = |world: &World| {
            let request = PinRequest::new().write();
            let pin = loop {
                let pin = PLACES.into_iter().find_map(|place| match world.mm.pin(at(place + 18), PAGE_SIZE, request) {
                    Ok(pin) => Some(pin),
                    Err(PinError::Fault(FaultError::NoRegion { .. })) => None,
                    Err(error) => panic!("{error}"),
                });
                match pin {
                    Some(pin) => break pin,
                    None => shuttle::thread::yield_now(),
                }
            };
            let frame = world.mm.extents(&pin).next().expect("an extent").start;
            for value in 1..=4 {
                world.mm.machine().write_physical(frame, &[value + 50]);
                let found = wherever(&PLACES, 18, |page| world.try_get(page));
                assert_eq!(found, value + 50, "the device's write was lost");
                wherever(&PLACES, 18, |page| world.try_put(page, value));
                assert_eq!(world.mm.machine().read_physical(frame, 1), [value], "the application's was");
            }
            world.mm.unpin(pin);
        };
        against_changes(pin);
    }

    /// Slots are found by their numbers, whoever is there by then.
    pub fn slots_are_found_by_number() {
        against_changes(|world| {
            for place in PLACES {
                assert!(world.mm.map_count(at(place + 16)) <= 3);
                let _ = world.mm.is_huge(at(place));
                let mut next = at(place).page().0;
                world.mm.walk(next..next + 512, |leaf| {
                    assert!(next <= leaf.page.0 && leaf.page.0 < at(place + 512).page().0);
                    next = leaf.page.0 + leaf.pages as u64;
                    let index = leaf.page.0 - at(place).page().0;
                    let byte = world.mm.machine().read_physical(leaf.frame.start(), 1)[0];
                    if PAGES.contains(&index) && !WRITTEN.contains(&index) {
                        assert_eq!(byte, mark(index), "page {index} at {place}");
                    }
                });
            }
        });
    }

    /// A buffer whose end is its beginning.
    pub fn a_ring_comes_and_goes() {
        let make = |machine| {
            let world = World::with_two_slots(machine);
            PAGES.iter().for_each(|&page| world.put(page, mark(page)));
            world.put(512 + 5, 9);
            world
        };
        let ring = |world: &World| {
            world.mm.alias(START, BLOCK_SIZE, Destination::Over(at(512))).expect("mapped");
            assert_eq!(world.get(512 + 16), mark(16));
            world.mm.unmap(at(512), BLOCK_SIZE).expect("mapped");
        };
        let behind = |world: &World| {
            for value in 1..=4 {
                match world.try_put(512 + 300, value) {
                    Ok(()) | Err(FaultError::NoRegion { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        race_of_three(make, [follow::<5>, behind, ring], |world| {
            let found = world.get(300);
            assert!(found == mark(300) || found <= 4, "{found}");
            world.put(300, 4);
            end::<0>(world);
        });
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    stores_and_first_touches,
    #[cfg(not(target_os = "none"))]
    a_block_is_filled,
    #[cfg(not(target_os = "none"))]
    touches_at_two_places,
    #[cfg(not(target_os = "none"))]
    a_fault_at_a_place_that_goes,
    #[cfg(not(target_os = "none"))]
    a_block_is_split_at_a_place_that_goes,
    #[cfg(not(target_os = "none"))]
    pages_migrate,
    #[cfg(not(target_os = "none"))]
    a_home_ends,
    #[cfg(not(target_os = "none"))]
    a_collapse,
    #[cfg(not(target_os = "none"))]
    the_background,
    #[cfg(not(target_os = "none"))]
    idle_time,
    #[cfg(not(target_os = "none"))]
    what_is_released_is_gone_at_all_places,
    #[cfg(not(target_os = "none"))]
    pins,
    #[cfg(not(target_os = "none"))]
    slots_are_found_by_number,
    #[cfg(not(target_os = "none"))]
    a_ring_comes_and_goes,
}
