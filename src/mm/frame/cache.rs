//! What each core keeps for itself: single frames of each class, groups and blocks, so that allocations and frees take
//! the pool's lock once for many.
//!
//! A cache is a few lists through the records of what is in them, last in, first out. Which one a thread uses is a hint,
//! so each has a lock, which is nearly always free. A list that has fallen by half is filled up if the pool's lock can
//! be had at once, and only an empty one waits for it; a list above its limit is drained likewise, and one at twice its
//! limit waits. (Linux: per-cpu pagesets, `high` and `batch`. Theirs stop at order 3 and one huge page, and grow under
//! load; these hold what faults ask for, and their limits are shares of RAM.)
//!
//! What is in a cache is free memory: an allocation that nothing else can serve takes everything back from all of them
//! first ([`super::scarce`]).
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, GROUP_ORDER, PAGES_PER_GROUP, PAGES_PER_SLOT};
use super::entry::{BlockEntries, FrameEntry, FrameState, NIL, linked};
use super::pool::Pool;
use super::table::{Holder, SharedRecord, Table};
use super::{Class, Frames};
use crate::sync::{Guard, Rank, Ranked, core};
use ::core::array;
use ::core::sync::atomic::Ordering;
use arrayvec::ArrayVec;

/// How many caches there are; cores beyond share them.
pub(super) const CACHES: usize = 16;
/// Homes that one cache notes for the deferred queue.
const DEFERRED: usize = 16;

/// How much the cache of one core holds when the pool's lock is free; twice that at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheLimits {
    /// Single frames of each class.
    pub frames: u32,
    /// Groups.
    pub groups: u32,
    /// Blocks.
    pub blocks: u32,
}

impl CacheLimits {
    /// Nothing is cached.
    pub const NONE: CacheLimits = CacheLimits { frames: 0, groups: 0, blocks: 0 };

    /// The limits for a machine with `frames` frames: a cache holds 1/48 of RAM and 18 MiB at most, and nothing but a few
    /// single frames below 64 MiB.
    pub fn of(frames: usize) -> CacheLimits {
        // What the kernel has taken of RAM by now does not make it a smaller machine.
        let of = |share: usize, most: usize| ((frames + share / 4) / share).min(most) as u32;
        let groups = if frames < 64 * 256 { 0 } else { of(8192, 16) };
        CacheLimits { frames: of(2048, 64), groups, blocks: of(64 * PAGES_PER_SLOT, 8) }
    }
}

/// Single frames or groups of one class, linked through the entries of their first frames.
pub(super) struct FrameList {
    first: u32,
    pub(super) count: u32,
}

impl FrameList {
    const EMPTY: FrameList = FrameList { first: NIL, count: 0 };

    #[inline]
    fn push(&mut self, frame: Frame, entry: &FrameEntry) {
        entry.set_next(self.first);
        self.first = frame.0 as u32;
        self.count += 1;
    }

    #[inline]
    fn pop(&mut self, table: Table) -> Option<(Frame, &'static BlockEntries)> {
        let frame = linked(self.first)?;
        let entries = table.known_entries(frame);
        self.first = entries[frame.index()].next();
        self.count -= 1;
        Some((frame, entries))
    }

    /// The frames in it.
    pub(super) fn iter(&self, table: Table) -> impl Iterator<Item = Frame> {
        ::core::iter::successors(linked(self.first), move |&frame| linked(table.known_entry(frame).next()))
    }
}

/// Blocks, linked through their records.
pub(super) struct BlockList {
    first: u32,
    pub(super) count: u32,
}

impl BlockList {
    #[inline]
    fn push(&mut self, block: Block, shared: &SharedRecord) {
        shared.next.store(self.first, Ordering::Relaxed);
        self.first = block.0 as u32;
        self.count += 1;
    }

    #[inline]
    fn pop(&mut self, table: Table) -> Option<(Block, &'static SharedRecord)> {
        let block = (self.first != NIL).then_some(Block(self.first.into()))?;
        let (_, shared) = table.known(block);
        self.first = shared.next.load(Ordering::Relaxed);
        self.count -= 1;
        Some((block, shared))
    }

