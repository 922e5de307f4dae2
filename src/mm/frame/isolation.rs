//! How a broken block becomes a home again: isolated, so that nobody gets what becomes free in it; emptied of all that does not
//! belong there, page by page, by those who move pages; and adopted.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PAGES_PER_SLOT};
use super::super::bits::Bits512;
use super::entry::FrameState;
use super::free_set::FreeSet;
use super::pool::Pool;
use super::table::{BlockState, Holder, ISOLATED};
use super::{Class, Frames, Owner};
use crate::sync::parking::{self, Prepared, ThreadId, try_parking};
use core::sync::atomic::Ordering;

/// How long one waits for the end of an isolation before one looks again, in nanoseconds.
const AWAIT: u64 = 10_000_000;

/// What is in a frame of a broken block, for those who would move it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occupant {
    /// Nothing.
    Free,
    /// A page.
    Page {
        /// The slot that it belongs to.
        owner: Owner,
        /// Which page of the slot it is.
        page: usize,
        /// Whether it must stay where it is.
        pinned: bool,
    },
    /// What does not move: a reserved frame, an unmovable one, an orphan, or one that nobody owns (yet).
    Fixed,
}

impl Frames {
    /// Takes a broken block of movable frames out of the pool's lists: nobody is given a frame of it, and what is freed in it
    /// stays there. (What a core's cache was given of it since may be had from that cache once more.) False for another block,
    /// and for one that is isolated already. Blocks with reserved frames are unmovable ones.
    ///
    /// # Panics
    ///
    /// When there is no RAM.
    pub fn isolate(&self, block: Block) -> bool {
        // Counted first: who finds no frame meanwhile shall wait for this one's.
        self.isolated.fetch_add(1, Ordering::SeqCst);
        self.isolator.store(parking::me().number(), Ordering::Relaxed);
        // Mostly before all of them are locked at once.
        self.drain_caches();
        let isolated = self.with_drained_caches(|pool| pool.isolate(block));
        if !isolated {
            self.isolated.fetch_sub(1, Ordering::SeqCst);
        }
        isolated
    }

    /// Whether `block` can't be isolated, as it is one of unmovable frames: movable ones may be in it where no others were free.
    pub fn is_of_unmovable(&self, block: Block) -> bool {
        matches!(self.pool.lock().records.known(block).state, BlockState::Broken { class: Class::Unmovable, .. })
    }

    /// Whether a block is isolated: it may have free frames that nobody gets, for a while.
    pub fn is_isolating(&self) -> bool {
        self.isolated.load(Ordering::SeqCst) > 0
    }

