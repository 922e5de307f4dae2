//! Touches: a first one gets a block, a group or a page, never a failure for want of a block.
//!
//! | a first touch | gets |
//! | --- | --- |
//! | where a zeroed block is at hand, and one is likely to be used: the region asked for blocks, the region's slot before this one is a block, or `fault=eager` | that block, mapped at once |
//! | with `fault=eager` | a block, zeroed outside the slot's lock |
//! | otherwise | a block as its home, and one group of it |
//! | where no block is to be had | a group, or a page, from anywhere |
//!
//! Under the slot's lock a touch allocates (bounded, without reclaim), zeroes at most two groups and writes descriptors.
#![forbid(unsafe_code)]

use super::address::{Block, Frame, GROUP_ORDER, GROUPS_PER_SLOT, PAGES_PER_GROUP, PAGES_PER_SLOT, Page};
use super::fault::{Attempt, Target};
use super::frame::{Class, Home};
use super::huge::{Effort, FaultMode, HugePolicy, Mechanism};
use super::mmu::{Attributes, Entry, Mmu};
use super::slot::{LockedSlot, Mapping, Role};
use super::table::Place;
use super::table::update::group_of;
use super::{MemoryManager, Refusal};
use core::ops::Range;

impl<M: Mmu> MemoryManager<M> {
    /// Zeroes `block` outside the slot's lock, while the slot says that it is being filled, and maps it.
    #[inline(never)]
    pub(super) fn fill_block(&self, target: &Target<'_>, block: Block, deposit: Frame) -> Attempt {
        self.zero(block.frame(0), PAGES_PER_SLOT);
        let mut slot = LockedSlot::of(self, target);
        // By now it may be a snapshot's.
        if slot.state.role == Role::Filling {
            slot.state.role = Role::Plain;
        }
        if slot.epoch() != target.epoch {
            drop(slot);
            // Nobody has seen it: it is zero.
            self.frames.return_zeroed_home(block);
            self.frames.free(deposit, 0);
            return Attempt::Retry;
        }
        slot.map_block(block, deposit, target.attributes);
        self.counters.pgfault.increment();
        self.counters.pgfault_block.increment();
        Attempt::Done
    }

