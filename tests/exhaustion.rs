//! Every allocation fails once: whatever step it hits, the operation is refused as a whole or goes on another way, nothing is
//! lost, and the same operation succeeds afterwards.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
use ashlar::mm::frame::Class;
use ashlar::mm::huge::{Defrag, Enabled, FaultMode, Rest, Unit};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::{PinError, PinId, PinRequest};
use ashlar::mm::{Destination, FaultError, MapRequest, MemoryError, Refusal, RemapRequest};
use ashlar_test::fragment::{Fragments, State, fragment};
use core::cell::Cell;
use core::ops::Range;
use world::{MIB, World, give_back, take_all};

const START: VirtAddr = VirtAddr(3 << 30);
/// Every so many allocations one fails: a kernel under emulation has less time.
const STRIDE: usize = if cfg!(target_os = "none") { 7 } else { 1 };
/// Slots mapped.
const SLOTS: usize = 7;

/// What a script has done so far.
struct Script {
    world: World,
    /// Pages that were written to, and what they hold.
    written: BTreeMap<u64, u64>,
    pins: Vec<PinId>,
    /// A snapshot: where its first page is, and what was written by then.
    seen: Option<(VirtAddr, BTreeMap<u64, u64>)>,
    /// What keeps blocks from being free.
    fragments: Option<Fragments>,
    /// The background's clock.
    now: u64,
}

/// One step of a script: says whether memory was refused.
type Step = fn(&mut Script) -> bool;

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

impl Script {
    fn map(&mut self, length: usize, at: VirtAddr) -> bool {
        refused(self.world.mm.map(MapRequest::new(length).at(at)).map(|_| ()))
    }

