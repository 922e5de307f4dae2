//! Kernel stacks: 32 KiB each, above 32 KiB that are mapped nowhere. Entries of the area only ever go from invalid to valid
//! and back, and its tables stay: nothing that a core may stand on is broken.

use super::descriptor::{self, KernelMemory};
use super::memory::manager;
use super::{fixed_map, layout, linear_map};
use crate::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, VirtAddr};
use crate::mm::frame::{Class, MemoryMap};
use crate::mm::mmu::{Entry, Level};
use crate::sync::{Rank, Ranked};
use aarch64_cpu::asm::barrier;
use arrayvec::ArrayVec;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

/// Bytes of a kernel stack.
pub const STACK_SIZE: usize = 32 << 10;
/// log2 of its frames.
const ORDER: u32 = (STACK_SIZE / PAGE_SIZE).trailing_zeros();
/// From one stack's end to the next one's.
const STRIDE: usize = 2 * STACK_SIZE;
/// Stacks that one level-3 table has room for.
const PER_TABLE: usize = BLOCK_SIZE / STRIDE;
/// Stacks in the area: what one level-2 table maps.
const STACKS: usize = 512 * PER_TABLE;
/// Free stacks that stay mapped, for the next threads.
const KEPT: usize = 16;

/// Which stacks there are. Nothing is allocated while it is locked: memory is taken back with no lock held.
struct Area {
    /// A bit for each stack that is mapped.
    mapped: [u64; STACKS / 64],
    /// Mapped stacks that no thread has.
    kept: ArrayVec<usize, KEPT>,
}

static AREA: Ranked<Area> = Ranked::new(Rank::Stacks, Area { mapped: [0; STACKS / 64], kept: ArrayVec::new_const() });
/// The area's level-2 table.
static UPPER: Once<&'static [AtomicU64; 512]> = Once::new();

/// Makes the area's level-2 table, of a frame carved from `free`. `None` without one.
pub(super) fn prepare(free: &mut MemoryMap) -> Option<()> {
    let frame = free.carve(PAGE_SIZE, PAGE_SIZE)?;
    // SAFETY: the linear map stands when memory is carved for this, and the frame is no one else's.
    let upper = unsafe { linear_map::new_table(frame) };
    fixed_map::publish();
    let link = descriptor::encode(Entry::Table(frame.frame()), Level::One);
    linear_map::kernel_root()[Level::One.index(layout::STACKS.page())].store(link, Ordering::Relaxed);
    fixed_map::publish();
    UPPER.call_once(|| upper);
    Some(())
}

/// A kernel stack. `None` without memory, or when all places are taken.
pub(super) fn allocate() -> Option<Range<VirtAddr>> {
    let kept = AREA.lock().kept.pop();
    if let Some(number) = kept {
        return Some(place(number));
    }
    let frames = |order| manager().with_reclaim(|| manager().frames().allocate(order, Class::Unmovable));
    let memory = frames(ORDER)?;
    let (mut table, mut no_table) = (None, false);
    let stack = loop {
        match AREA.lock().map(memory, &mut table) {
            Mapped::Stack(number) => break Some(place(number)),
            Mapped::Full => break None,
            Mapped::NoTable if no_table => break None,
            Mapped::NoTable => {}
        }
        table = frames(0);
        no_table = table.is_none();
    };
    if stack.is_none() {
        manager().frames().free(memory, ORDER);
    }
    if let Some(table) = table {
        manager().frames().free(table, 0);
    }
    stack
}

/// Takes back a stack from [`allocate`] that nobody stands on.
pub(super) fn free(stack: Range<VirtAddr>) {
    let number = (stack.start - layout::STACKS) as usize / STRIDE;
    let memory = {
        let mut area = AREA.lock();
        if area.kept.try_push(number).is_ok() { None } else { area.unmap(number) }
    };
    if let Some(first) = memory {
        manager().frames().free(first, ORDER);
    }
}

