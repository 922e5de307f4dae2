//! The pool, a buddy allocator: free runs of blocks above 2 MiB, free sets of broken blocks below.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PAGE_SIZE, PAGES_PER_SLOT};
use super::Class;
use super::entry::{FrameEntry, FrameState};
use super::free_set::{BLOCK_ORDER, FreeSet, MAX_FRAME_ORDER};
use super::list::{Chain, List, Lists};
use super::memory_map::MemoryMap;
use super::statistics::FrameStatistics;
use super::table::{BlockState, Holder, Records, Table};
use core::ops::Range;

/// Order of the largest free run: 1 GiB.
pub(super) const MAX_ORDER: u32 = 18;

/// Whether an allocation may take from a block of the other class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spill {
    Never,
    Allowed,
}

/// What the lock of [`Frames`](super::Frames) guards. In its statistics, frames and blocks in caches, zeroed blocks and
/// homes count as in use: the pool does not have them.
pub(super) struct Pool {
    pub(super) records: Records,
    /// Free runs of blocks, by order less [`BLOCK_ORDER`].
    pub(super) runs: Lists<10>,
    /// Broken blocks with free frames, by class and largest free order.
    pub(super) broken: [Lists<9>; 2],
    /// Homes with released frames, the oldest in front.
    pub(super) deferred: List,
    pub(super) statistics: FrameStatistics,
    #[cfg(feature = "sim")]
    pub(super) sim: super::sim::Hooks,
}

impl Pool {
    /// All RAM of `map` free, less what `records` was carved from; `total` frames in all.
    pub(super) fn new(records: Records, map: &MemoryMap, total: usize) -> Pool {
        let mut pool = Pool {
            records,
            runs: Lists::new(),
            broken: [Lists::new(), Lists::new()],
            deferred: List::new(Chain::Age),
            statistics: FrameStatistics::default(),
            #[cfg(feature = "sim")]
            sim: Default::default(),
        };
        for range in map.iter() {
            pool.add(range.start.frame().0..range.end.frame().0);
        }
        let free = (map.total() / PAGE_SIZE as u64) as usize;
        pool.statistics.total = total;
        pool.statistics.free = free;
        pool.statistics.metadata = total - free;
        pool
    }

    /// What can be reached without the lock, too.
    #[inline]
    pub(super) fn table(&self) -> Table {
        self.records.table
    }

    /// Makes reserved frames free. Blocks that are only in part ours are set aside for unmovable frames: they can
    /// never be a block of the application's.
    fn add(&mut self, frames: Range<u64>) {
        let per_block = PAGES_PER_SLOT as u64;
        let whole = frames.start.div_ceil(per_block)..frames.end / per_block;
        if whole.start > whole.end {
            return self.add_part(Frame(frames.start).block(), frames);
        }
        if frames.start < whole.start * per_block {
            self.add_part(Block(whole.start - 1), frames.start..whole.start * per_block);
        }
        if whole.end * per_block < frames.end {
            self.add_part(Block(whole.end), whole.end * per_block..frames.end);
        }
        self.records.set_free(whole.clone());
        // From the top, so that the lists start at the lowest addresses.
        let mut end = whole.end;
        while whole.start < end {
            let fits = (end - whole.start).ilog2().min(end.trailing_zeros()).min(MAX_ORDER - BLOCK_ORDER);
            end -= 1 << fits;
            self.push_run(Block(end), BLOCK_ORDER + fits);
        }
    }

    /// Makes some frames of `block` free that are not, and never were.
    fn add_part(&mut self, block: Block, frames: Range<u64>) {
        let entries = self.records.write_entries(block);
        let record = self.records.known(block);
        let listed = match record.state {
            BlockState::Broken { listed, .. } => listed,
            _ => {
                entries.iter().for_each(|entry| entry.set(FrameState::Reserved));
                record.state = BlockState::Broken { class: Class::Unmovable, free: FreeSet::EMPTY, listed: None };
                None
            }
        };
        if let BlockState::Broken { free, .. } = &mut record.state {
            let first = Frame(frames.start).index();
            let range = first..first + (frames.end - frames.start) as usize;
            entries[range.clone()].iter().for_each(|entry| entry.set(FrameState::Free));
            free.give_range(range, &mut self.statistics.free_runs);
            let now = free.largest();
            self.relist(block, listed, now);
        }
    }

    /// Makes frames free that boot held back. They join the free runs next to them.
    pub(super) fn admit(&mut self, frames: Range<u64>) {
        let mut next = frames.start;
        while next < frames.end {
            let block = Frame(next).block();
            let end = frames.end.min(block.frame(0).0 + PAGES_PER_SLOT as u64);
            let count = (end - next) as usize;
            self.assert_reserved(block, Frame(next).index(), count);
            if count == PAGES_PER_SLOT {
                self.give_block(block);
            } else {
                self.add_part(block, next..end);
            }
            self.statistics.total += count;
            self.statistics.free += count;
            self.freed(Frame(next), count);
            next = end;
        }
    }

