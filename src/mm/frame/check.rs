//! Verification of every invariant, from the records alone.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, GROUP_ORDER, PAGES_PER_SLOT};
use super::cache::{Cache, FrameList};
use super::entry::FrameState;
use super::free_set::{BLOCK_ORDER, RunCounts};
use super::home::{NOT_DEFERRED, NOTED, QUEUED};
use super::list::List;
use super::pool::{MAX_ORDER, Pool};
use super::statistics::{CacheCounts, FrameStatistics};
use super::table::{BlockState, Holder, ISOLATED, Table};
use super::{Class, Frames};
use crate::sync::Guard;
use core::sync::atomic::Ordering;

/// One verification, with all locks held.
pub(super) struct Check<'a> {
    frames: &'a Frames,
    table: Table,
    caches: &'a [Guard<'a, Cache>],
    pool: &'a Pool,
    /// What the pool's own statistics must be.
    found: FrameStatistics,
    /// Frames whose entries say that they are in a cache, by class, and blocks by holder.
    cached: [usize; 2],
    held: [usize; 4],
    homes: usize,
    absent: usize,
    /// Homes that say that they are noted in a cache.
    noted: usize,
}

impl<'a> Check<'a> {
    pub(super) fn new(frames: &'a Frames, caches: &'a [Guard<'a, Cache>], pool: &'a Pool) -> Self {
        Check {
            frames,
            table: frames.table,
            caches,
            pool,
            found: FrameStatistics::default(),
            cached: [0; 2],
            held: [0; 4],
            homes: 0,
            absent: 0,
            noted: 0,
        }
    }

    /// Panics where an invariant does not hold.
    pub(super) fn all(mut self) {
        // What the blocks say must be in lists, by list; compared with what is.
        let (mut runs, mut broken) = ([0; 10], [[0; 9]; 2]);
        for block in self.table.blocks() {
            self.check_home(block);
            match self.pool.records.record(block).map(|record| &record.state) {
                None | Some(BlockState::Reserved) => self.check_holder(block, false),
                Some(BlockState::Free { run }) => {
                    self.check_holder(block, false);
                    self.check_whole_entries(block, false);
                    self.found.free += PAGES_PER_SLOT;
                    if let Some(order) = *run {
                        runs[(order - BLOCK_ORDER) as usize] += 1;
                        self.found.free_runs[order as usize] += 1;
                        self.check_run(block, order);
                    }
                }
                Some(BlockState::Whole) => {
                    self.check_holder(block, true);
                    self.check_whole_entries(block, true);
                    self.found.whole += PAGES_PER_SLOT;
                }
                Some(BlockState::Broken { class, free, listed }) => {
                    self.check_holder(block, false);
                    free.check(&mut self.found.free_runs);
                    if *listed == Some(ISOLATED) {
                        assert_eq!(*class, Class::Movable, "FR-4: {block:?} is isolated");
                    } else {
                        assert_eq!(*listed, free.largest(), "FR-4: {block:?} is in the wrong list");
                        assert_ne!(*listed, Some(BLOCK_ORDER), "FR-4: {block:?} is free and still broken");
                        if let Some(order) = *listed {
                            broken[*class as usize][order as usize] += 1;
                        }
                    }
                    self.found.free += free.count();
                    self.check_entries(block, |index| free.is_free(index));
                }
            }
        }
        self.check_lists(&runs, &broken);
        self.check_caches();
        self.check_counts();
    }

    /// The lists of the pool hold what belongs in them.
    fn check_lists(&mut self, runs: &[usize; 10], broken: &[[usize; 9]; 2]) {
        for (index, list) in self.pool.runs.lists().iter().enumerate() {
            self.check_list(
                list,
                runs[index],
                |_, state| matches!(state, BlockState::Free { run: Some(order) } if *order == BLOCK_ORDER + index as u32),
            );
            assert_eq!(self.pool.runs.occupied() >> index & 1 != 0, runs[index] > 0, "FR-2: occupied runs");
        }
        for wanted in [Class::Movable, Class::Unmovable] {
            let lists = &self.pool.broken[wanted as usize];
            for (index, list) in lists.lists().iter().enumerate() {
                let expected = broken[wanted as usize][index];
                self.check_list(list, expected, |_, state| {
                    matches!(state, BlockState::Broken { class, listed: Some(order), .. }
                        if *class == wanted && *order == index as u32)
                });
                assert_eq!(lists.occupied() >> index & 1 != 0, expected > 0, "FR-4: occupied lists");
            }
        }
        let deferred = self.found.deferred;
        self.check_list(&self.pool.deferred, deferred, |block, _| {
            self.table.known(block).1.deferred.load(Ordering::Relaxed) == QUEUED
        });
    }

    /// A home is in use as a whole, and says truly whether it is deferred.
    fn check_home(&mut self, block: Block) {
        let (_, shared) = self.table.known(block);
        let deferred = shared.deferred.load(Ordering::Relaxed);
        if shared.home().is_none() {
            return assert_eq!(deferred, NOT_DEFERRED, "FR-8: {block:?} is no home, and deferred");
        }
        assert!(shared.is_with(Holder::User), "FR-10: {block:?} is a home that nobody has");
        let absent = shared.absent.load(Ordering::Relaxed) as usize;
        assert!(absent > 0 || deferred == NOT_DEFERRED, "FR-8: {block:?} is deferred without absent frames");
        self.homes += 1;
        self.absent += absent;
        match deferred {
            NOT_DEFERRED => {}
            QUEUED => self.found.deferred += 1,
            noted => {
                self.noted += 1;
                let by = self.caches[(noted - NOTED) as usize].deferred.iter();
                let times = by.filter(|&&other| u64::from(other) == block.0).count();
                assert_eq!(times, 1, "FR-8: {block:?} is noted by another cache than it says");
            }
        }
    }

    /// Exactly the blocks that are out of the pool as a whole are held by somebody else.
    fn check_holder(&mut self, block: Block, out: bool) {
        let (_, shared) = self.table.known(block);
        let holders = [Holder::Pool, Holder::User, Holder::Cache, Holder::Zeroed];
        let holder = holders.into_iter().find(|&holder| shared.is_with(holder));
        let holder = holder.unwrap_or_else(|| panic!("FR-10: {block:?} is with nobody"));
        assert_eq!(holder != Holder::Pool, out, "FR-10: {block:?} is {shared}");
        self.held[holder as usize] += 1;
    }

    /// Entries of a block that is not broken say that the frames are free, and `may` be pinned.
    fn check_whole_entries(&mut self, block: Block, may: bool) {
        let (_, shared) = self.table.known(block);
        let pinned = self.table.entries(block).map_or(0, |entries| {
            assert!(entries.iter().all(|entry| entry.state() == FrameState::Free), "FR-6: entries of {block:?}");
            entries.iter().filter(|entry| entry.pins() > 0).count()
        });
        assert_eq!(pinned, shared.pinned.load(Ordering::Relaxed) as usize, "FR-7: pinned frames of {block:?}");
        assert!(pinned == 0 || may && shared.is_with(Holder::User), "FR-7: {block:?} is free and pinned");
    }

    /// Entries and pins of the frames of a broken block; adds the frames to what is found.
    fn check_entries(&mut self, block: Block, is_free: impl Fn(usize) -> bool) {
        let entries = self.table.entries(block).unwrap_or_else(|| panic!("FR-6: {block:?} has no entries"));
        let mut pinned = 0;
        for (index, entry) in entries.iter().enumerate() {
            let (frame, state, pins) = (block.frame(index), entry.state(), entry.pins());
            assert_eq!(state == FrameState::Free, is_free(index), "FR-6: {frame:?} is {state:?}");
            pinned += (pins > 0) as usize;
            match state {
                FrameState::InUse(class) => *self.found.in_use(class) += 1,
                FrameState::Cached(class) => {
                    *self.found.in_use(class) += 1;
                    self.cached[class as usize] += 1;
                    assert_eq!(pins, 0, "FR-7: {frame:?} is in a cache and pinned");
                }
                FrameState::Orphan => {
                    self.found.orphans += 1;
                    assert!(pins > 0, "FR-7: orphan {frame:?} without a pin");
                }
                FrameState::Free | FrameState::Reserved => {
                    assert_eq!(pins, 0, "FR-7: {frame:?} is {state:?} and pinned")
                }
            }
        }
        let counted = self.table.known(block).1.pinned.load(Ordering::Relaxed);
        assert_eq!(pinned, counted as usize, "FR-7: pinned frames of {block:?}");
    }

    /// A free run is aligned, is free throughout, and its buddy is not free as well.
    fn check_run(&self, block: Block, order: u32) {
        let state = |block| self.pool.records.record(block).map(|record| &record.state);
        let blocks = 1 << (order - BLOCK_ORDER);
        assert!(order <= MAX_ORDER && block.0.is_multiple_of(blocks), "FR-2: run of order {order} at {block:?}");
        for inner in block.0 + 1..block.0 + blocks {
            assert!(matches!(state(Block(inner)), Some(BlockState::Free { run: None })), "FR-2: {:?}", Block(inner));
        }
        let free =
            matches!(state(Block(block.0 ^ blocks)), Some(BlockState::Free { run: Some(other) }) if *other == order);
        assert!(!free || order == MAX_ORDER, "FR-3: {block:?} and its buddy are both free, of order {order}");
    }

    /// What the caches and the zeroed blocks' stack hold says so, and nothing else does.
    fn check_caches(&self) {
        let (mut cached, mut blocks, mut noted) = ([0; 2], 0, 0);
        for cache in self.caches {
            for class in [Class::Movable, Class::Unmovable] {
                cached[class as usize] += self.check_cached(&cache.frames[class as usize], 0, class);
            }
            cached[Class::Movable as usize] += self.check_cached(&cache.groups, GROUP_ORDER, Class::Movable);
            let listed = cache.blocks.iter(self.table).take(cache.blocks.count as usize + 1);
            let with = listed.filter(|&block| self.table.known(block).1.is_with(Holder::Cache)).count();
            assert_eq!(with, cache.blocks.count as usize, "FR-10: blocks in a cache");
            blocks += with;
            noted += cache.deferred.len();
        }
        assert_eq!(cached, self.cached, "FR-9: frames that say they are in a cache");
        assert_eq!(blocks, self.held[Holder::Cache as usize], "FR-10: blocks that say they are in a cache");
        assert_eq!(noted, self.noted, "FR-8: homes that say they are noted in a cache");
        let zeroed = self.frames.zeroed.iter(self.table).take(self.frames.zeroed() + 1);
        let with = zeroed.filter(|&block| self.table.known(block).1.is_with(Holder::Zeroed)).count();
        assert_eq!(with, self.frames.zeroed(), "FR-10: zeroed blocks, counted");
        assert_eq!(with, self.held[Holder::Zeroed as usize], "FR-10: blocks that say they are zeroed");
    }

    /// Every frame in a list of a cache says that it is there. Returns how many there are.
    fn check_cached(&self, list: &FrameList, order: u32, class: Class) -> usize {
        let listed = list.iter(self.table).take(list.count as usize + 1);
        let runs = listed.inspect(|&frame: &Frame| {
            assert!(frame.0.is_multiple_of(1 << order), "FR-9: {frame:?} of order {order} in a cache");
            let entries = &self.table.known_entries(frame)[frame.index()..][..1 << order];
            let cached = entries.iter().all(|entry| entry.is(FrameState::Cached(class)));
            assert!(cached, "FR-9: {frame:?} is in a cache, and not all of it says so");
        });
        assert_eq!(runs.count(), list.count as usize, "FR-9: frames of order {order} in a cache");
        (list.count as usize) << order
    }

    fn check_counts(&self) {
        let (mut homes, mut pinned) = (0, 0);
        for section in self.table.sections() {
            let blocks = || section.blocks().map(|block| self.table.known(Block(block)).1);
            let is_home = blocks().filter(|shared| shared.home().is_some());
            let counted = is_home.clone().count();
            let absent: u32 = is_home.map(|shared| u32::from(shared.absent.load(Ordering::Relaxed))).sum();
            assert_eq!(counted, section.homes.load(Ordering::Relaxed) as usize, "FR-1: homes of a section");
            assert_eq!(absent, section.absent.load(Ordering::Relaxed), "FR-1: absent frames of a section");
            homes += counted;
            let of_blocks: u32 = blocks().map(|shared| u32::from(shared.pinned.load(Ordering::Relaxed))).sum();
            assert_eq!(of_blocks, section.pinned.load(Ordering::Relaxed), "FR-7: pinned frames of a section");
            pinned += of_blocks as usize;
        }
        assert_eq!(homes, self.homes, "FR-1: homes");
        let statistics = self.pool.statistics;
        let FrameStatistics { total, metadata, movable_spills, unmovable_spills, .. } = statistics;
        let found = FrameStatistics { total, metadata, movable_spills, unmovable_spills, ..self.found };
        assert_eq!(found, statistics, "FR-1: found, and counted");
        assert_eq!(frames_in(&found.free_runs), found.free, "FR-1: free runs do not add up");
        let mut counts = CacheCounts::default();
        self.caches.iter().for_each(|cache| counts.add(cache));
        let all = self.frames.complete(&counts, self.pool);
        assert_eq!(all.sum(), total, "FR-1: the counts do not add up");
        assert_eq!(all.pinned, pinned, "FR-1: pinned");
        let cached: usize = self.caches.iter().map(|cache| cache.count()).sum();
        let expected = (cached, self.absent, self.held[Holder::User as usize] - self.homes);
        assert_eq!((all.cached, all.absent, all.whole / PAGES_PER_SLOT), expected, "FR-1: cached, absent, whole");
    }

    /// A list holds `expected` blocks, linked both ways, all of the state that puts them there.
    fn check_list(&self, list: &List, expected: usize, belongs: impl Fn(Block, &BlockState) -> bool) {
        let (mut at, mut previous, mut length) = (list.first(), None, 0);
        while let Some(block) = at {
            let record =
                self.pool.records.record(block).unwrap_or_else(|| panic!("FR-2: {block:?} in a list is not RAM"));
            assert!(belongs(block, &record.state), "FR-4: {block:?} is in a list and is {}", record.state);
            assert_eq!(list.previous(record), previous, "FR-4: {block:?} is linked wrongly");
            length += 1;
            assert!(length <= expected, "FR-4: a list is longer than the {expected} blocks that belong in it");
            (previous, at) = (at, list.next(record));
        }
        assert_eq!(list.last(), previous, "FR-4: the end of a list");
        assert_eq!(length, expected, "FR-4: blocks are missing from their list");
    }
}

fn frames_in(runs: &RunCounts) -> usize {
    runs.iter().enumerate().map(|(order, &count)| (count as usize) << order).sum()
}
