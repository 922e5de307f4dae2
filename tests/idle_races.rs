//! Idle time on one core while others touch, change and give up the same memory: no store is lost, and what is taken for zero
//! is zero.
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
    use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE};
    use ashlar::mm::huge::FaultMode;
    use ashlar::mm::mmu::Access;
    use ashlar::mm::{FaultError, MapRequest};
    use std::sync::Arc;

    /// One slot is mapped; what could become its home holds no zeros.
    fn used(machine: SimMachine) -> Arc<World> {
        let world = World::new(machine);
        for page in (0..512).step_by(5) {
            world.put(page, 0xff);
        }
        world.mm.unmap(START, BLOCK_SIZE).expect("mapped");
        world.mm.map(MapRequest::new(BLOCK_SIZE).at(START)).expect("room");
        world
    }

    /// As [`used`], and half of the slot is touched.
    fn half_touched(machine: SimMachine) -> Arc<World> {
        let world = used(machine);
        (0..16).for_each(|group| world.put(16 * group, 1));
        world
    }

    /// The slot is looked at until nothing of it is left to do, but not the pool.
    fn idle(world: &World) {
        for _ in 0..33 {
            world.mm.idle_step();
        }
    }

    fn reads_zero(world: &World, pages: impl IntoIterator<Item = u64>) {
        pages.into_iter().for_each(|page| assert_eq!(world.get(page), 0, "page {page}"));
    }

    pub fn idle_zeroing_against_touches() {
        let own = |world: &World| {
            for page in [5, 37, 505, 65] {
                world.put(page, 9);
                reads_zero(world, [page / 16 * 16 + 2, page / 16 * 16 + 14]);
            }
        };
        let end = |world: &World| {
            world.mm.check();
            assert_eq!([5, 37, 505, 65].map(|page| world.get(page)), [9; 4]);
            reads_zero(world, (0..512).filter(|page| ![5, 37, 505, 65].contains(page)).step_by(5));
        };
        let make = |machine| {
            let world = used(machine);
            world.put(1, 0);
            world
        };
        race(make, own, idle, end);
    }

    pub fn idle_zeroing_against_release_and_unmap() {
        let own = |world: &World| {
            world.put(40, 9);
            world.mm.release(START + 32 * PAGE_SIZE as u64, GROUP_SIZE).expect("mapped");
            world.put(41, 8);
            assert_eq!((world.get(40), world.get(41)), (0, 8));
            world.mm.unmap(START, 256 * PAGE_SIZE).expect("mapped");
            world.put(300, 7);
        };
        let end = |world: &World| {
            world.mm.check();
            world.mm.map(MapRequest::new(256 * PAGE_SIZE).at(START)).expect("room");
            assert_eq!(world.get(300), 7);
            reads_zero(world, (0..512).filter(|&page| page != 300).step_by(3));
        };
        let make = |machine| {
            let world = used(machine);
            world.put(1, 0xff);
            world
        };
        race(make, own, idle, end);
    }

    pub fn idle_promotion_against_stores_and_protect() {
        let own = |world: &World| {
            world.work(5);
            world.mm.protect(START + 100 * PAGE_SIZE as u64, PAGE_SIZE, Access::READ).expect("mapped");
            assert!(matches!(world.try_put(100, 1), Err(FaultError::Denied { .. })));
            world.put(511, 6);
            world.mm.protect(START + 100 * PAGE_SIZE as u64, PAGE_SIZE, Access::READ_WRITE).expect("mapped");
            world.put(100, 3);
        };
        let end = |world: &World| {
            world.mm.check();
            assert_eq!([0, 5, 100, 511].map(|page| world.get(page)), [1, 4, 3, 6]);
            reads_zero(world, [1, 99, 101, 270, 510]);
        };
        race(half_touched, own, idle, end);
    }

    /// Idle time has the promotion left to do when the slot's regions become two.
    pub fn the_last_idle_step_against_a_protection() {
        let make = |machine| {
            let world = half_touched(machine);
            while world.mm.counters().zeroed_idle_bytes.get() < 15 * GROUP_SIZE as u64 {
                world.mm.idle_step();
            }
            world
        };
        let own = |world: &World| {
            world.mm.protect(START, PAGE_SIZE, Access::READ).expect("mapped");
            assert!(world.try_put(0, 2).is_err());
        };
        race(make, own, |world| _ = world.mm.idle_step(), |world| assert_eq!(world.get(0), 1));
    }

    pub fn idle_promotion_against_release() {
        let own = |world: &World| {
            world.mm.release(START + 16 * PAGE_SIZE as u64, PAGE_SIZE).expect("mapped");
            assert_eq!(world.get(0), 1);
        };
        let end = |world: &World| {
            let there = world.mm.machine().translate(START + 16 * PAGE_SIZE as u64).is_some();
            assert!(!there, "what was released is not filled again");
            reads_zero(world, [16, 17, 300, 500]);
        };
        race(half_touched, own, idle, end);
    }

    pub fn idle_zeroing_against_dissolve() {
        let make = |machine| {
            let world = used(machine);
            world.put(1, 9);
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(START + BLOCK_SIZE as u64)).expect("room");
            world.put(512, 1);
            world.exhaust();
            world
        };
        let other = |world: &World| {
            (0..6).for_each(|group| world.put(512 + 16 * group, 8));
            world.put(100, 7);
        };
        let end = |world: &World| {
            assert_eq!([1, 100, 512, 592].map(|page| world.get(page)), [9, 7, 8, 8]);
            reads_zero(world, [2, 513, 593]);
        };
        race(make, idle, other, end);
    }

    pub fn zeroed_blocks_against_first_touches() {
        let make = |machine| {
            let world = World::with_two_slots(machine);
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            // All but the last piece of a block.
            (0..31).for_each(|_| assert!(world.mm.idle_step()));
            world
        };
        let own = |world: &World| (0..3).for_each(|_| _ = world.mm.idle_step());
        let other = |world: &World| [5, 600].into_iter().for_each(|page| world.put(page, 7));
        let end = |world: &World| {
            assert_eq!((world.get(5), world.get(600)), (7, 7));
            reads_zero(world, [0, 511, 512, 1023]);
        };
        race(make, own, other, end);
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    idle_zeroing_against_touches,
    #[cfg(not(target_os = "none"))]
    idle_zeroing_against_release_and_unmap,
    #[cfg(not(target_os = "none"))]
    idle_promotion_against_stores_and_protect,
    #[cfg(not(target_os = "none"))]
    the_last_idle_step_against_a_protection,
    #[cfg(not(target_os = "none"))]
    idle_promotion_against_release,
    #[cfg(not(target_os = "none"))]
    idle_zeroing_against_dissolve,
    #[cfg(not(target_os = "none"))]
    zeroed_blocks_against_first_touches,
}
