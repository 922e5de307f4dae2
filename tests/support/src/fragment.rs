//! The fragmenter: brings RAM into a named state, so that what is measured in it can be measured again.
//!
//! All free memory is mapped and touched in pages, then given back but for the pages that the state is about. In the guest it is
//! called in kernel mode.

extern crate alloc;

use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE, PAGES_PER_SLOT, Page, VirtAddr};
use ashlar::mm::bits::Bits512;
use ashlar::mm::huge::HugePolicy;
use ashlar::mm::mmu::Mmu;
use ashlar::mm::pin::{PinId, PinRequest};
use ashlar::mm::walk::Leaf;
use ashlar::mm::{MapRequest, MemoryManager};

/// Frames that are left alone: for tables and records.
const RESERVE: usize = 256;

/// What RAM is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No block is free: one page in each is in use, and can move.
    Held,
    /// So many percent of all frames are in use, at random.
    Random(u64),
    /// No block is free: one page in each is pinned.
    Pinned,
}

/// What holds RAM in its state.
pub struct Fragments {
    start: VirtAddr,
    length: usize,
    pins: Vec<PinId>,
}

/// A number that has little to do with `n`.
fn scramble(n: u64) -> u64 {
    let mixed = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

impl State {
    /// Whether the page of `leaf` that is `offset` pages further on is kept.
    fn keeps(self, leaf: &Leaf, offset: usize) -> bool {
        let frame = leaf.frame + offset as u64;
        match self {
            // Among the first, which are in use in a block that was not filled, too.
            State::Held | State::Pinned => frame.index() as u64 == scramble(frame.block().0) % 32,
            State::Random(percent) => scramble(frame.0) % 100 < percent,
        }
    }
}

/// Brings free RAM into `state`. Lifts the commit limit.
///
/// # Panics
///
/// When there is no memory for that.
pub fn fragment<M: Mmu>(mm: &MemoryManager<M>, state: State) -> Fragments {
    mm.set_overcommit(true);
    let free = || mm.frames().statistics().unused();
    let length = (free() * PAGE_SIZE).next_multiple_of(BLOCK_SIZE);
    let range = mm.map(MapRequest::new(length).policy(HugePolicy::Never)).expect("there are addresses");
    let mut end = range.start;
    while end < range.end && free() > RESERVE {
        mm.populate(end, GROUP_SIZE).expect("there are free frames");
        end = end + GROUP_SIZE as u64;
    }
    let mut fragments = Fragments { start: range.start, length, pins: Vec::new() };
    for slot in range.start.page().slot()..(end + (BLOCK_SIZE - 1) as u64).page().slot() {
        fragments.thin(mm, state, slot);
    }
    mm.frames().drain_caches();
    fragments
}

impl Fragments {
    fn thin<M: Mmu>(&mut self, mm: &MemoryManager<M>, state: State, slot: u64) {
        let pages = slot * PAGES_PER_SLOT as u64..(slot + 1) * PAGES_PER_SLOT as u64;
        let (mut kept, mut present) = (Bits512::EMPTY, Bits512::EMPTY);
        mm.walk(pages.clone(), |leaf| {
            for offset in 0..leaf.pages {
                let index = leaf.page.index() + offset;
                present.set(index);
                if state.keeps(&leaf, offset) {
                    kept.set(index);
                }
            }
        });
        for run in present.and(&kept.not()).runs() {
            let start = Page(pages.start + run.start as u64).start();
            mm.release(start, run.len() * PAGE_SIZE).expect("it is mapped");
        }
        for index in kept.iter().filter(|_| state == State::Pinned) {
            let page = Page(pages.start + index as u64).start();
            self.pins.push(mm.pin(page, PAGE_SIZE, PinRequest::new()).expect("it is present"));
        }
    }

    /// Where the pages lie that hold it.
    pub fn range(&self) -> (VirtAddr, usize) {
        (self.start, self.length)
    }

    /// Gives everything back.
    ///
    /// # Panics
    ///
    /// When there is no memory for that.
    pub fn give_back<M: Mmu>(self, mm: &MemoryManager<M>) {
        self.pins.into_iter().for_each(|pin| mm.unpin(pin));
        mm.unmap(self.start, self.length).expect("a whole region");
    }
}
