//! Slots that may become blocks in the background: queued by what made them so, hottest first.
//!
//! A slot is *nominated* under its lock, by whatever made it a candidate, and is in here once at most: first in the inbox, a stack that takes no
//! lock; then in the list of its heat. Both are chained through the slots' records.
#![forbid(unsafe_code)]

use super::heat::PLACES;
use crate::mm::mmu::Mmu;
use crate::mm::slab::{Handle, Slab};
use crate::mm::slot::{LockedSlot, Role, Slot};
use crate::sync::{Rank, Ranked};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Heats: cold, unknown, and by how many samples were accessed.
const HEATS: usize = PLACES + 2;

/// How hot a candidate is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Heat(usize);

impl Heat {
    /// It was not sampled yet.
    pub(super) const UNKNOWN: Heat = Heat(1);

    /// Of its samples, so many were accessed.
    pub(super) const fn of(hits: usize) -> Heat {
        if hits == 0 { Heat(0) } else { Heat(hits + 1) }
    }

    /// Whether it was sampled, and accessed.
    pub(super) fn is_hot(self) -> bool {
        self > Heat::UNKNOWN
    }
}

/// A list through the records of its slots, the longest waiting in front.
#[derive(Clone, Copy, Default)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    fn push(&mut self, slots: &Slab<Slot>, slot: Handle<Slot>) {
        slots.get(slot).next.store(0, Ordering::Relaxed);
        match Handle::from_raw(self.last) {
            Some(last) => slots.get(last).next.store(slot.raw(), Ordering::Relaxed),
            None => self.first = slot.raw(),
        }
        self.last = slot.raw();
    }

    fn pop(&mut self, slots: &Slab<Slot>) -> Option<Handle<Slot>> {
        let slot = Handle::from_raw(self.first)?;
        self.first = slots.get(slot).next.load(Ordering::Relaxed);
        if self.first == 0 {
            self.last = 0;
        }
        Some(slot)
    }

    /// Takes all that is in `other`.
    fn append(&mut self, slots: &Slab<Slot>, other: &mut List) {
        let other = core::mem::take(other);
        match Handle::from_raw(self.last) {
            _ if other.first == 0 => return,
            Some(last) => slots.get(last).next.store(other.first, Ordering::Relaxed),
            None => self.first = other.first,
        }
        self.last = other.last;
    }
}

/// All candidates.
pub(super) struct Candidates {
    /// The slot nominated last.
    inbox: AtomicU32,
    lists: Ranked<[List; HEATS]>,
    /// In the inbox, the lists, and the worker's hands.
    count: AtomicUsize,
}

impl Candidates {
    pub(super) const fn new() -> Self {
        Candidates {
            inbox: AtomicU32::new(0),
            lists: Ranked::new(Rank::Cache, [List { first: 0, last: 0 }; HEATS]),
            count: AtomicUsize::new(0),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn nominate(&self, handle: Handle<Slot>, slot: &Slot) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut head = self.inbox.load(Ordering::Relaxed);
        loop {
            slot.next.store(head, Ordering::Relaxed);
            // Release: who empties the inbox follows the links. It is emptied as a whole, so no head comes back unnoticed.
            match self.inbox.compare_exchange_weak(head, handle.raw(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Puts a slot that was taken out back.
    pub(super) fn put(&self, slots: &Slab<Slot>, slot: Handle<Slot>, heat: Heat) {
        self.lists.lock()[heat.0].push(slots, slot);
    }

    /// Takes a slot of this heat out.
    pub(super) fn take(&self, slots: &Slab<Slot>, heat: Heat) -> Option<Handle<Slot>> {
        self.lists.lock()[heat.0].pop(slots)
    }

    /// A slot that was taken out is no candidate any more.
    pub(super) fn settle(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the hottest slot out.
    pub(super) fn hottest(&self, slots: &Slab<Slot>) -> Option<(Handle<Slot>, Heat)> {
        (0..HEATS).rev().map(Heat).find_map(|heat| Some((self.take(slots, heat)?, heat)))
    }

    /// Sorts what has come in: the heat of all of that is unknown. The order among themselves is the one they came in.
    pub(super) fn sort(&self, slots: &Slab<Slot>) {
        let mut next = Handle::from_raw(self.inbox.swap(0, Ordering::Acquire));
        let mut reversed = 0;
        while let Some(slot) = next {
            let link = &slots.get(slot).next;
            next = Handle::from_raw(link.swap(reversed, Ordering::Relaxed));
            reversed = slot.raw();
        }
        let mut come = List { first: reversed, last: 0 };
        let mut lists = self.lists.lock();
        while let Some(slot) = come.pop(slots) {
            lists[Heat::UNKNOWN.0].push(slots, slot);
        }
    }

    /// Forgets how hot they are: it was long ago.
    pub(super) fn forget_heat(&self, slots: &Slab<Slot>) {
        let mut lists = self.lists.lock();
        for heat in (0..HEATS).rev().filter(|&heat| heat != Heat::UNKNOWN.0) {
            let mut list = core::mem::take(&mut lists[heat]);
            lists[Heat::UNKNOWN.0].append(slots, &mut list);
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Makes the slot a candidate for background collapse, unless it is one.
    #[cold]
    #[inline(never)]
    pub(in crate::mm) fn nominate(&mut self) {
        if self.state.nominated || self.state.role == Role::Snapshot {
            return;
        }
        self.state.nominated = true;
        let mm = self.mm;
        mm.background.candidates.nominate(self.handle, self.record());
        // While the worker waits for memory, one more candidate that needs a block changes nothing.
        if mm.policy.khugepaged() && (self.state.home.is_some() || !mm.frames.is_wanting()) {
            mm.frames.signal().raise();
        }
    }
}
