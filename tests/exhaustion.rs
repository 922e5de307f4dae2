//! Every allocation fails once: whatever step it hits, the operation is refused as a whole or goes on another way, nothing is
//! lost, and the same operation succeeds afterwards.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::huge::FaultMode;
use ashlar::mm::mmu::Access;
use ashlar::mm::{FaultError, MapRequest, MemoryError};
use world::{MIB, World};

const START: VirtAddr = VirtAddr(3 << 30);

/// One step of the script: says whether memory was refused.
type Step = fn(&World) -> bool;

fn refused(result: Result<(), MemoryError>) -> bool {
    match result {
        Ok(()) => false,
        Err(MemoryError::NoMemory) => true,
        Err(error) => panic!("{error}"),
    }
}

fn page(index: u64) -> VirtAddr {
    START + index * PAGE_SIZE as u64
}

fn touch(world: &World, index: u64) -> bool {
    match world.store(page(index), &(index + 1).to_le_bytes()) {
        Ok(()) => false,
        Err(FaultError::OutOfMemory { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

const SCRIPT: [Step; 12] = [
    |world| refused(world.mm.map(MapRequest::new(3 * BLOCK_SIZE).at(START)).map(|_| ())),
    |world| touch(world, 0),
    |world| touch(world, 16),
    |world| touch(world, 512),
    |world| {
        world.mm.policy().set_fault_mode(FaultMode::Eager);
        let refused = touch(world, 1024);
        world.mm.policy().set_fault_mode(FaultMode::Adaptive);
        refused
    },
    // A block or what stands for it is cut.
    |world| refused(world.mm.protect(page(1030), PAGE_SIZE, Access::READ)),
    |world| refused(world.mm.release(page(1040), 3 * PAGE_SIZE)),
    |world| refused(world.mm.unmap(page(100), 7 * PAGE_SIZE)),
    |world| refused(world.mm.protect(page(1030), PAGE_SIZE, Access::READ_WRITE)),
    |world| refused(world.mm.map(MapRequest::new(7 * PAGE_SIZE).at(page(100))).map(|_| ())),
    |world| touch(world, 101),
    |world| (200..400).any(|index| touch(world, index)),
];

fn an_allocation_fails_at_every_step() {
    let mut failures = 0;
    for n in 1.. {
        let world = World::new(32 * MIB, 1, n);
        let whole = world.mm.frames().statistics();
        world.mm.frames().fail_after(n);
        for (number, step) in SCRIPT.iter().enumerate() {
            if step(&world) {
                failures += 1;
                world.check();
                assert!(!step(&world), "step {number} after failure {n}");
            }
            world.check();
        }
        for index in [0, 16, 512, 1024, 101].into_iter().chain(200..400) {
            assert_eq!(world.get(page(index)), index + 1, "page {index} after failure {n}");
        }
        let pending = world.mm.frames().fail_never();
        world.mm.unmap(START, 3 * BLOCK_SIZE).expect("whole regions");
        world.check();
        let left = world.mm.frames().statistics();
        assert_eq!((left.total, left.homes, left.movable), (whole.total, 0, 0));
        if pending {
            break;
        }
    }
    assert!(failures > 10, "only {failures} failures were felt");
}

ashlar_test::tests! { an_allocation_fails_at_every_step }
