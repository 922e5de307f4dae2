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
//! - Pages in `borrowed` are mapped to the zero block: ZE-1 and ZE-2 of [`super::zeros`]. They count as absent.
//! - **SL-9** The access flag of a present page is clear only where nothing may touch the page, or while the slot is `sampled`, or
//!   cold.
//! - **SL-10** A page in `freed` is present, and no descriptor allows a store to it: what it holds may go until it is written to.
#![forbid(unsafe_code)]

use super::MemoryManager;
use super::address::{Block, Frame, PAGES_PER_GROUP, PAGES_PER_SLOT, Page};
use super::alias::Places;
use super::bits::Bits512;
use super::frame::{Class, Owner};
use super::huge::SplitCause;
use super::mmu::{Attributes, Entry, Level, Mmu};
use super::slab::Handle;
use super::table::update::{PageChange, install, install_pages, update, update_pages};
use super::table::{Links, Pending, Place};
use super::zeros::read_only;
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
    /// It is a snapshot's ([`super::snapshot`]).
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

/// A slot with its lock held.
pub(super) struct LockedSlot<'m, M: Mmu> {
    pub(super) mm: &'m MemoryManager<M>,
    /// Which 2 MiB of addresses.
    pub(super) number: u64,
    pub(super) handle: Handle<Slot>,
    slot: &'m Slot,
    pub(super) state: Guard<'m, SlotState>,
}

/// Two slots, locked in the order of their locks.
pub(super) struct Pair<'m, M: Mmu> {
    // Dropped in this order: the one that was locked last comes first.
    upper: LockedSlot<'m, M>,
    lower: LockedSlot<'m, M>,
    /// Whether the first that was asked for is the upper one.
    first_is_upper: bool,
}

impl<'m, M: Mmu> Pair<'m, M> {
    /// Locks the slots of two different handles.
    pub(super) fn lock(mm: &'m MemoryManager<M>, first: Handle<Slot>, second: Handle<Slot>) -> Self {
        let place = |handle| core::ptr::from_ref(&mm.slots.get(handle).state).addr();
        let first_is_upper = place(first) > place(second);
        let (low, high) = if first_is_upper { (second, first) } else { (first, second) };
        let lower = LockedSlot::of_handle(mm, low);
        Pair { upper: LockedSlot::of_handle(mm, high), lower, first_is_upper }
    }

    /// Both, in the order that they were asked for.
    pub(super) fn both(&mut self) -> (&mut LockedSlot<'m, M>, &mut LockedSlot<'m, M>) {
        match self.first_is_upper {
            true => (&mut self.upper, &mut self.lower),
            false => (&mut self.lower, &mut self.upper),
        }
    }
}

#[cfg(debug_assertions)]
impl<M: Mmu> Drop for LockedSlot<'_, M> {
    fn drop(&mut self) {
        // A test that is ending already shall end with its own message.
        #[cfg(not(target_os = "none"))]
        if std::thread::panicking() {
            return;
        }
        // Who came for other addresses finds that out by the epoch, and does nothing.
        if self.is_at(self.number) && self.number != NOWHERE {
            self.check_record();
        }
    }
}

impl<'m, M: Mmu> LockedSlot<'m, M> {
    /// Locks the slot of `handle`, which the caller knows to be that of `number`, or learns from the epoch not to be.
    pub(super) fn lock(mm: &'m MemoryManager<M>, number: u64, handle: Handle<Slot>) -> Self {
        Self::lock_record(mm, number, handle, mm.slots.get(handle))
    }

    /// Locks the slot of `handle`, whatever addresses it has.
    #[inline]
    pub(super) fn of_handle(mm: &'m MemoryManager<M>, handle: Handle<Slot>) -> Self {
        let slot = mm.slots.get(handle);
        let state = slot.state.lock();
        LockedSlot { mm, number: slot.number(), handle, slot, state }
    }

    /// As [`LockedSlot::of_handle`], of the snapshot's slot that is tied to one whose lock the caller holds (SN-3).
    pub(super) fn of_tied(mm: &'m MemoryManager<M>, handle: Handle<Slot>) -> Self {
        let slot = mm.slots.get(handle);
        let state = slot.state.lock_nested();
        LockedSlot { mm, number: slot.number(), handle, slot, state }
    }

    /// As [`LockedSlot::lock`], with the record of `handle` at hand.
    #[inline]
    pub(super) fn lock_record(mm: &'m MemoryManager<M>, number: u64, handle: Handle<Slot>, slot: &'m Slot) -> Self {
        LockedSlot { mm, number, handle, slot, state: slot.state.lock() }
    }

