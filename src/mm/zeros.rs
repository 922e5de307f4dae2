//! The zero block: what untouched memory is mapped to while it is only read (Linux: the huge zero page).
//!
//! It is made when it is first needed, mapped for reading only, by blocks where a whole slot is untouched, else by groups and
//! pages, and freed when memory is short and nothing is mapped to it. A write replaces what it must: a group or a page, or all of
//! it where a zeroed block is to be had.
//!
//! - **ZE-1** A page in `borrowed` is not present, and its descriptor never allows a store: it leads to the frame at its offset in
//!   the zero block, unless it is one that a snapshot has taken (SN-2 of [`super::snapshot`]). Nobody pins that frame: who wants to
//!   gets memory of its own.
//! - **ZE-2** As many pages are counted here as are borrowed of it, so that the block is not freed before the last one is.
#![forbid(unsafe_code)]

use super::MemoryManager;
use super::address::{Block, Frame, PAGES_PER_SLOT};
use super::bits::Bits512;
use super::fault::{Attempt, Target};
use super::huge::SplitCause;
use super::mmu::{Access, Attributes, Entry, Mmu};
use super::slot::{LockedSlot, Mapping, Role};
use super::table::Pending;
use super::table::update::{PageChange, group_of, install_pages};
use crate::sync::{Rank, Ranked, switch};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// No block.
const NONE: u64 = u64::MAX;

/// The zero block, if there is one.
pub(super) struct Zeros {
    /// Its number, or [`NONE`]. Changes under `change`.
    block: AtomicU64,
    /// Pages that are mapped to it. Raised before it is looked up.
    pages: AtomicUsize,
    /// Held while it is made known, or taken away.
    change: Ranked<()>,
}

impl Zeros {
    pub(super) const fn new() -> Self {
        Zeros { block: AtomicU64::new(NONE), pages: AtomicUsize::new(0), change: Ranked::new(Rank::Directory, ()) }
    }

    /// The block, if there is one. It stays for those who have pages of it.
    pub(super) fn block(&self) -> Option<Block> {
        Some(self.block.load(Ordering::SeqCst)).filter(|&block| block != NONE).map(Block)
    }

    /// Counts `pages` more, if there is a block for them.
    fn lend(&self, pages: usize) -> Option<Block> {
        self.pages.fetch_add(pages, Ordering::SeqCst);
        switch();
        self.block().or_else(|| {
            self.give_back(pages);
            None
        })
    }

    /// Counts `pages` less.
    fn give_back(&self, pages: usize) {
        self.pages.fetch_sub(pages, Ordering::SeqCst);
    }