    fn touch(&mut self, index: u64) -> bool {
        match self.world.store(page(index), &(index + 1).to_le_bytes()) {
            Ok(()) => {
                self.written.insert(index, index + 1);
                false
            }
            Err(FaultError::OutOfMemory { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Touches pages that get frames of their own, from anywhere.
    fn scatter(&mut self, pages: Range<u64>) -> bool {
        self.world.mm.policy().set_enabled(Enabled::Never);
        // Backwards, so that hardly any two are consecutive.
        let refused = pages.rev().any(|index| self.touch(index));
        self.world.mm.policy().set_enabled(Enabled::Always);
        refused
    }

    /// Writes something else to pages.
    fn rewrite(&mut self, mut pages: Range<u64>) -> bool {
        pages.any(|index| match self.world.store(page(index), &(index + 5000).to_le_bytes()) {
            Ok(()) => {
                self.written.insert(index, index + 5000);
                false
            }
            Err(FaultError::OutOfMemory { .. }) => true,
            Err(error) => panic!("{error}"),
        })
    }

    /// Makes a snapshot of pages from the first on. Refused, nothing is changed.
    fn snapshot(&mut self, pages: u64) -> bool {
        let now = || (self.world.mm.regions(), self.world.mm.usage().committed_pages, self.world.mm.is_huge(START));
        let before = now();
        match self.world.mm.snapshot(START, pages as usize * PAGE_SIZE) {
            Ok(range) => {
                self.seen = Some((range.start, self.written.range(..pages).map(|(&at, &word)| (at, word)).collect()));
                false
            }
            Err(MemoryError::NoMemory) => {
                assert_eq!(now(), before, "it was refused");
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn end_snapshot(&mut self) -> bool {
        let (seen, _) = self.seen.take().expect("one was made");
        self.world.mm.end_snapshot(seen).expect("it is one");
        false
    }

    /// Maps the first slot at another place, too.
    fn alias(&mut self, to: Destination) -> bool {
        let before = self.world.mm.regions();
        match self.world.mm.alias(START, BLOCK_SIZE, to) {
            Ok(_) => false,
            Err(MemoryError::NoMemory) => {
                assert_eq!(self.world.mm.regions(), before, "it was refused");
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn release(&mut self, pages: Range<u64>) -> bool {
        let length = (pages.end - pages.start) as usize * PAGE_SIZE;
        self.world.mm.release(page(pages.start), length).expect("mapped");
        self.written.retain(|index, _| !pages.contains(index));
        false
    }

    /// Remaps pages. Refused, nothing is changed.
    fn remap(&mut self, pages: Range<u64>, request: RemapRequest) -> bool {
        let now = || (self.world.mm.regions(), self.world.mm.usage().committed_pages);
        let before = now();
        let length = (pages.end - pages.start) as usize * PAGE_SIZE;
        let result = self.world.mm.remap(page(pages.start), length, request);
        match result {
            Ok(range) => {
                let to = range.start.page().0 - START.page().0;
                let count = (range.end.page().0 - range.start.page().0).min(pages.end - pages.start);
                let gone = to..range.end.page().0 - START.page().0;
                let moved: Vec<_> = self.written.range(pages.clone()).map(|(&index, &word)| (index, word)).collect();
                self.written.retain(|index, _| !pages.contains(index) && !gone.contains(index));
                let arrived = moved.into_iter().map(|(index, word)| (index - pages.start, word));
                self.written
                    .extend(arrived.filter(|(index, _)| *index < count).map(|(index, word)| (to + index, word)));
                false
            }
            Err(MemoryError::NoMemory) => {
                assert_eq!(now(), before, "it was refused");
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Pins pages, and keeps them pinned.
    fn pin(&mut self, pages: Range<u64>, request: PinRequest) -> bool {
        let before = self.world.mm.counters();
        let before = before.pin_frames.get() - before.unpin_frames.get();
        let length = (pages.end - pages.start) as usize * PAGE_SIZE;
        match self.world.mm.pin(page(pages.start), length, request) {
            Ok(pin) => {
                let extents = self.world.mm.extents(&pin);
                assert_eq!(extents.map(|extent| extent.end - extent.start).sum::<u64>(), length as u64);
                self.pins.push(pin);
                false
            }
            Err(
                PinError::NoMemory
                | PinError::Fault(FaultError::OutOfMemory { .. })
                | PinError::Refused { refusal: Refusal::NoFreeFrame, .. },
            ) => {
                let after = self.world.mm.counters();
                assert_eq!(after.pin_frames.get() - after.unpin_frames.get(), before, "nothing more is pinned");
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn unpin(&mut self) -> bool {
        while let Some(pin) = self.pins.pop() {
            self.world.mm.unpin(pin);
        }
        false
    }

    fn migrate(&mut self, index: u64, unit: Unit) -> bool {
        match self.world.mm.migrate(page(index), unit) {
            Ok(()) => false,
            Err(Refusal::NoFreeFrame) => true,
            Err(refusal) => panic!("{refusal}"),
        }
    }

    fn collapse(&mut self, slot: u64) -> bool {
        let mut refused = false;
        let each = |at, result| match result {
            Ok(_) => assert!(self.world.mm.is_huge(at)),
            Err(Refusal::NoFreeBlock) => refused = true,
            Err(refusal) => panic!("{refusal}"),
        };
        self.world.mm.collapse(page(512 * slot), BLOCK_SIZE, || false, each).expect("a sound range");
        refused
    }

    fn dissolve(&mut self, slot: u64) -> bool {
        match self.world.mm.dissolve(page(512 * slot)) {
            // A failure before may have taken the home.
            Ok(_) | Err(Refusal::NoHome) => false,
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// Blocks that were not emptied, or not waited for.
    fn lacked(&self) -> u64 {
        let counters = self.world.mm.counters();
        counters.compact_blocks_failed.get() + counters.compact_fail.get()
    }

    /// Lets the background work until it has nothing more to do; says whether it lacked memory on the way.
    fn background(&mut self) -> bool {
        let before = self.lacked();
        loop {
            match self.world.mm.background_step(self.now) {
                Rest::None => {}
                Rest::Until(at) => self.now = self.now.max(at),
                Rest::Wait => return self.lacked() > before,
            }
            self.world.check();
        }
    }

    /// Touches a page; says whether it lacked memory, if only to empty a block.
    fn touch_and_compact(&mut self, index: u64) -> bool {
        let before = self.lacked();
        self.touch(index) || self.lacked() > before
    }

    /// All is sound, and nothing lost.
    fn check(&self, n: u64) {
        self.world.check();
        for (&index, &word) in &self.written {
            assert_eq!(self.world.get(page(index)), word, "page {index} after failure {n}");
        }
        if let Some((start, words)) = &self.seen {
            for (&index, &word) in words {
                assert_eq!(self.world.get(*start + index * PAGE_SIZE as u64), word, "page {index} as it was, {n}");
            }
        }
    }
}

const TOUCHES: &[Step] = &[
    |script| script.map(SLOTS * BLOCK_SIZE, START),
    |script| script.touch(0),
    |script| script.touch(16),
    |script| script.touch(512),
    |script| {
        script.world.mm.policy().set_fault_mode(FaultMode::Eager);
        let refused = script.touch(1024);
        script.world.mm.policy().set_fault_mode(FaultMode::Adaptive);
        refused
    },
    // A block or what stands for it is cut.
    |script| refused(script.world.mm.protect(page(1030), PAGE_SIZE, Access::READ)),
    |script| script.release(1040..1043),
    |script| refused(script.world.mm.unmap(page(100), 7 * PAGE_SIZE)),
    |script| refused(script.world.mm.protect(page(1030), PAGE_SIZE, Access::READ_WRITE)),
    |script| script.map(7 * PAGE_SIZE, page(100)),
    |script| script.touch(101),
    |script| (200..400).any(|index| script.touch(index)),
];

const PIN: PinRequest = PinRequest::new();

const PINS: &[Step] = &[
    |script| script.map(SLOTS * BLOCK_SIZE, START),
    // Pages that are faulted in.
    |script| script.pin(10..40, PIN.write()),
    |script| script.scatter(512..552),
    // More records than one frame has.
    |script| script.pin(512..552, PIN),
    |script| script.pin(512..552, PIN),
    |script| script.pin(512..552, PIN),
    |script| script.pin(512..552, PIN),
    |script| script.pin(512..552, PIN),
    |script| script.pin(512..552, PIN),
    |script| script.pin(512..552, PIN),
    Script::unpin,
    // Pages that move, of a block, and others that are absent.
    |script| (1024..1536).step_by(16).any(|index| script.touch(index)),
    |script| script.pin(1520..1560, PIN.long()),
    |script| script.pin(1524..1556, PIN.long()),
    |script| script.pin(512..520, PIN.long()),
    Script::unpin,
];

const MOVES: &[Step] = &[
    |script| script.map(SLOTS * BLOCK_SIZE, START),
    |script| (0..512).step_by(16).any(|index| script.touch(index)),
    |script| script.migrate(21, Unit::Page),
    |script| script.migrate(100, Unit::Group),
    |script| script.migrate(96, Unit::Page),
    |script| script.dissolve(0),
    |script| script.migrate(160, Unit::Group),
    // To a free block.
    |script| script.scatter(512..540),
    |script| script.collapse(1),
    // To the block that was its home.
    |script| script.collapse(0),
    |script| script.dissolve(1),
];

const ADOPTION: &[Step] = &[
    |script| script.map(SLOTS * BLOCK_SIZE, START),
    |script| (0..512).step_by(16).any(|index| script.touch(index)),
    |script| script.release(100..164),
    |script| script.dissolve(0),
    // Others move in, and must move out.
    |script| script.scatter(512..560),
    |script| script.collapse(0),
    |script| script.collapse(1),
];

const fn pages(count: usize) -> RemapRequest {
    RemapRequest::new(count * PAGE_SIZE)
}

/// A GiB after the first, of which nothing is touched.
const FAR: u64 = 512 * 512;

const REMAPS: &[Step] = &[
    |script| script.map(2 * BLOCK_SIZE, START),
    // Every page: none is zero, and nothing can be taken back.
    |script| (0..512).any(|index| script.touch(index)),
    |script| script.scatter(512..552),
    // Whole slots, to where there is no table and no record; one of them is a block.
    |script| script.remap(0..1024, pages(1024).at(page(FAR))),
    |script| script.remap(FAR..FAR + 1024, pages(1024).at(page(512))),
    // More of it than stays, to two slots.
    |script| script.remap(512..1024, pages(512).at(page(2048 + 7))),
    // Pages that were scattered, with more of them.
    |script| script.remap(1024..1064, pages(80).at(page(3 * 512 + 100))),
    |script| script.map(BLOCK_SIZE, page(0)),
    |script| (0..512).any(|index| script.touch(index)),
    // A few pages of a block, and what is left mapped in the middle.
    |script| script.remap(100..103, pages(3).at(page(3 * 512 + 300))),
    |script| script.remap(200..203, pages(3).at(page(3 * 512 + 11)).keep()),
    // What is longer, or shorter, by then, in place of others.
    |script| script.remap(300..332, pages(64).over(page(2048 + 64))),
    |script| script.remap(2048 + 200..2048 + 300, pages(30).over(page(10))),
    // Where it is.
    |script| script.remap(340..512, pages(300)),
    |script| script.remap(400..500, pages(50)),
    // To a slot that has pages, and within one.
    |script| script.remap(110..116, pages(6).at(page(3 * 512 + 16))),
    |script| script.remap(3 * 512 + 16..3 * 512 + 20, pages(4).over(page(3 * 512 + 102))),
    |script| script.remap(3 * 512 + 100..3 * 512 + 110, pages(10).keep().at(page(3 * 512 + 400))),
];

const SHARES: &[Step] = &[
    |script| script.map(3 * BLOCK_SIZE, START),
    |script| (0..512).any(|index| script.touch(index)),
    |script| script.scatter(512..552),
    |script| script.pin(530..533, PIN.write()),
    |script| script.snapshot(3 * 512),
    // Of a block, of pages, and what is new.
    |script| script.rewrite(5..8),
    |script| script.rewrite(520..524),
    |script| script.rewrite(1024..1030),
    // What goes needs no memory.
    |script| script.release(20..40),
    |script| script.release(540..545),
    |script| refused(script.world.mm.protect(page(100), 9 * PAGE_SIZE, Access::READ)),
    |script| refused(script.world.mm.protect(page(100), 9 * PAGE_SIZE, Access::READ_WRITE)),
    |script| script.rewrite(104..106),
    Script::end_snapshot,
    |script| script.snapshot(600),
    |script| script.rewrite(510..516),
    Script::end_snapshot,
    Script::unpin,
    // To where there is no table, and in place of what is there.
    |script| script.alias(Destination::At(page(FAR))),
    |script| script.alias(Destination::Over(page(1024))),
    |script| {
        script.written.retain(|&index, _| index < 1024);
        script.rewrite(30..34)
    },
    |script| refused(script.world.mm.unmap(page(1024), BLOCK_SIZE)),
    |script| refused(script.world.mm.unmap(page(FAR), BLOCK_SIZE)),
];

/// No block is free, and each holds a few pages that can move; a slot lacks one.
fn fragmented(script: &mut Script) {
    script.fragments = Some(fragment(&script.world.mm, State::Random(3)));
    assert_eq!(script.world.mm.frames().statistics().free_blocks(), 0);
    assert!(!script.map(SLOTS * BLOCK_SIZE, START));
    assert!(!(0..512).step_by(16).any(|index| script.touch(index)));
    assert!(!script.world.mm.is_huge(START) && script.world.mm.candidates() == 1);
}

const BACKGROUND: &[Step] = &[
    // A block is emptied for the first slot.
    Script::background,
    |script| {
        assert!(script.world.mm.is_huge(START));
        script.world.mm.policy().set_defrag(Defrag::Defer);
        script.touch(512)
    },
    // And one for later.
    Script::background,
];

const STALLS: &[Step] = &[
    |script| {
        script.world.mm.policy().set_defrag(Defrag::Always);
        script.touch_and_compact(512)
    },
    |script| script.touch_and_compact(1024),
    Script::background,
];

/// Runs a script once for each of its allocations, which fails then. Returns how many failures were felt, and the world where none
/// was.
fn fail_at_every_step(steps: &[Step]) -> (usize, World) {
    fail_at_every_step_after(|_| (), steps)
}

/// As that, with allocations that do not fail before.
fn fail_at_every_step_after(prepare: fn(&mut Script), steps: &[Step]) -> (usize, World) {
    let mut failures = 0;
    for n in (1..).step_by(STRIDE) {
        let world = World::new(16 * MIB, 1, n);
        let whole = world.mm.frames().statistics();
        let mut script =
            Script { world, written: BTreeMap::new(), pins: Vec::new(), seen: None, fragments: None, now: 0 };
        prepare(&mut script);
        script.world.mm.frames().fail_after(n);
        for (number, step) in steps.iter().enumerate() {
            if step(&mut script) {
                failures += 1;
                script.check(n);
                assert!(!step(&mut script), "step {number} after failure {n}");
            }
            script.world.check();
        }
        let pending = script.world.mm.frames().fail_never();
        script.check(n);
        if let Some(fragments) = script.fragments.take() {
            fragments.give_back(&script.world.mm);
        }
        script.world.mm.unmap(START, SLOTS * BLOCK_SIZE).expect("whole regions");
        script.world.check();
        let left = script.world.mm.frames().statistics();
        assert_eq!((left.total, left.homes, left.movable, left.orphans), (whole.total, 0, 0, 0));
        if pending {
            return (failures, script.world);
        }
    }
    unreachable!("scripts end")
}

fn an_allocation_fails_at_every_touch_and_cut() {
    let (failures, _) = fail_at_every_step(TOUCHES);
    assert!(failures * STRIDE > 10, "only {failures} failures were felt");
}

fn an_allocation_fails_at_every_pin() {
    let (failures, world) = fail_at_every_step(PINS);
    assert!(failures * STRIDE > 50, "only {failures} failures were felt");
    let counters = world.mm.counters();
    assert!(counters.migrate_pages.get() > 40 && counters.thp_split_pmd_pages.get() > 0, "long pins moved pages");
}

fn an_allocation_fails_at_every_move() {
    let (failures, world) = fail_at_every_step(MOVES);
    // A fault that was refused tries again where a home has ended since the last one.
    assert!(failures * STRIDE > 10, "only {failures} failures were felt");
    let counters = world.mm.counters();
    assert_eq!((counters.thp_collapse_alloc.get(), counters.collapse_adopt.get()), (1, 1));
}

fn an_allocation_fails_at_every_step_of_an_adoption() {
    let (failures, world) = fail_at_every_step(ADOPTION);
    assert!(failures * STRIDE > 10, "only {failures} failures were felt");
    let counters = world.mm.counters();
    assert_eq!((counters.thp_collapse_alloc.get(), counters.collapse_adopt.get()), (1, 1));
    let out = counters.migrate_pages.get() - 48;
    assert!(out > 20, "{out} pages moved out");
}

fn an_allocation_fails_at_every_remap() {
    let (failures, world) = fail_at_every_step(REMAPS);
    assert!(failures * STRIDE > 50, "only {failures} failures were felt");
    assert!(world.mm.counters().migrate_pages.get() > 6, "a few pages were copied");
}

fn an_allocation_fails_at_every_step_of_what_is_shared() {
    let (failures, world) = fail_at_every_step(SHARES);
    assert!(failures * STRIDE > 30, "only {failures} failures were felt");
    let counters = world.mm.counters();
    assert!(counters.snapshot_pages_copied.get() > 12, "pages were copied");
}

fn an_allocation_fails_at_every_step_in_the_background() {
    let (failures, world) = fail_at_every_step_after(fragmented, BACKGROUND);
    assert!(failures * STRIDE > 10, "only {failures} failures were felt");
    let counters = world.mm.counters();
    assert_eq!((counters.khugepaged_collapsed.get(), counters.compact_blocks.get()), (1, 2));
}

fn an_allocation_fails_at_every_step_of_a_fault_that_waits_for_a_block() {
    let (failures, world) = fail_at_every_step_after(fragmented, STALLS);
    assert!(failures * STRIDE > 10, "only {failures} failures were felt");
    let counters = world.mm.counters();
    assert_eq!((counters.compact_success.get(), counters.compact_fail.get()), (2, 0));
    assert_eq!((counters.khugepaged_collapsed.get(), counters.compact_blocks.get()), (1, 3));
}

/// However many regions there are: where memory for the records of more lacks, a remap is refused before anything is changed.
fn a_remap_needs_records_of_regions() {
    let mut refused = 0;
    for regions in 0..100 {
        let world = World::new(16 * MIB, 1, regions);
        world.mm.map(MapRequest::new(2 * BLOCK_SIZE).at(START)).expect("room");
        for index in 0..regions {
            world.mm.protect(page(2 * index), PAGE_SIZE, Access::READ).expect("mapped");
        }
        let taken = take_all(&world);
        let before = world.mm.regions();
        match world.mm.remap(page(600), 30 * PAGE_SIZE, pages(20).over(page(700))) {
            Ok(_) => {}
            Err(MemoryError::NoMemory) => {
                refused += 1;
                assert_eq!(world.mm.regions(), before);
            }
            Err(error) => panic!("{error}"),
        }
        give_back(&world, taken);
    }
    assert!(refused > 0, "there were always records");
}

/// What has no run of frames, although frames are free, is told so.
fn free_frames_that_are_no_run_are_not_waited_for() {
    let world = World::new(16 * MIB, 1, 1);
    let (kept, freed): (Vec<_>, Vec<_>) = take_all(&world).into_iter().partition(|frame| frame.0 % 2 == 0);
    freed.iter().for_each(|&frame| world.mm.frames().free(frame, 0));
    let attempts = Cell::new(0);
    let run = world.mm.with_reclaim(|| {
        attempts.set(attempts.get() + 1);
        assert!(attempts.get() < 100, "it is tried again and again");
        world.mm.frames().allocate(1, Class::Unmovable)
    });
    assert!(run.is_none());
    give_back(&world, kept);
}

ashlar_test::tests! {
    an_allocation_fails_at_every_touch_and_cut,
    an_allocation_fails_at_every_pin,
    an_allocation_fails_at_every_move,
    an_allocation_fails_at_every_step_of_an_adoption,
    an_allocation_fails_at_every_remap,
    an_allocation_fails_at_every_step_of_what_is_shared,
    a_remap_needs_records_of_regions,
    an_allocation_fails_at_every_step_in_the_background,
    an_allocation_fails_at_every_step_of_a_fault_that_waits_for_a_block,
    free_frames_that_are_no_run_are_not_waited_for,
}
