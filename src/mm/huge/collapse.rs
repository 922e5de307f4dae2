//! Collapse on demand: slots become blocks now, whatever it copies (Linux: `MADV_COLLAPSE`).
//!
//! Three things in turn, a step at a time, each a consistent state to stop in: the slot gets a home, groups come home (pages
//! are copied, holes filled), the slot promotes. A step works on one group at most under the slot's lock; before each the regions
//! are looked up anew, as a fault does (SP-3 of [`crate::mm::space`]). Where all pages are at home nothing is copied.
//!
//! The home is the block that already holds most of the slot's pages at their own offsets, if it holds fewer of others
//! ([`super::adopt`]); else a free block; without one, any block that can be emptied of others.
#![forbid(unsafe_code)]

use crate::mm::address::{
    Block, Frame, GROUPS_PER_SLOT, PAGES_PER_GROUP, PAGES_PER_SLOT, Page, VirtAddr, part_in, slots_of,
};
use crate::mm::frame::Home;
use crate::mm::huge::adopt::{Adoption, Contents};
use crate::mm::huge::migrate::Left;
use crate::mm::huge::{HugePolicy, Policy};
use crate::mm::mmu::{Attributes, Level, Mmu};
use crate::mm::slab::Handle;
use crate::mm::slot::{LockedSlot, Mapping, Role, Slot, SlotState};
use crate::mm::space::check_range;
use crate::mm::table::update::{Move, group_of};
use crate::mm::{MemoryError, MemoryManager, Refusal};
use arrayvec::ArrayVec;
use core::ops::Range;

/// How often a slot that others work on is tried.
const PATIENCE: u32 = 4096;
/// How often a slot is given a home: under pressure it may be taken back before the first page is in it.
const HOMES: u32 = 4;
/// Blocks that are thought of as a home.
const CANDIDATES: usize = 8;

/// What a collapse did for a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collapsed {
    /// It was mapped as a block.
    AlreadyBlock,
    /// All pages were at home: nothing was copied.
    Promoted,
    /// Pages were brought home.
    Copied {
        /// Those that were copied.
        pages: usize,
        /// Those that were absent, and hold zeros now.
        filled: usize,
    },
}

/// Blocks that hold pages of a slot at their own offsets, with the least number that it may be.
type Candidates = ArrayVec<(Block, usize), CANDIDATES>;

/// Pages that must be at home in a block for it to be thought of while others are free: a look at all of it costs as much as
/// copying some of them.
const MANY: usize = 64;
/// Pages that a slot is looked at for before anything is done, in one step.
const LOOK: usize = PAGES_PER_SLOT / 2;

/// What a look at all pages found.
#[derive(Default)]
struct Survey {
    /// Pages looked at.
    pages: usize,
    /// Blocks that may become the home.
    candidates: Candidates,
    /// Nothing but this one may: it holds a pinned page.
    only: Option<Block>,
}

/// What a collapse may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Terms {
    /// How many absent pages it may fill.
    fill: usize,
    /// How many pages that a snapshot shows it may copy into that.
    copy: usize,
    /// The application asked for it: what was released is filled as well, the global policy counts for nothing, and any block
    /// may be emptied to become the home.
    asked: bool,
}

impl Terms {
    /// The application asked for it (Linux: `MADV_COLLAPSE`).
    const ASKED: Terms = Terms { fill: PAGES_PER_SLOT, copy: PAGES_PER_SLOT, asked: true };

    /// In the background, as `policy` has it.
    pub(super) fn background(policy: &Policy) -> Self {
        Terms { fill: policy.max_ptes_none(), copy: policy.max_ptes_shared(), asked: false }
    }

    /// Whether what is absent may be filled.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn allow(self, state: &SlotState) -> Result<(), Refusal> {
        if !self.asked && !state.released.is_empty() {
            return Err(Refusal::Released);
        }
        if !state.shared.is_empty() && state.shared.count() > self.copy {
            return Err(Refusal::Shared);
        }
        if PAGES_PER_SLOT - state.present.count() > self.fill {
            return Err(Refusal::Absent);
        }
        Ok(())
    }
}

