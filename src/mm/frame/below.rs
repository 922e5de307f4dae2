//! Frames for devices with short addresses.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PhysAddr};
use super::free_set::{BLOCK_ORDER, FreeSet};
use super::pool::{Pool, Spill};
use super::table::{BlockState, ISOLATED};
use super::{Class, Frames};

impl Frames {
    /// Takes a frame that ends at `limit` or below, unowned and unpinned. Looks at the records of all blocks below the limit, one
    /// after another: for what is done rarely.
    pub fn allocate_below(&self, limit: PhysAddr, class: Class) -> Option<Frame> {
        if self.fails() || self.scarcity.lacks(0) {
            return None;
        }
        let end = limit.frame().0;
        let found = self.pool.lock().allocate_below(end, class, Spill::Never);
        if found.is_some() {
            return found;
        }
        self.with_drained_caches(|pool| {
            let mut found = pool.allocate_below(end, class, Spill::Never);
            while found.is_none()
                && let Some(block) = self.zeroed.pop(self.table)
            {
                pool.take_back_block(block);
                if block.frame(0).0 < end {
                    found = pool.allocate_below(end, class, Spill::Never);
                }
            }
            found.or_else(|| pool.allocate_below(end, class, Spill::Allowed))
        })
    }
}

impl Pool {
    /// Takes a frame before frame number `end`: from a broken block of its class; or from a free one, broken for it, of the
    /// smallest run that begins there; or, if it may spill, from a broken block of the other class.
    fn allocate_below(&mut self, end: u64, class: Class, spill: Spill) -> Option<Frame> {
        let has = |block: Block, free: &FreeSet| free.lowest().is_some_and(|index| block.frame(index).0 < end);
        let (mut own, mut run, mut other) = (None, None::<(u32, Block)>, None);
        for block in self.table().blocks().take_while(|block| block.frame(0).0 < end) {
            match &self.records.record(block)?.state {
                BlockState::Broken { class: of, free, listed: Some(order) }
                    if *order != ISOLATED && has(block, free) =>
                {
                    if *of == class {
                        own = Some(block);
                        break;
                    }
                    other = other.or(Some(block));
                }
                BlockState::Free { run: Some(order) } if run.is_none_or(|(best, _)| *order < best) => {
                    run = Some((*order, block));
                }
                _ => {}
            }
        }
        if own.is_none()
            && let Some((order, block)) = run
        {
            self.split_run(block, order, BLOCK_ORDER);
            self.break_block(block, class);
            own = Some(block);
        }
        if own.is_none() && spill == Spill::Allowed && other.is_some() {
            self.count_spill(class, 1);
            own = other;
        }
        Some(self.take_lowest(own?, class))
    }

    /// Takes the first free frame of a broken block that has one.
    fn take_lowest(&mut self, block: Block, class: Class) -> Frame {
        let entries = self.records.write_entries(block);
        let record = self.records.known(block);
        let BlockState::Broken { free, listed, .. } = &mut record.state else {
            panic!("FR-4: {block:?} is taken from as a broken block, and is {}", record.state)
        };
        let index = free.take_lowest(&mut self.statistics.free_runs).expect("a frame of it is free");
        let (before, now) = (*listed, free.largest());
        if now != before {
            self.relist(block, before, now);
        }
        self.statistics.free -= 1;
        *self.statistics.in_use(class) += 1;
        entries[index].allocate(class);
        block.frame(index)
    }
}
