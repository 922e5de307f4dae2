//! Verification of every invariant, from the records alone.
#![forbid(unsafe_code)]

use super::super::address::{Block, PAGES_PER_SLOT};
use super::Class;
use super::free_set::{BLOCK_ORDER, RunCounts};
use super::list::List;
use super::pool::{MAX_ORDER, Pool};
use super::statistics::FrameStatistics;
use super::table::{BlockState, FrameState};

impl Pool {
    /// Panics where an invariant does not hold.
    pub(super) fn check(&self) {
        let mut found = FrameStatistics::default();
        // What the blocks say must be in lists, by list; compared with what is.
        let (mut runs, mut broken, mut deferred) = ([0; 10], [[0; 9]; 2], 0);
        for block in self.table.blocks() {
            match self.table.record(block).map(|record| &record.state) {
                None | Some(BlockState::Reserved) => {}
                Some(BlockState::Free { run }) => {
                    found.free += PAGES_PER_SLOT;
                    if let Some(order) = *run {
                        runs[(order - BLOCK_ORDER) as usize] += 1;
                        found.free_runs[order as usize] += 1;
                        self.check_run(block, order);
                    }
                }
                Some(BlockState::Whole { owner, absent, deferred: queued, .. }) => {
                    self.check_pins(block, &mut found);
                    match owner {
                        None => {
                            found.whole += PAGES_PER_SLOT;
                            assert!(*absent == 0 && !queued, "FR-8: {block:?} is no home");
                        }
                        Some(_) => {
                            found.homes += 1;
                            found.absent += *absent as usize;
                            found.home += PAGES_PER_SLOT - *absent as usize;
                            assert!(*absent > 0 || !queued, "FR-8: {block:?} is deferred without absent frames");
                            deferred += *queued as usize;
                        }
                    }
                }
                Some(BlockState::Broken { class, free, listed }) => {
                    free.check(&mut found.free_runs);
                    assert_eq!(*listed, free.largest(), "FR-4: {block:?} is in the wrong list");
                    assert_ne!(*listed, Some(BLOCK_ORDER), "FR-4: {block:?} is free and still broken");
                    if let Some(order) = *listed {
                        broken[*class as usize][order as usize] += 1;
                    }
                    found.free += free.count();
                    self.check_pins(block, &mut found);
                }
            }
        }
        for (index, list) in self.runs.lists().iter().enumerate() {
            self.check_list(
                list,
                runs[index],
                |state| matches!(state, BlockState::Free { run: Some(order) } if *order == BLOCK_ORDER + index as u32),
            );
            assert_eq!(self.runs.occupied() >> index & 1 != 0, runs[index] > 0, "FR-2: occupied runs");
        }
        for wanted in [Class::Movable, Class::Unmovable] {
            let lists = &self.broken[wanted as usize];
            for (index, list) in lists.lists().iter().enumerate() {
                let expected = broken[wanted as usize][index];
                self.check_list(list, expected, |state| {
                    matches!(state, BlockState::Broken { class, listed: Some(order), .. }
                        if *class == wanted && *order == index as u32)
                });
                assert_eq!(lists.occupied() >> index & 1 != 0, expected > 0, "FR-4: occupied lists");
            }
        }
        self.check_list(&self.deferred, deferred, |state| matches!(state, BlockState::Whole { deferred: true, .. }));
        found.deferred = deferred;
        for section in self.table.sections() {
            let homes = section.blocks().filter(|&block| self.home_owner(Block(block)).is_some()).count();
            assert_eq!(homes, section.homes as usize, "FR-1: homes of a section");
        }
        let FrameStatistics { total, metadata, movable_spills, unmovable_spills, .. } = self.statistics;
        let found = FrameStatistics { total, metadata, movable_spills, unmovable_spills, ..found };
        assert_eq!(found, self.statistics, "FR-1: found, and counted");
        assert_eq!(found.sum(), total, "FR-1: the counts do not add up");
        assert_eq!(frames_in(&found.free_runs), found.free, "FR-1: free runs do not add up");
    }

    /// A free run is aligned, is free throughout, and its buddy is not free as well.
    fn check_run(&self, block: Block, order: u32) {
        let blocks = 1 << (order - BLOCK_ORDER);
        assert!(order <= MAX_ORDER && block.0.is_multiple_of(blocks), "FR-2: run of order {order} at {block:?}");
        for inner in block.0 + 1..block.0 + blocks {
            let state = self.table.record(Block(inner)).map(|record| &record.state);
            assert!(matches!(state, Some(BlockState::Free { run: None })), "FR-2: {:?}", Block(inner));
        }
        let buddy = self.table.record(Block(block.0 ^ blocks)).map(|record| &record.state);
        let free = matches!(buddy, Some(BlockState::Free { run: Some(other) }) if *other == order);
        assert!(!free || order == MAX_ORDER, "FR-3: {block:?} and its buddy are both free, of order {order}");
    }

    /// Entries and pins of the frames of a block in use; adds the frames of a broken one to `found`.
    fn check_pins(&self, block: Block, found: &mut FrameStatistics) {
        let Some(record) = self.table.record(block) else { return };
        let mut pinned = 0;
        for index in 0..PAGES_PER_SLOT {
            let frame = block.frame(index);
            pinned += (self.pins(frame) > 0) as usize;
            match &record.state {
                BlockState::Whole { pinned, .. } => {
                    assert_eq!(pinned.get(index), self.pins(frame) > 0, "FR-7: {frame:?} pinned without a pin");
                }
                BlockState::Broken { free, .. } if !free.is_free(index) => {
                    match self.table.entry(frame).map(|entry| entry.state()) {
                        Some(FrameState::InUse(class)) => *found.in_use(class) += 1,
                        Some(FrameState::Orphan) => {
                            found.orphans += 1;
                            assert!(self.pins(frame) > 0, "FR-7: orphan {frame:?} without a pin");
                        }
                        Some(FrameState::Reserved) => {}
                        None => panic!("FR-6: {frame:?} has no entry"),
                    }
                }
                _ => {}
            }
        }
        assert_eq!(pinned, record.pinned as usize, "FR-7: pinned frames of {block:?}");
    }

    /// A list holds `expected` blocks, linked both ways, all of the state that puts them there.
    fn check_list(&self, list: &List, expected: usize, belongs: impl Fn(&BlockState) -> bool) {
        let (mut at, mut previous, mut length) = (list.first(), None, 0);
        while let Some(block) = at {
            let record = self.table.record(block).unwrap_or_else(|| panic!("FR-2: {block:?} in a list is not RAM"));
            assert!(belongs(&record.state), "FR-4: {block:?} is in a list and is {}", record.state);
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
