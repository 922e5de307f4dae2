//! The simulated machine as the memory manager sees it.

use super::SimMachine;
use crate::arch::aarch64::descriptor;
use crate::mm::address::{Frame, PhysAddr};
use crate::mm::mmu::{Entry, Invalidation, Level, Mmu};

impl SimMachine {
    /// Stores a raw descriptor, for those that [`Entry`] cannot say. The rules are checked as for [`Mmu::write_entry`].
    pub fn write_descriptor(&self, table: Frame, index: usize, level: Level, raw: u64) {
        let _ = level;
        self.step(|_, _| self.memory.write_entry(entry_address(table, index), raw))
    }
}

fn entry_address(table: Frame, index: usize) -> PhysAddr {
    assert!(index < 512, "entry {index} of the table in {table:?}");
    table.start() + index as u64 * 8
}

// SAFETY: entries are atomics, `linear` points into RAM that never moves, and an invalidation drops what it covers from
// every core's TLB before it returns.
unsafe impl Mmu for SimMachine {
    fn read_entry(&self, table: Frame, index: usize, level: Level) -> Entry {
        self.step(|_, _| descriptor::decode(self.memory.read_entry(entry_address(table, index)), level))
    }

    unsafe fn write_entry(&self, table: Frame, index: usize, level: Level, entry: Entry) {
        self.write_descriptor(table, index, level, descriptor::encode(entry, level));
    }

    fn publish(&self) {
        self.step(|_, _| {})
    }

    fn invalidate(&self, _what: &Invalidation) {
        self.step(|_, _| {})
    }

    fn zero(&self, first: Frame, count: usize) {
        self.step(|_, _| self.memory.zero(first, count))
    }

    fn copy(&self, from: Frame, to: Frame, count: usize) {
        self.step(|_, _| self.memory.copy(from, to, count))
    }

    fn is_zero(&self, frame: Frame) -> bool {
        self.step(|_, _| self.memory.is_zero(frame))
    }

    fn sync_code(&self, _first: Frame, _count: usize) {
        self.step(|_, _| {})
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
