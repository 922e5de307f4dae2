//! Physical memory: who has which frame.
//!
//! Memory is handed out as **blocks** (aligned 2 MiB) and as **frames** (4 KiB) in aligned runs of 2⁰ to 2⁸. A block is
//! in one of four states:
//!
//! | state | meaning |
//! | --- | --- |
//! | free | all 512 frames are free; part of a free run of 2⁰ to 2⁹ blocks |
//! | whole | in use as one; perhaps the **home** of a slot, which then says how many frames are *absent* |
//! | broken | handed out by frames, of one class: movable or unmovable |
//! | reserved | not ours: no RAM, in use since before this allocator, or held back at boot and not admitted yet |
//!
//! **Blocks** are kept by the buddy system, orders 9 (a block) to 18 (1 GiB). A block is taken from the smallest run
//! there is, so that large runs stay large. **Frames** come from broken blocks. A block's free frames are a bitmap, its
//! buddies are found by shifting and masking, and the block stands in a list by class and by its largest free run: the
//! smallest run that suffices comes first, so full blocks fill up, and a free block is broken last. A block that is
//! free again joins the free runs at once. No operation searches a list; the work of each is bounded.
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
//! The records are a 16-byte entry per frame and 128 bytes per block, 0.4 % of RAM, kept by sections of 1 GiB: holes
//! between banks of RAM cost nothing. Frame entries are written when a frame is handed out and never before, so boot
//! touches the block records only, and an operation on a whole block touches no entry of its frames.
//!
//! # Invariants
//!
//! One lock of [`Rank::Frames`] in [`Frames`] guards all of this.
//!
//! - FR-1: every frame is counted in exactly one of the sums of [`FrameStatistics`], and they make up the total.
//! - FR-2: a free run is aligned to its length; its first block says its order and is in the list of that order.
//! - FR-3: no two free runs are buddies of the same order.
//! - FR-4: a broken block is in the list of its class and largest free order, in none when no frame of it is free, and
//!   it is never free altogether.
//! - FR-5: a broken block's largest run and count agree with its bitmap.
//! - FR-6: a frame of a broken block that is not free has a valid entry: reserved, in use or orphan.
//! - FR-7: a block's `pinned` counts its frames with pins; orphans have pins.
//! - FR-8: exactly the homes that say so are in the deferred queue, and they have absent frames.

mod check;
mod free_set;
mod home;
mod list;
pub mod memory_map;
mod pool;
#[cfg(feature = "sim")]
mod sim;
mod statistics;
mod table;

pub use memory_map::{MemoryMap, MemoryMapFull};
#[cfg(feature = "sim")]
pub use sim::FreeObserver;
pub use statistics::FrameStatistics;
pub use table::PHYSICAL_LIMIT;

use super::address::{Block, Frame, PAGE_SIZE, PAGES_PER_SLOT, PhysAddr};
use super::bits::Bits512;
use super::mmu::Mmu;
use crate::sync::{Rank, Ranked};
use core::fmt;
use core::num::NonZeroU32;
use core::ops::Range;
use pool::Pool;
use table::Table;

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

