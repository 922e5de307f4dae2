//! Kernel stacks: 32 KiB each, above 32 KiB that are mapped nowhere. The tables for all of them are there from the start, so
//! that making a stack only turns entries valid.

use super::descriptor::{self, KernelMemory};
use super::{fixed_map, layout, linear_map};
use crate::mm::address::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::mm::frame::MemoryMap;
use crate::mm::mmu::{Entry, Level};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of a kernel stack.
pub const STACK_SIZE: usize = 32 << 10;
/// From one stack's end to the next one's.
const STRIDE: usize = 2 * STACK_SIZE;
/// Stacks that the one level-3 table has room for.
const STACKS: usize = 512 * PAGE_SIZE / STRIDE;

static NEXT: AtomicUsize = AtomicUsize::new(0);
static ENTRIES: spin::Once<&'static [AtomicU64; 512]> = spin::Once::new();

/// Makes the area's tables, of frames carved from `free`. `None` without two frames.
pub(super) fn prepare(free: &mut MemoryMap) -> Option<()> {
    let frames = [free.carve(PAGE_SIZE, PAGE_SIZE)?, free.carve(PAGE_SIZE, PAGE_SIZE)?];
    // SAFETY: the linear map stands when memory is carved for this, and the frames are no one else's.
    let [upper, lower] = frames.map(|frame| unsafe { linear_map::new_table(frame) });
    fixed_map::publish();
    let page = layout::STACKS.page();
    let link = |level, frame: PhysAddr| descriptor::encode(Entry::Table(frame.frame()), level);
    upper[Level::Two.index(page)].store(link(Level::Two, frames[1]), Ordering::Relaxed);
    fixed_map::publish();
    linear_map::kernel_root()[Level::One.index(page)].store(link(Level::One, frames[0]), Ordering::Relaxed);
    fixed_map::publish();
    ENTRIES.call_once(|| lower);
    Some(())
}

/// Makes a kernel stack of the [`STACK_SIZE`] bytes of RAM from `memory`, a multiple of 4 KiB. `None` when there is no place
/// left, or before there are tables.
pub fn add(memory: PhysAddr) -> Option<Range<VirtAddr>> {
    let entries = ENTRIES.get()?;
    let number =
        NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < STACKS).then_some(next + 1)).ok()?;
    let start = layout::STACKS + (number * STRIDE + STACK_SIZE) as u64;
    for offset in (0..STACK_SIZE as u64).step_by(PAGE_SIZE) {
        let leaf = descriptor::kernel_leaf(KernelMemory::Data, memory + offset, Level::Three);
        entries[Level::Three.index((start + offset).page())].store(leaf, Ordering::Relaxed);
    }
    fixed_map::publish();
    Some(start..start + STACK_SIZE as u64)
}

/// Whether `address` lies in the unmapped part below a kernel stack.
pub fn is_guard(address: VirtAddr) -> bool {
    let area = layout::STACKS..layout::STACKS + (STACKS * STRIDE) as u64;
    area.contains(&address) && (address - layout::STACKS) % (STRIDE as u64) < STACK_SIZE as u64
}
