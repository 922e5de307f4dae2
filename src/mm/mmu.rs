//! The machine, as the memory manager sees it: the one boundary between `mm` and `arch`.
//!
//! Two machines stand behind it: aarch64 hardware and the simulated machine, which punishes what hardware
//! punishes and QEMU does not (stale translations, a missing break, a frame reused too early).
#![forbid(unsafe_op_in_unsafe_fn)]

use super::address::{Frame, Page, PhysAddr};
use core::ops::{Deref, Range};

/// A translation table level, in Arm's numbering: 39-bit addresses start at level 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// 1 GiB an entry.
    One = 1,
    /// 2 MiB an entry: tables or blocks.
    Two = 2,
    /// 4 KiB an entry: pages.
    Three = 3,
}

impl Level {
    /// log2 of the bytes that one entry of a table at this level maps.
    pub const fn shift(self) -> u32 {
        12 + 9 * (3 - self as u32)
    }

    /// Index of `page`'s entry in a table of this level.
    pub const fn index(self, page: Page) -> usize {
        ((page.0 >> (9 * (3 - self as u32))) & 511) as usize
    }
}

/// What an application may do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Access {
    /// Loads are allowed.
    pub read: bool,
    /// Stores are allowed; implies `read` (the architecture has no write-only pages).
    pub write: bool,
    /// Instruction fetches are allowed. Never together with `write`.
    pub execute: bool,
}

impl Access {
    /// No access: the page is mapped nowhere, every touch is an error.
    pub const NONE: Access = Access { read: false, write: false, execute: false };
    /// Loads.
    pub const READ: Access = Access { read: true, write: false, execute: false };
    /// Loads and stores.
    pub const READ_WRITE: Access = Access { read: true, write: true, execute: false };
    /// Loads and instruction fetches.
    pub const READ_EXECUTE: Access = Access { read: true, write: false, execute: true };

    /// Whether everything that `wanted` asks for is allowed.
    pub const fn permits(self, wanted: Access) -> bool {
        (self.read || !wanted.read) && (self.write || !wanted.write) && (self.execute || !wanted.execute)
    }
}

impl core::fmt::Display for Access {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match (self.read, self.write, self.execute) {
            (true, true, _) => "read and write",
            (false, true, _) => "write",
            (true, _, true) => "read and execute",
            (false, _, true) => "execute",
            (true, ..) => "read",
            _ => "nothing",
        })
    }
}

/// Attributes of a leaf (block or page descriptor) in the application's half: Normal write-back memory,
/// inner shareable, not global.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Attributes {
    /// What is allowed. [`Access::NONE`] keeps the frame in the descriptor and lets nothing touch it.
    pub access: Access,
    /// The access flag: clear, the first access faults (Cortex-A72 does not set it by itself). Always clear with
    /// [`Access::NONE`].
    pub accessed: bool,
}

impl Attributes {
    /// Attributes of memory mapped for `access` and counted as accessed, so that the first touch does not fault again.
    pub const fn new(access: Access) -> Self {
        Attributes { access, accessed: access.read }
    }

    /// Whether an access of kind `wanted` goes through without a fault.
    pub const fn permits(self, wanted: Access) -> bool {
        self.accessed && self.access.permits(wanted)
    }
}

/// A descriptor, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Translates nothing.
    Invalid,
    /// Points to the next level's table (levels 1 and 2).
    Table(Frame),
    /// Maps 2 MiB from `frame` on (level 2; `frame` is the first of an aligned block).
    Block {
        /// First frame of the block.
        frame: Frame,
        /// How it is mapped.
        attributes: Attributes,
    },
    /// Maps one page (level 3).
    Page {
        /// The frame.
        frame: Frame,
        /// How it is mapped.
        attributes: Attributes,
        /// The contiguous bit: one of 16 entries that the TLB may hold as one (Arm ARM D8.7.1).
        contiguous: bool,
    },
}

impl Entry {
    /// Whether a walk uses the descriptor.
    pub const fn is_valid(self) -> bool {
        !matches!(self, Entry::Invalid)
    }

    /// Whether it is one of 16 that a TLB may hold as one.
    pub const fn is_contiguous(self) -> bool {
        matches!(self, Entry::Page { contiguous: true, .. })
    }

    /// The same leaf, `frames` frames further on.
    #[inline]
    pub fn further(self, frames: u64) -> Entry {
        match self {
            Entry::Page { frame, attributes, contiguous } => {
                Entry::Page { frame: frame + frames, attributes, contiguous }
            }
            Entry::Block { frame, attributes } => Entry::Block { frame: frame + frames, attributes },
            Entry::Invalid | Entry::Table(_) => self,
        }
    }

    /// Frame and attributes of a leaf.
    pub const fn leaf(self) -> Option<(Frame, Attributes)> {
        match self {
            Entry::Block { frame, attributes } | Entry::Page { frame, attributes, .. } => Some((frame, attributes)),
            Entry::Invalid | Entry::Table(_) => None,
        }
    }
}