    /// Pages that are mapped to it.
    #[cfg(feature = "sim")]
    pub(super) fn pages(&self) -> usize {
        self.pages.load(Ordering::SeqCst)
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Sees to it that there is a zero block. False without a free block.
    #[cold]
    pub(super) fn make_zeros(&self) -> bool {
        if self.zeros.block().is_some() {
            return true;
        }
        let Some(block) = self.frames.allocate_block() else { return false };
        self.zero(block.frame(0), PAGES_PER_SLOT);
        let change = self.zeros.change.lock();
        let is_first = self.zeros.block().is_none();
        if is_first {
            self.zeros.block.store(block.0, Ordering::SeqCst);
            self.counters.thp_zero_page_alloc.increment();
        }
        drop(change);
        if !is_first {
            self.frames.free_block(block);
        }
        true
    }

    /// The zero block, if there is one: what untouched memory is mapped to while it is only read.
    pub fn zero_block(&self) -> Option<Block> {
        self.zeros.block()
    }

    /// Frees the zero block, if nothing is mapped to it; says whether it did.
    pub(super) fn free_zeros(&self) -> bool {
        if self.zeros.block().is_none() {
            return false;
        }
        let change = self.zeros.change.lock();
        let Some(block) = self.zeros.block() else { return false };
        // Who borrows from here on finds none; who did before is counted.
        self.zeros.block.store(NONE, Ordering::SeqCst);
        switch();
        let is_unused = self.zeros.pages.load(Ordering::SeqCst) == 0;
        if !is_unused {
            self.zeros.block.store(block.0, Ordering::SeqCst);
        }
        drop(change);
        if is_unused {
            self.frames.free_block(block);
        }
        is_unused
    }
}

/// What the zero block is mapped with where a region allows `access`.
pub(super) fn read_only(access: Access) -> Attributes {
    Attributes::new(Access { write: false, ..access })
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Maps the absent page of `target`, which is only read, to the zero block: with its group, or its slot, where nothing else is.
    pub(super) fn map_zeros(&mut self, target: &Target<'_>) -> Attempt {
        let mm = self.mm;
        let (index, attributes) = (target.page.index(), read_only(target.attributes.access));
        let range = match (self.state.mapping, group_of(index)) {
            (Mapping::Empty, _) if target.huge && target.is_whole() => 0..PAGES_PER_SLOT,
            (_, group) if target.huge && target.covers(&group) && self.group_is_free(group.start) => group,
            _ => index..index + 1,
        };
        let Some(zeros) = mm.zeros.lend(range.len()) else { return Attempt::Zeros };
        let table = match self.state.mapping {
            Mapping::Table(table) => Some(table),
            _ => self.new_table(),
        };
        let Some(table) = table else {
            mm.zeros.give_back(range.len());
            return Attempt::NoMemory;
        };
        mm.counters.thp_zero_page_fault.add((range.len() == PAGES_PER_SLOT).into());
        self.map_borrowed(range.clone(), zeros.frame(range.start), attributes, table);
        mm.counters.pgfault.increment();
        mm.counters.pgfault_zero.increment();
        Attempt::Done
    }

    /// Maps the absent pages of `range` to the frames from `first` on, which are not the slot's own. All of the slot becomes a
    /// block, with `table` as its deposit; otherwise that is its table, or becomes it.
    pub(super) fn map_borrowed(&mut self, range: Range<usize>, first: Frame, attributes: Attributes, table: Frame) {
        let machine = &self.mm.machine;
        if range.len() == PAGES_PER_SLOT {
            self.link(Entry::Block { frame: first, attributes });
            self.state.mapping = Mapping::Block { deposit: table };
        } else {
            if self.state.mapping == Mapping::Empty {
                machine.zero(table, 1);
                self.link(Entry::Table(table));
                self.state.mapping = Mapping::Table(table);
            }
            install_pages(machine, table, range.clone(), first, attributes);
        }
        self.state.borrowed.set_range(range);
    }

    /// Has the page of `target`, which is mapped to the zero block, become an absent one, so that it gets memory of its own; with
    /// what else that is likely to take: its group, or the slot where a whole block will be mapped.
    #[cold]
    #[inline(never)]
    pub(super) fn make_way(&mut self, target: &Target<'_>) {
        let whole = matches!(self.state.mapping, Mapping::Block { .. }) && self.wants_whole_block(target);
        self.unborrow(if whole { 0..PAGES_PER_SLOT } else { group_of(target.page.index()) });
        if target.huge && target.is_whole() && self.state.present.is_empty() && self.state.mapping != Mapping::Empty {
            // As a first touch does, with a table that is there.
            if self.take_block() {
                self.mm.counters.thp_fault_alloc.increment();
            } else {
                self.mm.counters.thp_fault_fallback.increment();
                self.nominate();
            }
        }
    }

    /// Unmaps what of `range` is mapped to frames of others.
    pub(super) fn unborrow(&mut self, range: Range<usize>) {
        let gone = Bits512::of(range.clone()).and(&self.state.borrowed);
        if gone.is_empty() {
            return;
        }
        let rest = self.state.borrowed.and(&gone.not());
        let (mut pending, mut left) = (Pending::new(), None);
        match self.state.mapping {
            _ if rest.is_empty() && self.state.present.is_empty() => {
                // A slot of which nothing is mapped has no table.
                let (Mapping::Table(table) | Mapping::Block { deposit: table }) = self.state.mapping else { return };
                self.unlink(&self.state, &mut pending);
                match self.state.role == Role::Snapshot && self.state.reserve.is_none() {
                    true => left = Some(table),
                    false => pending.free(table, 0),
                }
                self.state.mapping = Mapping::Empty;
            }
            Mapping::Block { .. } => self.split(range, PageChange::Clear, SplitCause::Zeros, &mut pending),
            Mapping::Table(table) => {
                for run in gone.runs() {
                    self.update_pages(table, run, PageChange::Clear, &mut pending);
                }
            }
            Mapping::Empty => {}
        }
        self.mm.settle(&mut pending);
        if let Some(table) = left {
            self.state.reserve.put(table);
        }
        self.forget_borrowed(&gone);
    }

    /// Pages of `gone` are mapped to frames of others no more.
    pub(super) fn forget_borrowed(&mut self, gone: &Bits512) {
        let gone = gone.and(&self.state.borrowed);
        if !gone.is_empty() {
            self.mm.zeros.give_back(gone.and(&self.state.taken().not()).count());
            self.state.borrowed = self.state.borrowed.and(&gone.not());
            if self.state.role == Role::Snapshot {
                self.state.shared = self.state.shared.and(&gone.not());
            }
        }
    }
}
