//! What is kept about physical memory: two records per block, an entry per frame, one section per GiB that has RAM.
//!
//! The records live in RAM that was carved out of the memory map, seen through the linear map; this file makes slices
//! of it, once, and everything else is ordinary safe code on those slices. What the pool's lock guards ([`Records`]) is
//! reached through a mutable borrow; the rest ([`Table`]) is atomic, and everybody has it.

use super::super::address::{BLOCK_SHIFT, BLOCK_SIZE, Block, Frame, PAGE_SIZE, PhysAddr};
use super::super::bits::Bits512;
use super::super::mmu::Mmu;
use super::entry::{BlockEntries, FrameEntry, FrameState, NIL};
use super::free_set::FreeSet;
use super::list::Links;
use super::memory_map::MemoryMap;
use super::{Class, FramesError, Owner};
use core::fmt;
use core::ops::Range;
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};

/// Blocks of a section: 1 GiB.
pub(super) const SECTION_BLOCKS: u64 = 1 << (30 - BLOCK_SHIFT);
/// RAM from here on is refused: the directory of sections is an array by GiB.
pub const PHYSICAL_LIMIT: PhysAddr = PhysAddr(1 << 40);
/// [`SharedRecord::entries`] of a block without RAM.
const NO_ENTRIES: u16 = u16::MAX;
/// Set in [`SharedRecord::entries`] while the entries mean nothing; no index is that large.
const UNWRITTEN: u16 = 1 << 15;

/// The list of a broken block that is kept out of all of them: above every order, so that nothing that is freed in it moves
/// it into another.
pub(super) const ISOLATED: u32 = u32::MAX;

/// What a block is used for, as the pool knows it.
pub(super) enum BlockState {
    /// Nothing in it is ours to give: no RAM, or all of it taken before there was an allocator.
    Reserved,
    /// Free as a whole. The first block of a free run says its order, the others nothing.
    Free { run: Option<u32> },
    /// Taken out of the pool as a whole; [`SharedRecord`] says by whom.
    Whole,
    /// Broken into frames.
    Broken {
        /// What it was broken for.
        class: Class,
        free: FreeSet,
        /// Which list it is in: its largest free order; or [`ISOLATED`].
        listed: Option<u32>,
    },
}

impl fmt::Display for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockState::Reserved => f.write_str("reserved"),
            BlockState::Free { .. } => f.write_str("free"),
            BlockState::Whole => f.write_str("taken as a whole"),
            BlockState::Broken { class, free, .. } => write!(f, "broken ({class:?}), {} frames free", free.count()),
        }
    }
}

/// What the pool's lock guards of a block.
#[repr(align(64))]
pub(super) struct BlockRecord {
    pub(super) state: BlockState,
    /// By [`Chain`](super::list::Chain).
    pub(super) links: [Links; 2],
}

const _: () = assert!(size_of::<BlockRecord>() <= 128);

impl BlockRecord {
    const RESERVED: BlockRecord = BlockRecord { state: BlockState::Reserved, links: [Links::NONE; 2] };
}

/// Who has a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Holder {
    /// The pool, as a free block or a broken one; or nobody.
    Pool,
    /// Who allocated it as a whole.
    User,
    /// A core's cache.
    Cache,
    /// The pool of zeroed blocks.
    Zeroed,
}

/// What is kept of a block without a lock. What a home holds changes under its slot's lock.
pub(super) struct SharedRecord {
    /// Number of the slot whose home this is; 0 for none.
    home: AtomicU32,
    /// The next block in the list of a cache, or below it among the zeroed ones; [`NIL`] for none.
    pub(super) next: AtomicU32,
    /// Frames of a home that hold no page.
    pub(super) absent: AtomicU16,
    /// Which of its section's arrays of frame entries is this block's.
    entries: AtomicU16,
    /// Frames of it that are pinned, orphans among them; for a moment too many, never too few for who holds the slot's lock.
    pub(super) pinned: AtomicU16,
    holder: AtomicU8,
    /// Where the home waits to be taken back: 0 nowhere, 1 in the deferred queue, above that in a core's cache.
    pub(super) deferred: AtomicU8,
}

const _: () = assert!(size_of::<SharedRecord>() == 16);

impl SharedRecord {
    fn new() -> Self {
        SharedRecord {
            home: AtomicU32::new(0),
            next: AtomicU32::new(NIL),
            absent: AtomicU16::new(0),
            entries: AtomicU16::new(NO_ENTRIES),
            pinned: AtomicU16::new(0),
            holder: AtomicU8::new(Holder::Pool as u8),
            deferred: AtomicU8::new(0),
        }
    }

