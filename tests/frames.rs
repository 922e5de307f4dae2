//! The frame allocator against a plain model, and to exhaustion; the memory map that it starts from.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, Block, Frame, PAGE_SIZE, PhysAddr};
use ashlar::mm::bits::Bits512;
use ashlar::mm::frame::{Class, Frames, FramesError, MemoryMap, Owner, PHYSICAL_LIMIT, Refusal};
use ashlar::mm::mmu::{Entry, Invalidation, Level, Mmu};
use core::ops::{Deref, Range};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A machine that has nothing but memory, and memory only where it is said to be looked at.
struct Memory {
    start: PhysAddr,
    layout: Layout,
    bytes: *mut u8,
}

// SAFETY: the pointer is only handed out, never followed.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(range: Range<u64>) -> Memory {
        let layout = Layout::from_size_align((range.end - range.start) as usize, PAGE_SIZE).unwrap();
        // SAFETY: the layout is not of size 0.
        Memory { start: PhysAddr(range.start), layout, bytes: unsafe { alloc_zeroed(layout) } }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { dealloc(self.bytes, self.layout) }
    }
}

// SAFETY: `linear` gives memory that lives as long as the machine; nothing here translates anything.
unsafe impl Mmu for Memory {
    fn linear(&self, at: PhysAddr) -> *mut u8 {
        assert!(at >= self.start && at - self.start < self.layout.size() as u64, "{at} is not to be looked at");
        self.bytes.wrapping_add((at - self.start) as usize)
    }

    fn read_entry(&self, _: Frame, _: usize, _: Level) -> Entry {
        unreachable!("no tables here")
    }
    unsafe fn write_entry(&self, _: Frame, _: usize, _: Level, _: Entry) {
        unreachable!("no tables here")
    }
    fn publish(&self) {}
    fn invalidate(&self, _: &Invalidation) {}
    fn zero(&self, _: Frame, _: usize) {}
    fn copy(&self, _: Frame, _: Frame, _: usize) {}
    fn is_zero(&self, _: Frame) -> bool {
        unreachable!("no contents here")
    }
    fn sync_code(&self, _: Frame, _: usize) {}
    fn without_interrupts<R>(&self, section: impl FnOnce() -> R) -> R {
        section()
    }
}

/// An allocator, what it had to give at first, and the memory its records are in.
struct Setup {
    frames: Frames,
    map: MemoryMap,
    _memory: Memory,
}

impl Deref for Setup {
    type Target = Frames;
    fn deref(&self) -> &Frames {
        &self.frames
    }
}

fn try_setup(banks: &[Range<u64>], looked_at: Range<u64>) -> Result<Setup, FramesError> {
    let mut map = map_of(banks);
    let memory = Memory::new(looked_at);
    // SAFETY: the memory lives as long as the allocator, and nobody else uses it.
    let frames = unsafe { Frames::new(&memory, &mut map) }?;
    frames.check();
    Ok(Setup { frames, map, _memory: memory })
}

/// An allocator over `banks`, the whole of which is memory.
fn setup(banks: &[Range<u64>]) -> Setup {
    let end = banks.iter().map(|bank| bank.end).max().unwrap();
    try_setup(banks, banks[0].start..end).unwrap()
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

/// SplitMix64: enough for a test, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn key<V>(&mut self, map: &BTreeMap<u64, V>) -> Option<u64> {
        let nth = self.below(map.len().max(1));
        map.keys().nth(nth).copied()
    }
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
}

impl Model {
    fn new(map: &MemoryMap) -> Model {
        let ram = map.iter().map(|range| range.start.frame().0..range.end.frame().0).collect();
        Model { ram, singles: BTreeMap::new(), blocks: BTreeMap::new(), deferred: VecDeque::new() }
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
        assert_eq!(statistics.free, self.free());
        let homes = || self.blocks.values().filter(|block| block.owner.is_some());
        assert_eq!(statistics.homes, homes().count());
        assert_eq!(statistics.whole, 512 * (self.blocks.len() - statistics.homes));
        assert_eq!(statistics.absent, homes().map(|home| home.absent).sum::<usize>());
        assert_eq!(statistics.available(), statistics.free + statistics.absent);
        assert_eq!(statistics.deferred, self.deferred.len());
        let oldest = self.deferred.front().map(|&block| (Block(block), self.blocks[&block].owner.unwrap()));
        assert_eq!(frames.oldest_deferred(), oldest);
    }

