//! What the memory manager's tests share: a memory manager on a simulated machine, with an application to drive it.
#![allow(dead_code)] // Each test file is a crate of its own and uses a part of this.

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ashlar::arch::sim::{AccessError, SimConfig, SimFault, SimMachine};
use ashlar::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, PhysAddr, VirtAddr};
use ashlar::mm::frame::{Class, Frames, MemoryMap};
use ashlar::mm::huge::{Collapsed, Enabled, Rest};
use ashlar::mm::report::Usage;
use ashlar::mm::{FaultError, MapRequest, MemoryManager, Refusal};

/// Bytes in a mebibyte.
pub const MIB: usize = 1 << 20;

/// A machine with RAM from 1 GiB on, and the memory manager on it.
pub struct World {
    pub mm: MemoryManager<Arc<SimMachine>>,
}

impl World {
    /// `ram` bytes of RAM, `cores` cores, and the machine's whims from `seed`.
    pub fn new(ram: usize, cores: usize, seed: u64) -> Self {
        Self::with_banks(&[(PhysAddr(0x4000_0000), ram)], cores, seed)
    }

    /// RAM in `banks`.
    pub fn with_banks(banks: &[(PhysAddr, usize)], cores: usize, seed: u64) -> Self {
        crate::common::threads_are_contexts();
        let machine = Arc::new(SimMachine::new(SimConfig { banks, cores, seed, panics: true }));
        let mut map = MemoryMap::new();
        for &(start, bytes) in banks {
            map.add(start..start + bytes as u64).expect("few banks");
        }
        // SAFETY: the map's ranges are the machine's RAM, and nobody else uses it.
        let frames = unsafe { Frames::new(&*machine, &mut map) }.expect("RAM has room for its records");
        // The observer is the frames', and must not keep their machine.
        let observer = Arc::downgrade(&machine);
        frames.observe_free(Box::new(move |first, count| {
            if let Some(machine) = observer.upgrade() {
                machine.note_freed(first, count);
            }
        }));
        let mm = MemoryManager::new(machine, frames).expect("RAM has room for a table");
        mm.machine().set_root(mm.root());
        World { mm }
    }

    /// Maps `length` bytes of writable memory anywhere.
    pub fn map(&self, length: usize) -> VirtAddr {
        self.mm.map(MapRequest::new(length)).expect("the request is sound").start
    }

    /// Loads `bytes` bytes as the application.
    pub fn load(&self, at: VirtAddr, bytes: usize) -> Result<Vec<u8>, FaultError> {
        self.touch(|machine| machine.load(at, bytes))
    }

    /// Stores `bytes` as the application.
    pub fn store(&self, at: VirtAddr, bytes: &[u8]) -> Result<(), FaultError> {
        self.touch(|machine| machine.store(at, bytes))
    }

    /// Stores a word.
    pub fn put(&self, at: VirtAddr, word: u64) {
        self.store(at, &word.to_le_bytes()).unwrap_or_else(|error| panic!("store at {at}: {error}"));
    }

    /// Loads a word.
    pub fn get(&self, at: VirtAddr) -> u64 {
        let bytes = self.load(at, 8).unwrap_or_else(|error| panic!("load at {at}: {error}"));
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    /// Fetches an instruction as the application.
    pub fn execute(&self, at: VirtAddr) -> Result<(), FaultError> {
        self.touch(|machine| machine.execute(at))
    }

    fn touch<R>(&self, access: impl FnMut(&SimMachine) -> Result<R, SimFault>) -> Result<R, FaultError> {
        match self.mm.machine().retry(access, |fault| self.mm.fault(fault.va, fault.access)) {
            Ok(result) => Ok(result),
            Err(AccessError::Refused(error)) => Err(error),
            Err(AccessError::Stuck(fault)) => panic!("the fault handler is content, the access faults: {fault:?}"),
        }
    }

    /// Checks the memory manager's invariants, and that the machine saw no violation.
    pub fn check(&self) {
        self.mm.check();
        self.mm.machine().check_settled();
        self.mm.machine().assert_clean();
    }
}

/// Blocks, groups and pages mapped now.
pub fn sizes(world: &World) -> (usize, usize, usize) {
    let Usage { blocks, groups, pages, .. } = world.mm.usage();
    (blocks, groups, pages)
}

/// Writes a different word into every page of the slot at `start`.
pub fn fill(world: &World, start: VirtAddr) {
    for page in 0..512 {
        world.put(start + page * PAGE_SIZE as u64 + 8 * (page % 512), 0x5EED_0000 + page);
    }
}

/// Whether every page but those in `zero` has the word that [`fill`] wrote, and those in `zero` hold zeros.
pub fn assert_filled(world: &World, start: VirtAddr, zero: core::ops::Range<u64>) {
    for page in 0..512 {
        let expected = if zero.contains(&page) { 0 } else { 0x5EED_0000 + page };
        let at = start + page * PAGE_SIZE as u64;
        assert_eq!(world.get(at + 8 * (page % 512)), expected, "page {page}");
    }
}

/// The page `index` pages after `start`.
pub fn page(start: VirtAddr, index: u64) -> VirtAddr {
    start + index * PAGE_SIZE as u64
}

/// A slot that was filled and is a block.
pub fn block(world: &World) -> VirtAddr {
    let start = world.map(BLOCK_SIZE);
    fill(world, start);
    assert!(world.mm.is_huge(start));
    start
}

/// A slot that was filled and is of single pages, wherever there were frames.
pub fn scattered(world: &World) -> VirtAddr {
    world.mm.policy().set_enabled(Enabled::Never);
    let start = world.map(BLOCK_SIZE);
    let (blocks, groups, pages) = sizes(world);
    fill(world, start);
    assert_eq!(sizes(world), (blocks, groups, pages + 512));
    start
}

/// Collapses the slot at `start`.
pub fn collapse(world: &World, start: VirtAddr) -> Result<Collapsed, Refusal> {
    let mut results = Vec::new();
    world.mm.collapse(start, BLOCK_SIZE, || false, |_, result| results.push(result)).expect("a sound range");
    assert_eq!(results.len(), 1);
    results[0]
}

/// Lets the background work until it waits for something to happen.
pub fn background(world: &World) {
    let mut now = 0;
    for _ in 0..1000 {
        match world.mm.background_step(now) {
            Rest::None => {}
            Rest::Until(at) => now = now.max(at),
            Rest::Wait => return world.check(),
        }
    }
    panic!("the background does not rest");
}

/// Takes every frame that is free.
pub fn take_all(world: &World) -> Vec<Frame> {
    core::iter::from_fn(|| world.mm.frames().allocate(0, Class::Movable)).collect()
}

/// Gives back what [`take_all`] took.
pub fn give_back(world: &World, taken: Vec<Frame>) {
    taken.into_iter().for_each(|frame| world.mm.frames().free(frame, 0));
    world.check();
}

/// Bytes that the machine has copied.
pub fn copied(world: &World) -> u64 {
    world.mm.machine().counters().copied_bytes
}
