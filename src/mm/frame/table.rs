//! What is kept about physical memory: a record per block, an entry per frame, one section per GiB that has RAM.
//!
//! The records live in RAM that was carved out of the memory map, seen through the linear map; this file makes slices
//! of it, once, and everything else is ordinary safe code on those slices.

use super::super::address::{BLOCK_SHIFT, BLOCK_SIZE, Block, Frame, PAGE_SIZE, PAGES_PER_SLOT, PhysAddr};
use super::super::bits::Bits512;
use super::super::mmu::Mmu;
use super::free_set::FreeSet;
use super::list::Links;
use super::memory_map::MemoryMap;
use super::{Class, FramesError, Owner};
use core::fmt;
use core::ops::Range;
use core::slice;

/// Blocks of a section: 1 GiB.
pub(super) const SECTION_BLOCKS: u64 = 1 << (30 - BLOCK_SHIFT);
/// RAM from here on is refused: the directory of sections is an array by GiB.
pub const PHYSICAL_LIMIT: PhysAddr = PhysAddr(1 << 40);
/// [`BlockRecord::entries`] of a block without RAM.
const NO_ENTRIES: u16 = u16::MAX;

/// What a block is used for.
pub(super) enum BlockState {
    /// Nothing in it is ours to give: no RAM, or all of it taken before there was an allocator.
    Reserved,
    /// Free as a whole. The first block of a free run says its order, the others nothing.
    Free { run: Option<u32> },
    /// In use as a whole.
    Whole {
        /// The slot whose home this is.
        owner: Option<Owner>,
        /// Frames that hold no page of the slot; 0 unless a home.
        absent: u16,
        /// Whether the home is in the deferred queue.
        deferred: bool,
        /// Frames that are pinned: the others' entries mean nothing.
        pinned: Bits512,
    },
    /// Broken into frames. Entries of frames that are not free are valid.
    Broken {
        /// What it was broken for.
        class: Class,
        free: FreeSet,
        /// Which list it is in: its largest free order.
        listed: Option<u32>,
    },
}

impl fmt::Display for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockState::Reserved => f.write_str("reserved"),
            BlockState::Free { .. } => f.write_str("free"),
            BlockState::Whole { owner: None, .. } => f.write_str("in use as a whole"),
            BlockState::Whole { owner: Some(owner), absent, .. } => {
                write!(f, "the home of slot {}, {absent} frames absent", owner.number())
            }
            BlockState::Broken { class, free, .. } => write!(f, "broken ({class:?}), {} frames free", free.count()),
        }
    }
}

/// What is kept about a block.
#[repr(align(64))]
pub(super) struct BlockRecord {
    pub(super) state: BlockState,
    /// By [`Chain`](super::list::Chain).
    pub(super) links: [Links; 2],
    /// Which of its section's arrays of frame entries is this block's.
    entries: u16,
    /// Frames of it that are pinned, orphans among them.
    pub(super) pinned: u16,
}

const _: () = assert!(size_of::<BlockRecord>() <= 128);

impl BlockRecord {
    const RESERVED: BlockRecord =
        BlockRecord { state: BlockState::Reserved, links: [Links::NONE; 2], entries: NO_ENTRIES, pinned: 0 };
}

/// How a frame of a broken block is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameState {
    /// Not ours to give.
    Reserved,
    /// Allocated.
    InUse(Class),
    /// Freed while pinned: free as soon as it is not.
    Orphan,
}

/// What is kept about a frame. Valid for every frame of a broken block that is not free, and, as to `pins`, for the
/// pinned frames of a block in use as a whole; anything at all otherwise, so that nobody has to initialize it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct FrameEntry {
    /// Number of the slot it belongs to; 0 for none.
    owner: u32,
    /// Which page of the slot it is.
    page: u32,
    /// How many have it pinned.
    pub(super) pins: u32,
    state: u32,
}

const _: () = assert!(size_of::<FrameEntry>() == 16);

impl FrameEntry {
    const RESERVED: u32 = 0x5e5e_0000;
    const MOVABLE: u32 = 0x5e5e_0001;
    const UNMOVABLE: u32 = 0x5e5e_0002;
    const ORPHAN: u32 = 0x5e5e_0003;

    /// An entry of a frame that nobody owns or pins.
    #[inline]
    pub(super) const fn new(state: FrameState) -> Self {
        let mut entry = Self { owner: 0, page: 0, pins: 0, state: 0 };
        entry.set_state(state);
        entry
    }