    fn assert_reserved(&mut self, block: Block, index: usize, count: usize) {
        let reserved = match &self.records.known(block).state {
            BlockState::Reserved => true,
            BlockState::Broken { .. } => {
                let held = |entry: &FrameEntry| entry.is(FrameState::Reserved);
                self.table().entries(block).is_some_and(|entries| entries[index..index + count].iter().all(held))
            }
            BlockState::Free { .. } | BlockState::Whole => false,
        };
        assert!(reserved, "{:?} and {count} frames from there on were not held back", block.frame(index));
    }

    /// Takes a run of one block off the smallest run there is.
    #[inline]
    pub(super) fn take_block(&mut self) -> Option<Block> {
        let (block, index) = self.runs.first_from(0)?;
        self.split_run(block, BLOCK_ORDER + index, BLOCK_ORDER);
        Some(block)
    }

    /// Takes the first 2^`wanted` frames of the free run of 2^`order` at `block`; what is left are runs again.
    pub(super) fn split_run(&mut self, block: Block, order: u32, wanted: u32) {
        self.remove_run(block, order);
        for order in (wanted..order).rev() {
            self.push_run(Block(block.0 + (1 << (order - BLOCK_ORDER))), order);
        }
    }

    /// Makes `block`, in use until now, a free one, and one run with its buddies.
    pub(super) fn give_block(&mut self, block: Block) {
        let record = self.records.known(block);
        record.state = BlockState::Free { run: None };
        let (mut start, mut order) = (block.0, BLOCK_ORDER);
        while order < MAX_ORDER {
            let buddy = Block(start ^ (1 << (order - BLOCK_ORDER)));
            let state = self.records.record(buddy).map(|record| &record.state);
            if !matches!(state, Some(BlockState::Free { run: Some(run) }) if *run == order) {
                break;
            }
            self.remove_run(buddy, order);
            start &= !(1 << (order - BLOCK_ORDER));
            order += 1;
        }
        self.push_run(Block(start), order);
    }

    fn push_run(&mut self, block: Block, order: u32) {
        let record = self.records.known(block);
        record.state = BlockState::Free { run: Some(order) };
        self.runs.push(&mut self.records, order - BLOCK_ORDER, block);
        self.statistics.free_runs[order as usize] += 1;
    }

    fn remove_run(&mut self, block: Block, order: u32) {
        self.runs.remove(&mut self.records, order - BLOCK_ORDER, block);
        let record = self.records.known(block);
        record.state = BlockState::Free { run: None };
        self.statistics.free_runs[order as usize] -= 1;
    }

    /// Takes a block, in use as a whole from now on.
    pub(super) fn allocate_block(&mut self) -> Option<Block> {
        let block = self.take_block()?;
        self.hand_out(block, Holder::User);
        Some(block)
    }

    /// Takes up to `most` blocks for a cache, all from the smallest run there is.
    pub(super) fn take_blocks(&mut self, most: u32) -> Range<u64> {
        let Some((block, index)) = self.runs.first_from(0) else { return 0..0 };
        let order = index.min(most.ilog2());
        self.split_run(block, BLOCK_ORDER + index, BLOCK_ORDER + order);
        let blocks = block.0..block.0 + (1 << order);
        blocks.clone().for_each(|block| self.hand_out(Block(block), Holder::Cache));
        blocks
    }

    fn hand_out(&mut self, block: Block, holder: Holder) {
        self.records.known(block).state = BlockState::Whole;
        self.table().known(block).1.set_holder(holder);
        self.statistics.free -= PAGES_PER_SLOT;
        self.statistics.whole += PAGES_PER_SLOT;
    }

    /// Takes back a block that was out as a whole, has no pinned frame, and is in no list. Nobody is told.
    pub(super) fn take_back_block(&mut self, block: Block) {
        debug_assert!(matches!(self.records.known(block).state, BlockState::Whole), "{block:?} was not out");
        self.table().known(block).1.set_holder(Holder::Pool);
        self.statistics.whole -= PAGES_PER_SLOT;
        self.statistics.free += PAGES_PER_SLOT;
        self.give_block(block);
    }

    /// Breaks a free block for frames of `class`. It is in no list until something was taken from it.
    fn break_free_block(&mut self, class: Class) -> Option<Block> {
        let block = self.take_block()?;
        self.break_block(block, class);
        Some(block)
    }

