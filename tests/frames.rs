//! The frame allocator against a plain model, and to exhaustion; the memory map that it starts from.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::single_range_in_vec_init, reason = "a machine with one bank of RAM")]

extern crate alloc;

mod common;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ashlar::arch::sim::{SimConfig, SimMachine};
use ashlar::mm::address::{BLOCK_SIZE, Block, Frame, PAGE_SIZE, PhysAddr};
use ashlar::mm::bits::Bits512;
use ashlar::mm::frame::{
    CacheLimits, Class, FrameStatistics, Frames, FramesError, Home, MemoryMap, Owner, PHYSICAL_LIMIT, Refusal,
};
use ashlar::mm::mmu::Mmu;
use common::Random;
use core::ops::{Deref, Range};
use core::sync::atomic::{AtomicUsize, Ordering};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// An allocator, what it had to give at first, and the machine its records are in.
struct Setup {
    frames: Frames,
    map: MemoryMap,
    machine: SimMachine,
}

impl Deref for Setup {
    type Target = Frames;
    fn deref(&self) -> &Frames {
        &self.frames
    }
}

/// An allocator over `banks` on a machine with no more memory than `backed`, where its records should be.
fn try_setup(banks: &[Range<u64>], backed: &[Range<u64>]) -> Result<Setup, FramesError> {
    #[cfg(not(target_os = "none"))]
    common::threads_are_contexts();
    let mut map = map_of(banks);
    let backed: Vec<_> = backed.iter().map(|bank| (PhysAddr(bank.start), (bank.end - bank.start) as usize)).collect();
    let machine = SimMachine::new(SimConfig { banks: &backed, ..SimConfig::default() });
    for &(start, bytes) in backed.iter().filter(|(_, bytes)| *bytes <= 32 * MIB as usize) {
        // RAM holds anything at boot.
        // SAFETY: the bank is `bytes` long, in one piece, and not in use yet.
        unsafe { machine.linear(start).write_bytes(0xa5, bytes) };
    }
    // SAFETY: the machine lives as long as the allocator, and nobody else uses its memory.
    let frames = unsafe { Frames::new(&machine, &mut map) }?;
    frames.check();
    Ok(Setup { frames, map, machine })
}

fn setup(banks: &[Range<u64>]) -> Setup {
    try_setup(banks, banks).unwrap()
}

/// Limits that make even small machines cache everything.
const CACHED: CacheLimits = CacheLimits { frames: 8, groups: 4, blocks: 2 };

/// The same without caches: what an allocation finds is what the pool has.
fn pool_of(banks: &[Range<u64>]) -> Setup {
    let frames = setup(banks);
    frames.set_cache_limits(CacheLimits::NONE);
    frames
}

fn map_of(banks: &[Range<u64>]) -> MemoryMap {
    let mut map = MemoryMap::new();
    for bank in banks {
        map.add(PhysAddr(bank.start)..PhysAddr(bank.end)).unwrap();
    }
    map
}

fn ranges(map: &MemoryMap) -> Vec<(u64, u64)> {
    map.iter().map(|range| (range.start.0, range.end.0)).collect()
}

fn owner(number: u32) -> Owner {
    Owner::new(number).unwrap()
}

/// Any key of `map`.
fn any_key<V>(map: &BTreeMap<u64, V>, random: &mut Random) -> Option<u64> {
    let nth = random.index(map.len().max(1));
    map.keys().nth(nth).copied()
}

/// A frame in use by itself.
#[derive(Clone, Debug)]
struct Single {
    class: Class,
    pins: u32,
    orphan: bool,
    owner: Option<(Owner, usize)>,
}

/// A block in use as a whole.
#[derive(Clone, Debug, Default)]
struct Whole {
    owner: Option<Owner>,
    absent: usize,
    pins: BTreeMap<usize, u32>,
}

/// What the allocator must agree with.
struct Model {
    ram: Vec<Range<u64>>,
    singles: BTreeMap<u64, Single>,
    blocks: BTreeMap<u64, Whole>,
    deferred: VecDeque<u64>,
    zeroed: usize,
    /// Simulated cores that the operations come from.
    cores: usize,
}

impl Model {
    fn new(map: &MemoryMap, cores: usize) -> Model {
        let ram = map.iter().map(|range| range.start.frame().0..range.end.frame().0).collect();
        let (singles, blocks) = (BTreeMap::new(), BTreeMap::new());
        Model { ram, singles, blocks, deferred: VecDeque::new(), zeroed: 0, cores }
    }

    fn is_free(&self, start: u64, count: u64) -> bool {
        self.ram.iter().any(|range| range.start <= start && start + count <= range.end)
            && self.singles.range(start..start + count).next().is_none()
            && (start / 512..(start + count).div_ceil(512)).all(|block| !self.blocks.contains_key(&block))
    }

    fn has_free_run(&self, count: u64) -> bool {
        self.ram.iter().any(|range| {
            let mut start = range.start.next_multiple_of(count);
            core::iter::from_fn(|| (start + count <= range.end).then(|| (start, start += count).0))
                .any(|start| self.is_free(start, count))
        })
    }

    fn free(&self) -> usize {
        let all: u64 = self.ram.iter().map(|range| range.end - range.start).sum();
        all as usize - self.singles.len() - 512 * self.blocks.len()
    }

    /// Everything but what a walk over all frames is needed for.
    fn agree(&self, frames: &Frames) {
        let statistics = frames.statistics();
        assert_eq!(statistics.sum(), statistics.total);
        assert_eq!(statistics.unused(), self.free());
        assert_eq!((statistics.zeroed, frames.zeroed()), (512 * self.zeroed, self.zeroed));
        let homes = || self.blocks.values().filter(|block| block.owner.is_some());
        assert_eq!(statistics.homes, homes().count());
        assert_eq!(statistics.whole, 512 * (self.blocks.len() - statistics.homes));
        assert_eq!(statistics.absent, homes().map(|home| home.absent).sum::<usize>());
        assert_eq!(statistics.available(), self.free() + statistics.absent);
        assert_eq!(statistics.deferred, self.deferred.len());
    }

    fn agree_on_the_oldest(&self, frames: &Frames) {
        let oldest = self.deferred.front().map(|&block| (Block(block), self.blocks[&block].owner.unwrap()));
        assert_eq!(frames.oldest_deferred(), oldest);
    }

    fn agree_on_everything(&self, frames: &Frames) {
        self.agree(frames);
        self.agree_on_the_oldest(frames);
        frames.check();
        let statistics = frames.statistics();
        let count = |wanted: &dyn Fn(&Single) -> bool| self.singles.values().filter(|single| wanted(single)).count();
        assert_eq!(statistics.orphans, count(&|single| single.orphan));
        assert_eq!(statistics.movable, count(&|single| !single.orphan && single.class == Class::Movable));
        assert_eq!(statistics.unmovable, count(&|single| !single.orphan && single.class == Class::Unmovable));
        for (&frame, single) in &self.singles {
            assert_eq!(frames.pins(Frame(frame)), single.pins);
            assert_eq!(frames.owner(Frame(frame)), single.owner);
        }
        let mut homes = Vec::new();
        while let Some((block, owner)) = frames.next_home(homes.last().map(|&(block, _)| block)) {
            homes.push((block, owner));
        }
        let expected = self.blocks.iter().filter_map(|(&block, whole)| Some((Block(block), whole.owner?)));
        assert!(homes.iter().copied().eq(expected));
        for (&block, whole) in &self.blocks {
            assert_eq!(frames.home_owner(Block(block)), whole.owner);
            assert_eq!(frames.is_pinned(Block(block)), !whole.pins.is_empty());
            for index in 0..512 {
                let frame = Block(block).frame(index);
                assert_eq!(frames.pins(frame), whole.pins.get(&index).copied().unwrap_or(0));
                assert_eq!(frames.owner(frame), whole.owner.map(|owner| (owner, index)));
            }
        }
        let all_in_the_pool = statistics.free == statistics.unused();
        for order in (0..9).filter(|_| all_in_the_pool) {
            let largest = statistics.free_runs[order..].iter().any(|&runs| runs > 0);
            assert_eq!(largest, self.has_free_run(1 << order), "a free run of order {order}");
        }
    }