    /// How the frame is used.
    ///
    /// # Panics
    ///
    /// When the entry is none: something wrote over the frame table, or the frame is free.
    #[inline]
    pub(super) fn state(&self) -> FrameState {
        match self.state {
            Self::RESERVED => FrameState::Reserved,
            Self::MOVABLE => FrameState::InUse(Class::Movable),
            Self::UNMOVABLE => FrameState::InUse(Class::Unmovable),
            Self::ORPHAN => FrameState::Orphan,
            other => panic!("the frame table is damaged: state {other:#x}"),
        }
    }

    #[inline]
    pub(super) const fn set_state(&mut self, state: FrameState) {
        self.state = match state {
            FrameState::Reserved => Self::RESERVED,
            FrameState::InUse(Class::Movable) => Self::MOVABLE,
            FrameState::InUse(Class::Unmovable) => Self::UNMOVABLE,
            FrameState::Orphan => Self::ORPHAN,
        };
    }

    /// The slot it belongs to, and which page of it this is.
    #[inline]
    pub(super) fn owner(&self) -> Option<(Owner, usize)> {
        Owner::new(self.owner).map(|owner| (owner, self.page as usize))
    }

    #[inline]
    pub(super) fn set_owner(&mut self, owner: Owner, page: usize) {
        self.owner = owner.number();
        self.page = page as u32;
    }
}

/// The entries of a block's frames.
pub(super) type BlockEntries = [FrameEntry; PAGES_PER_SLOT];

/// One GiB: records for the blocks from its first to its last with RAM, entries for those with RAM.
pub(super) struct Section {
    first: u64,
    records: &'static mut [BlockRecord],
    entries: &'static mut [BlockEntries],
    /// How many of its blocks are homes.
    pub(super) homes: u32,
}

impl Section {
    /// A GiB without RAM.
    fn empty() -> Section {
        Section { first: 0, records: &mut [], entries: &mut [], homes: 0 }
    }

    /// The blocks that have records.
    pub(super) fn blocks(&self) -> Range<u64> {
        self.first..self.first + self.records.len() as u64
    }

    /// Whether the machine has RAM in `block`.
    fn has_ram(&self, block: Block) -> bool {
        self.records[(block.0 - self.first) as usize].entries != NO_ENTRIES
    }
}

/// All sections, by GiB.
pub(super) struct Table {
    sections: &'static mut [Section],
}

impl Table {
    /// Makes records for all RAM in `map`, held RAM too, out of free RAM that it carves from there. Every block is
    /// [`BlockState::Reserved`] at first.
    ///
    /// # Errors
    ///
    /// Where RAM lies out of reach, or the records find no room.
    ///
    /// # Safety
    ///
    /// What `map` holds is RAM that nobody uses, and `machine` keeps it reachable for as long as the table lives.
    pub(super) unsafe fn new(machine: &impl Mmu, map: &mut MemoryMap) -> Result<Table, FramesError> {
        let ram = map.with_held().map_err(FramesError::MapFull)?;
        let end = ram.iter().last().ok_or(FramesError::NoMemory)?.end;
        if end > PHYSICAL_LIMIT {
            return Err(FramesError::OutOfReach { end });
        }
        let count = end.0.div_ceil(BLOCK_SIZE as u64 * SECTION_BLOCKS) as usize;
        // SAFETY: the caller gives RAM to carve from, and keeps it.
        let sections = unsafe { array(machine, map, count, |_| Section::empty()) }?;
        for (gib, section) in sections.iter_mut().enumerate() {
            let bounds = gib as u64 * SECTION_BLOCKS..(gib as u64 + 1) * SECTION_BLOCKS;
            let blocks = || blocks_in(&ram, bounds.clone());
            let (Some(first), Some(last)) = (blocks().next(), blocks().last()) else { continue };
            section.first = first.start;
            // SAFETY: as above.
            section.records =
                unsafe { array(machine, map, (last.end - first.start) as usize, |_| BlockRecord::RESERVED) }?;
            let mut used = 0;
            for span in blocks() {
                let inside = (span.start - first.start) as usize..(span.end - first.start) as usize;
                for record in section.records[inside].iter_mut().filter(|record| record.entries == NO_ENTRIES) {
                    record.entries = used;
                    used += 1;
                }
            }
            // SAFETY: as above; an entry is four integers, so whatever the RAM holds is one.
            section.entries = unsafe { carve(machine, map, used as usize) }?;
        }
        Ok(Table { sections })
    }

