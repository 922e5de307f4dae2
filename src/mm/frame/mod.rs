//! Physical memory: who has which frame.
//!
//! Memory is handed out as **blocks** (aligned 2 MiB) and as **frames** (4 KiB) in aligned runs of 2⁰ to 2⁸. A block is
//! in one of four states:
//!
//! | state | meaning |
//! | --- | --- |
//! | free | all 512 frames are free; part of a free run of 2⁰ to 2⁹ blocks |
//! | whole | taken as one; perhaps the **home** of a slot, which then says how many frames are *absent*; or in a cache, or zeroed |
//! | broken | handed out by frames, of one class: movable or unmovable |
//! | reserved | not ours: no RAM, in use since before this allocator, or held back at boot and not admitted yet |
//!
//! **Blocks** are kept by the buddy system, orders 9 (a block) to 18 (1 GiB). A block is taken from the smallest run
//! there is, so that large runs stay large. **Frames** come from broken blocks. A block's free frames are a bitmap, its
//! buddies are found by shifting and masking, and the block stands in a list by class and by its largest free run: the
//! smallest run that suffices comes first, so full blocks fill up, and a free block is broken last. A block that is
//! free again joins the free runs at once. No operation searches a list; the work of each is bounded. A block that is to be
//! emptied of other slots' pages, to become a home, is **isolated** meanwhile: in no list.
//!
//! **Classes** keep what can never move (tables, records, stacks) from being strewn over blocks that could otherwise
//! become free. Unmovable frames come from blocks set aside for them one at a time, beginning with those that are
//! partly reserved and can never be free. Without a free block left, each class *spills* into the other's, counted.
//!
//! **Homes** belong to slots ([`Owner`] is a slot's number). Absent frames of a home are available memory, and not
//! free. A home ends in one of two ways: dissolved, its present pages stay where they are as single frames; or, with no
//! page left, free as a whole. Homes that released frames wait in the *deferred* queue, the oldest first, until memory
//! is short.
//!
//! **Pins** hold a frame where it is. A pinned frame that is freed becomes an *orphan*: nobody gets it until the last
//! pin is dropped.
//!
//! **Caches**, one per core, stand in front of the pool: single frames of each class, groups, blocks. An allocation or
//! a free takes the pool's lock only when its cache is empty or full. **Zeroed blocks** lie apart, filled by idle cores
//! for those who ask. Both are free memory: before an allocation fails, all of it is taken back.
//!
//! The records are a 16-byte entry per frame and 144 bytes per block, 0.4 % of RAM, kept by sections of 1 GiB: holes
//! between banks of RAM cost nothing. A block's frame entries are written when it is broken for the first time and never
//! before, so boot touches the block records only, and an operation on a whole block touches no entry of its frames.
//!
//! # Locks
//!
//! | what | guarded by |
//! | --- | --- |
//! | free runs, free sets, their lists; the deferred queue; orphans | the pool's lock ([`Rank::Frames`]) |
//! | what a core's cache holds, the homes that it has noted | the cache's lock ([`Rank::Cache`], taken before the pool's) |
//! | owner and absent frames of a home, the owner of a frame | its slot's lock; written atomically, so anyone may look |
//! | pins | taken under the slot's lock, dropped under none (see `pin.rs`) |
//! | the zeroed blocks | nothing: a lock-free stack |
//!
//! # Invariants
//!
//! - FR-1: every frame is counted in exactly one of the sums of [`FrameStatistics`], and they make up the total.
//! - FR-2: a free run is aligned to its length; its first block says its order and is in the list of that order.
//! - FR-3: no two free runs are buddies of the same order.
//! - FR-4: a broken block is in the list of its class and largest free order, in none when no frame of it is free, and
//!   it is never free altogether. An isolated one is movable, and in no list.
//! - FR-5: a broken block's largest run and count agree with its bitmap.
//! - FR-6: every frame of a broken block has a valid entry, which says *free* exactly when the bitmap does. In other blocks
//!   entries say *free*, or were never written.
//! - FR-7: a block's `pinned` counts its frames with pins, a section's those of its blocks (while nobody takes or drops a pin);
//!   orphans have pins; what is free or cached has none.
//! - FR-8: exactly the homes that say so are in the deferred queue, or noted by the cache that they say; they have absent
//!   frames.
//! - FR-9: exactly the frames that say so are in a cache, in one list of their class, groups aligned.
//! - FR-10: exactly the blocks that are out of the pool as a whole are held by somebody: a user, the cache that has them in
//!   its list, the stack of zeroed blocks. Homes are a user's.

mod below;
mod cache;
mod check;
mod entry;
mod free_set;
mod home;
mod isolation;
mod list;
pub mod memory_map;
mod partial;
mod pin;
mod pool;
mod scarce;
#[cfg(feature = "sim")]
mod sim;
mod statistics;
mod table;
mod wanted;
mod zeroed;