/// What was done for a slot so far.
#[derive(Default)]
struct Work {
    survey: Survey,
    /// Pages copied, and filled.
    pages: usize,
    filled: usize,
    retries: u32,
    homes: u32,
}

enum Step {
    /// The slot is a block.
    Done,
    /// There is more to do.
    More,
    /// It has no home.
    NoHome,
}

impl<M: Mmu> MemoryManager<M> {
    /// Makes a block of every slot that `length` bytes from `start` touch, and calls `each` with its address and what came of
    /// it. Holes are filled, those that were released too. Follows the regions' wish for pages, and not `transparent_hugepage`.
    /// Between two steps, of 64 KiB at most, it asks whether the time `is_up`.
    ///
    /// The refusals: [`Refusal::NotCovered`] (the range or the mappings leave a part of the slot out),
    /// [`Refusal::MixedAttributes`], [`Refusal::Policy`], [`Refusal::Empty`], [`Refusal::Pinned`], [`Refusal::NoFreeBlock`],
    /// [`Refusal::Busy`], [`Refusal::Deadline`] (for all slots that were not reached, too). A slot that was refused reads as
    /// before, and may have come closer to being a block.
    ///
    /// # Errors
    ///
    /// A bad range.
    pub fn collapse(
        &self,
        start: VirtAddr,
        length: usize,
        mut is_up: impl FnMut() -> bool,
        mut each: impl FnMut(VirtAddr, Result<Collapsed, Refusal>),
    ) -> Result<(), MemoryError> {
        let range = check_range(start, length)?;
        for number in slots_of(&range) {
            let result = match part_in(&range, number).len() {
                PAGES_PER_SLOT => self.collapse_slot(number, Terms::ASKED, &mut is_up),
                _ => Err(Refusal::NotCovered),
            };
            each(Page(number * PAGES_PER_SLOT as u64).start(), result.map_err(|refusal| self.refused(refusal)));
        }
        Ok(())
    }

    /// Collapses one slot, on these terms. In the background, one of which more is absent than may be filled gets a home and
    /// its pages come there, and then it is refused: as it would be after its first touches.
    pub(super) fn collapse_slot(
        &self,
        number: u64,
        terms: Terms,
        is_up: &mut dyn FnMut() -> bool,
    ) -> Result<Collapsed, Refusal> {
        let mut work = Work::default();
        loop {
            if is_up() {
                return Err(Refusal::Deadline);
            }
            let step = |slot: &mut LockedSlot<'_, M>, attributes| slot.collapse_step(attributes, terms, &mut work);
            match self.with_collapsible(number, terms.asked, step)? {
                None if work.retries == PATIENCE => return Err(Refusal::Busy),
                None => {
                    work.retries += 1;
                    self.wait();
                }
                Some(Step::Done) if work.survey.pages == 0 => return Ok(Collapsed::AlreadyBlock),
                Some(Step::Done) => {
                    if work.pages > 0 {
                        self.frames.drain_movable();
                    }
                    self.counters.collapse.increment();
                    return Ok(match work {
                        Work { pages: 0, filled: 0, .. } => Collapsed::Promoted,
                        Work { pages, filled, .. } => Collapsed::Copied { pages, filled },
                    });
                }
                Some(Step::More) => {}
                Some(Step::NoHome) if work.homes == HOMES => return Err(Refusal::Busy),
                Some(Step::NoHome) => {
                    work.homes += 1;
                    self.find_home(number, &work.survey, terms, is_up)?;
                }
            }
            crate::sync::breathe();
        }
    }