    /// The blocks in it.
    pub(super) fn iter(&self, table: Table) -> impl Iterator<Item = Block> {
        let named = |link: u32| (link != NIL).then_some(Block(link.into()));
        ::core::iter::successors(named(self.first), move |&block| {
            named(table.known(block).1.next.load(Ordering::Relaxed))
        })
    }
}

/// Whether a list of `count` is to be filled up: it is empty, or has fallen by half below half its limit.
#[inline]
fn is_low(count: u32, limit: u32) -> bool {
    count < limit / 2 && count & count.wrapping_sub(1) == 0
}

/// A core's cache and its lock, in cache lines of their own.
#[repr(align(64))]
pub(super) struct CoreCache(pub(super) Ranked<Cache>);

/// What one core keeps. Guarded by its lock.
pub(super) struct Cache {
    /// By class.
    pub(super) frames: [FrameList; 2],
    /// Movable ones.
    pub(super) groups: FrameList,
    pub(super) blocks: BlockList,
    pub(super) limits: CacheLimits,
    /// Which cache this is.
    pub(super) index: u8,
    /// Homes to be put into the deferred queue, the oldest first.
    pub(super) deferred: ArrayVec<u32, DEFERRED>,
}

impl Cache {
    /// The list of frames of `class`, or of groups, and its limit.
    #[inline]
    fn list<const ORDER: u32>(&mut self, class: Class) -> (&mut FrameList, u32) {
        match ORDER {
            0 => (&mut self.frames[class as usize], self.limits.frames),
            _ => (&mut self.groups, self.limits.groups),
        }
    }

    /// Frames in it.
    pub(super) fn count(&self) -> usize {
        let [movable, unmovable] = self.frames.each_ref().map(|list| list.count as usize);
        movable + unmovable + PAGES_PER_GROUP * self.groups.count as usize + PAGES_PER_SLOT * self.blocks.count as usize
    }

    /// Gives everything back.
    pub(super) fn drain(&mut self, pool: &mut Pool) {
        for class in [Class::Movable, Class::Unmovable] {
            drain_frames(&mut self.frames[class as usize], u32::MAX, 0, class, pool);
        }
        drain_frames(&mut self.groups, u32::MAX, GROUP_ORDER, Class::Movable, pool);
        drain_blocks(&mut self.blocks, u32::MAX, pool);
    }
}

fn drain_frames(list: &mut FrameList, most: u32, order: u32, class: Class, pool: &mut Pool) {
    if order > 0 {
        for _ in 0..most {
            let Some((frame, _)) = list.pop(pool.table()) else { return };
            pool.take_back_cached(frame, order, class);
        }
        return;
    }
    // What lies together goes back together: frames are often freed in the order of their addresses.
    let (mut first, mut frames) = (Frame(0), 0_u64);
    for _ in 0..most {
        let Some((frame, entries)) = list.pop(pool.table()) else { break };
        entries[frame.index()].set(FrameState::Free);
        let word = Frame(frame.0 & !63);
        if word != first && frames != 0 {
            pool.take_back_some(first, frames, class);
            frames = 0;
        }
        first = word;
        frames |= 1 << (frame.0 & 63);
    }
    if frames != 0 {
        pool.take_back_some(first, frames, class);
    }
}

fn drain_blocks(list: &mut BlockList, most: u32, pool: &mut Pool) {
    for _ in 0..most {
        let Some((block, _)) = list.pop(pool.table()) else { break };
        pool.take_back_block(block);
    }
}

/// The caches of all cores, with limits for a machine of `frames` frames.
pub(super) fn new_caches(frames: usize) -> [CoreCache; CACHES] {
    array::from_fn(|index| {
        let cache = Cache {
            frames: [FrameList::EMPTY; 2],
            groups: FrameList::EMPTY,
            blocks: BlockList { first: NIL, count: 0 },
            limits: CacheLimits::of(frames),
            index: index as u8,
            deferred: ArrayVec::new(),
        };
        CoreCache(Ranked::new(Rank::Cache, cache))
    })
}