    /// The record of `block`, where there is RAM near it.
    #[inline]
    pub(super) fn record(&self, block: Block) -> Option<&BlockRecord> {
        let section = self.sections.get((block.0 / SECTION_BLOCKS) as usize)?;
        section.records.get(block.0.wrapping_sub(section.first) as usize)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn record_mut(&mut self, block: Block) -> Option<&mut BlockRecord> {
        let section = self.sections.get_mut((block.0 / SECTION_BLOCKS) as usize)?;
        section.records.get_mut(block.0.wrapping_sub(section.first) as usize)
    }

    /// The record of a block that is in a list or that the caller was given.
    ///
    /// # Panics
    ///
    /// When there is no RAM: the block never came from here.
    #[inline]
    pub(super) fn known(&mut self, block: Block) -> &mut BlockRecord {
        self.record_mut(block).unwrap_or_else(|| not_ram(block))
    }

    /// Record and frame entries of `block`.
    ///
    /// # Panics
    ///
    /// When there is no RAM: the block never came from here.
    #[inline]
    pub(super) fn parts(&mut self, block: Block) -> (&mut BlockRecord, &mut BlockEntries) {
        let parts = self.sections.get_mut((block.0 / SECTION_BLOCKS) as usize).and_then(|section| {
            let record = section.records.get_mut(block.0.wrapping_sub(section.first) as usize)?;
            let entries = section.entries.get_mut(record.entries as usize)?;
            Some((record, entries))
        });
        parts.unwrap_or_else(|| not_ram(block))
    }

    /// The entry of `frame`; it may mean nothing.
    #[inline]
    pub(super) fn entry(&self, frame: Frame) -> Option<&FrameEntry> {
        let record = self.record(frame.block())?;
        let section = &self.sections[(frame.block().0 / SECTION_BLOCKS) as usize];
        Some(&section.entries.get(record.entries as usize)?[frame.index()])
    }

    /// Makes every block in `blocks` a part of a free run.
    pub(super) fn set_free(&mut self, blocks: Range<u64>) {
        for section in self.sections.iter_mut() {
            let (start, end) = (blocks.start.max(section.first), blocks.end.min(section.blocks().end));
            if start < end {
                for record in &mut section.records[(start - section.first) as usize..(end - section.first) as usize] {
                    record.state = BlockState::Free { run: None };
                }
            }
        }
    }

    /// The section of `block`.
    #[inline]
    pub(super) fn section_mut(&mut self, block: Block) -> &mut Section {
        &mut self.sections[(block.0 / SECTION_BLOCKS) as usize]
    }

    /// All sections, by GiB.
    pub(super) fn sections(&self) -> &[Section] {
        self.sections
    }

    /// Every block with RAM, in ascending order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        self.sections.iter().flat_map(|section| section.blocks().map(Block).filter(|&block| section.has_ram(block)))
    }
}

#[cold]
fn not_ram(block: Block) -> ! {
    panic!("{block:?} is not RAM that the frame allocator has")
}

/// The blocks within `bounds` that `map` has RAM in, as ranges in ascending order; two may share a block.
fn blocks_in(map: &MemoryMap, bounds: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
    map.iter()
        .map(move |range| {
            let (start, end) = (range.start.0 >> BLOCK_SHIFT, range.end.0.div_ceil(BLOCK_SIZE as u64));
            start.max(bounds.start)..end.min(bounds.end)
        })
        .filter(|span| !span.is_empty())
}

/// An array of `count` in RAM carved from `map`, with `value(index)` at each index.
///
/// # Safety
///
/// As [`Table::new`].
unsafe fn array<T>(
    machine: &impl Mmu,
    map: &mut MemoryMap,
    count: usize,
    mut value: impl FnMut(usize) -> T,
) -> Result<&'static mut [T], FramesError> {
    let start = raw::<T>(machine, map, count)?;
    for index in 0..count {
        // SAFETY: within the `count` that `raw` made room for, aligned, and nobody else's.
        unsafe { start.add(index).write(value(index)) };
    }
    // SAFETY: just initialized, and from here on reached through this slice only.
    Ok(unsafe { slice::from_raw_parts_mut(start, count) })
}

/// An array of `count` in RAM carved from `map`, with what is there already.
///
/// # Safety
///
/// As [`Table::new`]; and every pattern of bits is a `T`.
unsafe fn carve<T>(machine: &impl Mmu, map: &mut MemoryMap, count: usize) -> Result<&'static mut [T], FramesError> {
    let start = raw::<T>(machine, map, count)?;
    // SAFETY: RAM always holds something, the caller says that it is a `T`, and nobody else reaches it.
    Ok(unsafe { slice::from_raw_parts_mut(start, count) })
}

/// Room for `count` of `T`, carved from `map`.
fn raw<T>(machine: &impl Mmu, map: &mut MemoryMap, count: usize) -> Result<*mut T, FramesError> {
    let bytes = count * size_of::<T>();
    let at = map.carve(bytes, align_of::<T>().max(PAGE_SIZE)).ok_or(FramesError::NoRoom { bytes })?;
    Ok(machine.linear(at).cast())
}