    fn mark(&self, frames: &Frames) -> usize {
        (frames.statistics().total / 512 / 16).min(64)
    }

    fn home(&self, random: &mut Random) -> Option<u64> {
        any_key(&self.blocks, random).filter(|block| self.blocks[block].owner.is_some())
    }

    /// An allocation of 2^`order` frames may have taken zeroed blocks, but only when nothing else would do.
    fn note_zeroed(&mut self, frames: &Frames, order: u32, before: &FrameStatistics) {
        let left = frames.zeroed();
        let others = before.free_runs[order as usize..].iter().any(|&runs| runs > 0);
        assert!(left == self.zeroed || left < self.zeroed && !others, "zeroed blocks were taken without need");
        self.zeroed = left;
    }

    fn free_single(&mut self, frame: u64) {
        let single = self.singles.get_mut(&frame).unwrap();
        if single.pins > 0 {
            *single = Single { orphan: true, owner: single.owner, ..single.clone() };
        } else {
            self.singles.remove(&frame);
        }
    }

    /// The block ends; its pinned frames are orphans.
    fn retire(&mut self, block: u64) {
        let whole = self.blocks.remove(&block).unwrap();
        for (index, pins) in whole.pins {
            let orphan = Single { class: Class::Movable, pins, orphan: true, owner: None };
            self.singles.insert(block * 512 + index as u64, orphan);
        }
        self.deferred.retain(|&other| other != block);
    }

    /// One random operation, on the model and on `frames`. `pressure` of 100 is the share of those that take.
    fn step(&mut self, frames: &Frames, random: &mut Random, pressure: usize) {
        common::set_core(random.index(self.cores));
        let before = frames.statistics();
        if random.index(100) < pressure {
            match random.index(12) {
                0 | 1 => match frames.allocate_block() {
                    Some(block) => {
                        assert!(self.is_free(block.frame(0).0, 512), "{block:?} was not free");
                        self.blocks.insert(block.0, Whole::default());
                        self.note_zeroed(frames, 9, &before);
                    }
                    None => assert!(!self.has_free_run(512), "refused a block, and there is one"),
                },
                2 => {
                    let (owner, absent) = (owner(random.next() as u32 | 1), [0, 496, 512][random.index(3)]);
                    let Some(Home { block, zeroed }) = frames.allocate_home(owner, absent) else {
                        return assert!(!self.has_free_run(512), "refused a home, and there is a block");
                    };
                    assert!(self.is_free(block.frame(0).0, 512), "{block:?} was not free");
                    self.blocks.insert(block.0, Whole { owner: Some(owner), absent, pins: BTreeMap::new() });
                    if absent > 0 {
                        self.deferred.push_back(block.0);
                    }
                    assert_eq!(zeroed, frames.zeroed() < self.zeroed);
                    self.note_zeroed(frames, 9, &before);
                }
                9 => {
                    let Some(block) = frames.take_unzeroed() else {
                        let enough = self.zeroed >= self.mark(frames);
                        return assert!(
                            enough || before.free < before.total / 8 + 512 || before.free_runs[9..] == [0; 10]
                        );
                    };
                    assert!(self.is_free(block.frame(0).0, 512), "{block:?} was not free");
                    frames.put_zeroed(block);
                    self.zeroed += 1;
                }
                10 => {
                    let owner = owner(random.next() as u32 | 1);
                    match frames.allocate_zeroed_home(owner) {
                        Some(block) => {
                            assert!(self.is_free(block.frame(0).0, 512), "{block:?} was not free");
                            self.zeroed -= 1;
                            if random.index(2) == 0 {
                                frames.return_zeroed_home(block);
                                self.zeroed += 1;
                            } else {
                                self.blocks.insert(block.0, Whole { owner: Some(owner), ..Whole::default() });
                            }
                        }
                        None => assert_eq!(self.zeroed, 0, "refused a zeroed block, and there is one"),
                    }
                }
                3..=8 => {
                    let order = [0, 0, 0, 4, random.index(9) as u32][random.index(5)];
                    let class = if random.index(4) == 0 { Class::Unmovable } else { Class::Movable };
                    let Some(frame) = frames.allocate(order, class) else {
                        return assert!(!self.has_free_run(1 << order), "refused order {order}, and there is one");
                    };
                    assert!(frame.0.is_multiple_of(1 << order) && self.is_free(frame.0, 1 << order), "{frame:?}");
                    for frame in frame.0..frame.0 + (1 << order) {
                        self.singles.insert(frame, Single { class, pins: 0, orphan: false, owner: None });
                    }
                    self.note_zeroed(frames, order, &before);
                }
                _ => {
                    let Some(block) = any_key(&self.blocks, random) else { return };
                    let whole = self.blocks.get_mut(&block).unwrap();
                    if whole.owner.is_none() {
                        whole.owner = Some(owner(random.next() as u32 | 1));
                        whole.absent = 512;
                        frames.make_home(Block(block), whole.owner.unwrap());
                    }
                }
            }
            return;
        }
        match random.index(20) {
            0..=5 => {
                // The largest aligned run around a frame that can be given back together, up to a random order.
                let Some(frame) = any_key(&self.singles, random) else { return };
                let order = random.index(6) as u32;
                let start = frame & !((1 << order) - 1);
                let can = |frame: u64| self.singles.get(&frame).is_some_and(|single| !single.orphan);
                if (start..start + (1 << order)).all(can) {
                    frames.free(Frame(start), order);
                    (start..start + (1 << order)).for_each(|frame| self.free_single(frame));
                }
            }
            6 | 7 => {
                let Some(block) = any_key(&self.blocks, random) else { return };
                match self.blocks[&block].owner {
                    Some(_) => frames.end_home(Block(block)),
                    None => frames.free_block(Block(block)),
                }
                self.retire(block);
            }
            8 | 9 => {
                let Some(block) = self.home(random) else { return };
                let mut keep = Bits512::EMPTY;
                for _ in 0..random.index(4) {
                    let start = random.index(512);
                    keep.set_range(start..(start + 1 + random.index(200)).min(512));
                }
                let result = frames.dissolve(Block(block), &keep);
                if !self.blocks[&block].pins.is_empty() {
                    return assert_eq!(result, Err(Refusal::Pinned));
                }
                assert_eq!(result, Ok(512 - keep.count()));
                let owner = self.blocks[&block].owner.unwrap();
                self.retire(block);
                for page in keep.runs().flatten() {
                    let single = Single { class: Class::Movable, pins: 0, orphan: false, owner: Some((owner, page)) };
                    self.singles.insert(block * 512 + page as u64, single);
                }
            }
            10 | 11 => {
                let Some(block) = self.home(random) else { return };
                let absent = [0, random.index(513), random.index(513)][random.index(3)];
                frames.set_absent(Block(block), absent);
                self.blocks.get_mut(&block).unwrap().absent = absent;
                if absent == 0 {
                    self.deferred.retain(|&other| other != block);
                } else {
                    assert_eq!(frames.defer(Block(block)), !self.deferred.contains(&block));
                    if !self.deferred.contains(&block) {
                        self.deferred.push_back(block);
                    }
                }
            }
            12 => {
                let Some(block) = self.home(random) else { return };
                frames.undefer(Block(block));
                self.deferred.retain(|&other| other != block);
            }
            13 => {
                let Some(frame) = any_key(&self.singles, random) else { return };
                let single = self.singles.get_mut(&frame).unwrap();
                if !single.orphan {
                    single.owner = Some((owner(random.next() as u32 | 1), random.index(512)));
                    let (owner, page) = single.owner.unwrap();
                    frames.set_owner(Frame(frame), owner, page);
                }
            }
            14 => {
                let Some(frame) = any_key(&self.singles, random) else { return };
                let single = self.singles.get_mut(&frame).unwrap();
                if !single.orphan {
                    frames.pin(Frame(frame));
                    single.pins += 1;
                }
            }
            15 => {
                let Some(block) = any_key(&self.blocks, random) else { return };
                let index = random.index(512);
                frames.pin(Block(block).frame(index));
                *self.blocks.get_mut(&block).unwrap().pins.entry(index).or_default() += 1;
            }
            16 => {
                let Some(block) = any_key(&self.blocks, random) else { return };
                let pins = &mut self.blocks.get_mut(&block).unwrap().pins;
                let Some((&index, _)) = pins.first_key_value() else { return };
                frames.unpin(Block(block).frame(index));
                *pins.get_mut(&index).unwrap() -= 1;
                pins.retain(|_, pins| *pins > 0);
            }
            _ => {
                let Some(frame) = self.singles.iter().find(|(_, single)| single.pins > 0).map(|(&frame, _)| frame)
                else {
                    return;
                };
                frames.unpin(Frame(frame));
                let single = self.singles.get_mut(&frame).unwrap();
                single.pins -= 1;
                if single.pins == 0 && single.orphan {
                    self.singles.remove(&frame);
                }
            }
        }
    }

