//! A slot: an aligned 2 MiB of the application's memory, its pages, its home, its descriptors.
//!
//! What holds under a slot's lock, between operations. Debug builds check what the record says of itself whenever the lock is let
//! go; `MemoryManager::check` compares it with every descriptor and frame, too.
//!
//! - **SL-1** A page is in `present`, or in `borrowed`, exactly when the slot's descriptors map it.
//! - **SL-2** A present page is in `away` exactly when its frame is not the frame at its own offset of the home. Without
//!   a home every present page is away.
//! - **SL-3** A block descriptor maps the home, all 512 pages are present and none is away; or the zero block, and all are
//!   borrowed. Its deposit is a table frame that nothing else uses.
//! - **SL-4** With a table at least one page is mapped; with neither table nor block there is none, and no home.
//! - **SL-5** A page in `released` is not present.
//! - **SL-6** The home's absent frames are those at whose offset no page is at home; their number is in the block's record.
//! - **SL-7** A group in `zeroed` has no page present, and its frames in the home hold zeros: idle time zeroed them. A page
//!   that is mapped there drops the mark, and so does the end of the home.
//! - **SL-8** A home with absent frames waits in the deferred queue, so that memory that is short finds them; one without does not.
//! - Pages in `borrowed` are mapped to the zero block: ZE-1 and ZE-2 of `zeros`. They count as absent.
//! - **SL-9** The access flag of a present page is clear only where nothing may touch the page, or while the slot is `sampled`, or
//!   cold.
//! - **SL-10** A page in `freed` is present, and no descriptor allows a store to it: what it holds may go until it is written to.
#![forbid(unsafe_code)]

#[cfg(any(debug_assertions, feature = "sim"))]
mod check;
mod locked;
mod pages;

pub(super) use locked::{LockedSlot, Pair};

use super::address::{Block, Frame, PAGES_PER_GROUP};
use super::alias::Places;
use super::bits::Bits512;
use super::slab::Handle;
use crate::sync::{Guard, Rank, Ranked};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

/// What the slot's level-2 descriptor holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mapping {
    /// Nothing.
    #[default]
    Empty,
    /// A table of pages, in this frame.
    Table(Frame),
    /// The home, as a block.
    Block {
        /// The table kept for the split, so that it needs no allocation.
        deposit: Frame,
    },
}

/// What faults have to know of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Role {
    /// Nothing.
    #[default]
    Plain,
    /// They wait: a block for it is being zeroed outside its lock.
    Filling,
    /// They wait: a snapshot is being made.
    Closed,
    /// It is a snapshot's (`snapshot`).
    Snapshot,
    /// The application said that it will not need it soon, and has not touched it since.
    Cold,
}

impl Role {
    /// Whether faults wait.
    pub(super) fn waits(self) -> bool {
        matches!(self, Role::Filling | Role::Closed)
    }
}

/// A frame for a table, or none, in four bytes: eight records of slots are to fit into a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve(u32);

impl Default for Reserve {
    fn default() -> Self {
        Reserve(u32::MAX)
    }
}

impl Reserve {
    pub(super) fn is_some(self) -> bool {
        self.0 != u32::MAX
    }

    pub(super) fn is_none(self) -> bool {
        !self.is_some()
    }

    /// Puts `table` there, where none is.
    pub(super) fn put(&mut self, table: Frame) {
        debug_assert!(self.is_none(), "a table is in reserve");
        self.0 = u32::try_from(table.0).expect("physical addresses have 44 bits");
    }

    pub(super) fn take(&mut self) -> Option<Frame> {
        let table = core::mem::take(self);
        table.is_some().then_some(Frame(table.0.into()))
    }
}

const _: () = assert!(size_of::<Slot>() <= 508);

/// What a slot's lock guards.
#[derive(Debug, Default)]
pub struct SlotState {
    pub(super) mapping: Mapping,
    pub(super) home: Option<Block>,
    pub(super) present: Bits512,
    pub(super) away: Bits512,
    pub(super) released: Bits512,
    /// Pages that are mapped to frames of others: the zero block, or a snapshot's to the live slot's.
    pub(super) borrowed: Bits512,
    /// Pages that the application can do without: they are taken back when memory is short, unless it writes to them before.
    pub(super) freed: Bits512,
    /// Groups of which no page is at home, and whose frames in the home hold zeros; a bit each.
    pub(super) zeroed: u32,
    /// Pages that it shares with the slot it is tied to. A live slot's are those that its snapshot shows, mapped for reading only
    /// until they are written to; a snapshot's are borrowed, and mapped to the frames of the live slot.
    pub(super) shared: Bits512,
    /// What faults have to know of it.
    pub(super) role: Role,
    /// The slot that shares pages with this one: its snapshot's, or that which it is the snapshot of.
    pub(super) tie: Option<Handle<Slot>>,
    /// The slot is among those that idle time looks at, or on its way back there.
    pub(super) offered: bool,
    /// It is a candidate for background collapse, or on its way back there.
    pub(super) nominated: bool,
    /// Touches while it had no home, counted round and round.
    pub(super) strays: u8,
    /// Access flags of its pages may be clear: it is looked at how hot it is.
    pub(super) sampled: bool,
    /// Other places at which the slot is mapped.
    pub(super) places: Places,
    /// A table for pages that are on their way here, so that their arrival needs no memory.
    pub(super) reserve: Reserve,
}

