//! Taking memory back, in this order: blocks that are being zeroed for the pool; the zero block, if nobody uses it; what the
//! application can do without; absent frames of homes, oldest first; zero pages of homes, which end; what the application can
//! spare ([`crate::mm::pressure`]).
//!
//! The worker does so when memory is low, until it is not low any more (Linux: kswapd). A fault that found no frame comes here as
//! well, and an operation that found none for a record; neither holds a lock. What is free in caches and among the zeroed blocks, an
//! allocation takes before it finds none.
#![forbid(unsafe_code)]

use super::SplitCause;
use super::collapse::Terms;
use crate::mm::address::{Block, PAGES_PER_GROUP, PAGES_PER_SLOT};
use crate::mm::frame::Owner;
use crate::mm::mmu::{Attributes, Mmu};
use crate::mm::pressure::Level;
use crate::mm::slab::Handle;
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::{MemoryManager, Refusal};
use core::ops::Range;

/// Pages whose contents are looked at under one hold of a slot's lock.
const PIECE: usize = PAGES_PER_GROUP;
/// Homes that are searched for zero pages each time that memory is low: the next time goes on behind them. Most pages are known not
/// to be zero by their first bytes.
const SEARCHES: usize = 64;

/// What someone who found no memory has seen of others that were about to have some.
pub(in crate::mm) struct Shortage {
    /// How often others had gained some when it was looked at last.
    gains: usize,
    /// The application was asked to spare some.
    asked: bool,
}

impl Shortage {
    /// Nothing.
    pub(in crate::mm) fn new() -> Self {
        Shortage { gains: 0, asked: false }
    }
}

/// How far the worker is with giving back.
#[derive(Default)]
pub(super) struct Shrinking {
    /// Memory was low, and may be still.
    gives: bool,
    /// Homes that may still be searched for zero pages.
    searches: usize,
    /// The one that was searched last.
    after: Option<Block>,
}

/// How it is about memory, and what was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Giving {
    /// There is enough.
    Plenty,
    /// Some was given back.
    Gave,
    /// Another core has what could be given back.
    Busy,
    /// There is too little, and nothing can be given back.
    Nothing,
}

/// What came of an attempt on a home.
enum Attempt {
    /// Frames became free.
    Freed,
    /// Nothing can be had here.
    Nothing,
    /// Its slot is locked: perhaps later.
    Busy,
}

impl<M: Mmu> MemoryManager<M> {
    /// Sees to it that who found no memory may try again; false when that is for nothing: nothing can be taken back, and nothing
    /// has become free since by what others gave back. Called without a lock.
    pub(in crate::mm) fn ease(&self, shortage: &mut Shortage) -> bool {
        let _stall = self.pressure.stall();
        if self.reclaim() {
            return true;
        }
        // What others took back, or set free, while there was nothing left for this one, is there all the same.
        let gains = self.frames.gains();
        if core::mem::replace(&mut shortage.gains, gains) != gains {
            return true;
        }
        !core::mem::replace(&mut shortage.asked, true) && self.pressure.ask_and_wait(Level::Critical)
    }

    /// Takes memory back; false when there is nothing left to take. True asks the caller to try again: frames became free, or
    /// a slot that could not be looked into was locked by another core, which may have some.
    fn reclaim(&self) -> bool {
        self.counters.reclaim.increment();
        // Before the look at the list: a block is in one of the two.
        let mut busy = self.idle.is_at_work();
        if let Some(block) = self.idle.take_begun() {
            self.frames.free_block(block);
            return true;
        }
        if self.free_zeros()
            || self.reclaim_freed(&mut busy)
            || self.reclaim_absent(&mut busy, |owner| self.end_home_of(owner))
            || self.reclaim_zero_pages(&mut busy)
        {
            return true;
        }
        if busy {
            self.wait();
        } else if self.frames.is_isolating() {
            busy = true;
            self.frames.await_isolation();
        }
        busy
    }