pub use cache::CacheLimits;
pub use home::Home;
pub use isolation::Occupant;
pub use memory_map::{MemoryMap, MemoryMapFull};
pub use partial::Partial;
#[cfg(feature = "sim")]
pub use sim::FreeObserver;
pub use statistics::FrameStatistics;
pub use table::PHYSICAL_LIMIT;

use super::address::{Block, Frame, GROUP_ORDER, PAGE_SIZE, PhysAddr};
use super::mmu::Mmu;
use crate::sync::{Rank, Ranked};
use cache::{CACHES, CoreCache, new_caches};
use core::fmt;
use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use pool::{Pool, assert_order};
use scarce::Scarcity;
use statistics::CacheCounts;
use table::{Records, Table};
use wanted::Wants;
use zeroed::ZeroedBlocks;

/// What a frame is for: whether its contents can be moved to another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Pages of the application.
    Movable = 0,
    /// Tables, the kernel's heap and records, stacks: whatever is known by its physical address.
    Unmovable = 1,
}

impl Class {
    const fn other(self) -> Class {
        match self {
            Class::Movable => Class::Unmovable,
            Class::Unmovable => Class::Movable,
        }
    }
}

/// A slot, as the frame table knows it: a number that its directory gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Owner(pub NonZeroU32);

impl Owner {
    /// The owner of this number; 0 is nobody's.
    #[inline]
    pub const fn new(number: u32) -> Option<Owner> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Owner(number)),
            None => None,
        }
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

/// Why there is no frame allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FramesError {
    /// The memory map is empty.
    NoMemory,
    /// RAM ends above [`PHYSICAL_LIMIT`].
    OutOfReach {
        /// Where it ends.
        end: PhysAddr,
    },
    /// The memory map has no range that holds one of the arrays of records.
    NoRoom {
        /// Size of the array.
        bytes: usize,
    },
    /// The memory map has no room for the RAM that it holds.
    MapFull(MemoryMapFull),
}

