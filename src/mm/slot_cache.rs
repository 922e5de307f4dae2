//! Slot records made ready: a first touch takes one from its core's cache and waits for nobody.
#![forbid(unsafe_code)]

use super::slab::{FrameSource, Handle, Slab};
use super::slot::Slot;
use crate::sync::{Rank, Ranked};
use arrayvec::ArrayVec;

/// Caches; cores beyond share them.
const CACHES: usize = 8;
/// Records in a cache at most.
const CAPACITY: usize = 16;
/// Records that one visit to the slab brings. A cache with fewer is filled up, if the slab is free at that moment.
const BATCH: usize = CAPACITY / 2;

/// A cache, on cache lines of its own.
#[repr(align(64))]
struct Cache(Ranked<ArrayVec<Handle<Slot>, CAPACITY>>);

/// The caches of all cores. No other lock is taken while one is locked, and none is waited for.
pub(super) struct SlotCaches([Cache; CACHES]);

impl SlotCaches {
    pub(super) fn new() -> Self {
        SlotCaches(core::array::from_fn(|_| Cache(Ranked::new(Rank::Cache, ArrayVec::new()))))
    }

    fn mine(&self) -> &Ranked<ArrayVec<Handle<Slot>, CAPACITY>> {
        &self.0[crate::sync::core() % CACHES].0
    }

    /// A record of `slots`; `None` when a frame is needed and `source` has none.
    pub(super) fn take(&self, slots: &Slab<Slot>, source: &dyn FrameSource) -> Option<Handle<Slot>> {
        let cached = self.mine().try_lock().and_then(|mut cache| Some((cache.pop()?, cache.len())));
        let mut more = ArrayVec::<_, BATCH>::new();
        match cached {
            Some((handle, BATCH..)) => return Some(handle),
            Some(_) => slots.try_allocate_into(source, &mut more),
            None => slots.allocate_into(source, &mut more),
        }
        let taken = cached.map(|(handle, _)| handle).or_else(|| more.pop());
        self.keep(slots, &more);
        taken
    }

    /// Keeps records that nobody knows for later first touches; frees those that there is no room for.
    pub(super) fn keep(&self, slots: &Slab<Slot>, records: &[Handle<Slot>]) {
        let kept = self.mine().try_lock().map_or(0, |mut cache| {
            let room = records.len().min(cache.remaining_capacity());
            cache.extend(records[..room].iter().copied());
            room
        });
        records[kept..].iter().for_each(|&record| slots.free(record));
    }
}