    /// Whether someone waits for the end of an isolation: it had better be soon.
    pub fn is_isolation_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) > 0
    }

    /// Waits, without a lock, until an isolation ends, or for a while. Who isolates runs at no lower a priority meanwhile.
    pub fn await_isolation(&self) {
        let Some(parking) = try_parking() else { return crate::sync::relax() };
        self.awaited.fetch_add(1, Ordering::SeqCst);
        let isolator = ThreadId::new(self.isolator.load(Ordering::Relaxed));
        let prepared = (parking.prepare)(self.isolation_key(), isolator.filter(|&thread| thread != parking::me()));
        if prepared == Prepared::Ready {
            match self.is_isolating() {
                true => _ = (parking.park)(Some((parking.now)() + AWAIT)),
                false => (parking.cancel)(),
            }
        }
        self.awaited.fetch_sub(1, Ordering::SeqCst);
    }

    fn isolation_key(&self) -> usize {
        core::ptr::from_ref(&self.isolated).addr()
    }

    /// How often frames have become free that were not a moment ago, and were nobody's use: by the end of an isolation or of a home.
    pub fn gains(&self) -> usize {
        self.gains.load(Ordering::SeqCst)
    }

    /// Counts such a gain.
    pub fn count_gain(&self) {
        self.gains.fetch_add(1, Ordering::SeqCst);
    }

    fn count_ended(&self) {
        self.count_gain();
        self.isolated.fetch_sub(1, Ordering::SeqCst);
        if self.is_isolation_awaited()
            && let Some(parking) = try_parking()
        {
            (parking.wake)(self.isolation_key(), usize::MAX);
        }
    }

    /// Puts an isolated block back into its list; if all of it is free, it is a free block.
    ///
    /// # Panics
    ///
    /// When the block is not isolated.
    pub fn end_isolation(&self, block: Block) {
        self.pool_that_gains(|pool| pool.end_isolation(block));
        self.count_ended();
    }

    /// What is in `frame`, of a broken block, as far as one can see without a lock: it may be old, and the owner one that is no
    /// more. A cached frame is free.
    pub fn occupant(&self, frame: Frame) -> Occupant {
        self.table.entry(frame).map_or(Occupant::Fixed, |entry| entry.occupant())
    }

    /// Makes an isolated block the home of `owner`, if all that is in use in it are movable frames that hold pages of that slot,
    /// each at its own place. Returns which they are; pinned ones stay pinned. The others are absent, and if there are any, the
    /// home is in the deferred queue. `None` otherwise, and nothing changed. The caller holds the slot's lock, and has
    /// [drained the caches](Frames::drain_caches) before: what is in one is in use.
    ///
    /// # Panics
    ///
    /// When the block is not isolated.
    pub fn adopt(&self, block: Block, owner: Owner) -> Option<Bits512> {
        let used = self.pool.lock().take_isolated(block, owner)?;
        let absent = PAGES_PER_SLOT - used.count();
        self.begin_home(block, owner, absent);
        if absent > 0 {
            self.defer(block);
        }
        // Last: who finds no isolated block any more finds the home.
        self.count_ended();
        Some(used)
    }
}

impl Pool {
    fn isolate(&mut self, block: Block) -> bool {
        match &mut self.records.known(block).state {
            BlockState::Broken { class: Class::Movable, listed, .. } if *listed != Some(ISOLATED) => {
                if let Some(order) = listed.replace(ISOLATED) {
                    self.broken[Class::Movable as usize].remove(&mut self.records, order, block);
                }
                true
            }
            _ => false,
        }
    }

    fn end_isolation(&mut self, block: Block) {
        let free = self.isolated(block);
        self.records.known(block).state = BlockState::Broken { class: Class::Movable, free, listed: None };
        self.relist(block, None, free.largest());
    }

    /// The free frames of an isolated block.
    ///
    /// # Panics
    ///
    /// When it is not isolated.
    fn isolated(&mut self, block: Block) -> FreeSet {
        match &self.records.known(block).state {
            BlockState::Broken { free, listed: Some(ISOLATED), .. } => *free,
            state => panic!("{block:?} is not isolated, but {state}"),
        }
    }

    /// Makes an isolated block one in use as a whole, if what is in use in it is a home of `owner` already. Returns which
    /// frames are.
    fn take_isolated(&mut self, block: Block, owner: Owner) -> Option<Bits512> {
        let free = self.isolated(block);
        let used = free.bits().not();
        let entries = self.records.write_entries(block);
        if !used.iter().all(|index| entries[index].is_page(owner, index)) {
            return None;
        }
        // Nobody pins them meanwhile; whoever unpins one changes the same word.
        let pinned = self.table().pinned(block);
        for index in used.iter() {
            match pinned.get(index) {
                true => entries[index].change_pinned(FrameState::InUse(Class::Movable), FrameState::Free),
                false => entries[index].set(FrameState::Free),
            }
        }
        free.subtract_runs(&mut self.statistics.free_runs);
        self.statistics.free -= free.count();
        self.statistics.movable -= used.count();
        self.statistics.whole += PAGES_PER_SLOT;
        self.records.known(block).state = BlockState::Whole;
        self.table().known(block).1.set_holder(Holder::User);
        Some(used)
    }
}