    /// Gives some memory back, if it is low, or was and is not plenty yet.
    pub(super) fn give_back_when_low(&self, shrinking: &mut Shrinking) -> Giving {
        let heard = self.frames.hear_low();
        if !heard && !shrinking.gives && self.frames.tells_low() {
            return Giving::Plenty;
        }
        if heard {
            // What the cores keep for themselves is the first that is given back.
            self.frames.drain_caches();
            shrinking.searches = SEARCHES;
        }
        let (low, high) = self.frames.watermarks();
        if self.frames.spare() >= if shrinking.gives { high } else { low } {
            shrinking.gives = false;
            self.frames.tell_low();
            return Giving::Plenty;
        }
        shrinking.gives = true;
        let mut busy = false;
        if let Some(block) = self.idle.take_begun() {
            self.frames.free_block(block);
            self.frames.count_gain();
            return Giving::Gave;
        }
        if self.free_zeros()
            || self.reclaim_freed(&mut busy)
            || self.reclaim_absent(&mut busy, |owner| self.end_home_with_zeros(owner))
            || self.search_for_zero_pages(shrinking)
        {
            self.counters.kswapd_steal.increment();
            return Giving::Gave;
        }
        if busy {
            return Giving::Busy;
        }
        shrinking.gives = false;
        if heard {
            self.pressure.ask(Level::Low);
        }
        Giving::Nothing
    }

    /// Searches the next homes for zero pages, until one that is underused gives its zero pages back. False when no more may be
    /// searched.
    fn search_for_zero_pages(&self, shrinking: &mut Shrinking) -> bool {
        while self.policy.shrinks_underused() && shrinking.searches > 0 {
            shrinking.searches -= 1;
            let Some((block, owner)) = self.frames.next_home(shrinking.after) else {
                shrinking.after = None;
                continue;
            };
            shrinking.after = Some(block);
            if self.is_underused(owner) && matches!(self.release_zero_pages(owner), Attempt::Freed) {
                return true;
            }
            crate::sync::breathe();
        }
        false
    }

    /// Has `end` dissolve the home that has had absent frames for longest. A home that refuses goes to the end of the queue.
    fn reclaim_absent(&self, busy: &mut bool, end: impl Fn(Owner) -> Attempt) -> bool {
        for _ in 0..self.frames.statistics().deferred {
            let Some((block, owner)) = self.frames.oldest_deferred() else {
                // None is left, or the first one is just ending.
                *busy |= self.frames.statistics().deferred > 0;
                return false;
            };
            match end(owner) {
                Attempt::Freed => return true,
                Attempt::Busy => *busy = true,
                Attempt::Nothing => {}
            }
            self.frames.requeue(block);
            crate::sync::breathe();
        }
        false
    }