    /// Gives everything back.
    fn end(mut self, frames: &Frames) {
        for block in self.blocks.keys().copied().collect::<Vec<_>>() {
            match self.blocks[&block].owner {
                Some(_) => frames.end_home(Block(block)),
                None => frames.free_block(Block(block)),
            }
            self.retire(block);
        }
        for (frame, single) in core::mem::take(&mut self.singles) {
            if !single.orphan {
                frames.free(Frame(frame), 0);
            }
            (0..single.pins).for_each(|_| frames.unpin(Frame(frame)));
        }
        while let Some(block) = frames.allocate_zeroed_home(owner(1)) {
            frames.end_home(block);
            self.zeroed -= 1;
        }
        frames.drain_caches();
        self.agree_on_everything(frames);
    }
}

fn random_operations_agree_with_a_model() {
    let banks: [&[Range<u64>]; 3] = [
        &[0x4000_0000..0x4000_0000 + 24 * MIB],
        // Edges of 4 KiB, a hole within a block, a block that is in two banks, the end of one GiB and the next.
        &[0x3f3f_f000..0x3fc0_1000, 0x3fc0_5000..0x3ff0_0000, 0x3ff8_0000..0x4051_7000],
        &[0x1000..0x17_5000, 0x20_0000..0x60_0000, 0x80_0000..0xa0_1000],
    ];
    for seed in 0..9 {
        let frames = setup(banks[seed as usize % 3]);
        let (limits, cores) = [(CacheLimits::NONE, 1), (CACHED, 4), (CACHED, 1)][seed as usize / 3];
        frames.set_cache_limits(limits);
        let empty = frames.statistics();
        let (mut model, mut random) = (Model::new(&frames.map, cores), Random::new(seed));
        for step in 0..6000 {
            let pressure = [30, 70, 50][step / 500 % 3];
            model.step(&frames, &mut random, pressure);
            model.agree(&frames);
            // Homes that several cores deferred keep their order only if they are asked for in between.
            if cores > 1 || step % 20 == 0 {
                model.agree_on_the_oldest(&frames);
            }
            if step % 100 == 0 {
                model.agree_on_everything(&frames);
                frames.drain_caches();
                model.agree_on_everything(&frames);
            }
        }
        model.end(&frames);
        let end = frames.statistics();
        assert_eq!(end.free_runs, empty.free_runs, "free runs are not what they were");
        assert_eq!((end.free, end.metadata), (empty.free, empty.metadata));
    }
}

/// The numbers below `count`, in a random order.
fn shuffled(count: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.index(last + 1));
    }
    order
}

/// Takes everything there is, in order `order` or as blocks, and gives it back in a random order.
fn exhaust(frames: &Frames, order: Option<u32>, random: &mut Random) {
    let before = frames.statistics();
    let mut taken = Vec::new();
    let mut blocks = Vec::new();
    match order {
        Some(order) => taken.extend(core::iter::from_fn(|| frames.allocate(order, Class::Movable))),
        None => blocks.extend(core::iter::from_fn(|| frames.allocate_block())),
    }
    let expected = match order {
        Some(order) => (order as usize..19).map(|run| (before.free_runs[run] as usize) << (run - order as usize)).sum(),
        None => before.free_blocks(),
    };
    assert_eq!(taken.len() + blocks.len(), expected, "order {order:?}");
    frames.check();
    for index in shuffled(taken.len(), random) {
        frames.free(taken[index], order.unwrap());
    }
    for index in shuffled(blocks.len(), random) {
        frames.free_block(blocks[index]);
    }
    frames.check();
    frames.drain_caches();
    let after = FrameStatistics { movable_spills: before.movable_spills, ..frames.statistics() };
    assert_eq!(after, before, "order {order:?}");
}

fn exhausted_memory_comes_back_whole() {
    let frames = try_setup(&[GIB..4 * GIB], &[3 * GIB..4 * GIB]).unwrap();
    assert_eq!(frames.statistics().free_runs[18], 2, "two whole GiB");
    let mut random = Random::new(1);
    for order in [None, Some(8), Some(4), Some(0)] {
        exhaust(&frames, order, &mut random);
    }
    let frames = setup(&[0x3f3f_f000..0x3fc0_1000, 0x3fc0_5000..0x3ff0_0000, 0x3ff8_0000..0x4051_7000]);
    for order in (0..9).map(Some) {
        exhaust(&frames, order, &mut random);
    }
}