    /// Breaks a block that was just taken out of the free runs, as [`Pool::break_free_block`].
    #[inline]
    pub(super) fn break_block(&mut self, block: Block, class: Class) {
        self.records.write_entries(block);
        self.statistics.free_runs[BLOCK_ORDER as usize] += 1;
        self.records.known(block).state = BlockState::Broken { class, free: FreeSet::FULL, listed: None };
    }

    /// Counts frames taken from a block of the other class.
    pub(super) fn count_spill(&mut self, class: Class, count: u64) {
        match class {
            Class::Movable => self.statistics.movable_spills += count,
            Class::Unmovable => self.statistics.unmovable_spills += count,
        }
    }

    /// A block to take 2^`order` frames for `class` from: a broken one of its class, the fullest first; or a free one,
    /// broken for it; or, if the frames may spill, a broken one of the other class.
    #[inline]
    fn choose(&mut self, order: u32, class: Class, spill: Spill) -> Option<Block> {
        if let Some((block, _)) = self.broken[class as usize].first_from(order) {
            return Some(block);
        }
        if let Some(block) = self.break_free_block(class) {
            return Some(block);
        }
        if spill == Spill::Never {
            return None;
        }
        let (block, _) = self.broken[class.other() as usize].first_from(order)?;
        self.count_spill(class, 1 << order);
        Some(block)
    }

    /// Takes an aligned run of 2^`order` frames.
    #[inline]
    pub(super) fn allocate(&mut self, order: u32, class: Class, spill: Spill) -> Option<Frame> {
        let block = self.choose(order, class, spill)?;
        Some(self.take_one(block, order, class))
    }

    /// Takes an aligned run of 2^`order` frames from a broken block that has one.
    #[inline]
    pub(super) fn take_one(&mut self, block: Block, order: u32, class: Class) -> Frame {
        let mut taken = block.frame(0);
        self.take_from(block, order, class, 1, |frame, entries| {
            entries.iter().for_each(|entry| entry.allocate(class));
            taken = frame;
        });
        taken
    }