/// What an invalidation covers. All are broadcast to every core of the inner shareable domain and complete
/// when [`Mmu::invalidate`] returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Invalidation {
    /// Last-level translations of these pages, one operation each (`TLBI VALE1IS`). Tables stay cached, so
    /// it is wrong where a table went away.
    Pages(Range<u64>),
    /// Translations of these pages and every cached table entry on the way to them (`TLBI VAE1IS`).
    PagesAndTables(Range<u64>),
    /// Everything of the application's ASID (`TLBI ASIDE1IS`); the kernel's global entries stay.
    All,
}

/// The machine below the memory manager.
///
/// # Safety
///
/// An implementation is a machine: reads give what was last written to that entry, `linear` gives a pointer
/// that stays valid for reads and writes of every frame of RAM for as long as the machine lives, and
/// `invalidate` returns only when no core can use a translation that it covers.
pub unsafe trait Mmu: Sync {
    /// Reads entry `index` (0..512) of the table in `table`, as one single-copy atomic load.
    fn read_entry(&self, table: Frame, index: usize, level: Level) -> Entry;

    /// Writes entry `index` (0..512) of the table in `table`, as one single-copy atomic store. Not ordered
    /// with what follows until [`Mmu::publish`].
    ///
    /// # Safety
    ///
    /// `table` is a frame in use as a table of `level`. If it is reachable, the change keeps the rules of
    /// break-before-make (Arm ARM D8.16.1), and no Rust reference points into memory that it unmaps.
    unsafe fn write_entry(&self, table: Frame, index: usize, level: Level, entry: Entry);

    /// Writes entries `range` of the table in `table`: `first`, and then the same with each next frame; [`Entry::Invalid`] in all
    /// of them if `first` is. Each is one single-copy atomic store.
    ///
    /// # Safety
    ///
    /// As for [`Mmu::write_entry`], for each of them.
    unsafe fn write_entries(&self, table: Frame, range: Range<usize>, level: Level, first: Entry) {
        for (index, offset) in range.zip(0..) {
            // SAFETY: the caller's promise is the same.
            unsafe { self.write_entry(table, index, level, first.further(offset)) }
        }
    }

    /// Makes all earlier entry writes visible to the table walkers of all cores (`DSB ISHST`, and an `ISB`
    /// for this one).
    fn publish(&self);

    /// Invalidates what TLBs hold; complete on return (`DSB ISHST; TLBI …; DSB ISH; ISB`).
    fn invalidate(&self, what: &Invalidation);

    /// Fills `count` frames from `first` with zeros.
    fn zero(&self, first: Frame, count: usize);

    /// Copies `count` frames from `from` to `to`; the two do not overlap.
    fn copy(&self, from: Frame, to: Frame, count: usize);

    /// Whether every byte of `frame` is zero.
    fn is_zero(&self, frame: Frame) -> bool;

    /// Makes instructions just written to `count` frames from `first` fetchable: data cache cleaned to the point of
    /// unification, instruction caches invalidated (Arm ARM B2.4.4).
    fn sync_code(&self, first: Frame, count: usize);

    /// Runs `section` with interrupts masked on this core.
    fn without_interrupts<R>(&self, section: impl FnOnce() -> R) -> R;

    /// Where the kernel sees physical address `at`, which lies in RAM.
    fn linear(&self, at: PhysAddr) -> *mut u8;
}

// SAFETY: every method is the machine's own.
unsafe impl<P: Deref<Target: Mmu> + Sync> Mmu for P {
    fn read_entry(&self, table: Frame, index: usize, level: Level) -> Entry {
        (**self).read_entry(table, index, level)
    }
    unsafe fn write_entry(&self, table: Frame, index: usize, level: Level, entry: Entry) {
        // SAFETY: the caller's promise is the same.
        unsafe { (**self).write_entry(table, index, level, entry) }
    }
    unsafe fn write_entries(&self, table: Frame, range: Range<usize>, level: Level, first: Entry) {
        // SAFETY: the caller's promise is the same.
        unsafe { (**self).write_entries(table, range, level, first) }
    }
    fn publish(&self) {
        (**self).publish()
    }
    fn invalidate(&self, what: &Invalidation) {
        (**self).invalidate(what)
    }
    fn zero(&self, first: Frame, count: usize) {
        (**self).zero(first, count)
    }
    fn copy(&self, from: Frame, to: Frame, count: usize) {
        (**self).copy(from, to, count)
    }
    fn is_zero(&self, frame: Frame) -> bool {
        (**self).is_zero(frame)
    }
    fn sync_code(&self, first: Frame, count: usize) {
        (**self).sync_code(first, count)
    }
    fn without_interrupts<R>(&self, section: impl FnOnce() -> R) -> R {
        (**self).without_interrupts(section)
    }
    fn linear(&self, at: PhysAddr) -> *mut u8 {
        (**self).linear(at)
    }
}