fn large_runs_stay_whole_while_smaller_ones_exist() {
    let frames = try_setup(&[GIB..2 * GIB + 512 * MIB], &[2 * GIB..2 * GIB + 512 * MIB]).unwrap();
    frames.set_cache_limits(CacheLimits::NONE);
    let small = frames.statistics().free_blocks() - 512;
    for _ in 0..small {
        assert!(frames.allocate_block().unwrap().start().0 >= 2 * GIB);
        assert_eq!(frames.statistics().free_runs[18], 1);
    }
    let block = frames.allocate_block().unwrap();
    assert_eq!(frames.statistics().free_runs[9..], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert_eq!(block, PhysAddr(GIB).frame().block(), "the lowest block of the GiB");
    frames.free_block(block);
    assert_eq!(frames.statistics().free_runs[18], 1);
}

fn classes_keep_apart_until_nothing_else_is_left() {
    let frames = pool_of(&[GIB..GIB + 16 * MIB]);
    let blocks = frames.statistics().free_blocks();
    assert_eq!(blocks, 7, "all blocks but the one that the records are in");
    let edge = PhysAddr(GIB + 15 * MIB).frame().block();
    let mut users = BTreeMap::new();
    let in_edge = frames.statistics().free - 512 * blocks;
    for step in 0..in_edge {
        let frame = frames.allocate(0, Class::Unmovable).unwrap();
        assert_eq!(frame.block(), edge, "unmovable frames begin where no block can be, step {step}");
    }
    assert_eq!(frames.statistics().free_blocks(), blocks);
    for step in 0..512 * blocks {
        let class = if step % 3 == 0 { Class::Unmovable } else { Class::Movable };
        let before = frames.statistics().free_blocks();
        let frame = frames.allocate(0, class).unwrap();
        let spills = frames.statistics().movable_spills + frames.statistics().unmovable_spills;
        if spills == 0 {
            assert_eq!(
                *users.entry(frame.block()).or_insert(class),
                class,
                "{frame:?} is in a block of the other class"
            );
        } else {
            assert_eq!(before, 0, "{frame:?} spilled, with a block free");
        }
    }
    assert_eq!(frames.statistics().free, 0);
    assert_eq!(frames.allocate(0, Class::Movable), None);
    let statistics = frames.statistics();
    let classes = |wanted| users.values().filter(|&&class| class == wanted).count();
    let (unmovable, movable) = (classes(Class::Unmovable), classes(Class::Movable));
    assert_eq!(unmovable + movable, blocks);
    let overflow = |frames: usize, blocks: usize| frames.saturating_sub(512 * blocks) as u64;
    assert_eq!(statistics.movable_spills, overflow(statistics.movable, movable));
    assert_eq!(statistics.unmovable_spills, overflow(statistics.unmovable - in_edge, unmovable));
    assert!(statistics.movable_spills + statistics.unmovable_spills > 0);
}

fn full_blocks_fill_up_and_free_ones_are_broken_last() {
    let frames = pool_of(&[GIB..GIB + 16 * MIB]);
    let blocks = frames.statistics().free_blocks();
    let all: Vec<Frame> = (0..3 * 512).map(|_| frames.allocate(0, Class::Movable).unwrap()).collect();
    assert_eq!(frames.statistics().free_blocks(), blocks - 3);
    let of: Vec<Block> = (0..3).map(|third| all[third * 512].block()).collect();
    // In the first one frame is free, in the second two neighbours, in the third a group.
    frames.free(of[2].frame(32), 4);
    frames.free(of[0].frame(77), 0);
    frames.free(of[1].frame(100), 1);
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[0].frame(77)));
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[1].frame(100)));
    assert_eq!(frames.allocate(1, Class::Movable), Some(of[2].frame(32)));
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[1].frame(101)));
    assert_eq!(frames.allocate(0, Class::Movable), Some(of[2].frame(34)));
    assert_eq!(frames.allocate(3, Class::Movable), Some(of[2].frame(40)));
    assert_eq!(frames.statistics().free_blocks(), blocks - 3);
    assert_ne!(frames.allocate(3, Class::Movable).map(Frame::block), Some(of[2]), "no run of eight was left");
    assert_eq!(frames.statistics().free_blocks(), blocks - 4);
}

fn homes_count_their_absent_frames_and_end_in_either_way() {
    let frames = pool_of(&[GIB..GIB + 16 * MIB]);
    let empty = frames.statistics();
    let [a, b] = [1, 2].map(|number| {
        let block = frames.allocate_block().unwrap();
        assert_eq!(frames.home_owner(block), None);
        frames.make_home(block, owner(number));
        block
    });
    assert_eq!(frames.statistics().absent, 1024);
    assert_eq!(frames.statistics().available(), empty.free);
    frames.set_absent(a, 12);
    assert_eq!((frames.statistics().absent, frames.statistics().home), (524, 500));
    assert_eq!(frames.owner(a.frame(7)), Some((owner(1), 7)));
    assert_eq!(frames.next_home(None), Some((a.min(b), frames.home_owner(a.min(b)).unwrap())));
    assert_eq!(frames.next_home(Some(a.max(b))), None);

    let mut keep = Bits512::EMPTY;
    keep.set_range(0..500);
    frames.pin(a.frame(3));
    let before = frames.statistics();
    assert_eq!(frames.dissolve(a, &keep), Err(Refusal::Pinned));
    assert_eq!(frames.statistics(), before, "a refusal changes nothing");
    assert_eq!(frames.home_owner(a), Some(owner(1)));
    frames.unpin(a.frame(3));
    assert_eq!(frames.dissolve(a, &keep), Ok(12));
    assert_eq!(frames.home_owner(a), None);
    assert_eq!(frames.owner(a.frame(7)), Some((owner(1), 7)), "a frame that stays keeps its owner");
    assert_eq!(frames.owner(a.frame(507)), None);
    assert_eq!(frames.statistics().movable, 500);
    (0..500).for_each(|index| frames.free(a.frame(index), 0));

    frames.end_home(b);
    assert_eq!(frames.statistics(), empty);
    frames.check();
}

fn orphans_wait_for_their_last_pin() {
    let frames = pool_of(&[GIB..GIB + 4 * MIB]);
    let empty = frames.statistics();
    let block = frames.allocate_block().unwrap();
    frames.make_home(block, owner(9));
    frames.pin(block.frame(100));
    frames.pin(block.frame(100));
    assert!(frames.is_pinned(block));
    frames.end_home(block);
    assert_eq!((frames.statistics().orphans, frames.statistics().free), (1, empty.free - 1));
    assert_eq!(frames.owner(block.frame(100)), None, "nobody's");
    let taken: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    assert_eq!(taken.len(), empty.free - 1);
    assert!(!taken.contains(&block.frame(100)), "an orphan was handed out");
    frames.unpin(block.frame(100));
    assert_eq!(frames.allocate(0, Class::Movable), None);
    frames.unpin(block.frame(100));
    assert_eq!(frames.allocate(0, Class::Movable), Some(block.frame(100)));

    // The same for a single frame, in the middle of a run that is freed together.
    frames.pin(block.frame(36));
    frames.free(block.frame(32), 3);
    assert_eq!(frames.statistics().free, 7);
    assert_eq!(frames.pins(block.frame(36)), 1);
    frames.unpin(block.frame(36));
    assert_eq!(frames.allocate(3, Class::Movable), Some(block.frame(32)));
    frames.check();
}

fn deferred_homes_queue_up() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    let homes: Vec<Block> = (1..=5)
        .map(|number| {
            let block = frames.allocate_block().unwrap();
            frames.make_home(block, owner(number));
            frames.set_absent(block, 1);
            block
        })
        .collect();
    assert_eq!(frames.oldest_deferred(), None);
    let news = [3, 0, 4, 1, 3, 2].map(|index| frames.defer(homes[index]));
    assert_eq!(news, [true, true, true, true, false, true], "the second time, it keeps its place");
    assert_eq!(frames.statistics().deferred, 5);
    assert_eq!(frames.oldest_deferred(), Some((homes[3], owner(4))));
    frames.set_absent(homes[3], 0);
    frames.undefer(homes[4]);
    frames.undefer(homes[4]);
    assert_eq!(frames.oldest_deferred(), Some((homes[0], owner(1))));
    frames.end_home(homes[0]);
    assert_eq!(frames.oldest_deferred(), Some((homes[1], owner(2))));
    assert_eq!(frames.dissolve(homes[1], &Bits512::EMPTY), Ok(512));
    assert_eq!(frames.oldest_deferred(), Some((homes[2], owner(3))));
    frames.check();
}

