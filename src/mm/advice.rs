//! Advice: what the application says of its memory, beside what it may do with it (Linux: `madvise`).
//!
//! | it says | Linux | what follows |
//! | --- | --- | --- |
//! | how it wishes for blocks | `MADV_HUGEPAGE`, `MADV_NOHUGEPAGE` | later faults and the background go by it |
//! | that it can do without what is there | `MADV_FREE` | taken back when memory is short, unless it is written to before |
//! | that it will not need it soon | `MADV_COLD` | the background leaves it alone until it is touched |
//!
//! Cortex-A72 has no dirty bit: what may be taken back is mapped for reading only, and the first write says that it is wanted (SL-10).
#![forbid(unsafe_code)]

use super::address::{LOWER_END, PAGE_SIZE, PAGES_PER_SLOT, VirtAddr};
use super::bits::Bits512;
use super::fault::Target;
use super::huge::{HugePolicy, SplitCause};
use super::mmu::{Entry, Mmu};
use super::slot::{LockedSlot, Mapping, Role};
use super::space::{Region, check_range};
use super::table::Pending;
use super::table::update::{PageChange, group_of};
use super::{MemoryError, MemoryManager};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What may be taken back.
pub(super) struct Freed {
    /// Pages in [`SlotState::freed`](super::slot::SlotState::freed) of all slots.
    pages: AtomicUsize,
    /// Where it is looked for next, by the number of a slot.
    next: AtomicU64,
}

impl Freed {
    pub(super) const fn new() -> Self {
        Freed { pages: AtomicUsize::new(0), next: AtomicU64::new(0) }
    }

    /// How many pages.
    pub(super) fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Sets the wish for blocks of `length` bytes from `start`. What is mapped stays as it is; later faults follow it.
    ///
    /// # Errors
    ///
    /// As for [`MemoryManager::protect`].
    pub fn advise(&self, start: VirtAddr, length: usize, policy: HugePolicy) -> Result<(), MemoryError> {
        let range = check_range(start, length)?;
        self.reclaiming(|| self.try_advise(&range, policy))
    }

    fn try_advise(&self, range: &Range<u64>, policy: HugePolicy) -> Result<(), MemoryError> {
        let _space = self.space.lock();
        self.uncharged(range)?;
        self.cut(range)?;
        self.set_regions(range, |region| Region { policy, ..region });
        self.for_each_slot(range, |mut slot, _| {
            slot.new_epoch();
            // It may be allowed blocks now.
            if policy != HugePolicy::Never && matches!(slot.state.mapping, Mapping::Table(_)) {
                slot.nominate();
            }
        });
        self.merge_around(range);
        self.nominate_ends(range);
        Ok(())
    }

    /// Says that what `length` bytes from `start` hold is not needed any more, but may be again (Linux: `MADV_FREE`). Each page
    /// keeps it until memory is short, and reads as zero from then on. A write says that what is there is wanted, of all of a
    /// block, or group. Pinned pages, absent ones, and those that a snapshot shows, are passed over.
    ///
    /// # Errors
    ///
    /// A bad range, or a page in it that is not mapped (named).
    pub fn mark_free(&self, start: VirtAddr, length: usize) -> Result<(), MemoryError> {
        self.for_each_mapped(start, length, |mut slot, part| slot.mark_free(part))
    }

    /// Says that `length` bytes from `start` will not be needed soon (Linux: `MADV_COLD`): the background takes no trouble for
    /// a slot of which all that is present was said to be cold, until the application touches it, protects it or moves pages
    /// there. A slot of which more is present stays as it is.
    ///
    /// # Errors
    ///
    /// A bad range, or a page in it that is not mapped (named).
    pub fn mark_cold(&self, start: VirtAddr, length: usize) -> Result<(), MemoryError> {
        self.for_each_mapped(start, length, |mut slot, part| slot.mark_cold(part))
    }

