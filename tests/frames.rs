//! The frame allocator against a plain model, and to exhaustion.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::single_range_in_vec_init, reason = "a machine with one bank of RAM")]

extern crate alloc;

mod common;
#[path = "common/frame_setup.rs"]
mod frame_setup;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use ashlar::mm::Refusal;
use ashlar::mm::address::{Block, Frame, PAGE_SIZE, PhysAddr};
use ashlar::mm::bits::Bits512;
use ashlar::mm::frame::{
    CacheLimits, Class, FrameStatistics, Frames, FramesError, Home, MemoryMap, Occupant, Owner, PHYSICAL_LIMIT,
};
use common::Random;
use core::ops::Range;
use frame_setup::{CACHED, GIB, MIB, owner, pool_of, setup, try_setup};

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
    /// Isolated blocks, and which of their frames a cache was given since.
    isolated: BTreeMap<u64, BTreeSet<u64>>,
    adopted: usize,
    /// Whether frames are cached.
    caches: bool,
    /// Simulated cores that the operations come from.
    cores: usize,
}

impl Model {
    fn new(map: &MemoryMap, caches: bool, cores: usize) -> Model {
        Model {
            ram: map.iter().map(|range| range.start.frame().0..range.end.frame().0).collect(),
            singles: BTreeMap::new(),
            blocks: BTreeMap::new(),
            deferred: VecDeque::new(),
            zeroed: 0,
            isolated: BTreeMap::new(),
            adopted: 0,
            caches,
            cores,
        }
    }

    /// Whether the frames may have been handed out: they are free, and in no isolated block, unless a cache had them.
    fn may_give(&self, start: u64, count: u64) -> bool {
        let cached = |frame| self.isolated.get(&(frame / 512)).is_none_or(|cached| cached.contains(&frame));
        self.is_free(start, count) && (start..start + count).all(cached)
    }

    fn is_free(&self, start: u64, count: u64) -> bool {
        self.ram.iter().any(|range| range.start <= start && start + count <= range.end)
            && self.singles.range(start..start + count).next().is_none()
            && (start / 512..(start + count).div_ceil(512)).all(|block| !self.blocks.contains_key(&block))
    }

    fn has_run(&self, count: u64, is_free: impl Fn(u64) -> bool) -> bool {
        self.ram.iter().any(|range| {
            let mut start = range.start.next_multiple_of(count);
            core::iter::from_fn(|| (start + count <= range.end).then(|| (start, start += count).0))
                .any(|start| self.is_free(start, count) && is_free(start))
        })
    }

    /// Whether there is a free run to be handed out.
    fn has_free_run(&self, count: u64) -> bool {
        self.has_run(count, |start| !self.isolated.contains_key(&(start / 512)))
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
        let in_blocks: usize = self.blocks.values().map(|whole| whole.pins.len()).sum();
        assert_eq!(statistics.pinned, count(&|single| single.pins > 0) + in_blocks);
        assert_eq!(statistics.movable, count(&|single| !single.orphan && single.class == Class::Movable));
        assert_eq!(statistics.unmovable, count(&|single| !single.orphan && single.class == Class::Unmovable));
        for (&frame, single) in &self.singles {
            assert_eq!(frames.pins(Frame(frame)), single.pins);
            assert_eq!(frames.owner(Frame(frame)), single.owner);
            let occupant = match single.owner {
                Some((owner, page)) if single.class == Class::Movable && !single.orphan => {
                    Occupant::Page { owner, page, pinned: single.pins > 0 }
                }
                _ => Occupant::Fixed,
            };
            assert_eq!(frames.occupant(Frame(frame)), occupant);
        }
        for frame in self.isolated.keys().flat_map(|block| block * 512..(block + 1) * 512) {
            let free = frames.occupant(Frame(frame)) == Occupant::Free;
            assert_eq!(free, self.is_free(frame, 1));
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
            assert_eq!(largest, self.has_run(1 << order, |_| true), "a free run of order {order}");
        }
    }

    /// Whether the pool has a block to hand out, of the free runs that `statistics` count.
    fn has_free_run_in(&self, statistics: &FrameStatistics) -> bool {
        let isolated = self.isolated.keys().filter(|&&block| self.is_free(block * 512, 512)).count();
        statistics.free_runs[9] as usize > isolated || statistics.free_runs[10..].iter().any(|&runs| runs > 0)
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
        let others = self.isolated.is_empty() && before.free_runs[order as usize..].iter().any(|&runs| runs > 0);
        assert!(left == self.zeroed || left < self.zeroed && !others, "zeroed blocks were taken without need");
        self.zeroed = left;
    }

