//! What is done for huge pages in the background (Linux: khugepaged, kcompactd, kswapd): by one worker, a step at a time, when there is a cause.
//!
//! | cause | what is done |
//! | --- | --- |
//! | memory is low | it is given back, in the order of [`super::reclaim`], until it is not low any more |
//! | a slot is nominated: a first touch found no block, a split healed, a home was dissolved, a region allows blocks by now | the slot collapses, if a block can be had |
//! | a block becomes free while candidates wait | the hottest candidate collapses |
//! | candidates wait, and no block is free | blocks are emptied ([`super::compact`]), until that does not pay |
//! | a fault wants a block for later (`defrag=defer`) | one is emptied |
//!
//! Nothing is looked for by the clock. How long the worker may work is the scheduler's to say: it is a thread of background priority. After
//! every step (a copy of 64 KiB at most) it may be stopped, and what it did is a consistent state.
#![forbid(unsafe_code)]

use super::candidates::{Candidates, Heat};
use super::collapse::Terms;
use super::compact::{Compacted, Compaction};
use super::heat::Places;
use super::policy::Mechanism;
use super::reclaim::{Giving, Shrinking};
use crate::mm::address::PAGES_PER_SLOT;
use crate::mm::mmu::Mmu;
use crate::mm::slab::Handle;
use crate::mm::slot::{LockedSlot, Mapping, Role, Slot};
use crate::mm::{MemoryManager, Refusal};
use crate::sync::{Rank, Ranked, Signal};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, Ordering};

/// Slots that are sampled at the same time.
const WINDOW: usize = 32;
/// How long they are sampled, in nanoseconds.
const SAMPLING: u64 = 10_000_000;
/// How long after the begin of one sample the next one begins: 128 faults each at most.
const PERIOD: u64 = 20_000_000;
/// How long compaction is left alone when it does not pay, at first: twice as long each time.
const BACK_OFF: u64 = 10_000_000;
/// Times after which it is left alone until something has become free (Linux: `COMPACT_MAX_DEFER_SHIFT`).
const MOST_BACK_OFFS: u32 = 6;

/// How often candidates are put off that others work on, before one is dropped.
const PUT_OFF: u32 = 64;

/// When there is something to do again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// At once.
    None,
    /// At this time (nanoseconds), or when the [signal](MemoryManager::background_signal) is raised.
    Until(u64),
    /// When the signal is raised.
    Wait,
}

/// A slot that is being sampled.
struct Sample {
    slot: Handle<Slot>,
    places: Places,
}

/// What the worker knows from one step to the next.
struct Worker {
    window: ArrayVec<Sample, WINDOW>,
    window_ends: u64,
    next_window: u64,
    /// Where in their slots the next samples lie.
    whim: usize,
    compaction: Compaction,
    back_offs: u32,
    /// Before this compaction is left alone.
    compact_from: u64,
    /// It waits for a block, or for memory, since then.
    waits_since: Option<u64>,
    /// Candidates that lacked a block, one after the other.
    tried: usize,
    /// How often one was put off, one after the other.
    put_off: u32,
    shrinking: Shrinking,
}

impl Worker {
    fn new() -> Self {
        Worker {
            window: ArrayVec::new(),
            window_ends: 0,
            next_window: 0,
            whim: 0,
            compaction: Compaction::new(),
            back_offs: 0,
            compact_from: 0,
            waits_since: None,
            tried: 0,
            put_off: 0,
            shrinking: Shrinking::default(),
        }
    }

    /// Compaction did not pay.
    fn back_off(&mut self, now: u64) {
        self.compact_from = match self.back_offs {
            MOST_BACK_OFFS => u64::MAX,
            times => now + (BACK_OFF << times),
        };
        self.back_offs = (self.back_offs + 1).min(MOST_BACK_OFFS);
    }

    fn is_backed_off(&self, now: u64) -> bool {
        now < self.compact_from
    }

    /// Compaction may pay again.
    fn end_back_off(&mut self) {
        self.back_offs = 0;
        self.compact_from = 0;
    }
}

/// The background's part of the memory manager.
pub(in crate::mm) struct Background {
    pub(super) candidates: Candidates,
    /// Nobody's while a step is made.
    worker: Ranked<Option<Worker>>,
    /// Someone wants a block to be free, for later.
    asked: AtomicBool,
}

impl Background {
    pub(in crate::mm) fn new() -> Self {
        Background {
            candidates: Candidates::new(),
            worker: Ranked::new(Rank::Cache, Some(Worker::new())),
            asked: AtomicBool::new(false),
        }
    }
}

