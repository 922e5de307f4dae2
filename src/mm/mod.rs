//! The memory manager: one address space, one application, memory in 2 MiB blocks.
//!
//! Two nouns: a **slot** is an aligned 2 MiB of the application's memory, a **block** an aligned 2 MiB of RAM. A slot can have
//! a **home**, a block of its own; its pages sit there at their own offsets, and when all 512 do, one block descriptor
//! maps them. Everything else follows:
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`address`], [`bits`], [`mmu`] | units; sets of 512; the machine below |
//! | [`frame`] | physical memory: records, the allocator |
//! | [`slab`], [`region_map`] | the manager's own records |
//! | [`table`] | descriptors; `update` is their only writer, by break-before-make |
//! | [`slot`] | a slot's pages, home and descriptors |
//! | [`huge`] | split, promote, migrate, dissolve; collapse; policy; memory taken back |
//! | [`pin`] | frames that must stay, for devices |
//! | [`walk`] | looks at what is mapped, by address and by frame |
//! | [`space`], `advice`, `remap`, `snapshot`, `alias` | operations on ranges |
//! | `fault`, `touch`, `zeros` | from an address to its slot; what a touch maps there; what is only read |
//! | [`pressure`] | time lost for want of memory; the application's part in giving it back |
//! | `idle` | what idle cores do: zeroing ahead, filling what is in use by half |
//! | [`stats`], [`report`], `region_report` | what it says of itself |
//!
//! Locks: space → regions → slot → directory → slab → caches → frames (`crate::sync`). Operations on ranges come one after the
//! other; faults wait for nobody but those who work on the same slot. A slot comes before its snapshot's (SN-3 of `snapshot`), and
//! otherwise in the order of the records' addresses. No lock is held while memory is taken back.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod address;
mod advice;
mod alias;
pub mod bits;
#[cfg(feature = "sim")]
mod check;
mod directory;
mod fault;
pub mod frame;
pub mod huge;
mod idle;
pub mod mmu;
pub mod pin;
pub mod pressure;
mod refusal;
pub mod region_map;
mod region_report;
mod remap;
pub mod report;
pub mod slab;
pub mod slot;
mod slot_cache;
mod snapshot;
mod source;
pub mod space;
pub mod stats;
pub mod table;
mod touch;
pub mod walk;
mod zeros;

pub use refusal::Refusal;
pub use region_report::RegionReport;
pub use remap::{Destination, RemapRequest};
pub use space::{MapRequest, Region};

use crate::sync::{Rank, Ranked, RankedRw, Sleeping};
use address::{Frame, VirtAddr};
use advice::Freed;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use directory::Directory;
use frame::{Class, Frames};
use huge::{Background, Policy};
use idle::Idle;
use mmu::{Access, Mmu};
use pin::PinRecord;
use pressure::Pressure;
use region_map::RegionMap;
use slab::Slab;
use slot::Slot;
use slot_cache::SlotCaches;
use space::Space;
use stats::Counters;
use zeros::Zeros;

/// Frames that the first region and the first slot take: tables, and the first chunks of the slabs.
const FIRST_RECORDS: u64 = 32;

/// All of the application's memory, on machine `M`. What every fault uses comes first: it is near enough to be reached by one
/// instruction.
#[repr(C)]
pub struct MemoryManager<M: Mmu> {
    machine: M,
    counters: Counters,
    policy: Policy,
    overcommit: AtomicBool,
    /// The level-1 table.
    root: Frame,
    space: Sleeping<Space>,
    /// Changed with the space's lock held as well.
    regions: RankedRw<RegionMap<Region>>,
    slots: Slab<Slot>,
    pins: Slab<PinRecord>,
    /// Held while a GiB of addresses gets its level-1 entry and its part of the directory.
    opening: Ranked<()>,
    frames: Frames,
    slot_caches: SlotCaches,
    directory: Directory,
    idle: Idle,
    background: Background,
    pressure: Pressure,
    zeros: Zeros,
    freed: Freed,
    /// Snapshots, and places of slots beyond the first of each. Changes under the space's lock.
    shares: AtomicUsize,
}

