//! The zero block while other cores use the same slot: no store is lost, none lands in it, and it is not freed while it is mapped.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;
#[cfg(not(target_os = "none"))]
#[path = "common/race.rs"]
mod race;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::race::{World, at, race};
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::FaultError;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::mm::mmu::{Access, Mmu};
    use ashlar::mm::pin::PinRequest;
    use std::sync::Arc;

    /// A slot that was read, and one that was not touched.
    fn read_slot(machine: SimMachine) -> Arc<World> {
        let world = World::new(machine);
        assert_eq!(world.get(0), 0);
        world
    }

    fn untouched(machine: SimMachine) -> Arc<World> {
        World::new(machine)
    }

    /// The zero block, if there is one, holds zeros; what was written is there.
    fn end(world: &World) {
        if let Some(zeros) = world.mm.zero_block() {
            assert!((0..512).all(|index| world.mm.machine().is_zero(zeros.frame(index))), "it was written to");
        }
        assert_eq!(world.get(511), 0);
    }

    pub fn writes_against_reads() {
        let own = |world: &World| [0, 1, 40, 300].into_iter().for_each(|page| world.put(page, 7));
        let other = |world: &World| [1, 41, 300, 2].into_iter().for_each(|page| _ = world.get(page));
        race(read_slot, own, other, |world| {
            [0, 1, 40, 300].into_iter().for_each(|page| assert_eq!(world.get(page), 7));
            end(world);
        });
    }

    /// LTP's thp04: one releases while the other writes.
    pub fn writes_against_releases() {
        let own = |world: &World| {
            for page in [0, 40] {
                world.put(page, 9);
                world.get(page + 1);
            }
        };
        let other = |world: &World| {
            for _ in 0..2 {
                world.mm.release(at(0), BLOCK_SIZE).expect("mapped");
                assert_eq!(world.get(3), 0);
            }
        };
        race(read_slot, own, other, |world| {
            [0, 40].into_iter().for_each(|page| assert!([0, 9].contains(&world.get(page))));
            end(world);
        });
    }

    /// The other core takes away that it may be written, and gives it back.
    pub fn writes_against_protections() {
        let own = |world: &World| [0, 17].into_iter().for_each(|page| _ = world.try_put(page, 5));
        let other = |world: &World| {
            for access in [Access::READ, Access::READ_WRITE] {
                world.mm.protect(at(16), 32 * PAGE_SIZE, access).expect("mapped");
            }
        };
        race(read_slot, own, other, |world| {
            assert_eq!(world.get(0), 5);
            end(world);
        });
    }

    pub fn first_reads_of_two_cores() {
        let own = |world: &World| assert_eq!(world.get(0), 0);
        let other = |world: &World| assert_eq!(world.get(100), 0);
        race(untouched, own, other, |world| {
            assert!(world.mm.zero_block().is_some());
            end(world);
        });
    }

    pub fn a_pin_against_reads_and_writes() {
        let own = |world: &World| {
            let pin = world.mm.pin(at(20), PAGE_SIZE, PinRequest::new()).expect("there is memory");
            let zeros = world.mm.zero_block();
            assert!(world.mm.extents(&pin).all(|extent| Some(extent.start.frame().block()) != zeros));
            world.mm.unpin(pin);
        };
        let other = |world: &World| {
            world.get(21);
            world.put(20, 4);
        };
        race(read_slot, own, other, |world| {
            assert_eq!(world.get(20), 4);
            end(world);
        });
    }

    /// Nothing is free: the zero block is what a store can have, as soon as nothing is mapped to it; and then somebody reads again.
    pub fn reads_against_its_end() {
        let make = |machine| {
            let world = World::with_two_slots(machine);
            assert_eq!(world.get(0), 0);
            world.exhaust();
            world
        };
        let own = |world: &World| {
            let is_out = |result| assert!(matches!(result, Ok(()) | Err(FaultError::OutOfMemory { .. })), "{result:?}");
            (0..2).for_each(|page| is_out(world.try_put(512 + page, 1)));
        };
        let other = |world: &World| {
            world.mm.release(at(0), BLOCK_SIZE).expect("mapped");
            // It has zeros, or memory of its own, or there is none left.
            let _ = world.mm.fault(at(5), Access::READ);
        };
        race(make, own, other, |_| ());
    }
}
#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    writes_against_reads,
    #[cfg(not(target_os = "none"))]
    writes_against_releases,
    #[cfg(not(target_os = "none"))]
    writes_against_protections,
    #[cfg(not(target_os = "none"))]
    first_reads_of_two_cores,
    #[cfg(not(target_os = "none"))]
    a_pin_against_reads_and_writes,
    #[cfg(not(target_os = "none"))]
    reads_against_its_end,
}