/// Every core's cache holds something of everything; one core then wants all there is.
fn exhaustion_finds_what_other_cores_cached() {
    let all = |order: Option<u32>| {
        let frames = setup(&[GIB..GIB + 32 * MIB]);
        frames.set_cache_limits(CACHED);
        let (empty, taken) = (frames.statistics(), || frames.allocate(0, Class::Movable).unwrap());
        for core in 0..4 {
            common::set_core(core);
            let singles: Vec<Frame> = (0..5).map(|_| taken()).collect();
            let table = frames.allocate(0, Class::Unmovable).unwrap();
            let group = frames.allocate(4, Class::Movable).unwrap();
            let block = frames.allocate_block().unwrap();
            singles.into_iter().for_each(|frame| frames.free(frame, 0));
            frames.free(table, 0);
            frames.free(group, 4);
            frames.free_block(block);
        }
        frames.check();
        let statistics = frames.statistics();
        let blocks = statistics.cached_blocks;
        assert!(statistics.cached > 512 * blocks + 16 && blocks >= 1, "{statistics}");
        assert_eq!(statistics.unused(), empty.free);
        assert_eq!((statistics.movable, statistics.unmovable, statistics.whole), (0, 0, 0), "nobody uses any");
        common::set_core(5);
        let found = match order {
            Some(order) => core::iter::from_fn(|| frames.allocate(order, Class::Movable)).count() << order,
            None => 512 * core::iter::from_fn(|| frames.allocate_block()).count(),
        };
        let runs = |order: usize| (order..19).map(|run| (empty.free_runs[run] as usize) << run).sum::<usize>();
        assert_eq!(found, runs(order.unwrap_or(9) as usize), "order {order:?}");
        frames.check();
        common::set_core(0);
    };
    [None, Some(8), Some(4), Some(3), Some(0)].into_iter().for_each(all);
}

/// Nothing is found in vain twice, and nothing that is freed meanwhile is overlooked.
fn what_is_freed_ends_a_scarcity() {
    for limits in [CACHED, CacheLimits::NONE] {
        let frames = setup(&[GIB..GIB + 16 * MIB]);
        frames.set_cache_limits(limits);
        let blocks: Vec<Block> = core::iter::from_fn(|| frames.allocate_block()).collect();
        let mut singles: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0, Class::Unmovable)).collect();
        let nothing = || {
            assert_eq!((frames.allocate(0, Class::Movable), frames.allocate(4, Class::Movable)), (None, None));
            assert_eq!((frames.allocate_block(), frames.allocate_home(owner(1), 0)), (None, None));
        };
        nothing();
        common::set_core(3);
        frames.free(singles.pop().unwrap(), 0);
        common::set_core(0);
        assert_eq!((frames.allocate_block(), frames.allocate(1, Class::Movable)), (None, None));
        singles.extend(frames.allocate(0, Class::Movable));
        nothing();
        frames.free_block(blocks[0]);
        assert_eq!(frames.allocate(8, Class::Unmovable), Some(blocks[0].frame(0)));
        frames.free(blocks[0].frame(0), 8);
        assert_eq!(frames.allocate_block(), Some(blocks[0]));
        frames.make_home(blocks[0], owner(7));
        nothing();
        assert_eq!(frames.dissolve(blocks[0], &Bits512::EMPTY), Ok(512));
        assert_eq!(frames.allocate_home(owner(2), 0), Some(Home { block: blocks[0], zeroed: false }));
        nothing();
        frames.put_zeroed(blocks[1]);
        assert_eq!(frames.allocate_home(owner(3), 0), Some(Home { block: blocks[1], zeroed: true }));
        frames.pin(blocks[2].frame(9));
        frames.free_block(blocks[2]);
        (0..511).for_each(|_| assert!(frames.allocate(0, Class::Movable).is_some()));
        nothing();
        frames.unpin(blocks[2].frame(9));
        assert_eq!(frames.allocate(0, Class::Unmovable), Some(blocks[2].frame(9)));
        frames.check();
        assert_eq!(
            singles.len() + 512 * (blocks.len() - 3) + 512 + 1024,
            frames.statistics().total - frames.statistics().metadata
        );
    }
}

/// What one core freed is its own to take again, and takes the pool's lock neither way.
#[cfg(not(target_os = "none"))]
fn caches_spare_the_lock() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    let block = frames.allocate_home(owner(1), 496).unwrap().block;
    let (frame, group) = (frames.allocate(0, Class::Unmovable).unwrap(), frames.allocate(4, Class::Movable).unwrap());
    let takes = |operation: &dyn Fn()| common::locks(operation);
    assert_eq!(takes(&|| frames.free(frame, 0)), 1);
    assert_eq!(takes(&|| assert_eq!(frames.allocate(0, Class::Unmovable), Some(frame))), 1);
    assert_eq!(takes(&|| frames.free(group, 4)), 1);
    assert_eq!(takes(&|| assert_eq!(frames.allocate(4, Class::Movable), Some(group))), 1);
    // What belongs to one slot takes no lock at all, but for the first and the last that the deferred queue hears of it.
    assert_eq!(takes(&|| frames.set_absent(block, 17)), 0);
    assert_eq!(takes(&|| assert_eq!(frames.absent(block), Some(17))), 0);
    assert_eq!(takes(&|| assert!(!frames.defer(block))), 0);
    assert_eq!(takes(&|| frames.set_owners(group, 16, owner(1), 32)), 0);
    assert_eq!(takes(&|| assert_eq!(frames.owner(group + 3), Some((owner(1), 35)))), 0);
    assert_eq!(takes(&|| assert_eq!(frames.owner(block.frame(3)), Some((owner(1), 3)))), 0);
    assert_eq!(takes(&|| assert!(!frames.is_pinned(block))), 0);
    assert_eq!(takes(&|| frames.set_absent(block, 0)), 1);
    assert_eq!(takes(&|| frames.set_absent(block, 0)), 0);
    assert_eq!(takes(&|| frames.end_home(block)), 1);
    assert_eq!(takes(&|| assert_eq!(frames.allocate_home(owner(2), 496).unwrap().block, block)), 1);
    frames.check();
}

/// The queue learns of homes late, and of those that left it never.
fn homes_leave_the_queue_before_they_came_to_it() {
    let frames = setup(&[GIB..GIB + 128 * MIB]);
    let homes: Vec<Block> = (1..=40).map(|number| frames.allocate_home(owner(number), 500).unwrap().block).collect();
    assert_eq!(frames.statistics().deferred, 40);
    common::set_core(1);
    frames.set_absent(homes[39], 0);
    frames.undefer(homes[0]);
    frames.end_home(homes[38]);
    assert_eq!(frames.dissolve(homes[37], &Bits512::EMPTY), Ok(512));
    frames.pin(homes[36].frame(0));
    assert_eq!(frames.dissolve(homes[36], &Bits512::EMPTY), Err(Refusal::Pinned));
    frames.check();
    assert_eq!(frames.statistics().deferred, 36);
    for number in 2..=37 {
        let home = homes[number - 1];
        assert_eq!(frames.oldest_deferred(), Some((home, owner(number as u32))));
        frames.undefer(home);
    }
    assert_eq!(frames.oldest_deferred(), None);
    assert!(frames.defer(homes[1]));
    common::set_core(2);
    assert!(frames.defer(homes[2]));
    frames.requeue(homes[1]);
    assert_eq!(frames.oldest_deferred(), Some((homes[2], owner(3))));
    frames.check();
    common::set_core(0);
}

