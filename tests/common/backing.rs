//! Memory of a booted machine as its tests see it: words that tell every page apart, and what the processor says of an address.

#![allow(dead_code, reason = "no test file uses all of it")]

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{PAR_EL1, Readable};
use ashlar::arch::aarch64::{gate, memory::manager};
use ashlar::memory::{Access, FaultError, HugePolicy, MapRequest, Mapping, MemoryError, Pin, RemapRequest, is_huge};
use ashlar::mm::Refusal;
use ashlar::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, PhysAddr, VirtAddr};
use ashlar::mm::frame::Class;
use ashlar::mm::huge::Unit;
use ashlar::mm::mmu::Mmu;
use core::arch::asm;
use core::cell::Cell;
use core::ops::Range;

/// Words in a page.
const WORDS: usize = PAGE_SIZE / 8;

/// What [`fill`] puts into a word: no two of a mapping are the same, and none is zero.
pub fn word(page: usize, word: usize) -> u64 {
    0x5EED << 48 | (page << 16 | word) as u64
}

/// Gives each word of each page in `pages`, numbered from the start of `mapping`, a value of its own.
pub fn fill(mapping: &mut Mapping, pages: Range<usize>) {
    let bytes = &mut mapping.as_mut_slice()[pages.start * PAGE_SIZE..pages.end * PAGE_SIZE];
    for (page, bytes) in pages.zip(bytes.chunks_exact_mut(PAGE_SIZE)) {
        bytes
            .chunks_exact_mut(8)
            .enumerate()
            .for_each(|(n, place)| place.copy_from_slice(&word(page, n).to_le_bytes()));
    }
}

/// Whether `bytes` hold what [`fill`] put into page `page`.
pub fn is_filled(bytes: &[u8], page: usize) -> bool {
    bytes.len() == PAGE_SIZE && bytes.chunks_exact(8).enumerate().all(|(n, found)| found == word(page, n).to_le_bytes())
}

/// Whether all of `bytes` are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Looks at every byte: all pages hold what [`fill`] put there.
#[track_caller]
pub fn assert_filled(mapping: &Mapping) {
    assert_filled_but(mapping, |_| false);
}

/// Looks at every byte: pages that `zero` says yes to hold zeros, all others what [`fill`] put there.
#[track_caller]
pub fn assert_filled_but(mapping: &Mapping, zero: impl Fn(usize) -> bool) {
    for (page, bytes) in mapping.as_slice().chunks_exact(PAGE_SIZE).enumerate() {
        if zero(page) {
            assert!(is_zero(bytes), "page {page} is not zero");
        } else {
            assert!(is_filled(bytes, page), "page {page} is not as it was left");
        }
    }
}

/// Looks at every byte: `mapping` holds what [`fill`] put into page `first` and those after it.
#[track_caller]
pub fn assert_filled_from(mapping: &Mapping, first: usize) {
    for (page, bytes) in (first..).zip(mapping.as_slice().chunks_exact(PAGE_SIZE)) {
        assert!(is_filled(bytes, page), "page {page} is not as it was left");
    }
}

/// Pages of what is mapped by one descriptor, or by the descriptors of one group.
pub const UNITS: [usize; 3] = [1, PAGES_PER_GROUP, PAGES_PER_SLOT];

/// As many filled pages. They are blocks if they are slots.
pub fn filled(pages: usize) -> Mapping {
    let request = MapRequest::new(pages * PAGE_SIZE).policy(HugePolicy::Always);
    let mut mapping = Mapping::new(request).expect("RAM has room");
    fill(&mut mapping, 0..pages);
    mapping
}

/// `slots` slots, each a block of filled pages.
pub fn blocks(slots: usize) -> Mapping {
    let mapping = filled(slots * PAGES_PER_SLOT);
    assert_eq!(huge(&mapping), slots, "each slot is a block");
    mapping
}

/// Splits `mapping` into parts of the same length.
pub fn parts<const PARTS: usize>(mut mapping: Mapping) -> [Mapping; PARTS] {
    let length = mapping.len() / PARTS;
    core::array::from_fn(|_| {
        let rest = mapping.split_off(length);
        core::mem::replace(&mut mapping, rest)
    })
}

