//! The buddy allocator: free runs of blocks above 2 MiB, free sets of broken blocks below.
#![forbid(unsafe_code)]

use super::super::address::{Block, Frame, PAGE_SIZE, PAGES_PER_SLOT};
use super::Class;
use super::free_set::{BLOCK_ORDER, FreeSet, MAX_FRAME_ORDER};
use super::list::{Chain, List};
use super::memory_map::MemoryMap;
use super::statistics::FrameStatistics;
use super::table::{BlockRecord, BlockState, FrameEntry, FrameState, Table};
use core::ops::Range;

/// Order of the largest free run: 1 GiB.
pub(super) const MAX_ORDER: u32 = 18;

/// Lists by order, and which of them have something in them.
pub(super) struct Lists<const N: usize> {
    lists: [List; N],
    occupied: u32,
}

impl<const N: usize> Lists<N> {
    const fn new() -> Self {
        Self { lists: [List::new(Chain::Place); N], occupied: 0 }
    }

    /// The first block of the lowest list, from `lowest` on, that has one; and which list that is.
    #[inline]
    fn first_from(&self, lowest: u32) -> Option<(Block, u32)> {
        let occupied = self.occupied & (u32::MAX << lowest);
        let index = occupied.trailing_zeros();
        Some((self.lists.get(index as usize)?.first()?, index))
    }

    #[inline]
    fn push(&mut self, table: &mut Table, index: u32, block: Block) {
        self.lists[index as usize].push_front(table, block);
        self.occupied |= 1 << index;
    }

    #[inline]
    fn remove(&mut self, table: &mut Table, index: u32, block: Block) {
        let list = &mut self.lists[index as usize];
        list.remove(table, block);
        if list.first().is_none() {
            self.occupied &= !(1 << index);
        }
    }

    /// The lists.
    pub(super) fn lists(&self) -> &[List; N] {
        &self.lists
    }

    /// A bit for each list that has something in it.
    pub(super) fn occupied(&self) -> u32 {
        self.occupied
    }
}