    /// Calls `operation` for each slot that exists of `length` bytes from `start`, which are mapped, with its part of them.
    fn for_each_mapped(
        &self,
        start: VirtAddr,
        length: usize,
        operation: impl FnMut(LockedSlot<'_, M>, Range<usize>),
    ) -> Result<(), MemoryError> {
        let range = check_range(start, length)?;
        let _space = self.space.lock();
        self.uncharged(&range)?;
        self.for_each_slot(&range, operation);
        Ok(())
    }

    /// Takes back what the application can do without in the next slot that has any; says whether there was one.
    pub(super) fn reclaim_freed(&self, busy: &mut bool) -> bool {
        if self.freed.pages() == 0 {
            return false;
        }
        let (next, end) = (self.freed.next.load(Ordering::Relaxed), LOWER_END / (PAGE_SIZE * PAGES_PER_SLOT) as u64);
        for (number, handle) in self.directory.slots(next..end).chain(self.directory.slots(0..next)) {
            let Some(mut slot) = LockedSlot::try_lock(self, handle) else {
                *busy = true;
                continue;
            };
            if slot.take_freed() > 0 {
                self.freed.next.store(number + 1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }
}

impl<M: Mmu> LockedSlot<'_, M> {
    fn mark_free(&mut self, range: Range<usize>) {
        let state = &self.state;
        let pages = Bits512::of(range).and(&state.present).and(&state.freed.or(&state.shared).not());
        let pages = pages.and(&self.pinned(&pages).not());
        if pages.is_empty() {
            return;
        }
        self.change_present(&pages, PageChange::ReadOnly, SplitCause::Release);
        self.note_freed(pages);
        self.mm.counters.pglazyfree.add(pages.count() as u64);
    }

    /// The `pages`, which are mapped for reading only, may be taken back.
    pub(super) fn note_freed(&mut self, pages: Bits512) {
        self.state.freed = self.state.freed.or(&pages);
        self.mm.freed.pages.fetch_add(pages.count(), Ordering::Relaxed);
    }

    /// Those of the present `pages` whose frames are pinned.
    pub(super) fn pinned(&self, pages: &Bits512) -> Bits512 {
        let mut pinned = Bits512::EMPTY;
        let frames = &self.mm.frames;
        if self.state.home.is_some_and(|home| !frames.is_pinned(home)) && self.state.away.is_empty() {
            return pinned;
        }
        for index in pages.iter() {
            if self.leaf(index).is_some_and(|(frame, _)| frames.pins(frame) > 0) {
                pinned.set(index);
            }
        }
        pinned
    }

    /// Changes the attributes of the present `pages`; a block of which they are a part is split.
    pub(super) fn change_present(&mut self, pages: &Bits512, change: PageChange, cause: SplitCause) {
        let mut pending = Pending::new();
        if let Mapping::Block { .. } = self.state.mapping {
            if pages.is_full() {
                let (frame, attributes) = self.leaf(0).expect("a block maps its first page");
                self.set_entry(Entry::Block { frame, attributes: change.attributes(attributes) }, &mut pending);
                return self.mm.settle(&mut pending);
            }
            self.split(0..0, change, cause, &mut pending);
        }
        if let Mapping::Table(table) = self.state.mapping {
            for run in pages.runs() {
                self.update_pages(table, run, change, &mut pending);
            }
        }
        self.mm.settle(&mut pending);
    }

    /// The page of `target` is to be written to, and was one that may be taken back: it stays, with its group or block.
    pub(super) fn keep_freed(&mut self, target: &Target<'_>) {
        let range = match self.state.mapping {
            Mapping::Block { .. } => 0..PAGES_PER_SLOT,
            _ => {
                let group = group_of(target.page.index());
                group.start.max(target.covered.start)..group.end.min(target.covered.end)
            }
        };
        self.protect(range, target.attributes);
        self.mm.counters.pgfault.increment();
        if target.huge && target.is_whole() && self.state.freed.is_empty() && self.promote().is_err() {
            // The background left it alone until now.
            self.nominate_if_used();
        }
    }

    /// Pages of `kept` are not such that may be taken back, any more.
    pub(super) fn forget_freed(&mut self, kept: &Bits512) {
        let kept = kept.and(&self.state.freed);
        if !kept.is_empty() {
            self.state.freed = self.state.freed.and(&kept.not());
            self.mm.freed.pages.fetch_sub(kept.count(), Ordering::Relaxed);
        }
    }

    /// Takes what the application can do without, unless it is pinned; returns how many pages.
    fn take_freed(&mut self) -> usize {
        let freed = self.state.freed;
        let taken = freed.and(&self.pinned(&freed).not());
        for run in taken.runs() {
            self.clear(run, SplitCause::Release);
        }
        self.mm.counters.pglazyfreed.add(taken.count() as u64);
        taken.count()
    }

    fn mark_cold(&mut self, range: Range<usize>) {
        let present = self.state.present;
        let may_be = matches!(self.state.role, Role::Plain | Role::Cold);
        if !may_be || present.is_empty() || Bits512::of(range).and(&present) != present {
            return;
        }
        self.change_present(&present, PageChange::Accessed(false), SplitCause::Pages);
        self.state.role = Role::Cold;
        self.mm.counters.pgdeactivate.add(present.count() as u64);
    }

    /// The slot was touched: it is not cold any more.
    #[cold]
    #[inline(never)]
    pub(super) fn warm(&mut self) {
        let present = self.state.present;
        self.change_present(&present, PageChange::Accessed(true), SplitCause::Pages);
        self.state.role = Role::Plain;
        self.mm.counters.access_flag_fault.increment();
        self.nominate_if_used();
    }
}
