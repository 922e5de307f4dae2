//! The memory manager on several cores at once, under a scheduler that may switch at every operation of the machine,
//! every access and every wait for a lock.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::cores::{self, Outcome};
    use ashlar::arch::sim::{SimMachine, Violation};
    use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE, PhysAddr, VirtAddr};
    use ashlar::mm::frame::{Frames, MemoryMap};
    use ashlar::mm::huge::FaultMode;
    use ashlar::mm::mmu::Access;
    use ashlar::mm::{MapRequest, MemoryManager};
    use std::sync::Arc;

    const SCHEDULES: usize = 300;
    /// Each program's rounds: enough to meet the other core in the middle of something.
    const ROUNDS: u64 = 4;

    type Memory = Arc<MemoryManager<SimMachine>>;

    /// A memory manager on `machine`, and a slot of writable memory.
    fn memory(machine: SimMachine, mode: FaultMode) -> (Memory, VirtAddr) {
        let ram = PhysAddr(0x4000_0000);
        let mut map = MemoryMap::new();
        map.add(ram..ram + (64 << 20)).expect("one bank");
        // SAFETY: the range is the machine's RAM, and nobody else uses it.
        let frames = unsafe { Frames::new(&machine, &mut map) }.expect("RAM has room for its records");
        let mm = MemoryManager::new(machine, frames).expect("RAM has room for a table");
        mm.machine().set_root(mm.root());
        mm.policy().set_fault_mode(mode);
        let slot = mm.map(MapRequest::new(BLOCK_SIZE)).expect("there is room").start;
        (Arc::new(mm), slot)
    }

    fn put(mm: &Memory, at: VirtAddr, word: u64) {
        let store = |machine: &SimMachine| machine.store(at, &word.to_le_bytes());
        mm.machine().retry(store, |fault| mm.fault(fault.va, fault.access)).expect("the memory is mapped for stores");
    }

    fn get(mm: &Memory, at: VirtAddr) -> u64 {
        let load = |machine: &SimMachine| machine.load(at, 8);
        let bytes = mm.machine().retry(load, |fault| mm.fault(fault.va, fault.access)).expect("the memory is mapped");
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    /// Stores and loads words in groups `first`, `first` + 2, … of the slot.
    fn work(mm: &Memory, slot: VirtAddr, first: u64) {
        let at = |round: u64| slot + (first + 2 * round) * GROUP_SIZE as u64 + 8 * first;
        for round in 0..ROUNDS {
            put(mm, at(round), round + 1);
            for earlier in 0..=round {
                assert_eq!(get(mm, at(earlier)), earlier + 1, "a word was lost");
            }
        }
    }

    /// Runs `other` as core 1 beside `work` as core 0.
    fn beside_work(mode: FaultMode, other: fn(&Memory, VirtAddr)) {
        let outcome = cores::interleave(SCHEDULES, move |machine| -> Vec<Violation> {
            let (mm, slot) = memory(machine, mode);
            let shared = mm.clone();
            let core = cores::start(1, move || {
                other(&shared, slot);
                shared.machine().check_settled();
            });
            work(&mm, slot, 0);
            mm.machine().check_settled();
            core.join().expect("the other core ends");
            mm.check();
            mm.machine().violations()
        });
        assert_eq!(outcome, Outcome::default());
    }

    pub fn two_cores_touch_one_slot() {
        beside_work(FaultMode::Adaptive, |mm, slot| work(mm, slot, 1));
    }

    pub fn two_cores_touch_one_block() {
        beside_work(FaultMode::Eager, |mm, slot| work(mm, slot, 1));
    }

    pub fn a_block_is_split_by_a_release_beside_accesses() {
        beside_work(FaultMode::Eager, |mm, slot| {
            for round in 0..ROUNDS {
                let page = slot + (1 + 2 * round) * GROUP_SIZE as u64;
                put(mm, page, round + 1);
                mm.release(page, PAGE_SIZE).expect("the page is mapped");
                assert_eq!(get(mm, page), 0, "released memory reads as zero");
            }
        });
    }

    pub fn a_block_is_split_by_a_protect_and_healed_beside_accesses() {
        beside_work(FaultMode::Eager, |mm, slot| {
            let page = slot + GROUP_SIZE as u64;
            put(mm, page, 1);
            for _ in 0..2 {
                mm.protect(page, PAGE_SIZE, Access::READ).expect("the page is mapped");
                assert!(mm.machine().retry(|m| m.store(page, &[9]), |f| mm.fault(f.va, f.access)).is_err());
                mm.protect(page, PAGE_SIZE, Access::READ_WRITE).expect("the page is mapped");
            }
            assert_eq!(get(mm, page), 1);
        });
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    two_cores_touch_one_slot,
    #[cfg(not(target_os = "none"))]
    two_cores_touch_one_block,
    #[cfg(not(target_os = "none"))]
    a_block_is_split_by_a_release_beside_accesses,
    #[cfg(not(target_os = "none"))]
    a_block_is_split_by_a_protect_and_healed_beside_accesses,
}