    fn agree_on_everything(&self, frames: &Frames) {
        self.agree(frames);
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
        for order in 0..9 {
            let largest = statistics.free_runs[order..].iter().any(|&runs| runs > 0);
            assert_eq!(largest, self.has_free_run(1 << order), "a free run of order {order}");
        }
    }

    fn home(&self, random: &mut Random) -> Option<u64> {
        random.key(&self.blocks).filter(|block| self.blocks[block].owner.is_some())
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
        if random.below(100) < pressure {
            match random.below(10) {
                0..=2 => match frames.allocate_block() {
                    Some(block) => {
                        assert!(self.is_free(block.frame(0).0, 512), "{block:?} was not free");
                        self.blocks.insert(block.0, Whole::default());
                    }
                    None => assert!(!self.has_free_run(512), "refused a block, and there is one"),
                },
                3..=8 => {
                    let order = [0, 0, 0, 4, random.below(9) as u32][random.below(5)];
                    let class = if random.below(4) == 0 { Class::Unmovable } else { Class::Movable };
                    let Some(frame) = frames.allocate(order, class) else {
                        return assert!(!self.has_free_run(1 << order), "refused order {order}, and there is one");
                    };
                    assert!(frame.0.is_multiple_of(1 << order) && self.is_free(frame.0, 1 << order), "{frame:?}");
                    for frame in frame.0..frame.0 + (1 << order) {
                        self.singles.insert(frame, Single { class, pins: 0, orphan: false, owner: None });
                    }
                }
                _ => {
                    let Some(block) = random.key(&self.blocks) else { return };
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
        match random.below(20) {
            0..=5 => {
                // The largest aligned run around a frame that can be given back together, up to a random order.
                let Some(frame) = random.key(&self.singles) else { return };
                let order = random.below(6) as u32;
                let start = frame & !((1 << order) - 1);
                let can = |frame: u64| self.singles.get(&frame).is_some_and(|single| !single.orphan);
                if (start..start + (1 << order)).all(can) {
                    frames.free(Frame(start), order);
                    (start..start + (1 << order)).for_each(|frame| self.free_single(frame));
                }
            }
            6 | 7 => {
                let Some(block) = random.key(&self.blocks) else { return };
                match self.blocks[&block].owner {
                    Some(_) => frames.end_home(Block(block)),
                    None => frames.free_block(Block(block)),
                }
                self.retire(block);
            }
            8 | 9 => {
                let Some(block) = self.home(random) else { return };
                let mut keep = Bits512::EMPTY;
                for _ in 0..random.below(4) {
                    let start = random.below(512);
                    keep.set_range(start..(start + 1 + random.below(200)).min(512));
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
                let absent = [0, random.below(513), random.below(513)][random.below(3)];
                frames.set_absent(Block(block), absent);
                self.blocks.get_mut(&block).unwrap().absent = absent;
                if absent == 0 {
                    self.deferred.retain(|&other| other != block);
                } else {
                    frames.defer(Block(block));
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
                let Some(frame) = random.key(&self.singles) else { return };
                let single = self.singles.get_mut(&frame).unwrap();
                if !single.orphan {
                    single.owner = Some((owner(random.next() as u32 | 1), random.below(512)));
                    let (owner, page) = single.owner.unwrap();
                    frames.set_owner(Frame(frame), owner, page);
                }
            }
            14 => {
                let Some(frame) = random.key(&self.singles) else { return };
                let single = self.singles.get_mut(&frame).unwrap();
                if !single.orphan {
                    frames.pin(Frame(frame));
                    single.pins += 1;
                }
            }
            15 => {
                let Some(block) = random.key(&self.blocks) else { return };
                let index = random.below(512);
                frames.pin(Block(block).frame(index));
                *self.blocks.get_mut(&block).unwrap().pins.entry(index).or_default() += 1;
            }
            16 => {
                let Some(block) = random.key(&self.blocks) else { return };
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
    for seed in 0..6 {
        let frames = setup(banks[seed as usize % 3]);
        let empty = frames.statistics();
        let (mut model, mut random) = (Model::new(&frames.map), Random(seed));
        for step in 0..6000 {
            let pressure = [30, 70, 50][step / 500 % 3];
            model.step(&frames, &mut random, pressure);
            model.agree(&frames);
            if step % 50 == 0 {
                model.agree_on_everything(&frames);
            }
        }
        model.end(&frames);
        let end = frames.statistics();
        assert_eq!(end.free_runs, empty.free_runs, "free runs are not what they were");
        assert_eq!((end.free, end.metadata), (empty.free, empty.metadata));
    }
}

ashlar_test::tests! {
    random_operations_agree_with_a_model,
}
