//! Homes: blocks that belong to slots, their absent frames, their end, and the queue of those that may be taken back.
//!
//! What a home holds is written down without the pool's lock, by who holds its slot's. A home that is deferred is noted
//! in a core's cache first, and put into the queue with others; or it is taken out before that ever happens.
#![forbid(unsafe_code)]

use super::super::address::{Block, PAGES_PER_GROUP, PAGES_PER_SLOT};
use super::super::bits::Bits512;
use super::super::refusal::Refusal;
use super::cache::Cache;
use super::entry::FrameState;
use super::free_set::FreeSet;
use super::pool::Pool;
use super::table::{BlockState, Holder, SECTION_BLOCKS, Section, SharedRecord};
use super::{Class, Frames, Owner};
use core::sync::atomic::Ordering;

/// [`SharedRecord::deferred`] of a home that is not deferred.
pub(super) const NOT_DEFERRED: u8 = 0;
/// That of one in the queue.
pub(super) const QUEUED: u8 = 1;
/// That of one that the first cache has noted; the others follow.
pub(super) const NOTED: u8 = 2;

/// A block that became the home of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// The block.
    pub block: Block,
    /// Whether every byte of it is zero already.
    pub zeroed: bool,
}

impl Frames {
    /// Takes a block as the home of a slot that will hold pages in all but `absent` of its frames. Absent frames can be taken
    /// back, so the home is in the deferred queue until it has none. Zeroed blocks are left to those who ask for one, unless
    /// there is no other.
    #[inline]
    pub fn allocate_home(&self, owner: Owner, absent: usize) -> Option<Home> {
        if self.fails() {
            return None;
        }
        let mut cache = self.cache();
        let (block, zeroed) = match self.pop_block(&mut cache) {
            Some((block, _)) => (block, false),
            None => {
                drop(cache);
                let found = self.allocate_uncached_block()?;
                cache = self.cache();
                found
            }
        };
        let shared = self.begin_home(block, owner, absent);
        if absent > 0 {
            self.note_deferred(&mut cache, block, shared);
        }
        Some(Home { block, zeroed })
    }

    /// Makes a block from [`Frames::allocate_block`] the home of a slot. All its frames are absent at first.
    ///
    /// # Panics
    ///
    /// When the block is not in use as a whole, or is a home already.
    pub fn make_home(&self, block: Block, owner: Owner) {
        let (_, shared) = self.table.known(block);
        assert!(shared.is_plain(), "{block:?} to become a home, but is {shared}");
        self.begin_home(block, owner, PAGES_PER_SLOT);
    }