fn zeroed_blocks_are_for_those_who_ask() {
    let frames = setup(&[GIB..GIB + 64 * MIB]);
    let empty = frames.statistics();
    assert_eq!(frames.allocate_zeroed_home(owner(1)), None);
    let fill = || {
        while let Some(block) = frames.take_unzeroed() {
            frames.machine.zero(block.frame(0), 512);
            frames.put_zeroed(block);
        }
    };
    fill();
    assert_eq!(frames.zeroed(), 2, "1/16 of 32 blocks");
    frames.set_zeroed_mark(1000);
    fill();
    let statistics = frames.statistics();
    assert_eq!(frames.zeroed(), 27, "1/8 of RAM stays free");
    assert_eq!(statistics.unused(), empty.unused());
    assert_eq!((statistics.free_blocks(), statistics.zeroed), (31, 27 * 512));
    frames.check();

    let first = frames.allocate_zeroed_home(owner(1)).unwrap();
    assert!(frames.machine.is_zero(first.frame(77)));
    assert_eq!((frames.home_owner(first), frames.absent(first), frames.zeroed()), (Some(owner(1)), Some(0), 26));
    frames.return_zeroed_home(first);
    assert_eq!((frames.home_owner(first), frames.zeroed()), (None, 27));
    // Others leave them alone while there is something else.
    let others: Vec<Home> = (0..4).map(|_| frames.allocate_home(owner(2), 496).unwrap()).collect();
    assert!(others.iter().all(|home| !home.zeroed));
    assert_eq!(frames.zeroed(), 27);
    let home = frames.allocate_home(owner(3), 496).unwrap();
    assert!(home.zeroed && frames.machine.is_zero(home.block.frame(200)));
    assert_eq!(frames.allocate_zeroed_home(owner(4)).map(|block| frames.absent(block)), Some(Some(0)));
    // Frames that find no others are taken from them, before they spill into blocks of the other class.
    let table = core::iter::from_fn(|| frames.allocate(0, Class::Unmovable)).take(1024).last();
    let group = frames.allocate(4, Class::Movable).unwrap();
    assert_ne!(table.map(Frame::block), Some(group.block()));
    assert_eq!((frames.statistics().movable_spills, frames.statistics().unmovable_spills), (0, 0));
    let zeroed = frames.zeroed();
    assert!((20..25).contains(&zeroed), "{zeroed}");
    assert_eq!(core::iter::from_fn(|| frames.allocate_block()).count(), zeroed);
    assert_eq!(frames.allocate_zeroed_home(owner(5)), None);
    assert_eq!(frames.take_unzeroed(), None);
    frames.check();
}

fn failures_come_when_asked_for_and_freed_frames_are_seen() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.fail_after(2);
    let block = frames.allocate_block().unwrap();
    assert_eq!(frames.allocate(0, Class::Movable), None);
    assert!(!frames.fail_never(), "it has happened");
    let frame = frames.allocate(4, Class::Movable).unwrap();
    frames.fail_after(1);
    assert_eq!(frames.allocate_block(), None);
    frames.fail_after(1);
    assert!(frames.fail_never(), "it had yet to happen");

    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    frames.observe_free(Box::new(move |_, frames| {
        count.fetch_add(frames, Ordering::Relaxed);
    }));
    frames.pin(frame);
    frames.free(frame, 4);
    assert_eq!(seen.load(Ordering::Relaxed), 15);
    frames.unpin(frame);
    assert_eq!(seen.load(Ordering::Relaxed), 16);
    frames.make_home(block, owner(1));
    let mut keep = Bits512::EMPTY;
    keep.set_range(100..200);
    frames.dissolve(block, &keep).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 16 + 412);
}

fn users_are_watched_and_fail_and_caches_do_not() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    frames.fail_after(5);
    let singles: Vec<Option<Frame>> = (0..6).map(|_| frames.allocate(0, Class::Movable)).collect();
    let failed: Vec<usize> = (0..6).filter(|&index| singles[index].is_none()).collect();
    assert_eq!(failed, [4], "what the cache took does not count");
    frames.fail_after(2);
    assert!(frames.allocate_home(owner(1), 0).is_some());
    assert_eq!(frames.allocate_zeroed_home(owner(2)), None);
    assert!(!frames.fail_never());

    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    frames.observe_free(Box::new(move |_, frames| {
        count.fetch_add(frames, Ordering::Relaxed);
    }));
    let seen = || seen.swap(0, Ordering::Relaxed);
    singles.into_iter().flatten().for_each(|frame| frames.free(frame, 0));
    assert_eq!(seen(), 5);
    let group = frames.allocate(4, Class::Movable).unwrap();
    frames.free(group, 4);
    assert_eq!(seen(), 16);
    let block = frames.allocate_block().unwrap();
    frames.free_block(block);
    assert_eq!(seen(), 512);
    assert!(frames.statistics().cached > 512);
    frames.drain_caches();
    assert_eq!((seen(), frames.statistics().cached), (0, 0), "nobody frees what is free");
    frames.set_zeroed_mark(1);
    let block = frames.take_unzeroed().unwrap();
    frames.put_zeroed(block);
    assert_eq!(seen(), 512);
    while frames.allocate(0, Class::Movable).is_some() {}
    assert_eq!((seen(), frames.zeroed()), (0, 0));
}

/// Whether `misuse` panics. On the target a panic ends the machine: there it is another test's matter.
#[cfg(not(target_os = "none"))]
fn panics(misuse: impl FnOnce()) -> bool {
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(misuse)).is_err()
}