    fn free_single(&mut self, frame: u64, to_cache: bool) {
        let single = self.singles.get_mut(&frame).unwrap();
        if single.pins > 0 {
            *single = Single { orphan: true, owner: single.owner, ..single.clone() };
        } else {
            self.singles.remove(&frame);
            if to_cache && let Some(cached) = self.isolated.get_mut(&(frame / 512)) {
                cached.insert(frame);
            }
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

    fn isolate(&mut self, frames: &Frames, block: u64) {
        if frames.isolate(Block(block)) {
            assert!(!self.isolated.contains_key(&block) && !self.blocks.contains_key(&block));
            self.isolated.insert(block, BTreeSet::new());
        }
    }

    /// Tries to make an isolated block a home.
    fn adopt(&mut self, frames: &Frames, block: u64, random: &mut Random) {
        let used = || self.singles.range(block * 512..(block + 1) * 512);
        let first = used().find_map(|(_, single)| Some(single.owner?.0));
        let new_owner = first.unwrap_or(owner(random.next() as u32 | 1));
        let at_home = |(&frame, single): (&u64, &Single)| {
            let owner = Some((new_owner, frame as usize % 512));
            single.class == Class::Movable && !single.orphan && single.owner == owner
        };
        let expected = used().all(at_home).then(|| {
            let mut pages = Bits512::EMPTY;
            used().for_each(|(&frame, _)| pages.set(frame as usize % 512));
            pages
        });
        assert_eq!(frames.adopt(Block(block), new_owner), expected);
        let Some(pages) = expected else { return };
        let mut whole = Whole { owner: Some(new_owner), absent: 512 - pages.count(), pins: BTreeMap::new() };
        for index in pages.iter() {
            let single = self.singles.remove(&(block * 512 + index as u64)).unwrap();
            if single.pins > 0 {
                whole.pins.insert(index, single.pins);
            }
        }
        if whole.absent > 0 {
            self.deferred.push_back(block);
        }
        self.blocks.insert(block, whole);
        self.isolated.remove(&block);
        self.adopted += 1;
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
                            enough || before.free < before.total / 8 + 512 || !self.has_free_run_in(&before)
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
                    assert!(frame.0.is_multiple_of(1 << order) && self.may_give(frame.0, 1 << order), "{frame:?}");
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
        match random.index(24) {
            0..=5 => {
                // The largest aligned run around a frame that can be given back together, up to a random order.
                let Some(frame) = any_key(&self.singles, random) else { return };
                let order = random.index(6) as u32;
                let start = frame & !((1 << order) - 1);
                let can = |frame: u64| self.singles.get(&frame).is_some_and(|single| !single.orphan);
                if !(start..start + (1 << order)).all(can) {
                    return;
                }
                let to_pool = order == 0 && random.index(4) == 0;
                if to_pool {
                    frames.free_to_pool(Frame(start));
                    let pinned = self.singles[&start].pins > 0;
                    assert_eq!(frames.statistics().free, before.free + usize::from(!pinned));
                } else {
                    frames.free(Frame(start), order);
                }
                let to_cache = self.caches && !to_pool;
                (start..start + (1 << order)).for_each(|frame| self.free_single(frame, to_cache));
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
                let pins = &self.blocks[&block].pins;
                if random.index(2) == 0 {
                    pins.keys().for_each(|&index| keep.clear(index));
                }
                let result = frames.dissolve(Block(block), &keep);
                if pins.keys().any(|&index| keep.get(index)) {
                    return assert_eq!(result, Err(Refusal::Pinned));
                }
                assert_eq!(result, Ok(512 - keep.count() - pins.len()));
                let owner = self.blocks[&block].owner.unwrap();
                self.retire(block);
                for page in keep.runs().flatten() {
                    let single = Single { class: Class::Movable, pins: 0, orphan: false, owner: Some((owner, page)) };
                    self.singles.insert(block * 512 + page as u64, single);
                }
                if random.index(2) == 0 {
                    self.isolate(frames, block);
                    if self.isolated.contains_key(&block) && random.index(2) == 0 {
                        self.adopt(frames, block, random);
                    }
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
                let end = if random.index(2) == 0 { index + 1 } else { 512.min(index + 1 + random.index(300)) };
                frames.pin_run(Block(block).frame(index), end - index);
                let pins = &mut self.blocks.get_mut(&block).unwrap().pins;
                (index..end).for_each(|index| *pins.entry(index).or_default() += 1);
            }
            16 => {
                let Some(block) = any_key(&self.blocks, random) else { return };
                let pins = &mut self.blocks.get_mut(&block).unwrap().pins;
                let Some((&index, _)) = pins.first_key_value() else { return };
                let end = (index..512).find(|index| !pins.contains_key(index)).unwrap_or(512);
                frames.unpin_run(Block(block).frame(index), end - index);
                (index..end).for_each(|index| *pins.get_mut(&index).unwrap() -= 1);
                pins.retain(|_, pins| *pins > 0);
            }
            17 | 18 => {
                let Some(frame) = any_key(&self.singles, random) else { return };
                self.isolate(frames, frame / 512);
                if let Some(block) = any_key(&self.blocks, random) {
                    assert!(!frames.isolate(Block(block)), "not a broken block");
                }
            }
            19 | 20 => {
                let Some(block) = any_key(&self.isolated, random) else { return };
                self.adopt(frames, block, random);
            }
            21 => {
                let Some(block) = any_key(&self.isolated, random) else { return };
                frames.end_isolation(Block(block));
                self.isolated.remove(&block);
            }
            _ => {
                let pinned = |frame: &u64| self.singles.get(frame).is_some_and(|single| single.pins > 0);
                let Some(frame) = self.singles.keys().copied().find(pinned) else { return };
                let end = (frame..(frame / 512 + 1) * 512).find(|frame| !pinned(frame)).unwrap_or(frame + 1);
                frames.unpin_run(Frame(frame), (end - frame) as usize);
                for frame in frame..end {
                    let single = self.singles.get_mut(&frame).unwrap();
                    single.pins -= 1;
                    if single.pins == 0 && single.orphan {
                        self.singles.remove(&frame);
                    }
                }
            }
        }
    }

    /// Gives everything back.
    fn end(mut self, frames: &Frames) {
        core::mem::take(&mut self.isolated).into_keys().for_each(|block| frames.end_isolation(Block(block)));
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
    let banks: [&[Range<u64>]; 4] = [
        &[0x4000_0000..0x4000_0000 + 24 * MIB],
        // Edges of 4 KiB, a hole within a block, a block that is in two banks, the end of one GiB and the next.
        &[0x3f3f_f000..0x3fc0_1000, 0x3fc0_5000..0x3ff0_0000, 0x3ff8_0000..0x4051_7000],
        &[0x1000..0x17_5000, 0x20_0000..0x60_0000, 0x80_0000..0xa0_1000],
        &[GIB..GIB + 80 * MIB],
    ];
    let mut adopted = 0;
    for seed in 0..12 {
        let frames = setup(banks[seed as usize % 4]);
        let (limits, cores) = [(CacheLimits::NONE, 1), (CACHED, 4), (CACHED, 1)][seed as usize / 4];
        frames.set_cache_limits(limits);
        let empty = frames.statistics();
        let (mut model, mut random) = (Model::new(&frames.map, limits != CacheLimits::NONE, cores), Random::new(seed));
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
        adopted += model.adopted;
        model.end(&frames);
        let end = frames.statistics();
        assert_eq!(end.free_runs, empty.free_runs, "free runs are not what they were");
        assert_eq!((end.free, end.metadata), (empty.free, empty.metadata));
    }
    assert!(adopted > 40, "{adopted} blocks were adopted");
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

// The simulated machine's banks are the application's memory.
ashlar_test::expect!("run memory=12G timeout=300");

ashlar_test::tests! {
    random_operations_agree_with_a_model,
    exhausted_memory_comes_back_whole,
    large_runs_stay_whole_while_smaller_ones_exist,
    classes_keep_apart_until_nothing_else_is_left,
    full_blocks_fill_up_and_free_ones_are_broken_last,
    #[cfg(not(target_os = "none"))]
    misuse_is_a_bug,
    records_cost_what_they_should,
    machines_without_a_place_for_records_are_refused,
}