fn place(number: usize) -> Range<VirtAddr> {
    let start = layout::STACKS + (number * STRIDE + STACK_SIZE) as u64;
    start..start + STACK_SIZE as u64
}

/// The descriptor's place of the page at `at`, if there is a table for it.
fn entry(at: VirtAddr) -> Option<&'static AtomicU64> {
    let upper = UPPER.get()?[Level::Two.index(at.page())].load(Ordering::Relaxed);
    let Entry::Table(table) = descriptor::decode(upper, Level::Two) else { return None };
    let table = core::ptr::with_exposed_provenance::<[AtomicU64; 512]>(layout::linear(table.start()).0 as usize);
    // SAFETY: a table of this area: RAM in the linear map, used as atomic words for good.
    Some(&unsafe { &*table }[Level::Three.index(at.page())])
}

/// What came of mapping a stack.
enum Mapped {
    /// It is the one of this number.
    Stack(usize),
    /// All places are taken.
    Full,
    /// A level-3 table is needed first.
    NoTable,
}

impl Area {
    /// Maps `memory` as a stack, and takes `table`, a frame, if it needs a level-3 table.
    fn map(&mut self, memory: Frame, table: &mut Option<Frame>) -> Mapped {
        let Some((word, bits)) = self.mapped.iter().enumerate().find(|(_, bits)| **bits != u64::MAX) else {
            return Mapped::Full;
        };
        let number = word * 64 + bits.trailing_ones() as usize;
        let stack = place(number);
        if entry(stack.start).is_none() && !table.take().is_some_and(|table| link(stack.start, table)) {
            return Mapped::NoTable;
        }
        for offset in (0..STACK_SIZE as u64).step_by(PAGE_SIZE) {
            let leaf = descriptor::kernel_leaf(KernelMemory::Data, memory.start() + offset, Level::Three);
            if let Some(entry) = entry(stack.start + offset) {
                entry.store(leaf, Ordering::Relaxed);
            }
        }
        fixed_map::publish();
        self.mapped[word] |= 1 << (number % 64);
        Mapped::Stack(number)
    }

    /// Unmaps a stack and returns the first frame of its memory.
    fn unmap(&mut self, number: usize) -> Option<Frame> {
        let stack = place(number);
        let mut memory = None;
        for offset in (0..STACK_SIZE as u64).step_by(PAGE_SIZE) {
            if let Some(entry) = entry(stack.start + offset) {
                let leaf = descriptor::decode(entry.swap(0, Ordering::Relaxed), Level::Three).leaf();
                memory = memory.or(leaf.map(|(frame, _)| frame));
            }
        }
        barrier::dsb(barrier::ISHST);
        for page in stack.start.page().0..stack.end.page().0 {
            // SAFETY: an invalidation changes no memory.
            unsafe { asm!("tlbi vaae1is, {}", in(reg) page & ((1 << 44) - 1), options(nostack, preserves_flags)) };
        }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
        self.mapped[number / 64] &= !(1 << (number % 64));
        memory
    }
}

/// Makes the frame `table` the level-3 table for the page at `at`. False before there is a level-2 table.
fn link(at: VirtAddr, table: Frame) -> bool {
    let Some(upper) = UPPER.get() else { return false };
    // SAFETY: the frame was just allocated for this, and the linear map shows it.
    unsafe { linear_map::new_table(table.start()) };
    fixed_map::publish();
    let link = descriptor::encode(Entry::Table(table), Level::Two);
    upper[Level::Two.index(at.page())].store(link, Ordering::Relaxed);
    fixed_map::publish();
    true
}

/// Whether `address` lies in the unmapped part below a kernel stack.
pub fn is_guard(address: VirtAddr) -> bool {
    let area = layout::STACKS..layout::STACKS + (STACKS * STRIDE) as u64;
    area.contains(&address) && (address - layout::STACKS) % (STRIDE as u64) < STACK_SIZE as u64
}
