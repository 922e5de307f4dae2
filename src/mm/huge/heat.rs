//! How hot a slot of pages is: the access flags of a few of its pages are cleared, and after a while it is counted which of them
//! are set again. Cortex-A72 sets none by itself, so each costs the fault of a first access: so many are cleared at a time, and no more.
#![forbid(unsafe_code)]

use crate::mm::address::PAGES_PER_SLOT;
use crate::mm::mmu::{Access, Attributes, Mmu};
use crate::mm::slot::{LockedSlot, Mapping};
use crate::mm::table::Pending;
use crate::mm::table::update::{PageChange, group_of};
use arrayvec::ArrayVec;

/// Translations of a slot (pages, or groups) whose access flags are cleared.
pub(super) const PLACES: usize = 4;

/// Which, by the index of a page.
pub(super) type Places = ArrayVec<u16, PLACES>;

impl<M: Mmu> LockedSlot<'_, M> {
    /// Clears the access flags of some pages, spread over the slot and others with each `whim`. None if it is no slot of pages.
    pub(super) fn begin_sample(&mut self, whim: usize) -> Places {
        let mut places = Places::new();
        for part in 0..PLACES {
            let start = (whim + part * (PAGES_PER_SLOT / PLACES)) % PAGES_PER_SLOT;
            let Some(index) = self.state.present.next_set(start) else { continue };
            let may = |attributes: Attributes| attributes.accessed && attributes.access != Access::NONE;
            if !places.iter().any(|&other| group_of(other.into()).contains(&index))
                && self.leaf(index).is_some_and(|(_, attributes)| may(attributes))
                && self.set_accessed(index, false)
            {
                places.push(index as u16);
            }
        }
        self.state.sampled = !places.is_empty();
        places
    }

    /// How many of `places` were accessed since; the flags of the others are set.
    pub(super) fn end_sample(&mut self, places: &Places) -> usize {
        self.state.sampled = false;
        let mut hits = 0;
        if self.state.is_cold() {
            return hits;
        }
        for index in places.iter().map(|&index| usize::from(index)) {
            hits += usize::from(self.leaf(index).is_some_and(|(_, attributes)| attributes.accessed));
            // What was one translation then may be sixteen by now.
            for index in group_of(index) {
                let is_clear = |attributes: Attributes| !attributes.accessed && attributes.access != Access::NONE;
                if self.leaf(index).is_some_and(|(_, attributes)| is_clear(attributes)) {
                    self.set_accessed(index, true);
                }
            }
        }
        hits
    }

    /// Sets or clears the access flag of page `index`, and of all its group where that is one translation (the flag of a group is
    /// any of its 16: Arm ARM D8.7.1). No break is needed. False if the slot has no table.
    #[cold]
    #[inline(never)] // A fault that does not need it pays nothing for it.
    pub(in crate::mm) fn set_accessed(&mut self, index: usize, accessed: bool) -> bool {
        let (Mapping::Table(table), Some((_, attributes))) = (self.state.mapping, self.leaf(index)) else {
            return false;
        };
        let group = group_of(index);
        let range = if self.is_contiguous(group.start) { group } else { index..index + 1 };
        let change = PageChange::Attributes(Attributes { accessed, ..attributes });
        let mut pending = Pending::new();
        self.update_pages(table, range, change, &mut pending);
        self.mm.settle(&mut pending);
        true
    }
}
