//! What a slot's record says of itself, checked whenever its lock is let go.
#![forbid(unsafe_code)]

use crate::mm::address::{PAGES_PER_GROUP, PAGES_PER_SLOT};
use crate::mm::mmu::{Entry, Mmu};
#[cfg(debug_assertions)]
use crate::mm::slot::NOWHERE;
use crate::mm::slot::{LockedSlot, Mapping, Role};

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

impl<M: Mmu> LockedSlot<'_, M> {
    /// Panics where what the record says of itself cannot be: SL-2 to SL-8, but for what the descriptors and the frames'
    /// contents say.
    pub(in crate::mm) fn check_record(&self) {
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
}