    /// Locks slot `number`, if any page of it was ever touched.
    #[inline]
    pub(super) fn find(mm: &'m MemoryManager<M>, number: u64) -> Option<Self> {
        loop {
            let mut slot = Self::of_handle(mm, mm.directory.find(number)?);
            // Otherwise it went elsewhere meanwhile.
            if slot.number == number || slot.is_at(number) {
                slot.number = number;
                return Some(slot);
            }
        }
    }

    /// Locks the slot of `handle`, if that is one and nobody has it. What the handle came from may be old.
    pub(super) fn try_lock(mm: &'m MemoryManager<M>, handle: Handle<Slot>) -> Option<Self> {
        let slot = mm.slots.find(handle)?;
        let state = slot.state.try_lock()?;
        // After the lock was taken: it orders what whoever made the record wrote.
        Some(LockedSlot { mm, number: slot.number(), handle, slot, state })
    }

    /// Panics where what the record says of itself cannot be: SL-2 to SL-8, but for what the descriptors and the frames'
    /// contents say.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn check_record(&self) {
        let (state, number) = (&*self.state, self.number);
        let frames = &self.mm.frames;
        assert!(state.away.and(&state.present) == state.away, "SL-2: slot {number:#x} has away pages that are absent");
        assert!(state.home.is_some() || state.away == state.present, "SL-2: slot {number:#x} has no home");
        let entry = self.place().read(&self.mm.machine);
        match (state.mapping, entry) {
            (Mapping::Empty, Entry::Invalid) | (Mapping::Block { .. }, Entry::Block { .. }) => {}
            (Mapping::Table(table), Entry::Table(linked)) if table == linked => {}
            (mapping, entry) => panic!("SL-3: slot {number:#x} is {mapping:?}, its descriptor {entry:?}"),
        }
        self.for_each_place(|place| {
            assert_eq!(place.read(&self.mm.machine), entry, "AL-1: slot {number:#x} at {:?}", place.page);
        });
        match state.mapping {
            Mapping::Block { .. } => {
                let own = state.present.is_full() && state.away.is_empty() && state.home.is_some();
                let zeros = state.borrowed.is_full() && state.home.is_none();
                assert!(own || zeros, "SL-3: slot {number:#x} is a block of nothing");
            }
            Mapping::Table(_) => {
                assert!(!state.mapped().is_empty(), "SL-4: slot {number:#x} has a table without pages")
            }
            Mapping::Empty => {
                assert!(state.mapped().is_empty() && state.home.is_none(), "SL-4: slot {number:#x} is mapped nowhere");
            }
        }
        assert!(state.borrowed.and(&state.present).is_empty(), "ZE-1: slot {number:#x} has borrowed pages present");
        assert!(state.released.and(&state.present).is_empty(), "SL-5: slot {number:#x} has released pages present");
        let is_snapshot = state.role == Role::Snapshot;
        let base = if is_snapshot { &state.borrowed } else { &state.present };
        assert!(state.shared.and(base) == state.shared, "SN-1, SN-2: slot {number:#x} shares pages that it has not");
        let is_block = matches!(state.mapping, Mapping::Block { .. });
        assert!(!is_block || state.shared.is_empty() || state.shared.is_full(), "SN-1: a part of block {number:#x}");
        assert!(state.shared.is_empty() || state.tie.is_some(), "SN-1: slot {number:#x} is not tied");
        if state.role == Role::Snapshot {
            assert!(state.home.is_none(), "slot {number:#x} of a snapshot has a home");
        }
        assert!(
            state.freed.and(&state.present) == state.freed,
            "SL-10: slot {number:#x} has free pages that are absent"
        );
        for start in
            (0..PAGES_PER_SLOT).step_by(PAGES_PER_GROUP).filter(|&start| state.is_zeroed(start / PAGES_PER_GROUP))
        {
            assert!(state.home.is_some(), "SL-7: slot {number:#x} has no home to have zeros in");
            assert_eq!(state.present.group(start), 0, "SL-7: a zeroed group of slot {number:#x} is present");
        }
        if let Some(home) = state.home {
            assert_eq!(frames.home_owner(home), Some(self.owner()), "{home:?} belongs to another slot");
            let absent = PAGES_PER_SLOT - state.at_home().count();
            assert_eq!(frames.absent(home), Some(absent), "SL-6: {home:?}");
            assert_eq!(frames.is_deferred(home), absent > 0, "SL-8: {home:?} with {absent} frames absent");
        }
    }

    /// Whether slot `number` is one of its places.
    pub(super) fn is_at(&self, number: u64) -> bool {
        number == self.slot.number() || self.state.places.numbers().iter().any(|&place| u64::from(place) == number)
    }

    /// First page of the slot.
    pub(super) fn first(&self) -> Page {
        Page(self.number * PAGES_PER_SLOT as u64)
    }

    pub(super) fn epoch(&self) -> u32 {
        self.slot.epoch()
    }

    pub(super) fn record(&self) -> &'m Slot {
        self.slot
    }

    /// Tells faults under way that what they know of the regions is old.
    pub(super) fn new_epoch(&self) {
        self.slot.epoch.fetch_add(1, Ordering::Release);
    }

    /// Gives the slot other addresses. The caller has exchanged it in the directory with the slot that was there (SP-5).
    pub(super) fn move_to_number(&mut self, number: u64) {
        self.number = number;
        self.slot.set_number(number);
        self.new_epoch();
    }

    pub(super) fn owner(&self) -> Owner {
        Owner::new(self.handle.raw()).expect("a handle is not zero")
    }

    /// The slot's level-2 descriptor.
    pub(super) fn place(&self) -> Place {
        self.place_of(self.number)
    }

    /// The level-2 descriptor of one of the slot's places.
    pub(super) fn place_of(&self, number: u64) -> Place {
        let place = self.mm.level_two(Page(number * PAGES_PER_SLOT as u64));
        place.expect("a slot has its level-2 table from the start")
    }

    /// All places of the slot.
    pub(super) fn links(&self) -> Links<'_> {
        Links { first: Page(self.slot.number() * PAGES_PER_SLOT as u64), others: self.state.places.numbers() }
    }

    /// Calls `act` with the level-2 descriptors of all places of the slot.
    #[inline]
    fn for_each_place(&self, mut act: impl FnMut(Place)) {
        act(self.place_of(self.slot.number()));
        for &number in self.state.places.numbers() {
            act(self.place_of(number.into()));
        }
    }

    pub(super) fn set_entry(&self, entry: Entry, pending: &mut Pending) {
        self.for_each_place(|place| update(&self.mm.machine, &self.mm.counters, place, entry, pending));
    }

    /// Writes the slot's level-2 descriptor where none is valid.
    #[inline]
    pub(super) fn link(&self, entry: Entry) {
        self.for_each_place(|place| install(&self.mm.machine, place, entry));
    }

    /// Changes pages `range` of the slot's `table`.
    pub(super) fn update_pages(&self, table: Frame, range: Range<usize>, change: PageChange, pending: &mut Pending) {
        update_pages(&self.mm.machine, &self.mm.counters, table, self.links(), range, change, pending);
    }

    /// The leaf that translates page `index`, if it is present.
    pub(super) fn leaf(&self, index: usize) -> Option<(Frame, Attributes)> {
        match self.state.mapping {
            Mapping::Empty => None,
            Mapping::Table(table) => self.mm.machine.read_entry(table, index, Level::Three).leaf(),
            Mapping::Block { .. } => {
                let (frame, attributes) = self.place().read(&self.mm.machine).leaf()?;
                Some((frame + index as u64, attributes))
            }
        }
    }

    /// Whether the pages of the group that begins at index `start` are one translation of 64 KiB.
    pub(super) fn is_contiguous(&self, start: usize) -> bool {
        matches!(self.state.mapping, Mapping::Table(table)
            if self.mm.machine.read_entry(table, start, Level::Three).is_contiguous())
    }

    /// Takes `block`, allocated as this slot's home and zeroed, and maps it with one descriptor. The slot is empty.
    pub(super) fn map_block(&mut self, block: Block, deposit: Frame, attributes: Attributes) {
        debug_assert_eq!(self.state.mapping, Mapping::Empty);
        if attributes.access.execute {
            self.mm.machine.sync_code(block.frame(0), PAGES_PER_SLOT);
        }
        self.link(Entry::Block { frame: block.frame(0), attributes });
        self.state.home = Some(block);
        self.state.mapping = Mapping::Block { deposit };
        self.state.present = Bits512::FULL;
        self.state.released = Bits512::EMPTY;
    }

    /// Maps absent pages `range` of one group to consecutive zeroed frames from `frame` on, linking `table` (zeroed) if the slot has none yet.
    pub(super) fn install(&mut self, table: Frame, range: Range<usize>, frame: Frame, attributes: Attributes) {
        if attributes.access.execute {
            self.mm.machine.sync_code(frame, range.len());
        }
        install_pages(&self.mm.machine, table, range.clone(), frame, attributes);
        let first = self.state.mapping == Mapping::Empty;
        if first {
            self.link(Entry::Table(table));
            self.state.mapping = Mapping::Table(table);
        }
        self.state.present.set_range(range.clone());
        self.state.released.clear_range(range.clone());
        self.state.zeroed &= !(1 << (range.start / PAGES_PER_GROUP));
        match self.state.home {
            // The first group was counted when the home was allocated.
            Some(home) if home.frame(range.start) == frame => {
                if !first {
                    self.count_absent(home);
                }
            }
            _ => {
                self.mm.frames.set_owners(frame, range.len(), self.owner(), range.start);
                self.state.away.set_range(range);
            }
        }
    }

    /// Whether the frame of a page in `range` is pinned in the home, and not in use: the page went away, and a device may still
    /// write to it.
    #[inline]
    pub(super) fn has_orphan(&self, home: Block, range: Range<usize>) -> bool {
        self.mm.frames.is_pinned(home) && self.finds_orphan(home, range)
    }

    #[cold]
    #[inline(never)]
    fn finds_orphan(&self, home: Block, mut range: Range<usize>) -> bool {
        let at_home = self.state.at_home();
        range.any(|index| !at_home.get(index) && self.mm.frames.pins(home.frame(index)) > 0)
    }

    /// Counts the absent frames of the home; says how many there are.
    pub(super) fn count_absent(&self, home: Block) -> usize {
        let at_home = match self.state.away.is_empty() {
            true => self.state.present.count(),
            false => self.state.at_home().count(),
        };
        self.mm.frames.set_absent(home, PAGES_PER_SLOT - at_home);
        PAGES_PER_SLOT - at_home
    }

    /// Brings the record of the home in line with what is in it by now; without a page in it, the home ends.
    pub(super) fn account_home(&mut self) {
        let Some(home) = self.state.home else { return };
        if self.state.at_home().is_empty() {
            self.mm.frames.end_home(home);
            self.state.home = None;
            self.state.zeroed = 0;
            return;
        }
        if self.count_absent(home) > 0 && self.mm.frames.defer(home) {
            self.mm.counters.thp_deferred_split_page.increment();
        }
    }

    /// Unmaps the present pages of `range`. Frames at home become absent, others are freed; a slot without pages loses its
    /// home and its table. With [`SplitCause::Release`] the pages count as released until they are touched again.
    pub(super) fn clear(&mut self, range: Range<usize>, cause: SplitCause) {
        if self.state.is_shown(range.clone()) {
            self.hand_over(range.clone(), cause);
        }
        let cleared = Bits512::of(range.clone());
        let gone = cleared.and(&self.state.mapped());
        let rest = self.state.mapped().and(&gone.not());
        if cause == SplitCause::Release {
            self.state.released = self.state.released.or(&cleared.and(&self.state.present));
        } else {
            self.state.released.clear_range(range.clone());
        }
        if gone.is_empty() {
            return;
        }
        if rest.is_empty() {
            self.clear_all();
            return;
        }
        let mut pending = Pending::new();
        let away = gone.and(&self.state.away);
        match self.state.mapping {
            Mapping::Block { .. } => self.split(range, PageChange::Clear, cause, &mut pending),
            Mapping::Table(table) => {
                // Frames are noted before the descriptors that name them go, a batch at a time.
                for run in gone.runs() {
                    let mut from = run.start;
                    while from < run.end {
                        let to = self.take_away(&away, from..run.end, &mut pending);
                        let (machine, counters) = (&self.mm.machine, &self.mm.counters);
                        self.update_pages(table, from..to, PageChange::Clear, &mut pending);
                        if pending.is_full() {
                            pending.pay(machine, &self.mm.frames, counters);
                        }
                        from = to;
                    }
                }
            }
            Mapping::Empty => unreachable!("present pages without a table"),
        }
        self.mm.settle(&mut pending);
        self.forget_borrowed(&gone);
        self.forget_freed(&gone);
        self.state.present = self.state.present.and(&rest);
        self.state.away = self.state.away.and(&rest);
        self.account_home();
    }

    /// Hands the away frames of `range` to `pending` until that is full; returns how far it came.
    fn take_away(&self, away: &Bits512, range: Range<usize>, pending: &mut Pending) -> usize {
        for index in range.clone() {
            if away.get(index) {
                if pending.is_full() {
                    return index;
                }
                let (frame, _) = self.leaf(index).expect("an away page is present");
                pending.free(frame, 0);
            }
        }
        range.end
    }

    /// Unmaps everything: the descriptor goes at once, then the home, the away frames and the table.
    fn clear_all(&mut self) {
        if !self.state.borrowed.is_empty() {
            self.unborrow(0..PAGES_PER_SLOT);
            if self.state.mapping == Mapping::Empty {
                return;
            }
        }
        self.forget_freed(&Bits512::FULL);
        let mut pending = Pending::new();
        let SlotState { offered, nominated, sampled, reserve, role, tie, places, .. } = *self.state;
        let role = if role == Role::Cold { Role::Plain } else { role };
        let left = SlotState { offered, nominated, sampled, reserve, role, tie, places, ..SlotState::default() };
        let state = core::mem::replace(&mut *self.state, left);
        match state.mapping {
            Mapping::Block { deposit } => {
                self.unlink(&state, &mut pending);
                pending.free(deposit, 0);
            }
            Mapping::Table(table) => {
                self.unlink(&state, &mut pending);
                pending.invalidate(&self.mm.machine, &self.mm.counters);
                let mut next = 0;
                while let Some(index) = state.away.next_set(next) {
                    let entry = self.mm.machine.read_entry(table, index, Level::Three);
                    let (frame, _) = entry.leaf().expect("an away page is present");
                    self.mm.frames.free(frame, 0);
                    next = index + 1;
                }
                pending.free(table, 0);
            }
            Mapping::Empty => unreachable!("present pages without a table"),
        }
        if let Some(home) = state.home {
            pending.end_home(home);
        }
        self.mm.settle(&mut pending);
    }

    /// Takes the slot's level-2 descriptor out, whose pages are as `state` says. Their translations are added to `pending`.
    pub(super) fn unlink(&self, state: &SlotState, pending: &mut Pending) {
        if let Mapping::Table(_) = state.mapping {
            for run in state.mapped().runs() {
                self.links().owe(run, pending);
            }
        }
        self.set_entry(Entry::Invalid, pending);
    }

    /// Gives the present pages of `range` other attributes: in place where the range is whole, after a split where it
    /// cuts a block.
    pub(super) fn protect(&mut self, range: Range<usize>, attributes: Attributes) {
        if attributes.access.execute {
            self.sync_code(range.clone());
        }
        if !self.state.freed.is_empty() {
            self.forget_freed(&Bits512::of(range.clone()));
        }
        if self.state.is_cold() {
            // What it makes accessible, a touch would not tell of.
            self.warm();
        }
        let mut pending = Pending::new();
        match self.state.mapping {
            Mapping::Empty => {}
            Mapping::Block { .. } => {
                let (frame, _) = self.leaf(0).expect("a block maps its first page");
                let is_own = self.state.home.is_some() && self.state.shared.is_empty();
                let attributes = if is_own { attributes } else { read_only(attributes.access) };
                if range == (0..PAGES_PER_SLOT) {
                    self.set_entry(Entry::Block { frame, attributes }, &mut pending);
                } else {
                    self.split(range, PageChange::Attributes(attributes), SplitCause::Protect, &mut pending);
                }
            }
            Mapping::Table(table) => {
                let not_own = self.state.borrowed.or(&self.state.shared);
                let mut start = range.start;
                while start < range.end {
                    let end = not_own.run_end(start, range.end);
                    let attributes = if not_own.get(start) { read_only(attributes.access) } else { attributes };
                    let change = PageChange::Attributes(attributes);
                    self.update_pages(table, start..end, change, &mut pending);
                    start = end;
                }
            }
        }
        self.mm.settle(&mut pending);
    }

    /// Makes what was written to the present pages of `range` fetchable, before they become executable.
    fn sync_code(&self, range: Range<usize>) {
        for index in range {
            if let Some((frame, attributes)) = self.leaf(index)
                && !attributes.access.execute
            {
                self.mm.machine.sync_code(frame, 1);
            }
        }
    }

    /// A frame for a level-3 table, to be zeroed before it is linked, or for the deposit of a block: a split writes all of
    /// that before it links it.
    pub(super) fn new_table(&self) -> Option<Frame> {
        self.mm.frames.allocate(0, Class::Unmovable)
    }

    /// Whether the slot's group that begins at `start` has no page present, and its pages were all released or none.
    pub(super) fn group_is_free(&self, start: usize) -> bool {
        let group = start..start + PAGES_PER_GROUP;
        if self.state.mapping == Mapping::Empty {
            return true;
        }
        let released = &self.state.released;
        !(self.state.present.any_in(group.clone()) || self.state.borrowed.any_in(group.clone()))
            && (released.all_in(group.clone()) || !released.any_in(group))
    }
}