    /// Runs `operation` on the slot, if one region covers it that does not ask for pages, with the region's attributes; unless that
    /// was `asked` for, if the global policy allows it, too. `None` when others changed it meanwhile.
    pub(super) fn with_collapsible<R>(
        &self,
        number: u64,
        asked: bool,
        operation: impl FnOnce(&mut LockedSlot<'_, M>, Attributes) -> Result<R, Refusal>,
    ) -> Result<Option<R>, Refusal> {
        let (handle, attributes, epoch) = self.collapsible(number, asked)?;
        let mut slot = LockedSlot::lock(self, number, handle);
        if slot.epoch() != epoch || slot.state.role.waits() {
            return Ok(None);
        }
        operation(&mut slot, attributes).map(Some)
    }

    /// The slot, the attributes of the region that covers it, and the epoch, under one hold of the regions' lock (SP-3).
    fn collapsible(&self, number: u64, asked: bool) -> Result<(Handle<Slot>, Attributes, u32), Refusal> {
        let first = number * PAGES_PER_SLOT as u64;
        let end = first + PAGES_PER_SLOT as u64;
        let regions = self.regions.read();
        let (range, region) = regions.find(first).ok_or(Refusal::NotCovered)?;
        let mut covered = range.end;
        while covered < end {
            let (next, _) = regions.find(covered).ok_or(Refusal::NotCovered)?;
            covered = next.end;
        }
        if range.end < end {
            return Err(Refusal::MixedAttributes);
        }
        if region.policy == HugePolicy::Never || !asked && !self.policy.allows(region.policy) {
            return Err(Refusal::Policy);
        }
        let handle = self.directory.get(number).ok_or(Refusal::Empty)?;
        Ok((handle, Attributes::new(region.access), self.slots.get(handle).epoch()))
    }

    /// Gives a slot without a home one. It may have lost it again when this returns, or others came between: it is to be looked
    /// at anew.
    fn find_home(
        &self,
        number: u64,
        survey: &Survey,
        terms: Terms,
        is_up: &mut dyn FnMut() -> bool,
    ) -> Result<(), Refusal> {
        if let Some(block) = survey.only {
            return match self.adopt(number, block, |_| true, is_up)? {
                Adoption::Impossible => Err(Refusal::Pinned),
                Adoption::Adopted | Adoption::Busy => Ok(()),
            };
        }
        let best = survey.candidates.iter().max_by_key(|(_, pages)| *pages);
        if let Some(&(block, pages)) = best
            && pages >= MANY
            && self.adopt(number, block, Contents::is_worth, is_up)? == Adoption::Adopted
        {
            return Ok(());
        }
        if self.with_collapsible(number, terms.asked, |slot, _| Ok(slot.take_home()))? != Some(false) {
            return Ok(());
        }
        let mut busy = false;
        // In the background the block that is cheapest to empty is made free instead.
        for &(block, _) in survey.candidates.iter().filter(|_| terms.asked) {
            match self.adopt(number, block, |_| true, is_up)? {
                Adoption::Adopted => return Ok(()),
                Adoption::Busy => busy = true,
                Adoption::Impossible => {}
            }
        }
        if busy {
            return Ok(());
        }
        self.counters.thp_collapse_alloc_failed.increment();
        Err(Refusal::NoFreeBlock)
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    /// Does what is next for the slot to become a block.
    fn collapse_step(&mut self, attributes: Attributes, terms: Terms, work: &mut Work) -> Result<Step, Refusal> {
        let table = match self.state.mapping {
            _ if self.state.role == Role::Snapshot => return Err(Refusal::Shared),
            _ if self.state.present.is_empty() => return Err(Refusal::Empty),
            Mapping::Empty => return Err(Refusal::Empty),
            Mapping::Block { .. } => return Ok(Step::Done),
            Mapping::Table(table) => table,
        };
        if !terms.asked && self.state.is_cold() {
            return Err(Refusal::Cold);
        }
        if !self.state.freed.is_empty() {
            if !terms.asked {
                return Err(Refusal::Freed);
            }
            // Who asks for a block wants what is in it.
            self.protect(0..PAGES_PER_SLOT, attributes);
        }
        if work.survey.pages < PAGES_PER_SLOT {
            self.look(table, &mut work.survey)?;
            // Where nothing is away, there was nothing to look at.
            if !self.state.away.is_empty() || self.state.home.is_none() {
                return Ok(Step::More);
            }
        }
        let Some(home) = self.state.home else { return Ok(Step::NoHome) };
        let allowed = terms.allow(&self.state);
        if allowed.is_ok()
            && let Some(index) = self.state.shared.next_set(0)
        {
            self.part_with_group(index, attributes)?;
            return Ok(Step::More);
        }
        let missing = if allowed.is_ok() { self.state.at_home().not() } else { self.state.away };
        let Some(index) = missing.next_set(0) else {
            allowed?;
            self.promote()?;
            return Ok(Step::Done);
        };
        let group = group_of(index);
        if self.has_orphan(home, group.clone()) {
            return Err(Refusal::Pinned);
        }
        if allowed.is_ok() {
            self.fill_holes(table, home, group.clone(), attributes, work);
        }
        self.bring_home(home, group, work)?;
        Ok(Step::More)
    }

    /// Looks at the next pages that are not at home: which blocks have most of them, and whether one must stay. What must fail
    /// shall fail before anything is copied.
    ///
    /// # Errors
    ///
    /// [`Refusal::Pinned`] when one can neither come home nor be there already.
    fn look(&self, table: Frame, survey: &mut Survey) -> Result<(), Refusal> {
        let next = survey.pages + LOOK;
        if let Some(home) = self.state.home
            && self.has_orphan(home, survey.pages..next)
        {
            return Err(Refusal::Pinned);
        }
        let mut index = survey.pages;
        while let Some(away) = self.state.away.next_set(index).filter(|&away| away < next) {
            index = away + 1;
            let (frame, _) =
                self.mm.machine.read_entry(table, away, Level::Three).leaf().expect("away pages are present");
            let block = frame.block();
            if self.mm.frames.is_frame_pinned(frame) {
                let may_stay = self.state.home.is_none() && frame.index() == away;
                if !may_stay || survey.only.replace(block).is_some_and(|only| only != block) {
                    return Err(Refusal::Pinned);
                }
            }
            if frame.index() == away {
                count(&mut survey.candidates, block);
            }
        }
        survey.pages = next;
        Ok(())
    }

    /// Takes a free block as the home of a slot that has a table, unless it has a home by now. False without one.
    fn take_home(&mut self) -> bool {
        let (Mapping::Table(_), None) = (self.state.mapping, self.state.home) else { return true };
        let took = self.take_block();
        self.mm.counters.thp_collapse_alloc.add(took.into());
        took
    }

    /// Takes a free block as the home of a slot that has a table and no home. False without one.
    pub(in crate::mm) fn take_block(&mut self) -> bool {
        let Some(Home { block, zeroed }) = self.mm.frames.allocate_home(self.owner(), PAGES_PER_SLOT) else {
            return false;
        };
        self.state.home = Some(block);
        if zeroed {
            let free = |&group: &usize| !self.state.present.any_in(group_of(group * PAGES_PER_GROUP));
            self.state.zeroed = (0..GROUPS_PER_SLOT).filter(free).fold(0, |groups, group| groups | 1 << group);
        }
        true
    }

    /// Fills what is absent of a group, at home.
    fn fill_holes(&mut self, table: Frame, home: Block, group: Range<usize>, attributes: Attributes, work: &mut Work) {
        self.unborrow(group.clone());
        let mut next = group.start;
        while let Some(start) = (next..group.end).find(|&index| !self.state.present.get(index)) {
            next = (start..group.end).find(|&index| self.state.present.get(index)).unwrap_or(group.end);
            self.clean(home.frame(start), start..next);
            self.install(table, start..next, home.frame(start), attributes);
            work.filled += next - start;
        }
    }

    /// Brings home what of a group is away.
    fn bring_home(&mut self, home: Block, group: Range<usize>, work: &mut Work) -> Result<(), Refusal> {
        let away = self.state.away.group(group.start);
        if away != 0 {
            let moves = Move::new(group.start, PAGES_PER_GROUP, home.frame(group.start)).of(away);
            let mut left = Left::new();
            self.migrate(group.start, moves, &mut left)?;
            work.pages += left.len();
            self.mm.frames.free_all(&left);
        }
        Ok(())
    }
}

/// Counts a page in `block`. When there is no room for more blocks, all lose one (Misra and Gries): those that have most stay.
fn count(candidates: &mut Candidates, block: Block) {
    if let Some((_, pages)) = candidates.iter_mut().find(|(candidate, _)| *candidate == block) {
        *pages += 1;
    } else if candidates.try_push((block, 1)).is_err() {
        candidates.iter_mut().for_each(|(_, pages)| *pages -= 1);
        candidates.retain(|(_, pages)| *pages > 0);
    }
}