    #[inline]
    pub(super) fn begin_home(&self, block: Block, owner: Owner, absent: usize) -> &'static SharedRecord {
        let (section, shared) = self.table.known(block);
        shared.absent.store(absent as u16, Ordering::Relaxed);
        shared.set_home(Some(owner));
        section.homes.fetch_add(1, Ordering::Relaxed);
        section.absent.fetch_add(absent as u32, Ordering::Relaxed);
        shared
    }

    /// Section and record of a home.
    ///
    /// # Panics
    ///
    /// When the block is none, as one could expect who has it `what`.
    #[inline]
    fn known_home(&self, block: Block, what: &str) -> (&'static Section, &'static SharedRecord) {
        let (section, shared) = self.table.known(block);
        assert!(shared.home().is_some(), "{block:?} {what}, but is {shared}");
        (section, shared)
    }

    /// Whose home `block` is.
    #[inline]
    pub fn home_owner(&self, block: Block) -> Option<Owner> {
        self.table.find(block)?.1.home()
    }

    /// Says how many frames of a home hold no page: they count as available. With none left, the home leaves the
    /// deferred queue. Takes no lock but for that; the caller holds the slot's.
    ///
    /// # Panics
    ///
    /// When `block` is no home, or `absent` is above 512.
    #[inline]
    pub fn set_absent(&self, block: Block, absent: usize) {
        assert!(absent <= PAGES_PER_SLOT, "{absent} absent frames in {block:?}");
        let (section, shared) = self.known_home(block, "to have absent frames");
        let before = shared.absent.load(Ordering::Relaxed);
        shared.absent.store(absent as u16, Ordering::Relaxed);
        section.absent.fetch_add((absent as u32).wrapping_sub(before.into()), Ordering::Relaxed);
        if absent == 0 {
            self.undefer(block);
        }
    }

    /// How many frames of a home are absent; `None` for a block that is no home.
    #[inline]
    pub fn absent(&self, block: Block) -> Option<usize> {
        let (_, shared) = self.table.find(block)?;
        shared.home().map(|_| shared.absent.load(Ordering::Relaxed) as usize)
    }

    /// Whether a home is in the deferred queue, or on its way there.
    pub fn is_deferred(&self, block: Block) -> bool {
        let (_, shared) = self.known_home(block, "to be looked for in the deferred queue");
        shared.deferred.load(Ordering::Relaxed) != NOT_DEFERRED
    }

    /// Puts a home at the end of the deferred queue: it released frames that could be taken back. One that is in the
    /// queue keeps its place. Says whether it is new there. Homes that different cores defer at about the same time may
    /// change places.
    ///
    /// # Panics
    ///
    /// When `block` is no home, or has no absent frame.
    #[inline]
    pub fn defer(&self, block: Block) -> bool {
        let (_, shared) = self.known_home(block, "to be deferred");
        if shared.deferred.load(Ordering::Relaxed) != NOT_DEFERRED {
            return false;
        }
        assert!(shared.absent.load(Ordering::Relaxed) > 0, "{block:?} has no absent frame, to be deferred");
        self.note_deferred(&mut self.cache(), block, shared);
        self.wants.absent();
        true
    }

    /// Notes a home in the running core's cache, or what was the running core's: `cache` says which.
    #[inline]
    fn note_deferred(&self, cache: &mut Cache, block: Block, shared: &SharedRecord) {
        if cache.deferred.len() >= cache.deferred.capacity() / 2 {
            self.queue_most(cache);
        }
        shared.deferred.store(NOTED + cache.index, Ordering::Relaxed);
        cache.deferred.push(block.0 as u32);
    }

    /// Puts what a cache has noted into the queue, if the pool's lock is free or there is no room for more.
    #[cold]
    fn queue_most(&self, cache: &mut Cache) {
        if cache.deferred.is_full() {
            self.pool.lock().queue_noted(cache);
        } else if let Some(mut pool) = self.pool.try_lock() {
            pool.queue_noted(cache);
        }
    }

    /// Puts what all caches have noted into the queue.
    fn queue_all(&self) {
        for cache in &self.caches {
            let mut cache = cache.0.lock();
            if !cache.deferred.is_empty() {
                self.pool.lock().queue_noted(&mut cache);
            }
        }
    }

    /// Takes a home out of the deferred queue, if it is in it.
    #[inline]
    pub fn undefer(&self, block: Block) {
        let (_, shared) = self.table.known(block);
        // Another core may be putting what was noted into the queue; only the slot's holder takes a home out.
        loop {
            match shared.deferred.load(Ordering::Relaxed) {
                NOT_DEFERRED => return,
                QUEUED => return self.pool.lock().dequeue(block),
                noted => self.forget_noted(noted, block, shared),
            }
        }
    }

    #[cold]
    fn forget_noted(&self, noted: u8, block: Block, shared: &SharedRecord) {
        let mut cache = self.caches[(noted - NOTED) as usize].0.lock();
        if let Some(at) = cache.deferred.iter().position(|&other| u64::from(other) == block.0) {
            cache.deferred.remove(at);
            shared.deferred.store(NOT_DEFERRED, Ordering::Relaxed);
        }
    }

    /// Moves a home to the end of the deferred queue, if it is in it.
    pub fn requeue(&self, block: Block) {
        self.queue_all();
        let mut pool = self.pool.lock();
        if self.table.known(block).1.deferred.load(Ordering::Relaxed) == QUEUED {
            pool.move_to_end(block);
        }
    }

    /// The home that has been in the deferred queue for longest. It stays there.
    pub fn oldest_deferred(&self) -> Option<(Block, Owner)> {
        self.queue_all();
        let block = self.pool.lock().deferred.first()?;
        Some((block, self.home_owner(block)?))
    }

    /// The home at the lowest address above `after`, or the lowest of all: for those who look at all of them, one a
    /// call. Looks at two sections' records at most. Homes may come and go between calls.
    pub fn next_home(&self, after: Option<Block>) -> Option<(Block, Owner)> {
        let start = after.map_or(0, |block| block.0 + 1);
        let sections = self.table.sections().get((start / SECTION_BLOCKS) as usize..)?;
        sections
            .iter()
            .filter(|section| section.homes.load(Ordering::Relaxed) > 0)
            .flat_map(|section| section.blocks())
            .skip_while(|&block| block < start)
            .find_map(|block| Some((Block(block), self.home_owner(Block(block))?)))
    }

    /// Ends a home: the frames in `keep` stay in use as movable single frames, each owned as it was, and the others
    /// become free, or orphans where they are pinned. Returns how many became free.
    ///
    /// # Errors
    ///
    /// [`Refusal::Pinned`] when a frame in `keep` is pinned; nothing changed.
    ///
    /// # Panics
    ///
    /// When `block` is no home.
    pub fn dissolve(&self, block: Block, keep: &Bits512) -> Result<usize, Refusal> {
        self.dissolve_if(block, keep, |pinned| match pinned.and(keep).is_empty() {
            true => Ok(()),
            false => Err(Refusal::Pinned),
        })
    }

    /// As [`Frames::dissolve`], where the home must end: pinned frames in `keep` stay pinned, and in use.
    ///
    /// # Panics
    ///
    /// When `block` is no home.
    pub fn dissolve_pinned(&self, block: Block, keep: &Bits512) -> usize {
        self.dissolve_if(block, keep, |_| Ok(())).unwrap_or(0)
    }

    fn dissolve_if(
        &self,
        block: Block,
        keep: &Bits512,
        may: impl FnOnce(&Bits512) -> Result<(), Refusal>,
    ) -> Result<usize, Refusal> {
        let (_, shared) = self.known_home(block, "to be dissolved");
        if let noted @ NOTED.. = shared.deferred.load(Ordering::Relaxed) {
            let mut cache = self.caches[(noted - NOTED) as usize].0.lock();
            self.pool.lock().queue_noted(&mut cache);
        }
        self.pool_that_gains(|pool| {
            let pinned = self.table.pinned(block);
            may(&pinned)?;
            let owner = shared.home();
            if shared.deferred.load(Ordering::Relaxed) == QUEUED {
                pool.dequeue(block);
            }
            self.leave_home(block);
            Ok(pool.break_into(block, keep, owner, &pinned))
        })
    }

    /// Ends a home that holds no page any more: it becomes a free block. Pinned frames of it become orphans.
    ///
    /// # Panics
    ///
    /// When `block` is no home.
    pub fn end_home(&self, block: Block) {
        let shared = self.leave_home(block);
        self.free_plain_block(block, shared);
    }

    /// Makes a home a block in use as a whole and no more.
    ///
    /// # Panics
    ///
    /// When `block` is no home.
    #[inline]
    pub(super) fn leave_home(&self, block: Block) -> &'static SharedRecord {
        let (section, shared) = self.known_home(block, "to end as a home");
        self.undefer(block);
        section.homes.fetch_sub(1, Ordering::Relaxed);
        section.absent.fetch_sub(shared.absent.load(Ordering::Relaxed).into(), Ordering::Relaxed);
        shared.set_home(None);
        shared
    }
}