/// All that the lock of [`Frames`](super::Frames) guards.
pub(super) struct Pool {
    pub(super) table: Table,
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
    /// All RAM of `map` free, less what `table` was carved from; `total` frames in all.
    pub(super) fn new(table: Table, map: &MemoryMap, total: usize) -> Pool {
        let mut pool = Pool {
            table,
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
        self.table.set_free(whole.clone());
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
        let (record, entries) = self.table.parts(block);
        let listed = match record.state {
            BlockState::Broken { listed, .. } => listed,
            _ => {
                entries.fill(FrameEntry::new(FrameState::Reserved));
                record.state = BlockState::Broken { class: Class::Unmovable, free: FreeSet::EMPTY, listed: None };
                None
            }
        };
        if let BlockState::Broken { free, .. } = &mut record.state {
            let first = Frame(frames.start).index();
            free.give_range(first..first + (frames.end - frames.start) as usize, &mut self.statistics.free_runs);
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
        let (record, entries) = self.table.parts(block);
        let reserved = match &record.state {
            BlockState::Reserved => true,
            BlockState::Broken { free, .. } => {
                let held = |index: usize| !free.is_free(index) && entries[index].state() == FrameState::Reserved;
                (index..index + count).all(held)
            }
            BlockState::Free { .. } | BlockState::Whole { .. } => false,
        };
        assert!(reserved, "{:?} and {count} frames from there on were not held back", block.frame(index));
    }

    /// Takes a run of one block off the smallest run there is.
    #[inline]
    pub(super) fn take_block(&mut self) -> Option<Block> {
        let (block, index) = self.runs.first_from(0)?;
        let order = BLOCK_ORDER + index;
        self.remove_run(block, order);
        for order in (BLOCK_ORDER..order).rev() {
            self.push_run(Block(block.0 + (1 << (order - BLOCK_ORDER))), order);
        }
        Some(block)
    }

    /// Makes `block`, in use until now, a free one, and one run with its buddies.
    pub(super) fn give_block(&mut self, block: Block) {
        let record = self.table.known(block);
        record.state = BlockState::Free { run: None };
        let (mut start, mut order) = (block.0, BLOCK_ORDER);
        while order < MAX_ORDER {
            let buddy = Block(start ^ (1 << (order - BLOCK_ORDER)));
            let state = self.table.record(buddy).map(|record| &record.state);
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
        let record = self.table.known(block);
        record.state = BlockState::Free { run: Some(order) };
        self.runs.push(&mut self.table, order - BLOCK_ORDER, block);
        self.statistics.free_runs[order as usize] += 1;
    }

    fn remove_run(&mut self, block: Block, order: u32) {
        self.runs.remove(&mut self.table, order - BLOCK_ORDER, block);
        let record = self.table.known(block);
        record.state = BlockState::Free { run: None };
        self.statistics.free_runs[order as usize] -= 1;
    }

    /// A block to take 2^`order` frames for `class` from: a broken one of its class, the fullest first; or a free one,
    /// broken for it; or a broken one of the other class.
    #[inline]
    fn choose(&mut self, order: u32, class: Class) -> Option<Block> {
        if let Some((block, _)) = self.broken[class as usize].first_from(order) {
            return Some(block);
        }
        if let Some(block) = self.take_block() {
            self.statistics.free_runs[BLOCK_ORDER as usize] += 1;
            // Listed by what is left of it, once the caller has taken from it.
            let record = self.table.known(block);
            record.state = BlockState::Broken { class, free: FreeSet::FULL, listed: None };
            return Some(block);
        }
        let (block, _) = self.broken[class.other() as usize].first_from(order)?;
        match class {
            Class::Movable => self.statistics.movable_spills += 1 << order,
            Class::Unmovable => self.statistics.unmovable_spills += 1 << order,
        }
        Some(block)
    }

    /// Takes an aligned run of 2^`order` frames.
    #[inline]
    pub(super) fn allocate(&mut self, order: u32, class: Class) -> Option<Frame> {
        assert!(order <= MAX_FRAME_ORDER, "order {order} frames: only whole blocks are larger than order 8");
        let block = self.choose(order, class)?;
        let (record, entries) = self.table.parts(block);
        let BlockState::Broken { free, listed, .. } = &mut record.state else {
            panic!("FR-4: {block:?} is in a list of broken blocks and is {}", record.state)
        };
        let before = *listed;
        let Some((index, found)) = free.take(order, &mut self.statistics.free_runs) else {
            panic!("FR-5: {block:?} is listed as having order {order} and has not")
        };
        entries[index..index + (1 << order)].fill(FrameEntry::new(FrameState::InUse(class)));
        // Only taking from a largest run can leave a smaller one the largest.
        if before.is_none_or(|largest| found == largest) {
            let now = free.largest();
            self.relist(block, before, now);
        }
        self.statistics.free -= 1 << order;
        *self.statistics.in_use(class) += 1 << order;
        Some(block.frame(index))
    }

    /// Gives 2^`order` frames in use back. Pinned ones become orphans.
    #[inline]
    pub(super) fn free(&mut self, frame: Frame, order: u32) {
        assert!(order <= MAX_FRAME_ORDER, "order {order} frames: only whole blocks are larger than order 8");
        let (index, frames) = (frame.index(), 1 << order);
        assert!(index.is_multiple_of(frames), "{frame:?} freed with order {order}, to which it is not aligned");
        let (record, entries) = self.table.parts(frame.block());
        let BlockState::Broken { free, .. } = &mut record.state else {
            panic!("{frame:?} freed in a block that is {}", record.state)
        };
        assert!(!free.any_free(index, order), "{frame:?} (order {order}) freed twice");
        let mut orphans = 0;
        for entry in &mut entries[index..index + frames] {
            let FrameState::InUse(class) = entry.state() else {
                panic!("{frame:?} (order {order}) freed, but a frame of it is {:?}", entry.state())
            };
            *self.statistics.in_use(class) -= 1;
            if entry.pins > 0 {
                entry.set_state(FrameState::Orphan);
                orphans += 1;
            }
        }
        if orphans == 0 {
            let change = give(record, &mut self.statistics, index, order);
            return self.released(frame, order, change);
        }
        self.statistics.orphans += orphans;
        for frame in (index..index + frames).map(|index| frame.block().frame(index)) {
            if self.pins(frame) == 0 {
                self.release(frame, 0);
            }
        }
    }

    /// Makes frames of a broken block free that no count has any more.
    pub(super) fn release(&mut self, frame: Frame, order: u32) {
        let change = give(self.table.known(frame.block()), &mut self.statistics, frame.index(), order);
        self.released(frame, order, change);
    }

    /// Does what is left to do once frames are free: the block may belong in another list.
    #[inline]
    fn released(&mut self, frame: Frame, order: u32, change: Change) {
        self.freed(frame, 1 << order);
        if change.now > change.before {
            self.relist(frame.block(), change.before, change.now);
        }
    }

    /// Makes `block` a broken one of movable frames, with `free` free and the entries of the others made by `entry`
    /// from their indices and what they were.
    pub(super) fn break_into(
        &mut self,
        block: Block,
        free: &super::Bits512,
        mut entry: impl FnMut(usize, FrameEntry) -> FrameEntry,
    ) {
        let (record, entries) = self.table.parts(block);
        let mut set = FreeSet::EMPTY;
        for range in free.runs() {
            set.give_range(range, &mut self.statistics.free_runs);
        }
        for index in free.not().runs().flatten() {
            entries[index] = entry(index, entries[index]);
        }
        record.state = BlockState::Broken { class: Class::Movable, free: set, listed: None };
        self.statistics.free += set.count();
        for range in free.runs() {
            self.freed(block.frame(range.start), range.len());
        }
        self.relist(block, None, set.largest());
    }

    /// Moves a broken block from the list of order `before` to that of its largest free run, which is `now`; free
    /// altogether, it becomes a free block.
    fn relist(&mut self, block: Block, before: Option<u32>, now: Option<u32>) {
        let BlockState::Broken { class, listed, .. } = &mut self.table.known(block).state else {
            panic!("FR-4: {block:?} is not broken")
        };
        *listed = now;
        let lists = &mut self.broken[*class as usize];
        if let Some(order) = before {
            lists.remove(&mut self.table, order, block);
        }
        match now {
            Some(BLOCK_ORDER) => {
                self.statistics.free_runs[BLOCK_ORDER as usize] -= 1;
                self.give_block(block);
            }
            Some(order) => lists.push(&mut self.table, order, block),
            None => {}
        }
    }

    /// Tells who watches that `count` frames from `first` are free now.
    #[inline]
    pub(super) fn freed(&self, first: Frame, count: usize) {
        #[cfg(feature = "sim")]
        self.sim.freed(first, count);
        #[cfg(not(feature = "sim"))]
        let _ = (first, count);
    }
}

/// Order of a broken block's largest free run, before frames were freed and after.
struct Change {
    before: Option<u32>,
    now: Option<u32>,
}

/// Makes frames of a broken block free, in its record and in the counts of what is free.
#[inline]
fn give(record: &mut BlockRecord, statistics: &mut FrameStatistics, index: usize, order: u32) -> Change {
    let BlockState::Broken { free, listed, .. } = &mut record.state else {
        panic!("frame {index} released in a block that is {}", record.state)
    };
    let merged = free.give(index, order, &mut statistics.free_runs);
    statistics.free += 1 << order;
    Change { before: *listed, now: Some(merged) }
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