/// Why an operation on a range of addresses was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryError {
    /// The length is zero.
    Empty,
    /// The address is not a multiple of 4 KiB.
    Misaligned {
        /// The address.
        address: VirtAddr,
    },
    /// The range leaves the application's half, or touches its first 64 KiB.
    OutsideSpace {
        /// Where it begins.
        address: VirtAddr,
        /// Its bytes.
        length: usize,
    },
    /// Another region is there.
    Overlap {
        /// Where that region begins.
        start: VirtAddr,
        /// Where it ends.
        end: VirtAddr,
    },
    /// No free range of addresses is that long.
    NoGap {
        /// Pages asked for.
        pages: u64,
    },
    /// The page is in no region.
    NotMapped {
        /// Its address.
        address: VirtAddr,
    },
    /// The range is of several regions that differ.
    Divided {
        /// Where the second one begins.
        address: VirtAddr,
    },
    /// The destination overlaps what is to move there.
    IntoItself {
        /// Where it begins.
        address: VirtAddr,
    },
    /// The memory is shared in a way that the operation does not allow for: a snapshot shows it, it is one, or a part of one; or it
    /// is mapped at several places.
    Shared {
        /// The first address of that kind.
        address: VirtAddr,
    },
    /// Memory is mapped at several places by whole slots.
    PartOfSlot {
        /// The address that is not a multiple of 2 MiB.
        address: VirtAddr,
    },
    /// What moves and leaves its addresses mapped keeps its length.
    KeptLength {
        /// Bytes of it.
        length: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// Memory is writable or executable, never both.
    WriteAndExecute,
    /// More writable memory than there is RAM; `overcommit=on` lifts the limit.
    CommitLimit {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes left under the limit.
        left: u64,
    },
    /// No frame for a record of the memory manager's own.
    NoMemory,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a range of zero bytes"),
            Self::Misaligned { address } => write!(f, "address {address} is not a multiple of 4 KiB"),
            Self::OutsideSpace { address, length } => {
                write!(f, "{length} bytes at {address} are outside the application's addresses")
            }
            Self::Overlap { start, end } => write!(f, "{start}..{end} is mapped already"),
            Self::NoGap { pages } => write!(f, "no {pages} consecutive pages of addresses are free"),
            Self::NotMapped { address } => write!(f, "address {address} is not mapped"),
            Self::Divided { address } => write!(f, "another region begins at {address}, in the middle of the range"),
            Self::IntoItself { address } => write!(f, "the destination at {address} overlaps what is to move there"),
            Self::Shared { address } => write!(f, "the memory at {address} is shared"),
            Self::PartOfSlot { address } => write!(f, "address {address} is not a multiple of 2 MiB"),
            Self::KeptLength { length, wanted } => {
                write!(f, "{length} bytes that stay mapped as they move cannot become {wanted}")
            }
            Self::WriteAndExecute => f.write_str("memory cannot be writable and executable"),
            Self::CommitLimit { wanted, left } => {
                write!(f, "{wanted} bytes exceed the commit limit, {left} are left (overcommit=on lifts it)")
            }
            Self::NoMemory => f.write_str("no memory for the memory manager's own records"),
        }
    }
}

impl core::error::Error for MemoryError {}

/// Why an access is not possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// Nothing is mapped there.
    NoRegion {
        /// The address.
        address: VirtAddr,
    },
    /// The region does not allow it.
    Denied {
        /// The address.
        address: VirtAddr,
        /// What was tried.
        wanted: Access,
        /// What the region allows.
        allowed: Access,
    },
    /// No frame is left, nor any that could be taken back.
    OutOfMemory {
        /// The address.
        address: VirtAddr,
    },
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRegion { address } => write!(f, "address {address} is in no region"),
            Self::Denied { address, wanted, allowed } => {
                write!(f, "{wanted} at {address}, in a region that allows {allowed}")
            }
            Self::OutOfMemory { address } => write!(f, "no memory left for address {address}"),
        }
    }
}

impl core::error::Error for FaultError {}

/// Why the memory manager cannot begin: no frame for the level-1 table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoot;

impl fmt::Display for NoRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no frame for the level-1 table")
    }
}

impl core::error::Error for NoRoot {}

impl<M: Mmu> MemoryManager<M> {
    /// An empty address space on `machine`, whose memory is `frames`.
    ///
    /// # Errors
    ///
    /// No frame is free.
    pub fn new(machine: M, frames: Frames) -> Result<Self, NoRoot> {
        let root = frames.allocate(0, Class::Unmovable).ok_or(NoRoot)?;
        machine.zero(root, 1);
        machine.publish();
        Ok(MemoryManager {
            machine,
            frames,
            root,
            space: Sleeping::new(Rank::Space, Space { committed: 0 }),
            regions: RankedRw::new(Rank::Region, RegionMap::new()),
            slots: Slab::new(),
            pins: Slab::new(),
            slot_caches: SlotCaches::new(),
            directory: Directory::new(),
            opening: Ranked::new(Rank::Directory, ()),
            idle: Idle::new(),
            background: Background::new(),
            pressure: Pressure::new(),
            zeros: Zeros::new(),
            freed: Freed::new(),
            shares: AtomicUsize::new(0),
            policy: Policy::default(),
            counters: Counters::default(),
            overcommit: AtomicBool::new(false),
        })
    }

    /// The level-1 table, for the translation table base register.
    pub fn root(&self) -> Frame {
        self.root
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Physical memory.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Who gets blocks, and when.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Memory pressure: time lost, and the application's listener.
    pub fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// Counts `refusal`, for who says it.
    fn refused(&self, refusal: Refusal) -> Refusal {
        refusal.counter(&self.counters).increment();
        refusal
    }

    /// Events since boot.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lifts the commit limit, or sets it again.
    pub fn set_overcommit(&self, overcommit: bool) {
        self.overcommit.store(overcommit, Ordering::Relaxed);
    }

    /// Pages of writable memory that may be mapped: what RAM holds beside the manager's records, less the tables
    /// and slot records that so much memory needs.
    pub fn commit_limit(&self) -> u64 {
        if self.overcommit.load(Ordering::Relaxed) {
            return u64::MAX;
        }
        let frames = self.frames.statistics();
        let usable = (frames.total - frames.metadata) as u64;
        usable.saturating_sub(usable.div_ceil(256) + FIRST_RECORDS)
    }

    /// What a waiting fault does before it looks again: the one place where a fault waits for more than a lock.
    fn wait(&self) {
        crate::sync::relax();
        crate::sync::breathe();
    }
}
