//! The frame allocator against a plain model, by random operations.
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
use ashlar::mm::frame::{CacheLimits, Class, FrameStatistics, Frames, Home, MemoryMap, Occupant, Owner};
use common::Random;
use core::ops::Range;
use frame_setup::{CACHED, GIB, MIB, owner, setup};

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
        frames.drain_caches();
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
        if random.index(100) < pressure {
            self.take(frames, random);
        } else {
            self.give_or_change(frames, random);
        }
    }

    fn take(&mut self, frames: &Frames, random: &mut Random) {
        let before = frames.statistics();
        match random.index(13) {
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
                    return assert!(enough || before.free < before.total / 8 + 512 || !self.has_free_run_in(&before));
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
            11 => {
                let (start, end) = (self.ram[0].start, self.ram.last().unwrap().end);
                let end = start + random.below(end - start + 1);
                let limit = PhysAddr(end * PAGE_SIZE as u64 + random.below(PAGE_SIZE as u64));
                let class = if random.index(4) == 0 { Class::Unmovable } else { Class::Movable };
                match frames.allocate_below(limit, class) {
                    Some(frame) => {
                        assert!(frame.0 < end && self.may_give(frame.0, 1), "{frame:?}");
                        self.singles.insert(frame.0, Single { class, pins: 0, orphan: false, owner: None });
                    }
                    None => {
                        let one = self.has_run(1, |frame| frame < end && !self.isolated.contains_key(&(frame / 512)));
                        assert!(!one, "refused a frame below {limit}, and there is one");
                    }
                }
                assert!(frames.zeroed() <= self.zeroed);
                self.zeroed = frames.zeroed();
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
    }

    fn give_or_change(&mut self, frames: &Frames, random: &mut Random) {
        let before = frames.statistics();
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

// The simulated machine's banks are the application's memory.
ashlar_test::expect!("run memory=900M timeout=300");

ashlar_test::tests! { random_operations_agree_with_a_model }