impl SlotState {
    /// What the level-2 descriptor holds.
    pub fn mapping(&self) -> Mapping {
        self.mapping
    }

    /// The block that belongs to the slot.
    pub fn home(&self) -> Option<Block> {
        self.home
    }

    /// Pages that are mapped.
    pub fn present(&self) -> &Bits512 {
        &self.present
    }

    /// Present pages that are not at home.
    pub fn away(&self) -> &Bits512 {
        &self.away
    }

    /// Pages that the application released and has not touched since.
    pub fn released(&self) -> &Bits512 {
        &self.released
    }

    /// Pages that are mapped to the zero block; or, of a snapshot, to the frames of the live slot.
    pub fn borrowed(&self) -> &Bits512 {
        &self.borrowed
    }

    /// Pages that may be taken back until they are written to.
    pub fn freed(&self) -> &Bits512 {
        &self.freed
    }

    /// Pages that are mapped to the zero block.
    pub(super) fn zeros(&self) -> Bits512 {
        self.borrowed.and(&self.taken().not())
    }

    /// Borrowed pages, of a snapshot, that are mapped to the frames of the live slot.
    pub(super) fn taken(&self) -> Bits512 {
        if self.role == Role::Snapshot { self.shared } else { Bits512::EMPTY }
    }

    /// Whether a snapshot shows a page of `range`.
    #[inline]
    pub(super) fn is_shown(&self, range: Range<usize>) -> bool {
        self.shared.any_in(range) && self.role != Role::Snapshot
    }

    /// Pages that a descriptor maps.
    pub(super) fn mapped(&self) -> Bits512 {
        self.present.or(&self.borrowed)
    }

    /// Whether the application said that it will not need it soon.
    pub(super) fn is_cold(&self) -> bool {
        self.role == Role::Cold
    }

    /// Pages at home.
    pub(super) fn at_home(&self) -> Bits512 {
        self.present.and(&self.away.not())
    }

    /// Whether the frames of group `group` (0..32) in the home are known to hold zeros.
    #[inline]
    pub(super) fn is_zeroed(&self, group: usize) -> bool {
        self.zeroed >> group & 1 != 0
    }

    /// Whether group `group` (0..32) has no page present, and none that was released.
    pub(super) fn is_untouched(&self, group: usize) -> bool {
        let group = group * PAGES_PER_GROUP..(group + 1) * PAGES_PER_GROUP;
        !self.present.any_in(group.clone()) && !self.released.any_in(group)
    }
}

/// The number of a slot that has no addresses, for another one is mapped there.
pub(super) const NOWHERE: u64 = u32::MAX as u64;

/// The record of a slot. Records are type-stable: a stale handle finds some slot's record, and the epoch tells.
#[derive(Debug)]
pub struct Slot {
    /// Changes, under the lock, whenever regions over the slot change: a fault that looked a region up before compares.
    epoch: AtomicU32,
    /// Which 2 MiB of addresses. Changes under the lock, and the regions' lock for writing.
    number: AtomicU32,
    /// The next one of those that are candidates for background collapse, by its handle; 0 for none.
    pub(super) next: AtomicU32,
    state: Ranked<SlotState>,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            epoch: AtomicU32::new(0),
            number: AtomicU32::new(0),
            next: AtomicU32::new(0),
            state: Ranked::new(Rank::Slot, SlotState::default()),
        }
    }
}

impl Slot {
    /// The epoch now: to be read with the regions' lock held, next to the region.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Which 2 MiB of addresses this is.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed).into()
    }

    pub(super) fn set_number(&self, number: u64) {
        self.number.store(number as u32, Ordering::Relaxed);
    }

    /// The state, if nobody holds the lock: for crash reports.
    pub(super) fn try_state(&self) -> Option<Guard<'_, SlotState>> {
        self.state.try_lock()
    }
}