/// What came of a candidate.
enum Outcome {
    /// It is none any more.
    Settled,
    /// It needs a block, and none is free.
    NoBlock,
    /// It may be done later.
    Later,
}

impl<M: Mmu> MemoryManager<M> {
    /// Raised when there is something to do for [`MemoryManager::background_step`].
    pub fn background_signal(&self) -> &Signal {
        self.frames.signal()
    }

    /// How many slots wait for a block, or for their turn, or have it.
    pub fn candidates(&self) -> usize {
        self.background.candidates.count()
    }

    /// Does what is next in the background, at time `now` (nanoseconds): one slot, or one block, or less. Called again and again by
    /// one thread; a second one has nothing to do meanwhile. Between steps of 64 KiB at most it lets others run.
    pub fn background_step(&self, now: u64) -> Rest {
        if !self.policy.khugepaged() {
            self.frames.want_nothing();
            return Rest::Wait;
        }
        let Some(mut worker) = self.background.worker.lock().take() else { return Rest::Wait };
        let rest = self.work(&mut worker, now);
        *self.background.worker.lock() = Some(worker);
        rest
    }

    /// Has a block emptied in the background.
    pub(in crate::mm) fn ask_for_block(&self) {
        if !self.background.asked.swap(true, Ordering::Relaxed) {
            self.frames.signal().raise();
        }
    }

    /// Makes every slot of pages a candidate: more may be allowed than before. Looks at all of them.
    pub fn reconsider(&self) {
        for (_, handle) in self.directory.all() {
            let mut slot = LockedSlot::of_handle(self, handle);
            if let Mapping::Table(_) = slot.state.mapping {
                slot.nominate();
            }
            drop(slot);
            crate::sync::breathe();
        }
    }

    fn work(&self, worker: &mut Worker, now: u64) -> Rest {
        if let Some(since) = worker.waits_since.take() {
            let candidates = &self.background.candidates;
            // Whose time it is may be older than that of the one before.
            if now.saturating_sub(since) > PERIOD {
                candidates.forget_heat(&self.slots);
            }
            if !self.frames.is_wanting() {
                // Something has become free.
                worker.end_back_off();
            }
            self.frames.want_nothing();
        }
        match self.give_back_when_low(&mut worker.shrinking) {
            Giving::Plenty => {}
            Giving::Gave => return Rest::None,
            Giving::Busy => return Rest::Until(now + BACK_OFF),
            Giving::Nothing => {
                // No time for blocks, until something has become free, or could.
                self.frames.want_memory();
                worker.waits_since = Some(now);
                return Rest::Wait;
            }
        }
        self.background.candidates.sort(&self.slots);
        self.end_window(worker, now);
        self.begin_window(worker, now);
        let Some((slot, heat)) = self.background.candidates.hottest(&self.slots) else {
            return self.without_candidate(worker, now);
        };
        if !heat.is_hot() && !worker.window.is_empty() && self.is_block_scarce() {
            // It will be known in a moment which is the best.
            self.background.candidates.put(&self.slots, slot, heat);
            return Rest::Until(worker.window_ends);
        }
        match self.improve(slot) {
            Outcome::Settled => {
                self.background.candidates.settle();
                (worker.tried, worker.put_off) = (0, 0);
                Rest::None
            }
            // It is nominated again, when what is in its way has gone.
            Outcome::Later if worker.put_off == PUT_OFF => {
                self.background.candidates.settle();
                worker.put_off = 0;
                Rest::None
            }
            Outcome::Later => {
                worker.put_off += 1;
                self.keep(slot, Heat::UNKNOWN);
                Rest::Until(now + BACK_OFF)
            }
            Outcome::NoBlock => self.make_block(worker, slot, heat, now),
        }
    }

    /// No candidate is at hand.
    fn without_candidate(&self, worker: &mut Worker, now: u64) -> Rest {
        let asked = &self.background.asked;
        if asked.load(Ordering::Relaxed) {
            let is_free = self.frames.want_block();
            self.frames.want_nothing();
            if is_free || worker.is_backed_off(now) || self.advance_compaction(worker, now) != Compacted::More {
                asked.store(false, Ordering::Relaxed);
            }
            return Rest::None;
        }
        if worker.window.is_empty() { Rest::Wait } else { Rest::Until(worker.window_ends) }
    }

