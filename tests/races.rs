//! The memory manager on several simulated cores at once, under a scheduler that may switch at every operation of the
//! machine and every access: no store is lost, no rule is broken, no frame goes astray.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;
#[cfg(not(target_os = "none"))]
#[path = "common/race.rs"]
mod race;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::cores::{self, Outcome};
    use crate::race::{SCHEDULES, START, World, race};
    use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE};
    use ashlar::mm::huge::FaultMode;
    use ashlar::mm::mmu::Access;
    use ashlar::mm::{FaultError, MapRequest};

    pub fn first_touches_of_one_slot() {
        let end = |world: &World| {
            assert_eq!((world.get(3), world.get(4), world.get(40)), (1, 2, 3));
            assert_eq!(world.mm.frames().statistics().homes, 1);
            assert_eq!(world.mm.counters().zeroed_bytes.get(), 2 * GROUP_SIZE as u64, "each group was zeroed once");
        };
        let other = |world: &World| {
            world.put(4, 2);
            world.put(40, 3);
        };
        race(World::new, |world| world.put(3, 1), other, end);
    }

    pub fn first_touches_of_one_slot_zero_one_block() {
        let make = |machine| {
            let world = World::new(machine);
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world
        };
        let end = |world: &World| {
            assert_eq!((world.get(3), world.get(300)), (1, 2));
            assert_eq!(world.mm.counters().zeroed_bytes.get(), BLOCK_SIZE as u64, "one block was zeroed, once");
        };
        race(make, |world| world.put(3, 1), |world| world.put(300, 2), end);
    }

    fn touch_or_no_region(world: &World) {
        for page in [0, 1, 20] {
            if let Err(error) = world.try_put(page, 1) {
                assert_eq!(error, FaultError::NoRegion { address: START + page * PAGE_SIZE as u64 });
            }
        }
    }

    /// Maps and unmaps pages in slots that the other core uses as well.
    fn come_and_go(world: &World, offset: u64) {
        let page = |index: u64| START + (BLOCK_SIZE as u64 + (2 * index + offset) * PAGE_SIZE as u64);
        for index in 0..3 {
            world.mm.map(MapRequest::new(PAGE_SIZE).at(page(index))).expect("the page is this core's");
            world.put(512 + 2 * index + offset, 1 + offset as u8);
        }
        for index in 0..2 {
            assert_eq!(world.get(512 + 2 * index + offset), 1 + offset as u8);
            world.mm.unmap(page(index), PAGE_SIZE).expect("mapped");
        }
    }

    pub fn maps_and_unmaps_side_by_side() {
        let end = |world: &World| {
            assert_eq!((world.get(516), world.get(517)), (1, 2));
            assert_eq!((world.mm.usage().regions, world.mm.usage().pages), (2, 2), "516 and 517 are one region");
        };
        race(World::new, |world| come_and_go(world, 0), |world| come_and_go(world, 1), end);
    }

    fn unmap(world: &World) {
        world.mm.unmap(START, BLOCK_SIZE).expect("a whole region");
    }

    fn nothing_is_left(world: &World) {
        assert_eq!(world.mm.usage().mapped_bytes(), 0);
        let frames = world.mm.frames().statistics();
        assert_eq!((frames.homes, frames.movable, frames.whole), (0, 0, 0));
    }

    pub fn touch_against_unmap() {
        race(World::new, touch_or_no_region, unmap, nothing_is_left);
    }

    /// Three cores touch a slot each, of a GiB each that nobody has touched before.
    pub fn first_touches_of_different_slots() {
        const GIB: u64 = 1 << 30;
        let outcome = cores::interleave(SCHEDULES, |machine| {
            let world = World::new(machine);
            for gib in 1..3 {
                world.mm.map(MapRequest::new(2 * BLOCK_SIZE).at(START + gib * GIB)).expect("room");
            }
            let others = [1, 2].map(|core: usize| {
                let world = world.clone();
                let pages = GIB / PAGE_SIZE as u64 * core as u64;
                cores::start(core, move || [pages, pages + 512].iter().for_each(|&page| world.put(page, core as u8)))
            });
            world.put(0, 3);
            others.into_iter().for_each(|core| core.join().expect("the other core ends"));
            let pages = GIB / PAGE_SIZE as u64;
            assert_eq!(
                [0, pages, pages + 512, 2 * pages, 2 * pages + 512].map(|page| world.get(page)),
                [3, 1, 1, 2, 2]
            );
            assert_eq!(world.mm.frames().statistics().homes, 5);
            world.violations()
        });
        assert_eq!(outcome, Outcome::default());
    }

    pub fn touches_against_protections() {
        let own = |world: &World| {
            for page in [0, 600, 17, 512] {
                if let Err(FaultError::Denied { wanted, .. }) = world.try_put(page, 4) {
                    assert_eq!(wanted, Access::READ_WRITE);
                    assert_eq!(world.get(page), 0, "it is readable all the time");
                }
            }
        };
        let other = |world: &World| {
            for access in [Access::READ, Access::READ_WRITE] {
                world.mm.protect(START + 16 * PAGE_SIZE as u64, BLOCK_SIZE, access).expect("mapped");
            }
        };
        let end = |world: &World| {
            [0, 17, 512, 600].into_iter().for_each(|page| world.put(page, 5));
            assert_eq!(world.mm.regions().len(), 1, "equal neighbours are one");
        };
        race(World::with_two_slots, own, other, end);
    }

    pub fn touches_against_a_protection_that_stays() {
        let own = |world: &World| {
            for page in [0, 40, 600] {
                if let Err(error) = world.try_put(page, 4) {
                    assert!(matches!(error, FaultError::Denied { allowed: Access::READ, .. }), "{error}");
                }
            }
        };
        let other = |world: &World| world.mm.protect(START, 2 * BLOCK_SIZE, Access::READ).expect("mapped");
        let end = |world: &World| assert!([0, 40, 600].into_iter().all(|page| world.try_put(page, 5).is_err()));
        race(World::with_two_slots, own, other, end);
    }

    pub fn stores_where_an_operation_allows_them_by_and_by() {
        let make = |machine| {
            let world = World::with_two_slots(machine);
            // Two more slots, so that the visit takes a while.
            world.mm.map(MapRequest::new(2 * BLOCK_SIZE).at(START + 2 * BLOCK_SIZE as u64)).expect("room");
            [0, 512, 1024, 1536].into_iter().for_each(|page| world.put(page, 1));
            world.mm.protect(START, 4 * BLOCK_SIZE, Access::READ).expect("mapped");
            world
        };
        let own = |world: &World| {
            while world.try_put(1536, 7).is_err() {
                shuttle::thread::yield_now();
            }
            world.put(1537, 8);
            assert_eq!((world.get(1536), world.get(1537)), (7, 8));
        };
        let other = |world: &World| world.mm.protect(START, 4 * BLOCK_SIZE, Access::READ_WRITE).expect("mapped");
        let end = |world: &World| {
            assert_eq!([0, 512, 1024, 1536, 1537].map(|page| world.get(page)), [1, 1, 1, 7, 8]);
            [0, 512, 1024, 1536].into_iter().for_each(|page| world.put(page, 2));
        };
        race(make, own, other, end);
    }

    pub fn the_last_touch_against_a_protection_that_heals() {
        let make = |machine| {
            let world = World::new(machine);
            (0..31).for_each(|group| world.put(16 * group, 1));
            world.mm.protect(START, PAGE_SIZE, Access::READ).expect("mapped");
            world
        };
        let other = |world: &World| world.mm.protect(START, PAGE_SIZE, Access::READ_WRITE).expect("mapped");
        let end = |world: &World| assert_eq!([0, 16, 511].map(|page| world.get(page)), [1, 1, 7]);
        race(make, |world| world.put(511, 7), other, end);
    }

    /// All is read-only but the first page, and that becomes so: the slot promotes then, and nothing becomes writable.
    pub fn the_last_touch_against_a_protection_that_forbids() {
        let make = |machine| {
            let world = World::new(machine);
            (0..31).for_each(|group| world.put(16 * group, 1));
            world.mm.protect(START + PAGE_SIZE as u64, BLOCK_SIZE - PAGE_SIZE, Access::READ).expect("mapped");
            world
        };
        let own = |world: &World| {
            assert_eq!(world.get(511), 0);
            assert!(world.try_put(16, 9).is_err(), "it is read-only all the time");
        };
        let other = |world: &World| world.mm.protect(START, PAGE_SIZE, Access::READ).expect("mapped");
        race(make, own, other, |world| assert_eq!([0, 16, 511].map(|page| world.get(page)), [1, 1, 0]));
    }

    pub fn touches_against_a_map_and_its_end() {
        let own = |world: &World| {
            for page in [512, 513, 530] {
                if let Err(error) = world.try_put(page, 1) {
                    assert_eq!(error, FaultError::NoRegion { address: START + page * PAGE_SIZE as u64 });
                }
            }
        };
        let other = |world: &World| {
            let request = MapRequest::new(BLOCK_SIZE).at(START + BLOCK_SIZE as u64);
            world.mm.map(request).expect("room");
            world.mm.unmap(START, 2 * BLOCK_SIZE).expect("mapped");
            world.mm.map(request).expect("room");
            world.mm.unmap(START, 2 * BLOCK_SIZE).expect("mapped");
        };
        race(World::new, own, other, nothing_is_left);
    }

    pub fn zeroing_of_a_block_against_unmap() {
        let make = |machine| {
            let world = World::new(machine);
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world
        };
        race(make, touch_or_no_region, unmap, nothing_is_left);
    }

    pub fn stores_against_split_and_promote() {
        let other = |world: &World| {
            let page = START + 100 * PAGE_SIZE as u64;
            for _ in 0..2 {
                world.mm.release(page, PAGE_SIZE).expect("mapped");
                world.put(100, 9);
            }
        };
        let end = |world: &World| {
            assert!(world.mm.is_huge(START));
            assert_eq!(world.mm.counters().thp_split_pmd.get(), 2);
            assert_eq!((world.get(5), world.get(100)), (4, 9));
        };
        race(World::with_block, |world| world.work(5), other, end);
    }

    pub fn stores_against_protect_in_their_group() {
        let other = |world: &World| {
            let page = START + 7 * PAGE_SIZE as u64;
            world.mm.protect(page, PAGE_SIZE, Access::READ).expect("mapped");
            world.mm.protect(page, PAGE_SIZE, Access::READ_WRITE).expect("mapped");
        };
        race(World::with_block, |world| world.work(5), other, |world| assert_eq!(world.get(5), 4));
    }

    pub fn touches_of_absent_frames_against_dissolve() {
        let make = |machine| {
            let world = World::with_block(machine);
            world.put(5, 1);
            world.mm.release(START + 256 * PAGE_SIZE as u64, 256 * PAGE_SIZE).expect("mapped");
            // The other core's region, with its records.
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(START + BLOCK_SIZE as u64)).expect("room");
            world.put(512, 1);
            world.exhaust();
            world
        };
        let own = |world: &World| {
            for page in [256, 300, 511] {
                world.put(page, 7);
                assert_eq!(world.get(page), 7, "a store was lost");
            }
        };
        let other = |world: &World| (0..3).for_each(|page| world.put(512 + 16 * page + 16, 8));
        let end = |world: &World| {
            assert_eq!([5, 256, 300, 511].map(|page| world.get(page)), [1, 7, 7, 7]);
            assert_eq!([528, 544, 560].map(|page| world.get(page)), [8, 8, 8]);
        };
        race(make, own, other, end);
    }

    pub fn promotion_against_dissolve() {
        let make = |machine| {
            let world = World::new(machine);
            // From the half on, a touch fills two groups: the next one fills the slot.
            (0..31).for_each(|group| world.put(16 * group, 1));
            assert!(!world.mm.is_huge(START) && world.mm.frames().statistics().absent > 0);
            world.mm.map(MapRequest::new(2 * PAGE_SIZE).at(START + BLOCK_SIZE as u64)).expect("room");
            world.put(512, 1);
            world.exhaust();
            world
        };
        let other = |world: &World| {
            // What it took back, the first core may have taken for its last group.
            if let Err(error) = world.try_put(513, 8) {
                assert_eq!(error, FaultError::OutOfMemory { address: START + 513 * PAGE_SIZE as u64 });
            }
        };
        let end = |world: &World| assert_eq!([0, 511, 512].map(|page| world.get(page)), [1, 7, 1]);
        race(make, |world| world.put(511, 7), other, end);
    }

    pub fn a_store_to_the_last_zero_page_against_its_return() {
        let make = |machine| {
            let world = World::with_block(machine);
            world.mm.map(MapRequest::new(PAGE_SIZE).at(START + BLOCK_SIZE as u64)).expect("room");
            world.exhaust();
            world
        };
        let own = |world: &World| {
            // Once all but the last page are gone.
            let before = START + 510 * PAGE_SIZE as u64;
            while world.mm.machine().translate(before).is_some() {
                shuttle::thread::yield_now();
            }
            world.put(511, 7);
            assert_eq!(world.get(511), 7, "a store was lost");
        };
        let end = |world: &World| assert_eq!([0, 510, 511, 512].map(|page| world.get(page)), [0, 0, 7, 8]);
        race(make, own, |world| world.put(512, 8), end);
    }

    pub fn stores_to_zero_pages_against_their_return() {
        let make = |machine| {
            let world = World::with_block(machine);
            for page in (0..512).filter(|page| ![1, 2].contains(&(page % 64))) {
                world.put(page, 1);
            }
            world.mm.map(MapRequest::new(PAGE_SIZE).at(START + BLOCK_SIZE as u64)).expect("room");
            world.exhaust();
            world
        };
        let own = |world: &World| {
            let there = |page| world.mm.machine().translate(START + page * PAGE_SIZE as u64).is_some();
            // Each once the one before it has gone, which makes it the next to be looked at.
            for page in [66, 130] {
                while (there(page - 1) || !there(page)) && world.mm.frames().statistics().homes == 1 {
                    shuttle::thread::yield_now();
                }
                world.put(page, 7);
                assert_eq!(world.get(page), 7, "a store was lost");
            }
        };
        let end = |world: &World| {
            assert_eq!([0, 1, 66, 130, 194, 512].map(|page| world.get(page)), [1, 0, 7, 7, 0, 8]);
        };
        race(make, own, |world| world.put(512, 8), end);
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    first_touches_of_one_slot,
    #[cfg(not(target_os = "none"))]
    first_touches_of_one_slot_zero_one_block,
    #[cfg(not(target_os = "none"))]
    maps_and_unmaps_side_by_side,
    #[cfg(not(target_os = "none"))]
    touch_against_unmap,
    #[cfg(not(target_os = "none"))]
    first_touches_of_different_slots,
    #[cfg(not(target_os = "none"))]
    touches_against_protections,
    #[cfg(not(target_os = "none"))]
    touches_against_a_protection_that_stays,
    #[cfg(not(target_os = "none"))]
    stores_where_an_operation_allows_them_by_and_by,
    #[cfg(not(target_os = "none"))]
    the_last_touch_against_a_protection_that_heals,
    #[cfg(not(target_os = "none"))]
    the_last_touch_against_a_protection_that_forbids,
    #[cfg(not(target_os = "none"))]
    touches_against_a_map_and_its_end,
    #[cfg(not(target_os = "none"))]
    zeroing_of_a_block_against_unmap,
    #[cfg(not(target_os = "none"))]
    stores_against_split_and_promote,
    #[cfg(not(target_os = "none"))]
    stores_against_protect_in_their_group,
    #[cfg(not(target_os = "none"))]
    touches_of_absent_frames_against_dissolve,
    #[cfg(not(target_os = "none"))]
    promotion_against_dissolve,
    #[cfg(not(target_os = "none"))]
    a_store_to_the_last_zero_page_against_its_return,
    #[cfg(not(target_os = "none"))]
    stores_to_zero_pages_against_their_return,
}