impl fmt::Display for FramesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramesError::NoMemory => f.write_str("the memory map is empty"),
            FramesError::OutOfReach { end } => {
                write!(f, "RAM ends at {end}, above {PHYSICAL_LIMIT}")
            }
            FramesError::NoRoom { bytes } => write!(f, "no range of RAM holds {bytes} bytes of frame records"),
            FramesError::MapFull(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FramesError {}

/// The frame allocator.
///
/// Misuse is a bug of the kernel and panics, in every build, naming the frame: freeing what is free, or is not RAM, or
/// is used otherwise than the call says.
pub struct Frames {
    table: Table,
    /// By core.
    caches: [CoreCache; CACHES],
    zeroed: ZeroedBlocks,
    scarcity: Scarcity,
    /// Blocks that are isolated.
    isolated: AtomicUsize,
    gains: AtomicUsize,
    /// The thread that isolated one last.
    isolator: AtomicU64,
    /// Threads that wait for the end of an isolation.
    awaited: AtomicUsize,
    wants: Wants,
    pool: Ranked<Pool>,
    #[cfg(feature = "sim")]
    sim: sim::Hooks,
}

impl Frames {
    /// Takes all RAM of `map`, and keeps its own records in a part of it; `map` is left with what is free.
    ///
    /// # Errors
    ///
    /// Without RAM, with RAM out of reach, or without room for the records. `map` may then have lost some room.
    ///
    /// # Safety
    ///
    /// What `map` holds is RAM that nobody uses or will use but through this allocator, and `machine` keeps it
    /// reachable for as long as the allocator lives.
    pub unsafe fn new(machine: &impl Mmu, map: &mut MemoryMap) -> Result<Frames, FramesError> {
        let total = (map.total() / PAGE_SIZE as u64) as usize;
        // SAFETY: the caller's promise is the same.
        let records = unsafe { Records::new(machine, map) }?;
        let pool = Pool::new(records, map, total);
        Ok(Frames {
            table: pool.table(),
            caches: new_caches(total),
            zeroed: ZeroedBlocks::new(total),
            scarcity: Scarcity::new(),
            isolated: AtomicUsize::new(0),
            gains: AtomicUsize::new(0),
            isolator: AtomicU64::new(0),
            awaited: AtomicUsize::new(0),
            wants: Wants::new(),
            #[cfg(feature = "sim")]
            sim: pool.sim.clone(),
            pool: Ranked::new(Rank::Frames, pool),
        })
    }

    /// Makes the whole frames of `range` free, which boot held back ([`MemoryMap::hold`]).
    ///
    /// # Panics
    ///
    /// When a frame of it was not held back, or was admitted before.
    pub fn admit(&self, range: Range<PhysAddr>) {
        let (start, end) = (range.start.0.div_ceil(PAGE_SIZE as u64), range.end.frame().0);
        self.pool_that_gains(|pool| pool.admit(start..end.max(start)))
    }

    /// Takes a block, from the smallest run of free ones. Zeroed blocks are taken last.
    #[inline]
    pub fn allocate_block(&self) -> Option<Block> {
        if self.fails() {
            return None;
        }
        let cached = self.pop_block(&mut self.cache());
        match cached {
            Some((block, _)) => Some(block),
            None => self.allocate_uncached_block().map(|(block, _)| block),
        }
    }

    /// Gives back a block from [`Frames::allocate_block`] that is no home. Pinned frames of it become orphans.
    ///
    /// # Panics
    ///
    /// When the block is not in use as a whole, or is a home.
    #[inline]
    pub fn free_block(&self, block: Block) {
        let (_, shared) = self.table.known(block);
        assert!(shared.is_plain(), "{block:?} freed as a block, but is {shared}");
        self.free_plain_block(block, shared)
    }

    /// Takes an aligned run of 2^`order` frames, `order` at most 8, unowned and unpinned.
    ///
    /// # Panics
    ///
    /// When `order` is above 8.
    #[inline]
    pub fn allocate(&self, order: u32, class: Class) -> Option<Frame> {
        if self.fails() {
            return None;
        }
        let cached = match (order, class) {
            (0, _) => self.allocate_cached::<0>(class),
            (GROUP_ORDER, Class::Movable) => self.allocate_cached::<GROUP_ORDER>(class),
            _ => None,
        };
        match cached {
            Some(_) => cached,
            None => self.allocate_uncached(order, class),
        }
    }

    /// Gives an aligned run of 2^`order` frames back: what [`Frames::allocate`] gave, a part of it or several together,
    /// or what was left of a dissolved home. Pinned frames of it become orphans.
    ///
    /// # Panics
    ///
    /// When a frame of it is not in use by itself, or `frame` is not aligned to the order.
    #[inline]
    pub fn free(&self, frame: Frame, order: u32) {
        assert_order(frame, order);
        let cached = match order {
            0 => self.free_cached::<0>(frame),
            GROUP_ORDER => self.free_cached::<GROUP_ORDER>(frame),
            _ => false,
        };
        if !cached {
            self.free_uncached(frame, order);
        }
    }

    /// As [`Frames::free`] of one frame, which no core's cache then has: what is freed to empty a block must not come back.
    ///
    /// # Panics
    ///
    /// When the frame is not in use by itself.
    pub fn free_to_pool(&self, frame: Frame) {
        self.free_uncached(frame, 0)
    }

    #[cold]
    fn free_uncached(&self, frame: Frame, order: u32) {
        self.pool_that_gains(|pool| pool.free(frame, order))
    }

    /// All counts. They are those of one moment when nobody allocates or frees meanwhile; they add up always.
    pub fn statistics(&self) -> FrameStatistics {
        let mut counts = CacheCounts::default();
        self.caches.iter().for_each(|cache| counts.add(&cache.0.lock()));
        self.complete(&counts, &self.pool.lock())
    }

    /// All counts, unless frames are locked: for crash reports.
    pub fn try_statistics(&self) -> Option<FrameStatistics> {
        let mut counts = CacheCounts::default();
        for cache in &self.caches {
            counts.add(&*cache.0.try_lock()?);
        }
        Some(self.complete(&counts, &*self.pool.try_lock()?))
    }

    fn complete(&self, caches: &CacheCounts, pool: &Pool) -> FrameStatistics {
        let (mut homes, mut absent, mut pinned) = (0, 0, 0);
        for section in self.table.sections() {
            homes += section.homes.load(Ordering::Relaxed) as usize;
            absent += section.absent.load(Ordering::Relaxed) as usize;
            pinned += section.pinned.load(Ordering::Relaxed) as usize;
        }
        FrameStatistics { pinned, ..pool.statistics.complete(caches, homes, absent, self.zeroed()) }
    }

    /// Verifies every invariant, in time that grows with RAM: for tests, while nobody else uses the frames.
    ///
    /// # Panics
    ///
    /// When one does not hold; the message begins with its number.
    pub fn check(&self) {
        self.with_all_caches(|caches, pool| {
            check::Check::new(self, caches, pool).all();
        });
    }

    /// Whether the allocation that begins must fail, because a test says so.
    #[inline]
    fn fails(&self) -> bool {
        #[cfg(feature = "sim")]
        return self.sim.fails();
        #[cfg(not(feature = "sim"))]
        false
    }

    /// Tells who watches that `count` frames from `first` are about to be free.
    #[inline]
    fn tell_freed(&self, first: Frame, count: usize) {
        #[cfg(feature = "sim")]
        self.sim.freed(first, count);
        #[cfg(not(feature = "sim"))]
        let _ = (first, count);
    }
}
