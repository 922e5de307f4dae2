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

/// Blocks that are found in one look at all of them.
const FOUND: usize = 16;
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
        let rank = self.found.partition_point(|&(others, _)| others <= pages);
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
        state.room -= room;
        let emptied = self.empty_partial(block, is_up)?;
        let counters = &self.counters;
        if emptied != Adoption::Adopted {
            counters.compact_blocks_failed.increment();
            // Those that are left may do; when none is, it is seen whether anything has changed.
            return Ok(if state.found.is_empty() { Compacted::Nothing } else { Compacted::More });
        }
        state.room -= pages;
        counters.compact_blocks.increment();
        Ok(Compacted::Made)
    }

    /// Looks at the next blocks, from the first on if it is a new look.
    fn look_for_partial(&self, state: &mut Compaction) -> Compacted {
        let from = state.next.unwrap_or_else(|| {
            *state = Compaction::new();
            // What caches hold is in use for who looks.
            self.frames.drain_caches();
            Block(0)
        });
        let mut scanned = 0;
        state.next = self.frames.partial_blocks(from, |block, partial| {
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
        if state.found.is_empty() && state.next.is_none() { Compacted::Nothing } else { Compacted::More }
    }

    /// Empties a block, which may be a home.
    fn empty_partial(&self, block: Block, is_up: &mut dyn FnMut() -> bool) -> Result<Adoption, Refusal> {
        if let Some(owner) = self.frames.home_owner(block) {
            // Ended, or changed meanwhile, it is a broken block or a free one.
            self.dissolve_home(owner);
        }
        self.empty(block, is_up)
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