impl Pool {
    /// Puts what a cache has noted into the deferred queue.
    fn queue_noted(&mut self, cache: &mut Cache) {
        for number in cache.deferred.drain(..) {
            self.queue(Block(number.into()));
        }
    }

    /// Puts a home at the end of the deferred queue.
    fn queue(&mut self, block: Block) {
        self.deferred.push_back(&mut self.records, block);
        self.table().known(block).1.deferred.store(QUEUED, Ordering::Relaxed);
        self.statistics.deferred += 1;
    }

    /// Takes a home out of the deferred queue.
    fn dequeue(&mut self, block: Block) {
        self.deferred.remove(&mut self.records, block);
        self.table().known(block).1.deferred.store(NOT_DEFERRED, Ordering::Relaxed);
        self.statistics.deferred -= 1;
    }

    /// Moves a home to the end of the deferred queue. It says that it is queued all the while: who holds its slot looks at that without
    /// the pool's lock.
    fn move_to_end(&mut self, block: Block) {
        self.deferred.remove(&mut self.records, block);
        self.deferred.push_back(&mut self.records, block);
    }

    /// Makes a block in use as a whole, and no home, free: all of it, or all but the pinned frames.
    pub(super) fn retire(&mut self, block: Block) {
        let (_, shared) = self.table().known(block);
        assert!(shared.hand(Holder::User, Holder::Pool), "{block:?} freed as a block, but is {shared}");
        debug_assert!(matches!(self.records.known(block).state, BlockState::Whole));
        let pinned = self.table().pinned(block);
        if pinned.is_empty() {
            self.freed(block.frame(0), PAGES_PER_SLOT);
            return self.take_back_block(block);
        }
        self.break_into(block, &Bits512::EMPTY, None, &pinned);
    }

