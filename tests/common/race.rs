//! A memory manager that several simulated cores use at once.

#![allow(dead_code, reason = "no test file uses all of it")]

use crate::cores::{self, Outcome};
use ashlar::arch::sim::{AccessError, SimFault, SimMachine, Violation};
use ashlar::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, PhysAddr, VirtAddr};
use ashlar::mm::frame::{Class, Frames, MemoryMap};
use ashlar::mm::huge::{Enabled, FaultMode};
use ashlar::mm::mmu::Access;
use ashlar::mm::{FaultError, MapRequest, MemoryManager};
use std::sync::{Arc, Mutex};

pub const SCHEDULES: usize = 150;
pub const RAM: PhysAddr = PhysAddr(0x4000_0000);
pub const START: VirtAddr = VirtAddr(2 << 30);

pub struct World {
    pub mm: MemoryManager<Arc<SimMachine>>,
    /// Frames taken so that none is free.
    taken: Mutex<Vec<Frame>>,
}

impl World {
    /// One slot is mapped, nothing is touched.
    pub fn new(machine: SimMachine) -> Arc<World> {
        let machine = Arc::new(machine);
        let mut map = MemoryMap::new();
        map.add(RAM..RAM + (64 << 20)).expect("one bank");
        // SAFETY: the bank is the simulated machine's default RAM, and nobody else uses it.
        let frames = unsafe { Frames::new(&*machine, &mut map) }.expect("room for the records");
        let observer = Arc::downgrade(&machine);
        frames.observe_free(Box::new(move |first, count| {
            if let Some(machine) = observer.upgrade() {
                machine.note_freed(first, count);
            }
        }));
        let mm = MemoryManager::new(machine.clone(), frames).expect("room for a table");
        machine.set_root(mm.root());
        mm.map(MapRequest::new(BLOCK_SIZE).at(START)).expect("a sound request");
        Arc::new(World { mm, taken: Mutex::default() })
    }

    /// The slot is mapped by a block.
    pub fn with_block(machine: SimMachine) -> Arc<World> {
        let world = World::new(machine);
        world.mm.policy().set_fault_mode(FaultMode::Eager);
        world.put(0, 0);
        world.mm.policy().set_fault_mode(FaultMode::Adaptive);
        assert!(world.mm.is_huge(START));
        world
    }

    /// A second slot beside the first, in a region of the same kind.
    pub fn with_two_slots(machine: SimMachine) -> Arc<World> {
        let world = World::new(machine);
        world.mm.map(MapRequest::new(BLOCK_SIZE).at(START + BLOCK_SIZE as u64)).expect("room");
        world
    }

    /// Leaves no frame free.
    pub fn exhaust(&self) {
        let frames = self.mm.frames();
        let take = || frames.allocate(0, Class::Movable);
        self.taken.lock().expect("no panic").extend(std::iter::from_fn(take));
    }

    /// Gives back what [`World::exhaust`] took.
    pub fn relax(&self) {
        self.taken.lock().expect("no panic").drain(..).for_each(|frame| self.mm.frames().free(frame, 0));
    }

    pub fn access<R>(&self, access: impl FnMut(&SimMachine) -> Result<R, SimFault>) -> Result<R, FaultError> {
        match self.mm.machine().retry(access, |fault| self.mm.fault(fault.va, fault.access)) {
            Ok(result) => Ok(result),
            Err(AccessError::Refused(error)) => Err(error),
            Err(AccessError::Stuck(fault)) => panic!("the access faults again and again: {fault:?}"),
        }
    }

    pub fn try_put(&self, page: u64, value: u8) -> Result<(), FaultError> {
        self.access(|machine| machine.store(START + page * PAGE_SIZE as u64, &[value]))
    }

    pub fn put(&self, page: u64, value: u8) {
        self.try_put(page, value).expect("the page is writable");
    }

    pub fn try_get(&self, page: u64) -> Result<u8, FaultError> {
        Ok(self.access(|machine| machine.load(START + page * PAGE_SIZE as u64, 1))?[0])
    }

    pub fn get(&self, page: u64) -> u8 {
        self.try_get(page).expect("the page is readable")
    }

    /// Stores to `page` and loads again, a few times.
    pub fn work(&self, page: u64) {
        for value in 1..=4 {
            self.put(page, value);
            assert_eq!(self.get(page), value, "a store was lost");
        }
    }

