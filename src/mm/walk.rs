//! Walks over the application's memory, by address and by frame.
//!
//! Code that knows pages only calls `LockedSlot::page_table`, which splits a block on the way and cannot fail. Code that knows
//! blocks, as here, tests whether the slot has a record, takes the slot's lock, and tests what it holds: until it lets go, no
//! block is split and none is made (`transhuge.rst`, *Locking in hugepage aware code*).
//!
//! - **WA-1** Under a slot's lock its descriptors, its home and the frames of its present pages stay as they are; without
//!   it, whatever was read may be old, and may mean nothing: an invalid level-2 descriptor can be one between its break and
//!   its make. Level-2 tables live as long as the manager, so that a guess may read one; a level-3 table may be gone, so that
//!   nothing is read there without the lock.
//! - **WA-2** A frame whose entry says that it is in use as a slot's page has that page in it whenever the slot's lock is free: who
//!   moves or unmaps the page frees the frame before the lock is let go.
//! - **WA-3** From a frame to its page: without the lock the entry may be old, or nonsense that was never a slot; so the record is
//!   looked for, and its lock only tried; under it, the page's descriptor is what says whether the page is in the frame.
//!   Slot records stay slot records, so an old name is some slot's.
#![forbid(unsafe_code)]

use super::MemoryManager;
use super::address::{Frame, PAGES_PER_GROUP, PAGES_PER_SLOT, Page, part_in, slots_of};
use super::mmu::{Attributes, Level, Mmu};
use super::slab::Handle;
use super::slot::{LockedSlot, Mapping};
use core::ops::Range;

/// Single pages that are looked at under one hold of a slot's lock.
const PIECE: usize = PAGES_PER_SLOT / 2;

/// One translation, as the application's accesses go by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// First page of it in the range that is walked.
    pub page: Page,
    /// How many pages of the range it translates: up to 512 of a block, 16 of a group, or 1.
    pub pages: usize,
    /// Frame of the first page.
    pub frame: Frame,
    /// How it is mapped.
    pub attributes: Attributes,
    /// What it is a part of.
    pub size: Size,
    /// Whose memory it leads to.
    pub origin: Origin,
}

/// Whose memory a translation leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Its own.
    Own,
    /// Nobody's: it is the zero block.
    Zeros,
    /// It is a snapshot's, and leads to the live memory.
    Live,
    /// That of another place, where it was mapped first.
    Alias,
}

/// Sizes of translations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// A page descriptor.
    Page,
    /// 16 page descriptors with the contiguous bit.
    Group,
    /// A block descriptor.
    Block,
}

impl<M: Mmu> MemoryManager<M> {
    /// Calls `visit` for every translation of `pages`, in ascending order, each under the lock of its slot. A slot of single pages
    /// is looked at in two pieces, so that nobody waits for longer than a copy of 64 KiB takes.
    pub fn walk(&self, pages: Range<u64>, mut visit: impl FnMut(Leaf)) {
        if pages.is_empty() {
            return;
        }
        for (number, _) in self.directory.slots(slots_of(&pages)) {
            let mut part = part_in(&pages, number);
            while !part.is_empty()
                && let Some(slot) = LockedSlot::find(self, number)
            {
                part.start = slot.walk(part.clone(), &mut visit);
                drop(slot);
                crate::sync::breathe();
            }
        }
    }

    /// Runs `operation` on the page that is in `frame`: its slot, locked, and its index there. `None` if no page is, or another
    /// core has the slot: perhaps later.
    pub(super) fn with_page_in<R>(
        &self,
        frame: Frame,
        operation: impl FnOnce(&mut LockedSlot<'_, M>, usize) -> R,
    ) -> Option<R> {
        let (owner, index) = self.frames.owner(frame)?;
        let handle = Handle::from_raw(owner.number())?;
        let mut slot = LockedSlot::try_lock(self, handle)?;
        match slot.leaf(index) {
            Some((at, _)) if at == frame => Some(operation(&mut slot, index)),
            _ => None,
        }
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Whose memory the mapped page `index` leads to.
    fn origin(&self, index: usize) -> Origin {
        if self.state.taken().get(index) {
            Origin::Live
        } else if self.number != self.record().number() {
            Origin::Alias
        } else if self.state.borrowed.get(index) {
            Origin::Zeros
        } else {
            Origin::Own
        }
    }

    /// Calls `visit` for every translation of the first pages of `range` (indices). Returns how far it came.
    fn walk(&self, range: Range<usize>, visit: &mut impl FnMut(Leaf)) -> usize {
        let table = match self.state.mapping {
            Mapping::Empty => return range.end,
            Mapping::Table(table) => table,
            Mapping::Block { .. } => {
                if let Some((frame, attributes)) = self.leaf(range.start) {
                    let page = self.first() + range.start as u64;
                    let origin = self.origin(range.start);
                    visit(Leaf { page, pages: range.len(), frame, attributes, size: Size::Block, origin });
                }
                return range.end;
            }
        };
        let end = range.end.min((range.start / PIECE + 1) * PIECE);
        let mut next = range.start;
        let mapped = self.state.mapped();
        while let Some(index) = mapped.next_set(next).filter(|&index| index < end) {
            let entry = self.mm.machine.read_entry(table, index, Level::Three);
            let (size, after) = match entry.is_contiguous() {
                true => (Size::Group, (index / PAGES_PER_GROUP + 1) * PAGES_PER_GROUP),
                false => (Size::Page, index + 1),
            };
            next = after.min(end);
            if let Some((frame, attributes)) = entry.leaf() {
                let (page, pages, origin) = (self.first() + index as u64, next - index, self.origin(index));
                visit(Leaf { page, pages, frame, attributes, size, origin });
            }
        }
        end
    }
}