    /// Makes `block`, out as a whole and nobody's home, a broken one of movable frames: those in `keep` are in use and pages of
    /// `owner`, pinned or not, others in `pinned` are orphans, and the rest is free. Returns how many are.
    fn break_into(&mut self, block: Block, keep: &Bits512, owner: Option<Owner>, pinned: &Bits512) -> usize {
        let entries = self.records.write_entries(block);
        let mut used = *keep;
        for (group, entries) in entries.as_chunks::<PAGES_PER_GROUP>().0.iter().enumerate() {
            let become_page = |index: usize| {
                let entry = &entries[index % PAGES_PER_GROUP];
                entry.set(FrameState::InUse(Class::Movable));
                entry.set_owner(owner, group * PAGES_PER_GROUP + index);
            };
            let mut left = keep.group(group * PAGES_PER_GROUP);
            let pins = left & pinned.group(group * PAGES_PER_GROUP);
            if pins != 0 {
                for (index, entry) in entries.iter().enumerate().filter(|(index, _)| pins >> index & 1 != 0) {
                    entry.change_pinned(FrameState::Free, FrameState::InUse(Class::Movable));
                    entry.set_owner(owner, group * PAGES_PER_GROUP + index);
                }
                left &= !pins;
            }
            if left == u16::MAX {
                (0..PAGES_PER_GROUP).for_each(become_page);
                continue;
            }
            while left != 0 {
                become_page(left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
        for index in pinned.and(&keep.not()).iter().filter(|&index| entries[index].become_orphan()) {
            entries[index].set_owner(None, 0);
            used.set(index);
        }
        let free = used.not();
        #[cfg(feature = "sim")]
        for range in free.runs() {
            self.freed(block.frame(range.start), range.len());
        }
        let set = FreeSet::of(&free, &mut self.statistics.free_runs);
        self.table().known(block).1.set_holder(Holder::Pool);
        let kept = keep.count();
        self.statistics.whole -= PAGES_PER_SLOT;
        self.statistics.movable += kept;
        self.statistics.orphans += PAGES_PER_SLOT - set.count() - kept;
        self.statistics.free += set.count();
        self.records.known(block).state = BlockState::Broken { class: Class::Movable, free: set, listed: None };
        self.relist(block, None, set.largest());
        set.count()
    }
}