    /// The end of a run: everything is checked.
    pub fn violations(&self) -> Vec<Violation> {
        self.relax();
        self.mm.check();
        for mapping in self.mm.machine().mappings() {
            let (range, region) = self.mm.region(mapping.va).expect("what is mapped is in a region");
            assert!(range.end >= mapping.va.page().0 + (mapping.bytes / PAGE_SIZE) as u64);
            let is_zeros = Some(mapping.pa.frame().block()) == self.mm.zero_block();
            let access = Access { write: region.access.write && !is_zeros, ..region.access };
            // What may be taken back is mapped for reading only.
            let may_go = self.mm.counters().pglazyfree.get() > 0 && mapping.access == Access { write: false, ..access };
            assert!(may_go || mapping.access == access, "{:?} is mapped as its region says", mapping.va);
        }
        self.mm.machine().violations()
    }
}

/// Runs `other` as core 1 while core 0 runs `own`, both on a world from `make`, then `end`.
pub fn race(make: fn(SimMachine) -> Arc<World>, own: fn(&World), other: fn(&World), end: fn(&World)) {
    race_often(SCHEDULES, make, [own, other], end);
}

/// Runs three programs on as many cores, then `end`.
pub fn race_of_three(make: fn(SimMachine) -> Arc<World>, programs: [fn(&World); 3], end: fn(&World)) {
    race_often(SCHEDULES, make, programs, end);
}

/// Runs a program on each core, in so many orders, all on a world from `make`, then `end`.
pub fn race_often<const CORES: usize>(
    schedules: usize,
    make: fn(SimMachine) -> Arc<World>,
    programs: [fn(&World); CORES],
    end: fn(&World),
) {
    let outcome = cores::interleave(schedules, move |machine| {
        let world = make(machine);
        let start = |core: usize| {
            let (world, program) = (world.clone(), programs[core]);
            cores::start(core, move || program(&world))
        };
        let others: Vec<_> = (1..CORES).map(start).collect();
        programs[0](&world);
        others.into_iter().for_each(|core| core.join().expect("the other core ends"));
        end(&world);
        world.violations()
    });
    assert_eq!(outcome, Outcome::default());
}

/// Pages of the first slot that are there from the start: of a whole group, of one that has holes, single ones.
pub const PAGES: [u64; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 300, 511];

/// What a page holds from the start on.
pub fn mark(page: u64) -> u8 {
    (page % 200) as u8 + 1
}

/// The address of a page, counted from the first slot's first.
pub fn at(page: u64) -> VirtAddr {
    START + page * PAGE_SIZE as u64
}

/// A slot of single pages, each with its mark.
pub fn scattered(machine: SimMachine) -> Arc<World> {
    let world = World::new(machine);
    world.mm.policy().set_enabled(Enabled::Never);
    PAGES.iter().rev().for_each(|&page| world.put(page, mark(page)));
    world
}

/// A block, with its marks.
pub fn block(machine: SimMachine) -> Arc<World> {
    let world = World::with_block(machine);
    PAGES.iter().for_each(|&page| world.put(page, mark(page)));
    world
}

/// A slot whose home has absent frames, with its marks.
pub fn half(machine: SimMachine) -> Arc<World> {
    let world = World::new(machine);
    PAGES.iter().for_each(|&page| world.put(page, mark(page)));
    assert!(!world.mm.is_huge(START) && world.mm.frames().statistics().homes == 1);
    world
}

/// A marked slot of each kind.
pub const MAKERS: [fn(SimMachine) -> Arc<World>; 3] = [block, half, scattered];

/// Calls `access` with every one of `places` that the page may be at, until it is there.
pub fn wherever<R>(places: &[u64], page: u64, mut access: impl FnMut(u64) -> Result<R, FaultError>) -> R {
    loop {
        for place in places {
            match access(place + page) {
                Ok(result) => return result,
                Err(FaultError::NoRegion { .. }) => {}
                Err(error) => panic!("page {page}: {error}"),
            }
        }
        shuttle::thread::yield_now();
    }
}

/// Stores to a page, at whichever of `places` it is, and loads again, a few times.
pub fn follow(world: &World, places: &[u64], page: u64) {
    for value in 1..=4 {
        wherever(places, page, |page| world.try_put(page, value));
        assert_eq!(wherever(places, page, |page| world.try_get(page)), value, "a store to page {page} was lost");
    }
}

/// All pages but those in `but` hold their marks.
pub fn assert_contents(world: &World, but: &[u64]) {
    for page in PAGES.into_iter().filter(|page| !but.contains(page)) {
        assert_eq!(world.get(page), mark(page), "page {page}");
    }
}