/// Why a home was not dissolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A frame of it is pinned.
    Pinned,
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
    pool: Ranked<Pool>,
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
        let table = unsafe { Table::new(machine, map) }?;
        Ok(Frames { pool: Ranked::new(Rank::Frames, Pool::new(table, map, total)) })
    }

    /// Makes the whole frames of `range` free, which boot held back ([`MemoryMap::hold`]).
    ///
    /// # Panics
    ///
    /// When a frame of it was not held back, or was admitted before.
    pub fn admit(&self, range: Range<PhysAddr>) {
        let (start, end) = (range.start.0.div_ceil(PAGE_SIZE as u64), range.end.frame().0);
        self.pool.lock().admit(start..end.max(start))
    }

    /// Takes a block, from the smallest run of free ones.
    #[inline]
    pub fn allocate_block(&self) -> Option<Block> {
        let mut pool = self.pool.lock();
        #[cfg(feature = "sim")]
        if pool.sim.fails() {
            return None;
        }
        pool.allocate_block()
    }

    /// Takes a block as the home of a slot that will hold pages in all but `absent` of its frames. Absent frames can be taken
    /// back, so the home is in the deferred queue until it has none.
    #[inline]
    pub fn allocate_home(&self, owner: Owner, absent: usize) -> Option<Block> {
        let mut pool = self.pool.lock();
        #[cfg(feature = "sim")]
        if pool.sim.fails() {
            return None;
        }
        let block = pool.allocate_block()?;
        pool.make_home(block, owner);
        if absent < PAGES_PER_SLOT {
            pool.set_absent(block, absent);
        }
        if absent > 0 {
            pool.defer(block);
        }
        Some(block)
    }

    /// Gives back a block from [`Frames::allocate_block`] that is no home. Pinned frames of it become orphans.
    ///
    /// # Panics
    ///
    /// When the block is not in use as a whole, or is a home.
    #[inline]
    pub fn free_block(&self, block: Block) {
        self.pool.lock().free_block(block)
    }

    /// Takes an aligned run of 2^`order` frames, `order` at most 8, unowned and unpinned.
    ///
    /// # Panics
    ///
    /// When `order` is above 8.
    #[inline]
    pub fn allocate(&self, order: u32, class: Class) -> Option<Frame> {
        let mut pool = self.pool.lock();
        #[cfg(feature = "sim")]
        if pool.sim.fails() {
            return None;
        }
        pool.allocate(order, class)
    }

    /// Gives an aligned run of 2^`order` frames back: what [`Frames::allocate`] gave, a part of it or several together,
    /// or what was left of a dissolved home. Pinned frames of it become orphans.
    ///
    /// # Panics
    ///
    /// When a frame of it is not in use by itself, or `frame` is not aligned to the order.
    #[inline]
    pub fn free(&self, frame: Frame, order: u32) {
        self.pool.lock().free(frame, order)
    }

    /// Makes a block from [`Frames::allocate_block`] the home of a slot. All its frames are absent at first.
    ///
    /// # Panics
    ///
    /// When the block is not in use as a whole, or is a home already.
    #[inline]
    pub fn make_home(&self, block: Block, owner: Owner) {
        self.pool.lock().make_home(block, owner)
    }

    /// Whose home `block` is.
    #[inline]
    pub fn home_owner(&self, block: Block) -> Option<Owner> {
        self.pool.lock().home_owner(block)
    }

    /// Says how many frames of a home hold no page: they count as available. With none left, the home leaves the
    /// deferred queue.
    ///
    /// # Panics
    ///
    /// When `block` is no home, or `absent` is above 512.
    #[inline]
    pub fn set_absent(&self, block: Block, absent: usize) {
        self.pool.lock().set_absent(block, absent)
    }

    /// How many frames of a home are absent; `None` for a block that is no home.
    #[inline]
    pub fn absent(&self, block: Block) -> Option<usize> {
        self.pool.lock().absent(block)
    }

    /// Puts a home at the end of the deferred queue: it released frames that could be taken back. One that is in the
    /// queue keeps its place. Says whether it is new there.
    ///
    /// # Panics
    ///
    /// When `block` is no home, or has no absent frame.
    #[inline]
    pub fn defer(&self, block: Block) -> bool {
        self.pool.lock().defer(block)
    }

    /// Takes a home out of the deferred queue, if it is in it.
    #[inline]
    pub fn undefer(&self, block: Block) {
        self.pool.lock().undefer(block)
    }

    /// Moves a home to the end of the deferred queue, if it is in it.
    #[inline]
    pub fn requeue(&self, block: Block) {
        self.pool.lock().requeue(block)
    }

    /// The home that has been in the deferred queue for longest. It stays there.
    #[inline]
    pub fn oldest_deferred(&self) -> Option<(Block, Owner)> {
        self.pool.lock().oldest_deferred()
    }

    /// Ends a home: the frames in `keep` stay in use as movable single frames, each owned as it was, and the others
    /// become free. Returns how many became free.
    ///
    /// # Errors
    ///
    /// [`Refusal::Pinned`] when a frame of it is pinned; nothing changed.
    ///
    /// # Panics
    ///
    /// When `block` is no home.
    pub fn dissolve(&self, block: Block, keep: &Bits512) -> Result<usize, Refusal> {
        self.pool.lock().dissolve(block, keep)
    }

    /// Ends a home that holds no page any more: it becomes a free block. Pinned frames of it become orphans.
    ///
    /// # Panics
    ///
    /// When `block` is no home.
    #[inline]
    pub fn end_home(&self, block: Block) {
        self.pool.lock().end_home(block)
    }

    /// Says which page (0..512) of which slot a frame holds. Frames of a home need no telling.
    ///
    /// # Panics
    ///
    /// When the frame is not in use by itself, or `page` is above 511.
    #[inline]
    pub fn set_owner(&self, frame: Frame, owner: Owner, page: usize) {
        self.pool.lock().set_owner(frame, owner, page)
    }

    /// Which page of which slot a frame holds; a frame of a home answers for its place there, absent or not.
    #[inline]
    pub fn owner(&self, frame: Frame) -> Option<(Owner, usize)> {
        self.pool.lock().owner(frame)
    }

    /// Pins a frame that is in use, once more.
    ///
    /// # Panics
    ///
    /// When the frame is free, reserved or an orphan.
    #[inline]
    pub fn pin(&self, frame: Frame) {
        self.pool.lock().pin(frame)
    }

    /// Drops one pin of a frame. An orphan becomes free with the last one.
    ///
    /// # Panics
    ///
    /// When the frame is not pinned.
    #[inline]
    pub fn unpin(&self, frame: Frame) {
        self.pool.lock().unpin(frame)
    }

    /// How many pins a frame has.
    #[inline]
    pub fn pins(&self, frame: Frame) -> u32 {
        self.pool.lock().pins(frame)
    }

    /// Whether any frame of a block is pinned, orphans among them.
    #[inline]
    pub fn is_pinned(&self, block: Block) -> bool {
        self.pool.lock().is_pinned(block)
    }

    /// The home at the lowest address above `after`, or the lowest of all: for those who look at all of them, one a
    /// call. Homes may come and go between calls.
    pub fn next_home(&self, after: Option<Block>) -> Option<(Block, Owner)> {
        self.pool.lock().next_home(after)
    }

    /// All counts, at one moment.
    pub fn statistics(&self) -> FrameStatistics {
        self.pool.lock().statistics
    }

    /// All counts, unless the frames are locked: for crash reports.
    pub fn try_statistics(&self) -> Option<FrameStatistics> {
        self.pool.try_lock().map(|pool| pool.statistics)
    }

    /// Verifies every invariant, in time that grows with RAM: for tests.
    ///
    /// # Panics
    ///
    /// When one does not hold; the message begins with its number.
    pub fn check(&self) {
        self.pool.lock().check()
    }
}

#[cfg(feature = "sim")]
impl Frames {
    /// Calls `observer` whenever frames become free, before anyone can have them.
    pub fn observe_free(&self, observer: FreeObserver) {
        self.pool.lock().sim.observer = Some(observer);
    }

    /// Makes the `n`-th allocation from now (1 is the next one) fail, of a block or of frames, and no other.
    ///
    /// # Panics
    ///
    /// When `n` is 0.
    pub fn fail_after(&self, n: u64) {
        assert!(n > 0, "the next allocation is the first");
        self.pool.lock().sim.until_failure = Some(n);
    }

    /// Calls a failure off. Returns whether it had yet to happen.
    pub fn fail_never(&self) -> bool {
        self.pool.lock().sim.until_failure.take().is_some()
    }
}
