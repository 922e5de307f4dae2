//! Compaction: broken blocks are emptied, so that free ones form: the one with fewest pages first, into the fullest of the others, never
//! into free ones.
//!
//! Which are cheapest is seen in the records of all blocks, some at a time; the sixteen best are then emptied one after the other,
//! and what was seen is old. A home that holds little counts, too: it ends first.
#![forbid(unsafe_code)]

use super::adopt::Adoption;
use crate::mm::address::{Block, PAGES_PER_SLOT};
use crate::mm::frame::Partial;
use crate::mm::mmu::Mmu;
use crate::mm::{MemoryManager, Refusal};
use arrayvec::ArrayVec;

/// Records that are looked at under one hold of the pool's lock.
const LOOK: usize = 64;
/// Blocks that are found in one look at all of them.
const FOUND: usize = 16;
/// Looks of which nothing could be emptied, before compaction is given up.
const FAILURES: u32 = 8;
/// A home of which more than this is in use is left to its slot.
const SPARSE: usize = PAGES_PER_SLOT / 8;

/// What compaction has found, and has not come to yet.
#[derive(Default)]
pub(super) struct Compaction {
    /// The cheapest blocks, by how many pages would have to move, the cheapest in front.
    found: ArrayVec<(usize, Block), FOUND>,
    /// Where the look at all blocks goes on.
    next: Option<Block>,
    /// Free frames of the blocks that were looked at.
    room: usize,
    /// Up to here nothing could be emptied: the next look is for what costs more.
    above: Option<(usize, Block)>,
    /// Such looks.
    failed: u32,
}

/// How a step of compaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compacted {
    /// A block is free.
    Made,
    /// There is more to do.
    More,
    /// There is no block that could be emptied.
    Nothing,
}

impl Compaction {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Compaction::default()
    }

    /// Whether nothing is known.
    pub(super) fn is_new(&self) -> bool {
        self.found.is_empty() && self.next.is_none()
    }

    fn find(&mut self, pages: usize, block: Block) {
        if self.above.is_some_and(|above| (pages, block) <= above) {
            return;
        }
        let rank = self.found.partition_point(|&found| found <= (pages, block));
        if self.found.is_full() && rank < FOUND {
            self.found.pop();
        }
        if rank < FOUND {
            self.found.insert(rank, (pages, block));
        }
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Looks at some more blocks, or empties one.
    ///
    /// # Errors
    ///
    /// The time is up.
    pub(super) fn compact(
        &self,
        state: &mut Compaction,
        is_up: &mut dyn FnMut() -> bool,
    ) -> Result<Compacted, Refusal> {
        if state.is_new() || state.next.is_some() {
            return Ok(self.look_for_partial(state));
        }
        let (pages, block) = state.found.remove(0);
        let room = PAGES_PER_SLOT - pages;
        if pages + room > state.room {
            // Nor can those that cost more.
            *state = Compaction::new();
            return Ok(Compacted::Nothing);
        }
        let emptied = self.empty_partial(block, pages, is_up)?;
        let counters = &self.counters;
        if emptied == Adoption::Adopted {
            state.room -= PAGES_PER_SLOT;
            state.failed = 0;
            counters.compact_blocks.increment();
            return Ok(Compacted::Made);
        }
        counters.compact_blocks_failed.increment();
        if state.found.is_empty() {
            let failed = state.failed + 1;
            *state = Compaction { above: Some((pages, block)), failed, ..Compaction::new() };
            if failed == FAILURES {
                *state = Compaction::new();
                return Ok(Compacted::Nothing);
            }
        }
        Ok(Compacted::More)
    }

    /// Looks at the next blocks, from the first on if it is a new look.
    fn look_for_partial(&self, state: &mut Compaction) -> Compacted {
        let from = state.next.unwrap_or_else(|| {
            // What caches hold is in use for who looks.
            self.frames.drain_caches();
            Block(0)
        });
        let mut scanned = 0;
        state.next = self.frames.partial_blocks(from, LOOK, |block, partial| {
            scanned += 1;
            match partial {
                Partial::Broken { used } => {
                    state.room += PAGES_PER_SLOT - used;
                    state.find(used, block);
                }
                // Its absent frames are room once it has ended.
                Partial::Home { used } if used <= SPARSE => {
                    state.room += PAGES_PER_SLOT - used;
                    state.find(used, block);
                }
                Partial::Home { .. } => {}
            }
        });
        self.counters.compact_migrate_scanned.add(scanned);
        if state.is_new() {
            *state = Compaction::new();
            return Compacted::Nothing;
        }
        Compacted::More
    }

    /// Empties a block, which may be a home, if it holds no more than `pages` still.
    fn empty_partial(&self, block: Block, pages: usize, is_up: &mut dyn FnMut() -> bool) -> Result<Adoption, Refusal> {
        let mut now = None;
        self.frames.partial_blocks(block, 1, |_, partial| now = Some(partial));
        match now {
            Some(Partial::Broken { used }) if used <= pages => {}
            Some(Partial::Home { used }) if used <= pages => {
                let owner = self.frames.home_owner(block);
                if !owner.is_some_and(|owner| self.dissolve_home(owner, block)) {
                    return Ok(Adoption::Busy);
                }
            }
            _ => return Ok(Adoption::Busy),
        }
        // A fault that finds no frame is not to wait for all of it.
        self.empty(block, &mut || self.frames.is_isolation_awaited() || is_up())
    }

    /// Has a fault without a block wait for one; false when there is none to be had.
    #[cold]
    pub(in crate::mm) fn compact_directly(&self) -> bool {
        self.counters.compact_stall.increment();
        let mut state = Compaction::new();
        let made = loop {
            match self.compact(&mut state, &mut || false) {
                Ok(Compacted::Made) => break true,
                Ok(Compacted::More) => crate::sync::breathe(),
                Ok(Compacted::Nothing) | Err(_) => break false,
            }
        };
        let counters = &self.counters;
        if made {
            counters.compact_success.increment()
        } else {
            counters.compact_fail.increment()
        }
        made
    }
}
