//! Invalidations that are owed, and the frames that wait for them.
#![forbid(unsafe_code)]

use crate::mm::address::{Block, Frame};
use crate::mm::frame::Frames;
use crate::mm::mmu::{Invalidation, Mmu};
use crate::mm::stats::Counters;
use arrayvec::ArrayVec;
use core::ops::Range;

/// From this many pages on, one flush of the whole ASID is cheaper than an operation for each address: Cortex-A72
/// has no range invalidation, and Linux's `MAX_DVM_OPS` draws the line at the same place.
pub const FULL_FLUSH_PAGES: usize = 512;

const RUNS: usize = 8;
const FRAMES: usize = 64;
const BLOCKS: usize = 2;

/// What an operation on tables owes before it may let go: translations to invalidate, and the frames that must not be
/// used again before that. It owns them until [`Pending::pay`].
///
/// # Panics
///
/// Debug builds panic when one is dropped unpaid.
#[must_use = "translations stay cached, and frames lost, until it is paid"]
#[derive(Default)]
pub struct Pending {
    runs: ArrayVec<Range<u64>, RUNS>,
    pages: usize,
    all: bool,
    /// A table went away, so cached table descriptors have to go as well.
    tables: bool,
    frames: ArrayVec<(Frame, u32), FRAMES>,
    blocks: ArrayVec<Block, BLOCKS>,
}

impl Pending {
    /// Nothing owed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Owes the last-level translations of `pages`.
    pub fn pages(&mut self, pages: Range<u64>) {
        self.pages += (pages.end - pages.start) as usize;
        if let Some(last) = self.runs.last_mut()
            && last.end == pages.start
        {
            last.end = pages.end;
        } else if self.runs.try_push(pages).is_err() {
            self.all = true;
        }
    }

    /// Owes the translations of `pages`, and the table descriptors on the way to them.
    pub fn pages_and_tables(&mut self, pages: Range<u64>) {
        self.tables = true;
        self.pages(pages);
    }

    /// Owes everything of the application.
    pub fn everything(&mut self) {
        self.all = true;
    }

    /// Whether `frame` finds room with [`Pending::free`].
    pub fn is_full(&self) -> bool {
        self.frames.is_full() || self.blocks.is_full()
    }

    /// Takes 2^`order` frames from `frame` on, to free once no translation leads to them.
    ///
    /// # Panics
    ///
    /// When [`Pending::is_full`].
    pub fn free(&mut self, frame: Frame, order: u32) {
        self.frames.push((frame, order));
    }

    /// Takes the home `block`, whose last page went away, to end once no translation leads to it.
    ///
    /// # Panics
    ///
    /// When [`Pending::is_full`].
    pub fn end_home(&mut self, block: Block) {
        self.blocks.push(block);
    }

    /// Invalidates without freeing: for the middle of a break, when the frames are still to be used.
    pub fn invalidate<M: Mmu>(&mut self, machine: &M, counters: &Counters) {
        if self.all || self.pages >= FULL_FLUSH_PAGES {
            machine.invalidate(&Invalidation::All);
            counters.tlb_flush_all.increment();
        } else {
            for run in &self.runs {
                let what = if self.tables {
                    Invalidation::PagesAndTables(run.clone())
                } else {
                    Invalidation::Pages(run.clone())
                };
                machine.invalidate(&what);
                counters.tlb_flush_page.add(run.end - run.start);
            }
        }
        self.runs.clear();
        self.pages = 0;
        self.all = false;
        self.tables = false;
    }

    /// Invalidates, then frees.
    pub fn pay<M: Mmu>(&mut self, machine: &M, frames: &Frames, counters: &Counters) {
        self.invalidate(machine, counters);
        for (frame, order) in self.frames.drain(..) {
            frames.free(frame, order);
        }
        for block in self.blocks.drain(..) {
            frames.end_home(block);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // A test that is ending already shall end with its own message.
        #[cfg(not(target_os = "none"))]
        if std::thread::panicking() {
            return;
        }
        debug_assert!(
            self.runs.is_empty() && !self.all && self.frames.is_empty() && self.blocks.is_empty(),
            "an invalidation of {} pages was dropped unpaid",
            self.pages
        );
    }
}