    /// Whose home the block is.
    #[inline]
    pub(super) fn home(&self) -> Option<Owner> {
        Owner::new(self.home.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn set_home(&self, owner: Option<Owner>) {
        self.home.store(owner.map_or(0, Owner::number), Ordering::Relaxed);
    }

    /// Whether `holder` has the block.
    #[inline]
    pub(super) fn is_with(&self, holder: Holder) -> bool {
        self.holder.load(Ordering::Relaxed) == holder as u8
    }

    #[inline]
    pub(super) fn set_holder(&self, holder: Holder) {
        self.holder.store(holder as u8, Ordering::Relaxed);
    }

    /// Hands the block from `from` to `to`, unless another has it; says whether it went.
    #[inline]
    pub(super) fn hand(&self, from: Holder, to: Holder) -> bool {
        self.holder.compare_exchange(from as u8, to as u8, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether the block is in use as a whole and no home: what may become one, or be given back.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.is_with(Holder::User) && self.home().is_none()
    }
}

impl fmt::Display for SharedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(owner) = self.home() {
            let absent = self.absent.load(Ordering::Relaxed);
            return write!(f, "the home of slot {}, {absent} frames absent", owner.number());
        }
        f.write_str(match self.holder.load(Ordering::Relaxed) {
            holder if holder == Holder::User as u8 => "in use as a whole",
            holder if holder == Holder::Cache as u8 => "free, in a core's cache",
            holder if holder == Holder::Zeroed as u8 => "free, among the zeroed ones",
            _ => "free, broken or reserved",
        })
    }
}

/// One GiB: shared records for the blocks from its first to its last with RAM, entries for those with RAM.
pub(super) struct Section {
    first: u64,
    blocks: &'static [SharedRecord],
    entries: &'static [BlockEntries],
    /// How many of its blocks are homes.
    pub(super) homes: AtomicU32,
    /// Absent frames of its homes.
    pub(super) absent: AtomicU32,
    /// Frames that are pinned.
    pub(super) pinned: AtomicU32,
}

impl Section {
    /// A GiB without RAM.
    fn empty() -> Section {
        let none = || AtomicU32::new(0);
        Section { first: 0, blocks: &[], entries: &[], homes: none(), absent: none(), pinned: none() }
    }

    /// The entries of a block of its own; `None` while they mean nothing.
    #[inline]
    pub(super) fn entries_of(&self, shared: &SharedRecord) -> Option<&'static BlockEntries> {
        // Acquires what `Records::write_entries` wrote.
        self.entries.get(shared.entries.load(Ordering::Acquire) as usize)
    }

    /// The blocks that have records.
    pub(super) fn blocks(&self) -> Range<u64> {
        self.first..self.first + self.blocks.len() as u64
    }

    /// Whether the machine has RAM in `block`.
    fn has_ram(&self, block: Block) -> bool {
        self.blocks[(block.0 - self.first) as usize].entries.load(Ordering::Relaxed) != NO_ENTRIES
    }
}

/// All sections, by GiB: what can be reached without a lock.
#[derive(Clone, Copy)]
pub(super) struct Table {
    sections: &'static [Section],
}

impl Table {
    /// Section and shared record of `block`, where there is RAM near it.
    #[inline]
    pub(super) fn find(self, block: Block) -> Option<(&'static Section, &'static SharedRecord)> {
        let section = self.sections.get((block.0 / SECTION_BLOCKS) as usize)?;
        Some((section, section.blocks.get(block.0.wrapping_sub(section.first) as usize)?))
    }

    /// Section and shared record of a block that the caller was given.
    ///
    /// # Panics
    ///
    /// When there is no RAM: the block never came from here.
    #[inline]
    pub(super) fn known(self, block: Block) -> (&'static Section, &'static SharedRecord) {
        self.find(block).unwrap_or_else(|| not_ram(block))
    }

