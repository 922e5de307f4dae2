//! What is mapped before there is memory for tables: the device tree, devices, and tables that are being built. The tables
//! for it are in the image; entries go from invalid to valid, so that no TLB holds anything of them before.

use super::descriptor::{self, KernelMemory};
use super::layout::{self, Symbol};
use crate::mm::address::{BLOCK_SIZE, PAGE_SIZE, PhysAddr, VirtAddr};
use crate::mm::mmu::Level;
use aarch64_cpu::asm::barrier;
use core::arch::asm;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Entry `index` of the table, or the tables one after the other, at `symbol`.
fn entry(symbol: &'static Symbol, index: usize) -> &'static AtomicU64 {
    let table = core::ptr::with_exposed_provenance::<AtomicU64>(symbol.address().0 as usize);
    // SAFETY: callers keep to the tables' lengths; `linker.ld` lays the tables out and `boot.s` maps them, for good.
    unsafe { &*table.add(index) }
}

/// Makes entries written before visible to the walker.
pub(super) fn publish() {
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
}

/// Maps `pages` pages of RAM from `from` at page `at` of the fixed map.
fn map(at: usize, from: PhysAddr, pages: usize) {
    for page in 0..pages {
        let leaf = descriptor::kernel_leaf(KernelMemory::Data, from + (page * PAGE_SIZE) as u64, Level::Three);
        entry(&layout::__fixed_level3, at + page).store(leaf, Ordering::Relaxed);
    }
    publish();
}

/// Maps the device tree's pages that hold its first `bytes` bytes, writable. Returns a pointer to its first byte, and how
/// many bytes can be reached through it: as much as the map has room for, if that is less.
pub fn map_tree(tree: PhysAddr, bytes: usize) -> (*mut u8, usize) {
    let offset = (tree.0 % PAGE_SIZE as u64) as usize;
    let pages = (offset + bytes).div_ceil(PAGE_SIZE).min(layout::TREE_PAGES);
    map(0, tree.align_down(PAGE_SIZE), pages);
    let start = core::ptr::with_exposed_provenance_mut(layout::TREE.0 as usize + offset);
    (start, pages * PAGE_SIZE - offset)
}

/// Makes the table at `table` reachable at page `slot` of the window and returns it.
///
/// # Panics
///
/// When the window has no such page: a kernel bug. Each border of a range of RAM costs two tables at most, and a device
/// tree has fewer than 200 that are read.
pub(super) fn window(slot: usize, table: PhysAddr) -> &'static [AtomicU64; 512] {
    assert!(slot < layout::TABLE_WINDOW_PAGES, "more tables than the window shows");
    map(layout::TREE_PAGES + slot, table, 1);
    let at = layout::TABLE_WINDOW.0 as usize + slot * PAGE_SIZE;
    // SAFETY: just mapped, and RAM that is used as a table from now on.
    unsafe { &*core::ptr::with_exposed_provenance::<[AtomicU64; 512]>(at) }
}

/// Closes pages 0..`count` of the window: tables are reached through the linear map from now on.
pub(super) fn close_windows(count: usize) {
    for slot in 0..count {
        entry(&layout::__fixed_level3, layout::TREE_PAGES + slot).store(0, Ordering::Relaxed);
    }
    publish();
    // SAFETY: an invalidation changes no memory; all translations are walked again.
    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}

/// No room in the device window for a range of registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceWindowFull {
    /// Where the registers start.
    pub start: PhysAddr,
    /// Their bytes.
    pub bytes: u64,
}

impl fmt::Display for DeviceWindowFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room left to map the device at {}, {:#x} bytes", self.start, self.bytes)
    }
}

impl core::error::Error for DeviceWindowFull {}

/// Pages that the window's one level-3 table maps; larger ranges are mapped by blocks.
const PAGES: usize = 512;
const BLOCKS: usize = 512;

static NEXT_PAGE: AtomicUsize = AtomicUsize::new(0);
/// Block 0 is where the level-3 table stands.
static NEXT_BLOCK: AtomicUsize = AtomicUsize::new(1);

/// Takes `count` of the `limit` entries that `next` counts.
fn take(next: &AtomicUsize, count: usize, limit: usize) -> Option<usize> {
    next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| at.checked_add(count).filter(|&end| end <= limit)).ok()
}

/// Maps the registers at `range` as Device-nGnRE, never executable, for good. Returns where `range` starts.
///
/// # Errors
///
/// [`DeviceWindowFull`] when the window has no room left: 512 pages, and 511 blocks for ranges above 64 KiB.
pub fn map_device(range: Range<PhysAddr>) -> Result<VirtAddr, DeviceWindowFull> {
    let full = DeviceWindowFull { start: range.start, bytes: range.end.0.saturating_sub(range.start.0) };
    let small = full.bytes <= 64 << 10;
    let (unit, level, table, next, limit) = match small {
        true => (PAGE_SIZE, Level::Three, &layout::__device_level3, &NEXT_PAGE, PAGES),
        false => (BLOCK_SIZE, Level::Two, &layout::__device_level2, &NEXT_BLOCK, BLOCKS),
    };
    let start = range.start.align_down(unit);
    let end = range.end.align_up(unit).ok_or(full)?;
    let count = (end.0.saturating_sub(start.0) / unit as u64) as usize;
    let first = take(next, count, limit).ok_or(full)?;
    for index in 0..count {
        let leaf = descriptor::kernel_leaf(KernelMemory::Device, start + (index * unit) as u64, level);
        entry(table, first + index).store(leaf, Ordering::Relaxed);
    }
    publish();
    Ok(layout::DEVICES.start + (first * unit) as u64 + (range.start - start))
}