    /// Zeroes `count` frames for the application.
    pub(super) fn zero(&self, first: Frame, count: usize) {
        self.machine.zero(first, count);
        self.counters.zeroed_bytes.add((count * super::address::PAGE_SIZE) as u64);
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// The first touch of a slot that has nothing yet.
    pub(super) fn first_touch(&mut self, target: &Target<'_>) -> Attempt {
        // Before the block: the last block there is may have to be broken for the table.
        let Some(table) = self.new_table() else { return Attempt::NoMemory };
        let mode = self.mm.policy.fault_mode();
        if self.wants_whole_block(target)
            && let Some(block) = self.mm.frames.allocate_zeroed_home(self.owner())
        {
            self.mm.counters.thp_fault_alloc.increment();
            return self.map_zeroed(block, table, target.attributes);
        }
        match self.first_block(target, mode) {
            Some(Home { block, zeroed: true }) if mode == FaultMode::Eager => {
                self.map_zeroed(block, table, target.attributes)
            }
            Some(Home { block, .. }) if mode == FaultMode::Eager => Attempt::Fill(block, table),
            None if target.huge && target.is_whole() && self.lacks_block(target) => {
                self.mm.frames.free(table, 0);
                Attempt::Compact
            }
            home => self.first_group(target, home, table),
        }
    }

    /// A slot without a home was touched sixteen more times: when it is used by half, it is a candidate for one.
    #[cold]
    #[inline(never)]
    fn note_use(&mut self, target: &Target<'_>) {
        if target.huge && target.is_whole() {
            self.nominate_if_used();
        }
    }

    /// No block is free: the slot is a candidate for one. Says whether the fault is to wait for a block, as the policy may be.
    #[cold]
    #[inline(never)]
    fn lacks_block(&mut self, target: &Target<'_>) -> bool {
        let effort = self.mm.policy.effort(target.wish);
        if effort == Effort::Direct && target.manner.patient {
            return true;
        }
        if effort == Effort::Deferred {
            self.mm.ask_for_block();
        }
        self.mm.counters.thp_fault_fallback.increment();
        self.nominate();
        false
    }

    /// Whether a first touch is to map all of a block at once.
    pub(super) fn wants_whole_block(&self, target: &Target<'_>) -> bool {
        let is_eager = self.mm.policy.fault_mode() == FaultMode::Eager;
        target.huge && target.is_whole() && (is_eager || self.expects_block(target))
    }

    /// Whether the slot is likely to be used as a whole. The slot before it is looked at without its lock: this is a guess.
    fn expects_block(&self, target: &Target<'_>) -> bool {
        let before = || self.mm.level_two(Page(self.first().0 - PAGES_PER_SLOT as u64));
        // One of the zero block allows less than the region does.
        let is_block = |place: Place| match place.read(&self.mm.machine) {
            Entry::Block { attributes, .. } => attributes.access == target.attributes.access,
            _ => false,
        };
        target.wish == HugePolicy::Always || target.continues && before().is_some_and(is_block)
    }

    /// A free block for a slot that has nothing yet, if one may be used; else counts why none may.
    fn first_block(&self, target: &Target<'_>, mode: FaultMode) -> Option<Home> {
        debug_assert!(self.state.home.is_none());
        let counters = &self.mm.counters;
        if !target.huge {
            counters.thp_fault_fallback_policy.increment();
            return None;
        }
        if !target.is_whole() {
            counters.thp_fault_fallback_unaligned.increment();
            return None;
        }
        let absent = match mode {
            FaultMode::Adaptive if target.groups => PAGES_PER_SLOT - PAGES_PER_GROUP,
            FaultMode::Adaptive => PAGES_PER_SLOT - 1,
            FaultMode::Eager => 0,
        };
        let home = self.mm.frames.allocate_home(self.owner(), absent);
        if home.is_some() {
            counters.thp_fault_alloc.increment();
        }
        home
    }

    /// Maps the zeroed `block`, which becomes the home.
    fn map_zeroed(&mut self, block: Block, deposit: Frame, attributes: Attributes) -> Attempt {
        self.map_block(block, deposit, attributes);
        let counters = &self.mm.counters;
        counters.zeroed_pool_hit.increment();
        counters.pgfault.increment();
        counters.pgfault_block.increment();
        Attempt::Done
    }

    /// Takes `home` in, if there is one, and maps the first group or page with `table`.
    fn first_group(&mut self, target: &Target<'_>, home: Option<Home>, table: Frame) -> Attempt {
        self.mm.machine.zero(table, 1);
        if let Some(Home { block, zeroed }) = home {
            self.state.home = Some(block);
            self.state.zeroed = if zeroed { u32::MAX } else { 0 };
        }
        if self.map_unit(table, target) {
            if home.is_some() {
                self.offer();
            }
            return Attempt::Done;
        }
        debug_assert!(home.is_none(), "a home has a frame for each page");
        self.mm.frames.free(table, 0);
        Attempt::NoMemory
    }

    /// A further touch of a slot that has a table. Past the half, each touch fills one more group; a full slot promotes.
    pub(super) fn fill_table(&mut self, target: &Target<'_>) -> Attempt {
        let Mapping::Table(table) = self.state.mapping else {
            panic!("{:?} is absent from a block", target.page);
        };
        if !self.map_unit(table, target) {
            return Attempt::NoMemory;
        }
        match self.state.home {
            Some(_) if target.huge && target.is_whole() => {
                if !self.mm.policy.has(Mechanism::Promotion) {
                    if self.state.present.count() == PAGES_PER_SLOT {
                        self.nominate();
                    }
                    return Attempt::Done;
                }
                if target.groups && self.state.present.count() >= PAGES_PER_SLOT / 2 {
                    self.fill_another(table, target.page.index(), target.attributes);
                    self.offer();
                }
                // Most touches leave something absent.
                if self.promote() == Err(Refusal::Away) {
                    self.nominate();
                }
            }
            None => {
                self.state.strays = self.state.strays.wrapping_add(1);
                if self.state.strays.is_multiple_of(PAGES_PER_GROUP as u8) {
                    self.note_use(target);
                }
            }
            _ => {}
        }
        Attempt::Done
    }

    /// Maps the group of the page, where the whole group is free and may be used, else the page. At home when there is one, else
    /// wherever there are frames. False without a frame.
    fn map_unit(&mut self, table: Frame, target: &Target<'_>) -> bool {
        let index = target.page.index();
        let group = group_of(index);
        let counters = &self.mm.counters;
        if target.huge && target.covers(&group) && self.group_is_free(group.start) && target.groups {
            let frame = match self.state.home {
                Some(home) if self.has_orphan(home, group.clone()) => None,
                Some(home) => Some(home.frame(group.start)),
                None => self.mm.frames.allocate(GROUP_ORDER, Class::Movable),
            };
            if let Some(frame) = frame {
                self.clean(frame, group.clone());
                self.install(table, group, frame, target.attributes);
                counters.pgfault.increment();
                counters.pgfault_group.increment();
                return true;
            }
            counters.group_fault_fallback.add(self.state.home.is_none().into());
        }
        let frame = match self.state.home {
            Some(home) if !self.has_orphan(home, index..index + 1) => home.frame(index),
            _ => match self.mm.frames.allocate(0, Class::Movable) {
                Some(frame) => frame,
                None => return false,
            },
        };
        self.clean(frame, index..index + 1);
        self.install(table, index..index + 1, frame, target.attributes);
        counters.pgfault.increment();
        counters.pgfault_page.increment();
        true
    }

    /// Sees to it that the frames from `frame` on, for absent pages `range` of one group, hold zeros.
    #[inline]
    pub(super) fn clean(&self, frame: Frame, range: Range<usize>) {
        let at_home = || self.state.home.is_some_and(|home| home.frame(range.start) == frame);
        if self.state.is_zeroed(range.start / PAGES_PER_GROUP) && at_home() {
            self.mm.counters.zeroed_group_hit.increment();
        } else {
            self.mm.zero(frame, range.len());
        }
    }

    /// Maps the next group after page `index` that was never touched: a slot in use by half is filled, a group at a time,
    /// so that no touch waits for more than two.
    fn fill_another(&mut self, table: Frame, index: usize, attributes: Attributes) {
        let Some(home) = self.state.home else { return };
        let mut groups = (1..=GROUPS_PER_SLOT).map(|ahead| (index / PAGES_PER_GROUP + ahead) % GROUPS_PER_SLOT);
        let may = |&group: &usize| {
            self.state.is_untouched(group) && !self.has_orphan(home, group_of(group * PAGES_PER_GROUP))
        };
        if let Some(group) = groups.find(may) {
            let group = group_of(group * PAGES_PER_GROUP);
            if self.state.borrowed.any_in(group.clone()) {
                self.unborrow(group.clone());
            }
            self.clean(home.frame(group.start), group.clone());
            self.install(table, group.clone(), home.frame(group.start), attributes);
        }
    }
}