    /// The entries of the frames of `block`; `None` while they mean nothing.
    #[inline]
    pub(super) fn entries(self, block: Block) -> Option<&'static BlockEntries> {
        let (section, shared) = self.find(block)?;
        section.entries_of(shared)
    }

    /// The entry of `frame`, unless it means nothing.
    #[inline]
    pub(super) fn entry(self, frame: Frame) -> Option<&'static FrameEntry> {
        Some(&self.entries(frame.block())?[frame.index()])
    }

    /// The entries of the block of a frame that is in use or in a list.
    ///
    /// # Panics
    ///
    /// When they mean nothing: no frame of the block was ever handed out by itself.
    #[inline]
    pub(super) fn known_entries(self, frame: Frame) -> &'static BlockEntries {
        self.entries(frame.block()).unwrap_or_else(|| self.not_handed_out(frame))
    }

    #[cold]
    fn not_handed_out(self, frame: Frame) -> ! {
        let (_, shared) = self.known(frame.block());
        panic!("{frame:?} is not in use by itself: its block is {shared}")
    }

    /// The entry of a frame that is in use or in a list.
    ///
    /// # Panics
    ///
    /// As [`Table::known_entries`].
    #[inline]
    pub(super) fn known_entry(self, frame: Frame) -> &'static FrameEntry {
        &self.known_entries(frame)[frame.index()]
    }

    /// Which frames of `block` are pinned; some may be unpinned by now. Nobody pins any meanwhile.
    #[inline]
    pub(super) fn pinned(self, block: Block) -> Bits512 {
        let (_, shared) = self.known(block);
        // Acquires what those did who counted frames as unpinned.
        match shared.pinned.load(Ordering::Acquire) {
            0 => Bits512::EMPTY,
            _ => self.look_for_pinned(block),
        }
    }

    /// Counts `count` frames of `block` less as pinned, whose pins are gone.
    #[inline]
    pub(super) fn count_unpinned(self, block: Block, count: usize) {
        let (section, shared) = self.known(block);
        // Releases their entries.
        shared.pinned.fetch_sub(count as u16, Ordering::Release);
        section.pinned.fetch_sub(count as u32, Ordering::Relaxed);
    }

    #[cold]
    fn look_for_pinned(self, block: Block) -> Bits512 {
        let mut pinned = Bits512::EMPTY;
        for (index, _) in self.entries(block).into_iter().flatten().enumerate().filter(|(_, entry)| entry.pins() > 0) {
            pinned.set(index);
        }
        pinned
    }

    /// All sections, by GiB.
    pub(super) fn sections(self) -> &'static [Section] {
        self.sections
    }

    /// Every block with RAM, in ascending order.
    pub(super) fn blocks(self) -> impl Iterator<Item = Block> {
        self.sections.iter().flat_map(|section| section.blocks().map(Block).filter(|&block| section.has_ram(block)))
    }
}

/// What the pool's lock guards of all blocks, and the table beside it.
pub(super) struct Records {
    pub(super) table: Table,
    /// By GiB, as the table's sections.
    records: &'static mut [&'static mut [BlockRecord]],
}

impl Records {
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
    pub(super) unsafe fn new(machine: &impl Mmu, map: &mut MemoryMap) -> Result<Records, FramesError> {
        let ram = map.with_held().map_err(FramesError::MapFull)?;
        let end = ram.iter().last().ok_or(FramesError::NoMemory)?.end;
        if end > PHYSICAL_LIMIT {
            return Err(FramesError::OutOfReach { end });
        }
        let count = end.0.div_ceil(BLOCK_SIZE as u64 * SECTION_BLOCKS) as usize;
        let (empty, no_records) = (|_| Section::empty(), |_| -> &'static mut [BlockRecord] { &mut [] });
        // SAFETY: the caller gives RAM to carve from, and keeps it.
        let (sections, records) = unsafe { two_arrays(machine, map, count, empty, no_records) }?;
        for (gib, (section, records)) in sections.iter_mut().zip(records.iter_mut()).enumerate() {
            let bounds = gib as u64 * SECTION_BLOCKS..(gib as u64 + 1) * SECTION_BLOCKS;
            let blocks = || blocks_in(&ram, bounds.clone());
            let (Some(first), Some(last)) = (blocks().next(), blocks().last()) else { continue };
            section.first = first.start;
            let length = (last.end - first.start) as usize;
            let reserved = |_| BlockRecord::RESERVED;
            // SAFETY: as above.
            let (guarded, shared) = unsafe { two_arrays(machine, map, length, reserved, |_| SharedRecord::new()) }?;
            let mut used = 0;
            for span in blocks() {
                let inside = (span.start - first.start) as usize..(span.end - first.start) as usize;
                for entries in shared[inside].iter_mut().map(|shared| shared.entries.get_mut()) {
                    if *entries == NO_ENTRIES {
                        *entries = used | UNWRITTEN;
                        used += 1;
                    }
                }
            }
            *records = guarded;
            section.blocks = shared;
            // SAFETY: as above; an entry is two integers, so whatever the RAM holds is one.
            section.entries = unsafe { carve(machine, map, used as usize) }?;
        }
        Ok(Records { table: Table { sections }, records })
    }

    /// The record of `block`, where there is RAM near it.
    #[inline]
    pub(super) fn record(&self, block: Block) -> Option<&BlockRecord> {
        let gib = (block.0 / SECTION_BLOCKS) as usize;
        self.records.get(gib)?.get(block.0.wrapping_sub(self.table.sections[gib].first) as usize)
    }

    /// The record of a block that is in a list or that the caller was given.
    ///
    /// # Panics
    ///
    /// When there is no RAM: the block never came from here.
    #[inline]
    pub(super) fn known(&mut self, block: Block) -> &mut BlockRecord {
        let gib = (block.0 / SECTION_BLOCKS) as usize;
        let record = self
            .table
            .sections
            .get(gib)
            .and_then(|section| self.records[gib].get_mut(block.0.wrapping_sub(section.first) as usize));
        record.unwrap_or_else(|| not_ram(block))
    }

    /// The entries of `block`. The first time, all its frames are free.
    ///
    /// # Panics
    ///
    /// When there is no RAM.
    #[inline]
    pub(super) fn write_entries(&mut self, block: Block) -> &'static BlockEntries {
        self.table.entries(block).unwrap_or_else(|| self.write_first_entries(block))
    }