#[cfg(not(target_os = "none"))]
fn misuse_is_a_bug() {
    let with = |misuse: fn(&Frames, Frame, Block)| {
        let with = |limits| {
            let frames = setup(&[GIB..GIB + 16 * MIB]);
            frames.set_cache_limits(limits);
            let frame = frames.allocate(4, Class::Movable).unwrap();
            let block = frames.allocate_block().unwrap();
            panics(|| misuse(&frames, frame, block))
        };
        let panicked = with(CACHED);
        assert_eq!(with(CacheLimits::NONE), panicked, "with and without caches");
        panicked
    };
    assert!(!with(|frames, frame, block| {
        frames.free(frame, 4);
        frames.free_block(block);
    }));
    let double_free = |frames: &Frames, frame, _| {
        frames.free(frame, 4);
        frames.free(frame, 4);
    };
    assert!(with(double_free));
    assert!(with(|frames, frame, _| {
        frames.free(frame + 3, 0);
        frames.free(frame + 3, 0);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame + 3, 0);
        frames.free(frame, 4);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame, 4);
        frames.free(frame + 3, 0);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame, 4);
        frames.pin(frame);
    }));
    assert!(with(|frames, frame, _| {
        frames.free(frame, 4);
        frames.set_owner(frame + 1, owner(1), 0);
    }));
    assert!(with(|frames, frame, _| frames.set_owners(frame + 1, 16, owner(1), 0)), "one of them is free");
    assert!(with(|frames, frame, _| frames.set_owners(frame, 16, owner(1), 500)), "past the end of a slot");
    assert!(with(|frames, frame, _| frames.free(frame, 5)), "more than was taken");
    assert!(with(|frames, frame, _| frames.free(frame + 1, 1)), "misaligned");
    assert!(with(|frames, _, block| frames.free(block.frame(0), 0)), "a frame of a whole block");
    assert!(with(|frames, _, _| frames.free(PhysAddr(GIB + 16 * MIB - 4096).frame(), 0)), "a frame of the records");
    assert!(with(|frames, _, _| frames.free(PhysAddr(5 * GIB).frame(), 0)), "no RAM");
    assert!(with(|frames, frame, _| frames.free_block(frame.block())), "a broken block");
    assert!(with(|frames, _, block| {
        frames.free_block(block);
        frames.free_block(block);
    }));
    assert!(with(|frames, _, block| {
        frames.make_home(block, owner(1));
        frames.free_block(block);
    }));
    assert!(with(|frames, _, block| {
        frames.put_zeroed(block);
        frames.put_zeroed(block);
    }));
    assert!(with(|frames, _, block| {
        frames.put_zeroed(block);
        frames.free_block(block);
    }));
    assert!(with(|frames, _, block| {
        frames.pin(block.frame(1));
        frames.put_zeroed(block);
    }));
    assert!(with(|frames, _, block| {
        frames.free_block(block);
        frames.make_home(block, owner(1));
    }));
    assert!(with(|frames, _, block| {
        frames.free_block(block);
        frames.pin(block.frame(1));
    }));
    assert!(with(|frames, _, block| frames.set_absent(block, 0)), "no home");
    assert!(with(|frames, _, block| frames.end_home(block)), "no home");
    assert!(with(|frames, _, block| _ = frames.defer(block)), "no home");
    assert!(with(|frames, frame, _| frames.unpin(frame)), "not pinned");
    assert!(with(|frames, frame, _| frames.pin(frame + 16)), "free");
    assert!(with(|frames, frame, _| frames.set_owner(frame + 16, owner(1), 0)), "free");
    assert!(with(|frames, _, _| assert_eq!(frames.allocate(9, Class::Movable), None)), "a block is not frames");
}

/// Several cores take and give back at once, and threads move between them; nobody gets what another has.
#[cfg(not(target_os = "none"))]
fn shared_use() {
    for limits in [CACHED, CacheLimits::NONE] {
        share(limits);
    }
}

#[cfg(not(target_os = "none"))]
fn share(limits: CacheLimits) {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(limits);
    frames.set_zeroed_mark(3);
    let before = frames.statistics();
    let taken: Vec<AtomicUsize> = (0..4096).map(|_| AtomicUsize::new(0)).collect();
    let swap = |frame: Frame, count: u64, from: usize, to: usize| {
        for frame in frame.0..frame.0 + count {
            let holder = taken[(frame - GIB / PAGE_SIZE as u64) as usize].swap(to, Ordering::Relaxed);
            assert_eq!(holder, from, "{:?} is in two hands", Frame(frame));
        }
    };
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let (frames, swap) = (&frames, &swap);
            scope.spawn(move || {
                let mut random = Random::new(thread as u64);
                let mut mine = Vec::new();
                let give = |frame: Frame, order: u32, back: u64| {
                    swap(frame, 1 << order, thread, 0);
                    match (order, back) {
                        (9, 0) => frames.put_zeroed(frame.block()),
                        (9, _) => frames.free_block(frame.block()),
                        _ => frames.free(frame, order),
                    }
                };
                for _ in 0..5000 {
                    common::set_core(if random.index(50) == 0 { random.index(4) } else { thread });
                    if random.index(2) == 0 || mine.is_empty() {
                        let order = [0, 0, 0, 4, 4, 9, random.index(9) as u32][random.index(7)];
                        let frame = match (order, random.index(4)) {
                            (9, 0) => frames.take_unzeroed().map(|block| block.frame(0)),
                            (9, 1) => frames.allocate_zeroed_home(owner(thread as u32)).map(|block| block.frame(0)),
                            (9, 2) => frames.allocate_home(owner(thread as u32), 9).map(|home| home.block.frame(0)),
                            (9, _) => frames.allocate_block().map(|block| block.frame(0)),
                            (_, 0) => frames.allocate(order, Class::Unmovable),
                            _ => frames.allocate(order, Class::Movable),
                        };
                        let Some(frame) = frame else { continue };
                        swap(frame, 1 << order, 0, thread);
                        mine.push((frame, order));
                    } else {
                        let (frame, order) = mine.swap_remove(random.index(mine.len()));
                        if order == 9 && frames.home_owner(frame.block()).is_some() {
                            frames.set_absent(frame.block(), random.index(2) * 100);
                            swap(frame, 512, thread, 0);
                            frames.end_home(frame.block());
                            continue;
                        }
                        give(frame, order, random.below(3));
                    }
                    if random.index(200) == 0 {
                        let statistics = frames.statistics();
                        assert_eq!(statistics.sum(), statistics.total);
                        _ = frames.oldest_deferred();
                    }
                }
                for (frame, order) in mine {
                    if order == 9 && frames.home_owner(frame.block()).is_some() {
                        swap(frame, 512, thread, 0);
                        frames.end_home(frame.block());
                    } else {
                        give(frame, order, 0);
                    }
                }
            });
        }
    });
    frames.check();
    assert_eq!(frames.statistics().unused(), before.unused());
    while let Some(block) = frames.allocate_zeroed_home(owner(1)) {
        frames.end_home(block);
    }
    frames.drain_caches();
    let after = frames.statistics();
    assert_eq!((after.free, after.free_runs), (before.free, before.free_runs));
}

/// One frame is left and two want it; one frees what the other then must get.
#[cfg(not(target_os = "none"))]
fn the_last_frame_is_found_by_whoever_wants_it() {
    let frames = setup(&[GIB..GIB + 16 * MIB]);
    frames.set_cache_limits(CACHED);
    let singles: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0, Class::Movable)).collect();
    // With as many free frames as takers, each of whom holds one at most, nobody is ever refused.
    singles[..3].iter().for_each(|&frame| frames.free(frame, 0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let frames = &frames;
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for _ in 0..3000 {
                    common::set_core(random.index(4));
                    let frame = frames.allocate(0, Class::Movable).expect("there is a frame for each");
                    frames.free(frame, 0);
                }
            });
        }
    });
    frames.check();
}

fn records_cost_what_they_should() {
    // 64 GiB, of which only the end is looked at.
    let frames = try_setup(&[GIB..65 * GIB], &[64 * GIB..65 * GIB]).unwrap();
    let statistics = frames.statistics();
    assert_eq!(statistics.total as u64, 64 * GIB / PAGE_SIZE as u64);
    assert!(statistics.metadata * 1000 <= statistics.total * 4, "{} frames of records", statistics.metadata);
    assert_eq!(statistics.free_runs[18], 63);
    let block = frames.allocate_block().unwrap();
    assert!(block.start().0 > 64 * GIB);

    // Two small banks, far apart, and two more in one GiB.
    let banks = [GIB..GIB + 16 * MIB, 2 * GIB - 16 * MIB..2 * GIB, 300 * GIB..300 * GIB + 16 * MIB];
    let frames = setup(&banks);
    let statistics = frames.statistics();
    assert_eq!(statistics.total, 3 * 4096);
    let directory = 301 * 64;
    let records = (512 + 8) * (128 + 16);
    let entries = 3 * 4096 * 16;
    assert!(statistics.metadata * PAGE_SIZE <= directory + records + entries + 5 * PAGE_SIZE, "{statistics:?}");
    exhaust(&frames, Some(0), &mut Random::new(2));
}