    /// Candidates wait, and no block is free for `slot`: empties one, or waits for one.
    fn make_block(&self, worker: &mut Worker, slot: Handle<Slot>, heat: Heat, now: u64) -> Rest {
        if !worker.is_backed_off(now) && self.advance_compaction(worker, now) != Compacted::Nothing {
            self.keep(slot, heat);
            return Rest::None;
        }
        // Behind all others: one of them may need none, or find one that it can adopt.
        self.keep(slot, Heat::of(0));
        worker.tried += 1;
        if worker.tried < self.background.candidates.count() || self.frames.want_block() {
            return Rest::None;
        }
        worker.tried = 0;
        // By then it will be old.
        worker.compaction = Compaction::new();
        worker.waits_since = Some(now);
        match worker.compact_from {
            u64::MAX => Rest::Wait,
            from => Rest::Until(from),
        }
    }

    /// A step of compaction.
    fn advance_compaction(&self, worker: &mut Worker, now: u64) -> Compacted {
        if worker.compaction.is_new() {
            self.counters.compact_daemon_wake.increment();
        }
        // Stopped, because memory is low, it goes on with the next block.
        let compacted = self.compact(&mut worker.compaction, &mut || self.frames.is_low()).unwrap_or(Compacted::More);
        match compacted {
            Compacted::Nothing => worker.back_off(now),
            Compacted::Made => worker.end_back_off(),
            Compacted::More => {}
        }
        compacted
    }

    /// Collapses a candidate, or gives it a home at least.
    fn improve(&self, handle: Handle<Slot>) -> Outcome {
        let number = {
            let mut slot = LockedSlot::of_handle(self, handle);
            // Before the look at it: whatever changes it from here on nominates it again.
            slot.state.nominated = false;
            if !matches!(slot.state.mapping, Mapping::Table(_)) || slot.state.role == Role::Snapshot {
                return Outcome::Settled;
            }
            slot.number
        };
        let counters = &self.counters;
        counters.khugepaged_slots_scanned.increment();
        let terms = Terms::background(&self.policy);
        // Once begun it is ended: it gives as much back as it takes.
        match self.collapse_slot(number, terms, &mut || false) {
            Ok(_) => counters.khugepaged_collapsed.increment(),
            Err(Refusal::NoFreeBlock) => {
                let slot = LockedSlot::of_handle(self, handle);
                let present = slot.state.present.count();
                // One that is used little has little of a block. It is nominated again when it is used more.
                if present >= PAGES_PER_SLOT / 2 || terms.allow(&slot.state).is_ok() {
                    return Outcome::NoBlock;
                }
            }
            Err(Refusal::Busy) => return Outcome::Later,
            Err(refusal) => {
                if refusal == Refusal::Absent {
                    counters.thp_scan_exceed_none_pte.increment();
                }
                if refusal == Refusal::Shared {
                    counters.thp_scan_exceed_share_pte.increment();
                }
                self.refused(refusal);
            }
        }
        Outcome::Settled
    }

    /// Puts a candidate back, unless it was nominated again meanwhile.
    fn keep(&self, handle: Handle<Slot>, heat: Heat) {
        let mut slot = LockedSlot::of_handle(self, handle);
        if core::mem::replace(&mut slot.state.nominated, true) {
            self.background.candidates.settle();
        } else {
            self.background.candidates.put(&self.slots, handle, heat);
        }
    }

    /// Whether there are more candidates than free blocks.
    fn is_block_scarce(&self) -> bool {
        self.frames.statistics().free_blocks() <= self.background.candidates.count()
    }

    /// Sorts the slots whose sample is over by what it found.
    fn end_window(&self, worker: &mut Worker, now: u64) {
        if now < worker.window_ends {
            return;
        }
        for Sample { slot: handle, places } in worker.window.drain(..) {
            let hits = LockedSlot::of_handle(self, handle).end_sample(&places);
            self.background.candidates.put(&self.slots, handle, Heat::of(hits));
        }
    }

    /// Begins to sample candidates of which nothing is known, when there are several and it is time.
    fn begin_window(&self, worker: &mut Worker, now: u64) {
        let candidates = &self.background.candidates;
        let choice = candidates.count();
        if !self.policy.has(Mechanism::Heat)
            || now < worker.next_window
            || !worker.window.is_empty()
            || choice < 2
            || choice <= WINDOW && !self.is_block_scarce()
        {
            return;
        }
        while !worker.window.is_full()
            && let Some(handle) = candidates.take(&self.slots, Heat::UNKNOWN)
        {
            let places = LockedSlot::of_handle(self, handle).begin_sample(worker.whim);
            self.counters.heat_samples.add(places.len() as u64);
            worker.window.push(Sample { slot: handle, places });
        }
        // A step that no power of two goes into.
        worker.whim = (worker.whim + 37) % PAGES_PER_SLOT;
        worker.window_ends = now + SAMPLING;
        worker.next_window = now + PERIOD;
    }
}