    /// Takes up to `count` runs of 2^`order` frames of `class`, without spilling, and calls `put` with each and its
    /// entries. A free block is broken for the first one at most, and only if it `may_break` one.
    pub(super) fn take_runs(
        &mut self,
        order: u32,
        class: Class,
        count: u32,
        may_break: bool,
        mut put: impl FnMut(Frame, &'static [FrameEntry]),
    ) {
        let mut left = count;
        while left > 0 {
            let block = match self.broken[class as usize].first_from(order) {
                Some((block, _)) => block,
                None if may_break && left == count => match self.break_free_block(class) {
                    Some(block) => block,
                    None => return,
                },
                None => return,
            };
            left -= self.take_from(block, order, class, left, &mut put);
        }
    }

    /// Takes up to `count` runs from one broken block that has one; returns how many.
    #[inline]
    fn take_from(
        &mut self,
        block: Block,
        order: u32,
        class: Class,
        count: u32,
        mut put: impl FnMut(Frame, &'static [FrameEntry]),
    ) -> u32 {
        let entries = self.records.write_entries(block);
        let record = self.records.known(block);
        let BlockState::Broken { free, listed, .. } = &mut record.state else {
            panic!("FR-4: {block:?} is in a list of broken blocks and is {}", record.state)
        };
        let before = *listed;
        let (mut taken, mut largest_gone) = (0, before.is_none());
        if order == 0 && count > 1 {
            while taken < count
                && let Some((first, mut frames)) = free.take_some(count - taken, &mut self.statistics.free_runs)
            {
                taken += frames.count_ones();
                while frames != 0 {
                    let index = first + frames.trailing_zeros() as usize;
                    put(block.frame(index), &entries[index..index + 1]);
                    frames &= frames - 1;
                }
            }
            largest_gone = true;
        } else {
            while taken < count
                && let Some((index, found)) = free.take(order, &mut self.statistics.free_runs)
            {
                // Only taking from a largest run can leave a smaller one the largest.
                largest_gone |= before == Some(found);
                put(block.frame(index), &entries[index..index + (1 << order)]);
                taken += 1;
            }
        }
        assert!(taken > 0, "FR-5: {block:?} is listed as having order {order} and has not");
        if largest_gone {
            let now = free.largest();
            if now != before || before.is_none() {
                self.relist(block, before, now);
            }
        }
        self.statistics.free -= (taken as usize) << order;
        *self.statistics.in_use(class) += (taken as usize) << order;
        taken
    }

    /// Gives 2^`order` frames in use back. Pinned ones become orphans.
    #[inline]
    pub(super) fn free(&mut self, frame: Frame, order: u32) {
        let (index, frames) = (frame.index(), 1 << order);
        let entries = self.table().known_entries(frame);
        let mut orphans = 0;
        for entry in &entries[index..index + frames] {
            let class = match entry.state() {
                FrameState::InUse(class) => class,
                other => self.not_in_use(frame, order, other),
            };
            *self.statistics.in_use(class) -= 1;
            if entry.pins() > 0 && entry.become_orphan() {
                orphans += 1;
            }
        }
        if orphans == 0 {
            return self.release(frame, order);
        }
        self.statistics.orphans += orphans;
        for frame in (index..index + frames).map(|index| frame.block().frame(index)) {
            if entries[frame.index()].state() != FrameState::Orphan {
                self.release(frame, 0);
            }
        }
    }

    #[cold]
    fn not_in_use(&self, frame: Frame, order: u32, state: FrameState) -> ! {
        let (_, shared) = self.table().known(frame.block());
        match state {
            FrameState::Free | FrameState::Cached(_) if shared.is_with(Holder::Pool) => {
                panic!("{frame:?} (order {order}) freed twice: a frame of it is {state:?}")
            }
            _ => panic!("{frame:?} (order {order}) freed, but a frame of it is {state:?}, its block {shared}"),
        }
    }

    /// Makes frames of a broken block free that no count has any more, and tells who watches.
    pub(super) fn release(&mut self, frame: Frame, order: u32) {
        self.take_back(frame, order, true);
    }

    /// Makes frames of a broken block free that no count has any more.
    #[inline]
    fn take_back(&mut self, frame: Frame, order: u32, tell: bool) {
        let (block, index) = (frame.block(), frame.index());
        for entry in &self.table().known_entries(frame)[index..index + (1 << order)] {
            entry.set(FrameState::Free);
        }
        let record = self.records.known(block);
        let BlockState::Broken { free, listed, .. } = &mut record.state else {
            panic!("{frame:?} released in a block that is {}", record.state)
        };
        let (before, now) = (*listed, Some(free.give(index, order, &mut self.statistics.free_runs)));
        self.statistics.free += 1 << order;
        if tell {
            self.freed(frame, 1 << order);
        }
        if now > before {
            self.relist(block, before, now);
        }
    }

    /// Takes 2^`order` frames of `class` back from a cache.
    pub(super) fn take_back_cached(&mut self, frame: Frame, order: u32, class: Class) {
        *self.statistics.in_use(class) -= 1 << order;
        self.take_back(frame, order, false);
    }

    /// Takes `frames`, among the 64 from `first` on, back from a cache; their entries say that they are free.
    pub(super) fn take_back_some(&mut self, first: Frame, frames: u64, class: Class) {
        let count = frames.count_ones() as usize;
        *self.statistics.in_use(class) -= count;
        let record = self.records.known(first.block());
        let BlockState::Broken { free, listed, .. } = &mut record.state else {
            panic!("{first:?} is cached in a block that is {}", record.state)
        };
        let (before, now) = (*listed, free.give_some(first.index(), frames, &mut self.statistics.free_runs));
        self.statistics.free += count;
        if now > before {
            self.relist(first.block(), before, now);
        }
    }

    /// Moves a broken block from the list of order `before` to that of its largest free run, which is `now`; free
    /// altogether, it becomes a free block.
    pub(super) fn relist(&mut self, block: Block, before: Option<u32>, now: Option<u32>) {
        let BlockState::Broken { class, listed, .. } = &mut self.records.known(block).state else {
            panic!("FR-4: {block:?} is not broken")
        };
        *listed = now;
        let lists = &mut self.broken[*class as usize];
        if let Some(order) = before {
            lists.remove(&mut self.records, order, block);
        }
        match now {
            Some(BLOCK_ORDER) => {
                self.statistics.free_runs[BLOCK_ORDER as usize] -= 1;
                self.give_block(block);
            }
            Some(order) => lists.push(&mut self.records, order, block),
            None => {}
        }
    }

    /// Tells who watches that `count` frames from `first` are about to be free.
    #[inline]
    pub(super) fn freed(&self, first: Frame, count: usize) {
        #[cfg(feature = "sim")]
        self.sim.freed(first, count);
        #[cfg(not(feature = "sim"))]
        let _ = (first, count);
    }
}

impl FrameStatistics {
    #[inline]
    pub(super) fn in_use(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Movable => &mut self.movable,
            Class::Unmovable => &mut self.unmovable,
        }
    }
}

/// Checks the order and the alignment of frames that are asked for or given back together.
///
/// # Panics
///
/// When `order` is above 8, or `frame` is not aligned to it.
#[inline]
pub(super) fn assert_order(frame: Frame, order: u32) {
    assert!(order <= MAX_FRAME_ORDER, "order {order} frames: only whole blocks are larger than order 8");
    assert!(frame.0.is_multiple_of(1 << order), "{frame:?} with order {order}, to which it is not aligned");
}