/// Where nothing is mapped in `pages` pages.
pub fn gap(pages: usize) -> VirtAddr {
    let request = MapRequest::new(pages * PAGE_SIZE).access(Access::NONE);
    Mapping::new(request).expect("there are addresses").start()
}

/// Neither end of the `length` bytes from `start` is mapped, or can be reached.
#[track_caller]
pub fn assert_gone(start: VirtAddr, length: usize) {
    for address in [start, start + (length - 1) as u64] {
        let at = core::ptr::with_exposed_provenance(address.0 as usize);
        assert_eq!((region(address), readable(at)), (None, None), "{address} is gone");
        assert_eq!(fault(address, Access::READ), Err(FaultError::NoRegion { address }));
    }
}

/// How many slots of `mapping` are blocks.
pub fn huge(mapping: &Mapping) -> usize {
    (0..mapping.len()).step_by(BLOCK_SIZE).filter(|&offset| is_huge(pointer(mapping, offset))).count()
}

/// Where byte `offset` of `mapping` is. It need not be accessible.
pub fn pointer(mapping: &Mapping, offset: usize) -> *mut u8 {
    assert!(offset < mapping.len());
    core::ptr::with_exposed_provenance_mut((mapping.start() + offset as u64).0 as usize)
}

/// Protects a part of `mapping`, which goes on saying what it said.
pub fn protect(mapping: &Mapping, pages: Range<usize>, access: Access) -> Result<(), MemoryError> {
    let (start, length) = (mapping.start() + (pages.start * PAGE_SIZE) as u64, pages.len() * PAGE_SIZE);
    gate::call(move || manager().protect(start, length, access))
}

/// Unmaps a range as it is given.
pub fn unmap(start: VirtAddr, length: usize) -> Result<(), MemoryError> {
    gate::call(move || manager().unmap(start, length))
}

/// Remaps a range as it is given.
pub fn remap(start: VirtAddr, length: usize, request: RemapRequest) -> Result<Range<VirtAddr>, MemoryError> {
    gate::call(move || manager().remap(start, length, request))
}

/// Gives the block behind `address` up.
pub fn dissolve(address: VirtAddr) -> Result<usize, Refusal> {
    gate::call(move || manager().dissolve(address))
}

/// Moves the page or the group at `address`.
pub fn migrate(address: VirtAddr, unit: Unit) -> Result<(), Refusal> {
    gate::call(move || manager().migrate(address, unit))
}

/// Where frames are, as far as it fits into registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Free, wherever.
    pub unused: usize,
    /// Of those, the ones that cores keep at hand.
    pub cached: usize,
    /// In use by themselves.
    pub movable: usize,
    /// Absent from their homes.
    pub absent: usize,
    /// Freed while pinned.
    pub orphans: usize,
    /// Blocks that are homes.
    pub homes: usize,
    /// Blocks that are free.
    pub free_blocks: usize,
}

/// Counts the frames.
pub fn frames() -> Counts {
    gate::call(|| {
        let all = manager().frames().statistics();
        Counts {
            unused: all.unused(),
            cached: all.cached,
            movable: all.movable,
            absent: all.absent,
            orphans: all.orphans,
            homes: all.homes,
            free_blocks: all.free_blocks(),
        }
    })
}

/// What the memory manager would do about an access at `address`.
pub fn fault(address: VirtAddr, access: Access) -> Result<(), FaultError> {
    gate::call(move || manager().fault(address, access))
}

/// The first and the last address, and the access, of the region over `address`.
pub fn region(address: VirtAddr) -> Option<(Range<VirtAddr>, Access)> {
    gate::call(move || {
        let (pages, region) = manager().region(address)?;
        let at = |page: u64| VirtAddr(page * PAGE_SIZE as u64);
        Some((at(pages.start)..at(pages.end), region.access))
    })
}

/// Where the processor finds the byte at `pointer` when it reads; nothing if that would fault. Touches no memory.
pub fn readable(pointer: *const u8) -> Option<PhysAddr> {
    let address = pointer.addr() as u64;
    gate::call(move || {
        // SAFETY: translates an address and says so in PAR_EL1. Kernel mode is not interrupted on the way.
        unsafe { asm!("at s1e1r, {}", in(reg) address, options(nostack, preserves_flags)) };
        translation(address)
    })
}

