//! Addresses and the units they are counted in.
//!
//! Alignment is by construction: a [`Frame`] or a [`Page`] is a number, not an address, so a misaligned one
//! cannot be written down. 4 KiB granule, 39-bit virtual addresses (Arm ARM D8.2), so a 2 MiB block is a
//! level-2 descriptor.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::{Add, Range, Sub};

/// Bytes of a page or a frame.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// Bytes of a group: 16 pages that share one contiguous translation (Arm ARM D8.7.1).
pub const GROUP_SIZE: usize = PAGE_SIZE * PAGES_PER_GROUP;
/// Bytes of a slot or a block.
pub const BLOCK_SIZE: usize = 1 << BLOCK_SHIFT;
/// Pages in a group.
pub const PAGES_PER_GROUP: usize = 16;
/// log2 of [`PAGES_PER_GROUP`].
pub const GROUP_ORDER: u32 = PAGES_PER_GROUP.trailing_zeros();
/// Pages in a slot, frames in a block, entries in a table.
pub const PAGES_PER_SLOT: usize = 512;
/// Groups in a slot.
pub const GROUPS_PER_SLOT: usize = PAGES_PER_SLOT / PAGES_PER_GROUP;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// log2 of [`BLOCK_SIZE`].
pub const BLOCK_SHIFT: u32 = 21;
/// First address that the lower half cannot hold: 39 bits.
pub const LOWER_END: u64 = 1 << 39;

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// A virtual address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct VirtAddr(pub u64);

/// 4 KiB of physical memory, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Frame(pub u64);

/// An aligned 2 MiB of physical memory, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Block(pub u64);

/// 4 KiB of virtual addresses, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Page(pub u64);

macro_rules! address {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// The address `bytes` further on; `None` past the end of the address space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `align`, a power of two.
            pub const fn is_aligned(self, align: usize) -> bool {
                self.0 & (align as u64 - 1) == 0
            }

            /// The nearest multiple of `align` (a power of two) at or below.
            pub const fn align_down(self, align: usize) -> Self {
                Self(self.0 & !(align as u64 - 1))
            }

            /// The nearest multiple of `align` (a power of two) at or above; `None` past the end.
            pub const fn align_up(self, align: usize) -> Option<Self> {
                match self.0.checked_add(align as u64 - 1) {
                    Some(sum) => Some(Self(sum & !(align as u64 - 1))),
                    None => None,
                }
            }
        }

        impl Add<u64> for $name {
            type Output = Self;
            fn add(self, bytes: u64) -> Self {
                Self(self.0 + bytes)
            }
        }

        impl Sub for $name {
            type Output = u64;
            fn sub(self, other: Self) -> u64 {
                self.0 - other.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{:#x}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(PhysAddr, "pa");
address!(VirtAddr, "va");

impl PhysAddr {
    /// The frame that holds this address.
    pub const fn frame(self) -> Frame {
        Frame(self.0 >> PAGE_SHIFT)
    }
}

impl VirtAddr {
    /// The page that holds this address.
    pub const fn page(self) -> Page {
        Page(self.0 >> PAGE_SHIFT)
    }
}

impl Frame {
    /// Address of the first byte.
    pub const fn start(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// The block this frame lies in.
    pub const fn block(self) -> Block {
        Block(self.0 >> (BLOCK_SHIFT - PAGE_SHIFT))
    }

    /// Which of its block's 512 frames this is.
    pub const fn index(self) -> usize {
        self.0 as usize % PAGES_PER_SLOT
    }
}

impl Block {
    /// Address of the first byte.
    pub const fn start(self) -> PhysAddr {
        PhysAddr(self.0 << BLOCK_SHIFT)
    }

    /// The frame at `index` (0..512) of this block.
    pub const fn frame(self, index: usize) -> Frame {
        debug_assert!(index < PAGES_PER_SLOT);
        Frame((self.0 << (BLOCK_SHIFT - PAGE_SHIFT)) + index as u64)
    }
}

impl Page {
    /// Address of the first byte.
    pub const fn start(self) -> VirtAddr {
        VirtAddr(self.0 << PAGE_SHIFT)
    }

    /// Number of the 2 MiB of virtual addresses that this page lies in.
    pub const fn slot(self) -> u64 {
        self.0 >> (BLOCK_SHIFT - PAGE_SHIFT)
    }

    /// Which of its slot's 512 pages this is.
    pub const fn index(self) -> usize {
        self.0 as usize % PAGES_PER_SLOT
    }
}

impl Add<u64> for Frame {
    type Output = Self;
    fn add(self, frames: u64) -> Self {
        Self(self.0 + frames)
    }
}

impl Add<u64> for Page {
    type Output = Self;
    fn add(self, pages: u64) -> Self {
        Self(self.0 + pages)
    }
}

macro_rules! number {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.start().0)
            }
        }
    };
}

number!(Frame);
number!(Block);
number!(Page);

/// The pages that cover `bytes` from `start`; `None` when that leaves the address space.
pub fn pages_covering(start: VirtAddr, bytes: usize) -> Option<Range<u64>> {
    let end = start.checked_add(bytes as u64)?.align_up(PAGE_SIZE)?;
    Some(start.page().0..end.page().0)
}

/// Numbers of the slots that `pages`, one at least, lie in.
pub fn slots_of(pages: &Range<u64>) -> Range<u64> {
    Page(pages.start).slot()..Page(pages.end - 1).slot() + 1
}

/// Which pages of slot `number`, by their indices, are among `pages`, of which one is.
pub fn part_in(pages: &Range<u64>, number: u64) -> Range<usize> {
    let first = number * PAGES_PER_SLOT as u64;
    let end = (pages.end - first).min(PAGES_PER_SLOT as u64);
    pages.start.saturating_sub(first) as usize..end as usize
}
