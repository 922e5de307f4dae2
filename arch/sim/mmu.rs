//! The simulated machine as the memory manager sees it.

use super::SimMachine;
use super::checker::Change;
use super::report::{Operation, Rule, Violation};
use crate::arch::aarch64::descriptor;
use crate::mm::address::{Frame, PAGE_SIZE, PAGES_PER_SLOT, PhysAddr};
use crate::mm::mmu::{Entry, Invalidation, Level, Mmu};

impl SimMachine {
    /// Stores a raw descriptor, for those that [`Entry`] cannot say. The rules are checked as for [`Mmu::write_entry`];
    /// one outside RAM is flagged and goes nowhere.
    pub fn write_descriptor(&self, table: Frame, index: usize, level: Level, raw: u64) {
        let at = entry_address(table, index);
        self.step(|core, state| {
            state.log.counters.entry_writes += 1;
            if !self.memory.contains(table, 1) {
                state.log.violation(Violation::of_frame(Rule::OutsideRam, core, table));
                return;
            }
            let old = self.memory.read_entry(at);
            let place = state.checker.place(&self.memory, table, index);
            if let Some((va, level)) = place {
                state.foresee(&self.memory, va, level);
            }
            let va = place.map(|(va, _)| va);
            state.log.operation(core, Operation::Write { entry: at, level, va, old, new: raw });
            state.checker.write(&self.memory, &mut state.log, core, Change { table, index, level, old, new: raw });
            self.memory.write_entry(at, raw);
        })
    }
}

fn entry_address(table: Frame, index: usize) -> PhysAddr {
    assert!(index < PAGES_PER_SLOT, "entry {index} of the table in {table:?}");
    table.start() + index as u64 * 8
}

// SAFETY: entries are atomics, `linear` points into RAM that never moves, and an invalidation drops what it covers from
// every core's TLB before it returns.
unsafe impl Mmu for SimMachine {
    fn read_entry(&self, table: Frame, index: usize, level: Level) -> Entry {
        self.turn();
        descriptor::decode(self.memory.read_entry(entry_address(table, index)), level)
    }

    unsafe fn write_entry(&self, table: Frame, index: usize, level: Level, entry: Entry) {
        self.write_descriptor(table, index, level, descriptor::encode(entry, level));
    }

    fn publish(&self) {
        self.step(|core, state| {
            state.log.counters.barriers += 1;
            state.log.operation(core, Operation::Publish);
            state.checker.publish(&self.memory, &mut state.log, core);
        })
    }

    fn invalidate(&self, what: &Invalidation) {
        self.step(|core, state| {
            let counters = &mut state.log.counters;
            counters.barriers += 2;
            match what {
                Invalidation::Pages(range) => counters.invalidated_pages += range.end - range.start,
                Invalidation::PagesAndTables(range) => counters.invalidated_pages_and_tables += range.end - range.start,
                Invalidation::All => counters.invalidated_all += 1,
            }
            state.log.operation(core, Operation::Invalidate(what.clone()));
            state.checker.publish(&self.memory, &mut state.log, core);
            state.checker.invalidate(&self.memory, &mut state.log, core, what);
            state.tlbs.iter_mut().for_each(|tlb| tlb.invalidate(what));
        })
    }

    fn zero(&self, first: Frame, count: usize) {
        self.step(|core, state| {
            state.log.counters.zeroed_bytes += (count * PAGE_SIZE) as u64;
            state.log.operation(core, Operation::Zero(first, count));
            self.memory.zero(first, count);
            state.checker.fill(&self.memory, &mut state.log, core, first, count);
        })
    }

    fn copy(&self, from: Frame, to: Frame, count: usize) {
        self.step(|core, state| {
            state.log.counters.copied_bytes += (count * PAGE_SIZE) as u64;
            state.log.operation(core, Operation::Copy(from, to, count));
            self.memory.copy(from, to, count);
            state.checker.copied(&self.memory, &mut state.log, core, from, count);
            state.checker.fill(&self.memory, &mut state.log, core, to, count);
        })
    }

    fn is_zero(&self, frame: Frame) -> bool {
        self.turn();
        self.memory.is_zero(frame)
    }

    fn sync_code(&self, first: Frame, count: usize) {
        self.step(|core, state| {
            state.log.counters.synchronized_frames += count as u64;
            state.log.operation(core, Operation::SyncCode(first, count));
            state.checker.frames.note_code(&self.memory, first, count, false);
        })
    }

    fn without_interrupts<R>(&self, section: impl FnOnce() -> R) -> R {
        section()
    }

    /// # Panics
    ///
    /// When `at` is not in RAM.
    fn linear(&self, at: PhysAddr) -> *mut u8 {
        self.memory.pointer(at).unwrap_or_else(|| panic!("{at} is not in RAM"))
    }
}