/// As [`readable`], for a write.
pub fn writable(pointer: *const u8) -> Option<PhysAddr> {
    let address = pointer.addr() as u64;
    gate::call(move || {
        // SAFETY: as above.
        unsafe { asm!("at s1e1w, {}", in(reg) address, options(nostack, preserves_flags)) };
        translation(address)
    })
}

fn translation(address: u64) -> Option<PhysAddr> {
    barrier::isb(barrier::SY);
    let offset = address % PAGE_SIZE as u64;
    (!PAR_EL1.is_set(PAR_EL1::F)).then(|| PhysAddr(PAR_EL1.read(PAR_EL1::PA) << 12 | offset))
}

/// The word of RAM at `address`, past the application's translations.
pub fn ram(address: PhysAddr) -> u64 {
    assert!(address.is_aligned(8));
    // SAFETY: the address is one of a page of the test's own; the linear map has all RAM.
    unsafe { manager().machine().linear(address).cast::<u64>().read_volatile() }
}

/// Writes the word of RAM at `address`, as a device would.
pub fn set_ram(address: PhysAddr, word: u64) {
    assert!(address.is_aligned(8));
    // SAFETY: as above, and nobody borrows the page.
    unsafe { manager().machine().linear(address).cast::<u64>().write_volatile(word) };
}

/// Whether the frame at `address` is where those lie that cannot move.
pub fn is_unmovable(address: PhysAddr) -> bool {
    gate::call(move || manager().frames().is_unmovable(address.frame()))
}

/// The words that `pin` holds, in RAM, in their order.
pub fn pinned(pin: &Pin) -> impl Iterator<Item = u64> + '_ {
    places(pin).map(ram)
}

/// Writes every word that `pin` holds, in RAM: the one with number `n` becomes `word(n)`.
pub fn set_pinned(pin: &Pin, word: impl Fn(usize) -> u64) {
    places(pin).enumerate().for_each(|(n, place)| set_ram(place, word(n)));
}

fn places(pin: &Pin) -> impl Iterator<Item = PhysAddr> + '_ {
    pin.extents().flat_map(|extent| (extent.start.0..extent.end.0).step_by(8).map(PhysAddr))
}

/// All free frames, taken. Each holds the number of the next one.
pub struct Hoard {
    first: Cell<Option<Frame>>,
    /// Behind which frame [`Hoard::give_one`] goes on.
    after: Cell<Option<Frame>>,
}

/// Takes every frame that is free.
pub fn hoard() -> Hoard {
    let hoard = Hoard { first: Cell::new(None), after: Cell::new(None) };
    hoard.take_more();
    hoard
}

fn next_of(frame: Frame) -> Option<Frame> {
    Some(Frame(ram(frame.start()))).filter(|frame| frame.0 != 0)
}

fn set_next(frame: Frame, next: Option<Frame>) {
    set_ram(frame.start(), next.map_or(0, |next| next.0));
}

impl Hoard {
    /// Takes what has become free.
    pub fn take_more(&self) {
        let first = self.first.get();
        self.first.set(gate::call(move || {
            let take = || manager().frames().allocate(0, Class::Movable);
            core::iter::from_fn(take).fold(first, |next, frame| {
                set_next(frame, next);
                Some(frame)
            })
        }));
    }

    /// Gives one frame back: of another block than the one before, as long as there are several.
    pub fn give_one(&self) {
        let (first, after) = (self.first.get(), self.after.get());
        self.after.set(gate::call(move || {
            let start = after.or(first).expect("there are frames");
            let follows = |&frame: &Frame| next_of(frame).is_some_and(|next| next.block() != start.block());
            let mut frames = core::iter::successors(Some(start), |&frame| next_of(frame)).chain(first);
            let before = frames.find(follows).or(first).expect("there are frames");
            let given = next_of(before)?;
            set_next(before, next_of(given));
            manager().frames().free(given, 0);
            next_of(before)
        }));
    }
}

impl Drop for Hoard {
    fn drop(&mut self) {
        let mut next = self.first.get();
        gate::call(move || {
            while let Some(frame) = next {
                next = next_of(frame);
                manager().frames().free(frame, 0);
            }
        });
    }
}