impl Frames {
    /// Sets how much each core's cache holds, and gives back what they hold now.
    pub fn set_cache_limits(&self, limits: CacheLimits) {
        self.with_all_caches(|caches, pool| {
            for cache in caches {
                cache.drain(pool);
                cache.limits = limits;
            }
        });
    }

    /// Gives back what the caches of all cores hold: blocks form of it that could not.
    pub fn drain_caches(&self) {
        // One at a time: each core waits for its own at most.
        for cache in &self.caches {
            let mut cache = cache.0.lock();
            let mut pool = self.pool.lock();
            cache.drain(&mut pool);
            self.wants.freed(&pool);
        }
    }

    /// Gives back what the running core's cache holds of single movable frames, so that blocks may form of them.
    pub fn drain_movable(&self) {
        let mut cache = self.cache();
        let list = &mut cache.frames[Class::Movable as usize];
        let mut pool = self.pool.lock();
        drain_frames(list, u32::MAX, 0, Class::Movable, &mut pool);
        self.wants.freed(&pool);
    }

    /// The running core's cache.
    #[inline(always)] // Its lock is the larger part of what an allocation costs.
    pub(super) fn cache(&self) -> Guard<'_, Cache> {
        self.caches[core() % CACHES].0.lock()
    }

    /// Takes a frame (`ORDER` 0), or a movable group ([`GROUP_ORDER`]), from the running core's cache.
    #[inline]
    pub(super) fn allocate_cached<const ORDER: u32>(&self, class: Class) -> Option<Frame> {
        let mut cache = self.cache();
        let (list, limit) = cache.list::<ORDER>(class);
        if is_low(list.count, limit) {
            self.refill(list, limit / 2, ORDER, class);
        }
        let (frame, entries) = list.pop(self.table)?;
        // Aligned, so that the compiler sees that the run ends within its block.
        let index = frame.index() & (PAGES_PER_SLOT - (1 << ORDER));
        for entry in &entries[index..index + (1 << ORDER)] {
            debug_assert!(entry.is(FrameState::Cached(class)), "FR-9: {frame:?} in a cache is {:?}", entry.state());
            entry.allocate(class);
        }
        Some(frame)
    }

    #[cold]
    fn refill(&self, list: &mut FrameList, count: u32, order: u32, class: Class) {
        let empty = list.count == 0;
        if empty && self.scarcity.lacks(order) {
            return;
        }
        let Some(mut pool) = (if empty { Some(self.pool.lock()) } else { self.pool.try_lock() }) else { return };
        // What is cached, while a block is wanted, may be what keeps one from being free.
        let count = if self.wants.any() { 1 } else { count };
        // What comes first is to be taken first.
        let (rest, mut last) = (list.first, None::<&FrameEntry>);
        pool.take_runs(order, class, count, empty, |frame, entries| {
            entries.iter().for_each(|entry| entry.set(FrameState::Cached(class)));
            entries[0].set_next(rest);
            match last.replace(&entries[0]) {
                Some(before) => before.set_next(frame.0 as u32),
                None => list.first = frame.0 as u32,
            }
            list.count += 1;
        });
        self.wants.taken(&pool, self.zeroed());
    }

    /// Puts a frame (`ORDER` 0) or a movable group ([`GROUP_ORDER`]) that its user frees into the running core's cache,
    /// unless that holds none, or the frames are not all in use, of one class and without pins; says whether.
    #[inline]
    pub(super) fn free_cached<const ORDER: u32>(&self, frame: Frame) -> bool {
        let Some(entries) = self.table.entries(frame.block()) else { return false };
        let index = frame.index() & (PAGES_PER_SLOT - (1 << ORDER));
        let (first, others) = (&entries[index], &entries[index + 1..index + (1 << ORDER)]);
        let class = match first.is(FrameState::InUse(Class::Unmovable)) {
            true if ORDER == GROUP_ORDER => return false,
            true => Class::Unmovable,
            false => Class::Movable,
        };
        let (in_use, cached) = (FrameState::InUse(class), FrameState::Cached(class));
        let mut cache = self.cache();
        let (list, limit) = cache.list::<ORDER>(class);
        // Only one of two that free the same frames gets past the first of them.
        if limit == 0
            || self.wants.any()
            || !others.iter().all(|entry| entry.is(in_use))
            || !first.change(in_use, cached)
        {
            return false;
        }
        others.iter().for_each(|entry| entry.set(cached));
        self.tell_freed(frame, 1 << ORDER);
        list.push(frame, first);
        if list.count > limit {
            self.drain_over(list.count, limit, |pool| drain_frames(list, limit.div_ceil(2), ORDER, class, pool));
        }
        self.scarcity.end();
        true
    }

    /// Gives single frames back, movable ones for the most part: as [`Frames::free`] for each, with the cache locked once.
    ///
    /// # Panics
    ///
    /// When one is not in use by itself.
    pub fn free_all(&self, frames: &[Frame]) {
        let mut cache = self.cache();
        let (list, limit) = cache.list::<0>(Class::Movable);
        let (in_use, cached) = (FrameState::InUse(Class::Movable), FrameState::Cached(Class::Movable));
        let mut kept = 0;
        for &frame in frames {
            let entry = self.table.known_entry(frame);
            if limit == 0 || self.wants.any() || !entry.change(in_use, cached) {
                break;
            }
            self.tell_freed(frame, 1);
            list.push(frame, entry);
            kept += 1;
        }
        if list.count > limit {
            let most = list.count - limit / 2;
            self.drain_over(list.count, limit, |pool| drain_frames(list, most, 0, Class::Movable, pool));
        }
        self.scarcity.end();
        drop(cache);
        // What is pinned, or of the other class.
        frames[kept..].iter().for_each(|&frame| self.free(frame, 0));
    }

    /// Takes a block from a core's cache; the caller becomes its holder.
    #[inline]
    pub(super) fn pop_block(&self, cache: &mut Cache) -> Option<(Block, &'static SharedRecord)> {
        if is_low(cache.blocks.count, cache.limits.blocks) {
            self.refill_blocks(cache);
        }
        let (block, shared) = cache.blocks.pop(self.table)?;
        shared.set_holder(Holder::User);
        Some((block, shared))
    }

    #[cold]
    fn refill_blocks(&self, cache: &mut Cache) {
        let empty = cache.blocks.count == 0;
        let Some(mut pool) = (if empty { Some(self.pool.lock()) } else { self.pool.try_lock() }) else { return };
        // What comes first is to be taken first.
        for block in pool.take_blocks(cache.limits.blocks / 2).rev().map(Block) {
            cache.blocks.push(block, self.table.known(block).1);
        }
        self.wants.taken(&pool, self.zeroed());
    }

    /// Gives back a block in use as a whole that is no home any more, or was none: to the running core's cache, or if
    /// that holds none or a frame is pinned, to the pool.
    pub(super) fn free_plain_block(&self, block: Block, shared: &SharedRecord) {
        if shared.pinned.load(Ordering::Acquire) == 0 {
            let mut cache = self.cache();
            let limit = cache.limits.blocks;
            if limit > 0 && !self.wants.any() && shared.hand(Holder::User, Holder::Cache) {
                self.tell_freed(block.frame(0), PAGES_PER_SLOT);
                cache.blocks.push(block, shared);
                let list = &mut cache.blocks;
                if list.count > limit {
                    self.drain_over(list.count, limit, |pool| drain_blocks(list, limit.div_ceil(2), pool));
                }
                return self.scarcity.end();
            }
        }
        self.pool_that_gains(|pool| pool.retire(block));
    }

    /// Drains a list that is above its limit, if the pool's lock is free or it is far above.
    #[cold]
    fn drain_over(&self, count: u32, limit: u32, drain: impl FnOnce(&mut Pool)) {
        let pool = if count >= 2 * limit { Some(self.pool.lock()) } else { self.pool.try_lock() };
        if let Some(mut pool) = pool {
            drain(&mut pool);
        }
    }
}
