//! Advice while other cores use the same slot: what is written after a mark is never lost, and a page holds what it held, or zeros.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;
#[cfg(not(target_os = "none"))]
#[path = "common/race.rs"]
mod race;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::race::{PAGES, World, assert_contents, at, mark, race, scattered};
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
    use ashlar::mm::huge::{Collapsed, Enabled};
    use ashlar::mm::mmu::Access;
    use ashlar::mm::pin::PinRequest;
    use ashlar::mm::{FaultError, MapRequest, Refusal};
    use std::sync::Arc;

    /// A value that no page holds from the start.
    const NEW: u8 = 250;

    fn free(world: &World) {
        world.mm.mark_free(at(0), BLOCK_SIZE).expect("mapped");
    }

    /// Single pages, each with its mark, and all of them may be taken back.
    fn free_pages(machine: SimMachine) -> Arc<World> {
        let world = scattered(machine);
        free(&world);
        world
    }

    /// A block with two marks, and all of it may be taken back.
    fn free_block(machine: SimMachine) -> Arc<World> {
        let world = World::with_block(machine);
        [0, 300].into_iter().for_each(|page| world.put(page, mark(page)));
        free(&world);
        world
    }

    /// From now on nothing is free but what is marked so.
    fn short(world: Arc<World>) -> Arc<World> {
        world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(512))).expect("room");
        world.exhaust();
        world
    }

    /// Takes back what there is, for three pages of another slot.
    fn take_back(world: &World) {
        (0..3).for_each(|page| _ = world.try_put(512 + page, 1));
    }

    /// Writes to a page. What it held may be gone, and no memory left for it: then there is some.
    fn write(world: &World, page: u64) {
        if world.try_put(page, NEW).is_err() {
            world.relax();
            world.put(page, NEW);
        }
        assert_eq!(world.get(page), NEW, "page {page}");
    }

    /// The pages not in `but` hold what they held, or zeros: all of the page.
    fn assert_old_or_zero(world: &World, but: &[u64]) {
        for page in PAGES.into_iter().filter(|page| !but.contains(page)) {
            let found = world.get(page);
            assert!([0, mark(page)].contains(&found), "page {page} holds {found}");
        }
    }

    pub fn writes_to_pages_against_their_return() {
        let own = |world: &World| [0, 17, 300].into_iter().for_each(|page| write(world, page));
        race(
            |machine| short(free_pages(machine)),
            own,
            take_back,
            |world| {
                world.relax();
                [0, 17, 300].into_iter().for_each(|page| assert_eq!(world.get(page), NEW, "page {page}"));
                assert_old_or_zero(world, &[0, 300]);
            },
        );
    }

    pub fn writes_to_a_block_against_its_return() {
        let own = |world: &World| [1, 300].into_iter().for_each(|page| write(world, page));
        race(
            |machine| short(free_block(machine)),
            own,
            take_back,
            |world| {
                world.relax();
                assert_eq!((world.get(1), world.get(300)), (NEW, NEW));
                assert!([0, mark(0)].contains(&world.get(0)));
            },
        );
    }

    /// Nobody wants what there is to take back: there is memory, whoever has locked its slot.
    pub fn marks_against_those_who_need_memory() {
        let own = |world: &World| (0..4).for_each(|_| free(world));
        let other = |world: &World| (0..3).for_each(|page| world.put(512 + page, 1));
        race(
            |machine| short(free_pages(machine)),
            own,
            other,
            |world| {
                world.relax();
                assert_old_or_zero(world, &[]);
            },
        );
    }

    /// The mark itself comes while the other core writes and takes back: what is written after it stays.
    pub fn a_mark_against_writes() {
        let own = |world: &World| {
            free(world);
            write(world, 2);
        };
        let other = |world: &World| {
            // Before the mark, or after it.
            let _ = world.try_put(3, NEW);
            take_back(world);
        };
        race(
            |machine| short(scattered(machine)),
            own,
            other,
            |world| {
                world.relax();
                assert_eq!(world.get(2), NEW);
                assert!([0, mark(3), NEW].contains(&world.get(3)));
                assert_old_or_zero(world, &[2, 3]);
            },
        );
    }

    /// What a device may write to stays where it is, whoever comes first.
    pub fn a_mark_against_pins() {
        let own = |world: &World| {
            let request = PinRequest::new().write();
            let pin = world.mm.pin(at(1), 2 * PAGE_SIZE, request).expect("they are present");
            let pinned: Vec<_> =
                world.mm.extents(&pin).flat_map(|extent| (extent.start.0..extent.end.0).step_by(PAGE_SIZE)).collect();
            take_back(world);
            for (page, place) in (1..3).zip(pinned) {
                let now = world.mm.machine().translate(at(page));
                assert_eq!(now.map(|at| at.0), Some(place), "page {page} stays where it is");
                assert_eq!(world.get(page), mark(page));
            }
            world.mm.unpin(pin);
        };
        let make = |machine| {
            let world = scattered(machine);
            // The record of a pin has its memory from now on.
            world.mm.unpin(world.mm.pin(at(0), PAGE_SIZE, PinRequest::new()).expect("memory is free"));
            short(world)
        };
        race(make, own, free, |world| {
            world.relax();
            assert_old_or_zero(world, &[]);
        });
    }

    /// A protection that makes pages writable keeps them, while others of the slot are marked.
    pub fn a_mark_against_protections() {
        let own = |world: &World| {
            for access in [Access::READ, Access::READ_WRITE] {
                world.mm.protect(at(0), 8 * PAGE_SIZE, access).expect("mapped");
            }
            write(world, 1);
        };
        let other = |world: &World| {
            world.mm.mark_free(at(4), BLOCK_SIZE - 4 * PAGE_SIZE).expect("mapped");
            take_back(world);
        };
        race(
            |machine| short(free_pages(machine)),
            own,
            other,
            |world| {
                world.relax();
                assert_eq!(world.get(1), NEW);
                assert_old_or_zero(world, &[1]);
            },
        );
    }

    /// Writes while a protection is under way: one that is refused changes nothing.
    pub fn writes_against_protections() {
        let own = |world: &World| {
            for page in [0, 6, 14] {
                let result = world.try_put(page, NEW);
                assert!(matches!(result, Ok(()) | Err(FaultError::Denied { .. })), "{result:?}");
            }
        };
        let other = |world: &World| {
            for access in [Access::READ, Access::READ_WRITE] {
                world.mm.protect(at(4), 8 * PAGE_SIZE, access).expect("mapped");
            }
        };
        race(free_pages, own, other, |world| {
            assert_eq!((world.get(0), world.get(14)), (NEW, NEW));
            assert!([mark(6), NEW].contains(&world.get(6)));
            assert_contents(world, &[0, 6, 14]);
        });
    }

    pub fn cold_against_touches() {
        let own = |world: &World| (0..2).for_each(|_| world.mm.mark_cold(at(0), BLOCK_SIZE).expect("mapped"));
        let other = |world: &World| {
            assert_eq!(world.get(5), mark(5));
            world.put(16, NEW);
            world.put(17, NEW);
            assert_eq!(world.get(16), NEW);
        };
        race(scattered, own, other, |world| {
            [16, 17].into_iter().for_each(|page| assert_eq!(world.get(page), NEW));
            assert_contents(world, &[16]);
        });
    }

    fn collapse(world: &World) -> Result<Collapsed, Refusal> {
        let mut last = None;
        let each = |_: VirtAddr, result| last = Some(result);
        world.mm.collapse(at(0), BLOCK_SIZE, || false, each).expect("a sound range");
        last.expect("one slot")
    }

    pub fn a_mark_against_a_collapse() {
        let make = |machine| {
            let world = scattered(machine);
            world.mm.policy().set_enabled(Enabled::Always);
            world
        };
        let own = |world: &World| {
            // A mark in the middle is as if it came before.
            assert!(matches!(collapse(world), Ok(Collapsed::Copied { .. })));
        };
        let other = |world: &World| {
            world.mm.mark_free(at(0), 32 * PAGE_SIZE).expect("mapped");
            world.put(4, NEW);
            world.mm.mark_free(at(200), 200 * PAGE_SIZE).expect("mapped");
        };
        race(make, own, other, |world| {
            assert_eq!(world.get(4), NEW);
            assert_contents(world, &[4]);
        });
    }
}
#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    writes_to_pages_against_their_return,
    #[cfg(not(target_os = "none"))]
    writes_to_a_block_against_its_return,
    #[cfg(not(target_os = "none"))]
    marks_against_those_who_need_memory,
    #[cfg(not(target_os = "none"))]
    a_mark_against_writes,
    #[cfg(not(target_os = "none"))]
    a_mark_against_pins,
    #[cfg(not(target_os = "none"))]
    a_mark_against_protections,
    #[cfg(not(target_os = "none"))]
    writes_against_protections,
    #[cfg(not(target_os = "none"))]
    cold_against_touches,
    #[cfg(not(target_os = "none"))]
    a_mark_against_a_collapse,
}