    #[cold]
    fn write_first_entries(&mut self, block: Block) -> &'static BlockEntries {
        let (section, shared) = self.table.known(block);
        let index = shared.entries.load(Ordering::Relaxed) & !UNWRITTEN;
        let Some(entries) = section.entries.get(index as usize) else { not_ram(block) };
        for group in entries.as_chunks::<16>().0 {
            group.iter().for_each(|entry| entry.set(FrameState::Free));
        }
        // Releases them to those who look without a lock.
        shared.entries.store(index, Ordering::Release);
        entries
    }

    /// Makes every block in `blocks` a part of a free run.
    pub(super) fn set_free(&mut self, blocks: Range<u64>) {
        for (section, records) in self.table.sections.iter().zip(self.records.iter_mut()) {
            let (start, end) = (blocks.start.max(section.first), blocks.end.min(section.blocks().end));
            if start < end {
                for record in &mut records[(start - section.first) as usize..(end - section.first) as usize] {
                    record.state = BlockState::Free { run: None };
                }
            }
        }
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

/// Two arrays of `count` in RAM carved from `map`, with `first(index)` and `second(index)` at each index.
///
/// # Safety
///
/// As [`Records::new`].
unsafe fn two_arrays<A, B>(
    machine: &impl Mmu,
    map: &mut MemoryMap,
    count: usize,
    first: impl Fn(usize) -> A,
    second: impl Fn(usize) -> B,
) -> Result<(&'static mut [A], &'static mut [B]), FramesError> {
    let offset = (count * size_of::<A>()).next_multiple_of(align_of::<B>());
    let start = raw::<A>(machine, map, offset + count * size_of::<B>())?;
    // SAFETY: `raw` made room for both arrays, the second aligned behind the first, and nobody else has it.
    unsafe {
        let behind = start.cast::<u8>().add(offset).cast::<B>();
        Ok((fill(start, count, first), fill(behind, count, second)))
    }
}

/// The array of `count` at `start`, with `value(index)` at each index.
///
/// # Safety
///
/// There is room for it, aligned, that nobody else ever reaches.
unsafe fn fill<T>(start: *mut T, count: usize, value: impl Fn(usize) -> T) -> &'static mut [T] {
    for index in 0..count {
        // SAFETY: within the `count` that the caller has room for.
        unsafe { start.add(index).write(value(index)) };
    }
    // SAFETY: just initialized, and from here on reached through this slice only.
    unsafe { slice::from_raw_parts_mut(start, count) }
}

/// An array of `count` in RAM carved from `map`, with what is there already.
///
/// # Safety
///
/// As [`Records::new`]; and every pattern of bits is a `T`.
unsafe fn carve<T>(machine: &impl Mmu, map: &mut MemoryMap, count: usize) -> Result<&'static [T], FramesError> {
    let start = raw::<T>(machine, map, count * size_of::<T>())?;
    // SAFETY: RAM always holds something, the caller says that it is a `T`, and nobody else reaches it.
    Ok(unsafe { slice::from_raw_parts(start, count) })
}

/// Room for `bytes`, of `T` at first, carved from `map`.
fn raw<T>(machine: &impl Mmu, map: &mut MemoryMap, bytes: usize) -> Result<*mut T, FramesError> {
    let at = map.carve(bytes, align_of::<T>().max(PAGE_SIZE)).ok_or(FramesError::NoRoom { bytes })?;
    Ok(machine.linear(at).cast())
}
