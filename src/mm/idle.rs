//! What a core does for memory while it has nothing else to do, a bounded piece at a time.
//!
//! 1. Slots that faults began: the frames of their homes that no page uses are zeroed, a group a step. They stay absent, and
//!    a touch of theirs has nothing left to zero.
//! 2. Of those, slots that are in use by half, and that one region covers: once the groups that were never touched are zero,
//!    the slot promotes. A slot of which anything was released never does.
//! 3. The pool of zeroed blocks is filled up to its mark.
//!
//! Faults offer their slots, on lists that they only try to lock: one that does not get in is not looked at. So nothing is
//! searched, and without anything to do nothing runs. Of a core's own the slot offered last comes first: it is the likeliest
//! to be touched. The one that another core offered last is left to that core.
#![forbid(unsafe_code)]

use super::MemoryManager;
use super::address::{Block, GROUPS_PER_SLOT, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT};
use super::huge::Mechanism;
use super::mmu::Mmu;
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping, Slot};
use crate::sync::{Rank, Ranked};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Lists of offered slots; cores beyond share them.
const LISTS: usize = 8;
/// Slots on a list.
const OFFERS: usize = 32;
/// Blocks that are being zeroed.
const BEGUN: usize = 8;

/// Offered slots, on cache lines of their own.
#[repr(align(64))]
struct Offers(Ranked<ArrayVec<Handle<Slot>, OFFERS>>);

/// What idle time has before it. No other lock is taken while one of these is held.
pub(super) struct Idle {
    offers: [Offers; LISTS],
    /// Blocks on their way into the pool, and how many frames of each are zero. One that is being worked on is in nobody's
    /// hands but the worker's.
    begun: Ranked<ArrayVec<(Block, usize), BEGUN>>,
    /// Blocks that are being worked on. Raised before one leaves the list.
    in_hand: AtomicUsize,
}

impl Idle {
    pub(super) fn new() -> Self {
        Idle {
            offers: core::array::from_fn(|_| Offers(Ranked::new(Rank::Cache, ArrayVec::new()))),
            begun: Ranked::new(Rank::Cache, ArrayVec::new()),
            in_hand: AtomicUsize::new(0),
        }
    }

    /// Puts a slot on this core's list; says whether there was room.
    fn offer(&self, slot: Handle<Slot>) -> bool {
        let offers = &self.offers[crate::sync::core() % LISTS].0;
        offers.try_lock().is_some_and(|mut offers| offers.try_push(slot).is_ok())
    }

    /// Takes a slot off a list: the last of this core's, the first of another's, whose last one stays. That core is likely to
    /// be touching it, and would wait for us.
    fn take(&self) -> Option<Handle<Slot>> {
        let own = crate::sync::core();
        let list = |ahead: usize| self.offers[(own + ahead) % LISTS].0.try_lock();
        list(0).and_then(|mut offers| offers.pop()).or_else(|| {
            (1..LISTS).find_map(|ahead| {
                let mut offers = list(ahead)?;
                if offers.len() < 2 { None } else { offers.pop_at(0) }
            })
        })
    }

    /// Takes a block that is not zero yet, for who needs it more.
    pub(super) fn take_begun(&self) -> Option<Block> {
        self.begun.lock().pop().map(|(block, _)| block)
    }

    /// Whether some block is being worked on, and will be had in a moment.
    pub(super) fn is_at_work(&self) -> bool {
        self.in_hand.load(Ordering::SeqCst) > 0
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Does one piece of background work: zeroes no more than 64 KiB, or promotes one slot. False when there is nothing to
    /// do; true asks for another call.
    pub fn idle_step(&self) -> bool {
        match self.idle.take() {
            Some(slot) => {
                self.work_on_slot(slot);
                true
            }
            None => self.work_on_pool(),
        }
    }

    /// Does what is next for an offered slot, and offers it again if that is not all.
    fn work_on_slot(&self, handle: Handle<Slot>) {
        let record = self.slots.get(handle);
        // As a fault does: region and epoch under one hold of the regions' lock (SP-3).
        let (number, found, epoch) = {
            let regions = self.regions.read();
            let number = record.number();
            (number, regions.find(number * PAGES_PER_SLOT as u64), record.epoch())
        };
        let first = number * PAGES_PER_SLOT as u64;
        let may_fill = found.is_some_and(|(range, region)| {
            range.end >= first + PAGES_PER_SLOT as u64 && self.policy.allows(region.policy)
        });
        let mut slot = LockedSlot::lock(self, number, handle);
        slot.state.offered = false;
        if slot.epoch() != epoch || may_fill && slot.zero_or_promote() {
            slot.offer();
        }
    }

    /// Zeroes 64 KiB of a block for the pool, if that has room.
    fn work_on_pool(&self) -> bool {
        self.idle.in_hand.fetch_add(1, Ordering::SeqCst);
        let worked = self.zero_for_pool();
        self.idle.in_hand.fetch_sub(1, Ordering::SeqCst);
        worked
    }

    fn zero_for_pool(&self) -> bool {
        if !self.policy.has(Mechanism::Pool) {
            return false;
        }
        let begun = self.idle.begun.lock().pop();
        let Some((block, zeroed)) = begun.or_else(|| Some((self.frames.take_unzeroed()?, 0))) else { return false };
        self.machine.zero(block.frame(zeroed), PAGES_PER_GROUP);
        self.counters.zeroed_idle_bytes.add((PAGES_PER_GROUP * PAGE_SIZE) as u64);
        let zeroed = zeroed + PAGES_PER_GROUP;
        if zeroed == PAGES_PER_SLOT {
            self.frames.put_zeroed(block);
        } else if self.idle.begun.lock().try_push((block, zeroed)).is_err() {
            self.frames.free_block(block);
        }
        true
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Offers the slot to idle time, unless it is offered already.
    pub(super) fn offer(&mut self) {
        if !self.state.offered {
            self.state.offered = self.mm.idle.offer(self.handle);
        }
    }

    /// Zeroes the next group that was never touched, or else promotes a slot in use by half; says whether there is more to
    /// do. A home with a pinned frame is left alone: a device may still write to an absent one.
    fn zero_or_promote(&mut self) -> bool {
        let (Mapping::Table(_), Some(home)) = (self.state.mapping, self.state.home) else { return false };
        if self.mm.frames.is_pinned(home) {
            return false;
        }
        let mut groups = 0..GROUPS_PER_SLOT;
        let Some(group) = groups.find(|&group| self.state.is_untouched(group) && !self.state.is_zeroed(group)) else {
            if self.mm.policy.has(Mechanism::Promotion) {
                self.promote_zeroed();
            }
            return false;
        };
        self.mm.machine.zero(home.frame(group * PAGES_PER_GROUP), PAGES_PER_GROUP);
        self.mm.counters.zeroed_idle_bytes.add((PAGES_PER_GROUP * PAGE_SIZE) as u64);
        self.state.zeroed |= 1 << group;
        true
    }
}