fn machines_without_a_place_for_records_are_refused() {
    let refused = |banks: &[Range<u64>]| try_setup(banks, &[GIB..GIB + MIB]).err();
    assert_eq!(refused(&[]), Some(FramesError::NoMemory));
    assert_eq!(refused(&[GIB..GIB + 4096]), Some(FramesError::NoRoom { bytes: 144 }));
    let end = PHYSICAL_LIMIT + 4096;
    assert_eq!(refused(&[GIB..GIB + MIB, PHYSICAL_LIMIT.0..end.0]), Some(FramesError::OutOfReach { end }));
    // The smallest machine there is: directory, records, entries, and a frame to give.
    let frames = try_setup(&[GIB..GIB + 5 * 4096], &[GIB..GIB + 5 * 4096]).unwrap();
    assert_eq!(frames.statistics().free, 1);
    assert!(frames.allocate(0, Class::Movable).is_some());
}

fn maps_take_ranges_in_any_order() {
    let at = |page: u64| PhysAddr(page * PAGE_SIZE as u64);
    for seed in 0..20 {
        let (mut map, mut random) = (MemoryMap::new(), Random::new(seed));
        let mut model = [false; 256];
        for _ in 0..200 {
            let (first, second) = (random.index(257), random.index(257));
            let range = first.min(second)..first.max(second);
            let addresses = at(range.start as u64)..at(range.end as u64);
            let add = random.index(2) == 0;
            match add {
                true => map.add(addresses).unwrap(),
                false => map.remove(addresses).unwrap(),
            }
            model[range].fill(add);
            let mut expected = Vec::new();
            for page in 0..256 {
                if model[page] && (page == 0 || !model[page - 1]) {
                    let end = (page..256).find(|&page| !model[page]).unwrap_or(256);
                    expected.push((at(page as u64).0, at(end as u64).0));
                }
            }
            assert_eq!(ranges(&map), expected, "seed {seed}");
            assert_eq!(map.total(), model.iter().filter(|&&free| free).count() as u64 * PAGE_SIZE as u64);
        }
    }
}

fn maps_hold_whole_frames() {
    let mut map = MemoryMap::new();
    map.add(PhysAddr(1)..PhysAddr(0x4fff)).unwrap();
    assert_eq!(ranges(&map), [(0x1000, 0x4000)], "frames that are RAM in part are none");
    map.remove(PhysAddr(0x2fff)..PhysAddr(0x3000)).unwrap();
    assert_eq!(ranges(&map), [(0x1000, 0x2000), (0x3000, 0x4000)], "frames that are reserved in part are reserved");
    map.add(PhysAddr(0x9000)..PhysAddr(0x9fff)).unwrap();
    map.add(PhysAddr(u64::MAX - 1)..PhysAddr(u64::MAX)).unwrap();
    map.remove(PhysAddr(0x9000)..PhysAddr(0x9000)).unwrap();
    assert_eq!(map.total(), 0x2000);
    map.remove(PhysAddr(0x3001)..PhysAddr(u64::MAX)).unwrap();
    assert_eq!(ranges(&map), [(0x1000, 0x2000)]);
}

fn maps_say_when_they_are_full() {
    let mut map = MemoryMap::new();
    let capacity = ashlar::mm::frame::memory_map::CAPACITY as u64;
    for range in 0..capacity {
        map.add(PhysAddr(range * 0x4000)..PhysAddr(range * 0x4000 + 0x3000)).unwrap();
    }
    let before = ranges(&map);
    let error = map.add(PhysAddr(0x100_0000)..PhysAddr(0x100_1000)).unwrap_err();
    assert_eq!((error.start, error.end), (PhysAddr(0x100_0000), PhysAddr(0x100_1000)));
    assert!(map.remove(PhysAddr(0x1000)..PhysAddr(0x2000)).is_err(), "that would be one range more");
    assert_eq!(ranges(&map), before);
    assert_eq!(map.carve(PAGE_SIZE, 0x2000), Some(PhysAddr((capacity - 1) * 0x4000 + 0x2000)), "no split, no need");
    map.remove(PhysAddr(0)..PhysAddr(0x1000)).unwrap();
    map.add(PhysAddr(0x3000)..PhysAddr(0x4000)).unwrap();
    map.add(PhysAddr(0x100_0000)..PhysAddr(0x100_1000)).unwrap();
}

fn carving_leaves_blocks_whole() {
    let carve =
        |banks: &[Range<u64>], bytes: u64, align: usize| map_of(banks).carve(bytes as usize, align).map(|at| at.0);
    // The highest place, where nothing is the worse for it.
    assert_eq!(carve(&[GIB..GIB + 8 * MIB], 4096, 1), Some(GIB + 8 * MIB - 4096));
    // The odd end below, not the whole block above.
    assert_eq!(carve(&[GIB - MIB..GIB + 8 * MIB], MIB, 4096), Some(GIB - MIB));
    // A bank that is no GiB, not one that is.
    assert_eq!(carve(&[GIB..GIB + 8 * MIB, 2 * GIB..3 * GIB], 4 * MIB, 4096), Some(GIB + 4 * MIB));
    // Where nothing but a GiB is left, its end.
    assert_eq!(carve(&[2 * GIB..3 * GIB], 4 * MIB, BLOCK_SIZE), Some(3 * GIB - 4 * MIB));
    assert_eq!(carve(&[GIB..GIB + 8 * MIB], 9 * MIB, 1), None);
    assert_eq!(carve(&[GIB + 4096..GIB + 2 * MIB], MIB, BLOCK_SIZE), None);
    let mut map = map_of(&[GIB..GIB + MIB]);
    assert_eq!(map.carve(1, 1), Some(PhysAddr(GIB + MIB - 4096)), "whole frames");
    assert_eq!(map.total(), MIB - 4096);
    assert_eq!(map.carve(usize::MAX, 1), None);
}

// The simulated machine's banks are the application's memory.
ashlar_test::expect!("run memory=12G timeout=300");

ashlar_test::tests! {
    random_operations_agree_with_a_model,
    exhausted_memory_comes_back_whole,
    large_runs_stay_whole_while_smaller_ones_exist,
    classes_keep_apart_until_nothing_else_is_left,
    full_blocks_fill_up_and_free_ones_are_broken_last,
    homes_count_their_absent_frames_and_end_in_either_way,
    orphans_wait_for_their_last_pin,
    deferred_homes_queue_up,
    homes_leave_the_queue_before_they_came_to_it,
    exhaustion_finds_what_other_cores_cached,
    what_is_freed_ends_a_scarcity,
    #[cfg(not(target_os = "none"))]
    caches_spare_the_lock,
    zeroed_blocks_are_for_those_who_ask,
    users_are_watched_and_fail_and_caches_do_not,
    failures_come_when_asked_for_and_freed_frames_are_seen,
    #[cfg(not(target_os = "none"))]
    misuse_is_a_bug,
    #[cfg(not(target_os = "none"))]
    shared_use,
    #[cfg(not(target_os = "none"))]
    the_last_frame_is_found_by_whoever_wants_it,
    records_cost_what_they_should,
    machines_without_a_place_for_records_are_refused,
    maps_take_ranges_in_any_order,
    maps_hold_whole_frames,
    maps_say_when_they_are_full,
    carving_leaves_blocks_whole,
}