    /// Dissolves `home`, if that is what `owner` has by then, and says whether it did.
    pub(super) fn dissolve_home(&self, owner: Owner, home: Block) -> bool {
        let dissolve = |slot: &mut LockedSlot<'_, M>| match slot.state.home == Some(home) {
            true => slot.dissolve(),
            false => Err(Refusal::NoHome),
        };
        matches!(self.with_home(owner, dissolve), Attempt::Freed)
    }

    /// As that, with its zero pages, if it is underused: afterwards nothing would look for them. For who has the time.
    fn end_home_with_zeros(&self, owner: Owner) -> Attempt {
        match self.policy.shrinks_underused() && self.is_underused(owner) {
            true => self.release_zero_pages(owner),
            false => self.end_home_of(owner),
        }
    }

    fn end_home_of(&self, owner: Owner) -> Attempt {
        self.with_home(owner, |slot| {
            let freed = slot.dissolve()?;
            // Once memory is not low any more. One with more holes would only take back what it has just given.
            if Terms::background(&self.policy).allow(&slot.state).is_ok() {
                slot.nominate();
            }
            Ok(freed)
        })
    }

    /// Gives back the zero pages of the first home that has any, and dissolves it: nothing else is left.
    fn reclaim_zero_pages(&self, busy: &mut bool) -> bool {
        let mut after = None;
        while let Some((block, owner)) = self.frames.next_home(after) {
            after = Some(block);
            match self.release_zero_pages(owner) {
                Attempt::Freed => return true,
                Attempt::Busy => *busy = true,
                Attempt::Nothing => {}
            }
        }
        false
    }

    /// Whether more pages at home hold nothing but zeros than background collapse would fill. (With fewer it would be a block
    /// again.) Stops as soon as it is certain.
    fn is_underused(&self, owner: Owner) -> bool {
        let bound = self.policy.max_ptes_none();
        let (mut zeros, mut left) = (0, PAGES_PER_SLOT);
        for start in (0..PAGES_PER_SLOT).step_by(PIECE) {
            let mut found = 0;
            let look =
                |slot: &mut LockedSlot<'_, M>| Ok(slot.count_zeros(start..start + PIECE)).inspect(|n| found = *n);
            if let Attempt::Busy = self.with_home(owner, look) {
                return false;
            }
            zeros += found;
            left -= PIECE;
            if zeros > bound || zeros + left <= bound {
                break;
            }
            crate::sync::breathe();
        }
        zeros > bound
    }

    /// Unmaps the pages at the home of `owner` that hold nothing but zeros, a few at a time, then dissolves the home. A page that
    /// is touched again reads as zero again. Nothing happens to a home with a pinned frame.
    fn release_zero_pages(&self, owner: Owner) -> Attempt {
        let mut released = 0;
        for start in (0..PAGES_PER_SLOT).step_by(PIECE) {
            let release = |slot: &mut LockedSlot<'_, M>| slot.release_zeros(start..start + PIECE);
            match self.with_home(owner, |slot| release(slot).inspect(|freed| released += freed)) {
                // Frames are absent, and free at once when the home ends.
                Attempt::Busy if released == 0 => return Attempt::Busy,
                _ => {}
            }
            crate::sync::breathe();
        }
        if released == 0 {
            return Attempt::Nothing;
        }
        self.counters.thp_underused_split_page.increment();
        self.counters.zero_pages_released.add(released as u64);
        self.end_home_of(owner)
    }

    /// From a home back to its slot: the lock is only tried. `operation` acts on the home that the slot has by then.
    fn with_home(
        &self,
        owner: Owner,
        operation: impl FnOnce(&mut LockedSlot<'_, M>) -> Result<usize, Refusal>,
    ) -> Attempt {
        let Some(handle) = Handle::from_raw(owner.number()) else { return Attempt::Nothing };
        let Some(mut slot) = LockedSlot::try_lock(self, handle) else { return Attempt::Busy };
        match operation(&mut slot) {
            Ok(1..) => Attempt::Freed,
            _ => Attempt::Nothing,
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// How many of pages `range` are at home and hold nothing but zeros.
    fn count_zeros(&self, range: Range<usize>) -> usize {
        let Some(home) = self.state.home.filter(|&home| !self.mm.frames.is_pinned(home)) else { return 0 };
        let at_home = self.state.at_home().and(&self.state.shared.not());
        range.filter(|&index| at_home.get(index) && self.mm.machine.is_zero(home.frame(index))).count()
    }

    /// Unmaps those of pages `range` that are at home and hold nothing but zeros; returns how many.
    ///
    /// # Errors
    ///
    /// There is no home, or a frame of it is pinned.
    fn release_zeros(&mut self, range: Range<usize>) -> Result<usize, Refusal> {
        let home = self.state.home.ok_or(Refusal::NoHome)?;
        if self.mm.frames.is_pinned(home) {
            self.mm.counters.thp_split_page_failed.increment();
            return Err(Refusal::Pinned);
        }
        let at_home = self.state.at_home();
        let shared = self.state.shared;
        // The last page at home stays: with it the home would go, before the page could be looked at again.
        let mut most = at_home.count() - 1;
        let mut released = 0;
        for index in range.filter(|&index| at_home.get(index) && !shared.get(index)) {
            if most == 0 {
                break;
            }
            if !self.mm.machine.is_zero(home.frame(index)) {
                continue;
            }
            // Another core may write until the page is unmapped, so it is looked at again after that.
            let (_, attributes) = self.leaf(index).expect("the page is at home");
            self.clear(index..index + 1, SplitCause::Underused);
            if !self.mm.machine.is_zero(home.frame(index)) {
                let Mapping::Table(table) = self.state.mapping else { break };
                self.install(table, index..index + 1, home.frame(index), Attributes::new(attributes.access));
                continue;
            }
            most -= 1;
            released += 1;
        }
        Ok(released)
    }

    /// Makes a slot of pages a candidate, if it is used by half.
    pub(in crate::mm) fn nominate_if_used(&mut self) {
        if matches!(self.state.mapping, Mapping::Table(_)) && self.state.present.count() >= PAGES_PER_SLOT / 2 {
            self.nominate();
        }
    }
}
