//! Builds the linear map: all RAM, by the largest blocks that fit.

use super::descriptor::{self, KernelMemory};
use super::{fixed_map, layout};
use crate::mm::address::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::mm::frame::MemoryMap;
use crate::mm::mmu::{Entry, Level};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// There is no RAM left for the tables that map RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemoryForTables {
    /// The first address that could not be mapped.
    pub at: PhysAddr,
}

impl fmt::Display for NoMemoryForTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for the tables that map RAM from {}", self.at)
    }
}

impl core::error::Error for NoMemoryForTables {}

type Table = [AtomicU64; 512];

static STANDS: AtomicBool = AtomicBool::new(false);
static TABLES: AtomicUsize = AtomicUsize::new(0);

/// Whether the linear map is complete.
pub fn stands() -> bool {
    STANDS.load(Ordering::Relaxed)
}

/// Tables that the linear map is made of, below the kernel's level-1 table, which is in the image.
pub fn tables() -> usize {
    TABLES.load(Ordering::Relaxed)
}

/// Maps all of `ram`; the tables are carved from `free`.
///
/// # Errors
///
/// [`NoMemoryForTables`]. What was mapped by then stays.
pub(super) fn build(ram: &MemoryMap, free: &mut MemoryMap) -> Result<(), NoMemoryForTables> {
    let mut builder = Builder { free, windows: 0, open: [None; 2] };
    for range in ram.iter() {
        let mut at = range.start;
        while at < range.end {
            let fits = |level: &Level| at.is_aligned(1 << level.shift()) && range.end - at >= 1 << level.shift();
            let level = [Level::One, Level::Two].into_iter().find(fits).unwrap_or(Level::Three);
            builder.map(at, level)?;
            at = at + (1 << level.shift());
        }
    }
    let windows = builder.windows;
    fixed_map::close_windows(windows);
    TABLES.store(windows, Ordering::Relaxed);
    STANDS.store(true, Ordering::Relaxed);
    Ok(())
}

/// RAM is mapped in ascending order, so that one table of each level is enough to remember.
struct Builder<'a> {
    free: &'a mut MemoryMap,
    /// Pages of the table window in use.
    windows: usize,
    /// The level-2 and the level-3 table last used, each with the number of its entry among all of the level above.
    open: [Option<(u64, &'static Table)>; 2],
}

impl Builder<'_> {
    fn map(&mut self, at: PhysAddr, level: Level) -> Result<(), NoMemoryForTables> {
        let page = layout::linear(at).page();
        let leaf = descriptor::kernel_leaf(KernelMemory::Data, at, level);
        self.table(at, level)?[level.index(page)].store(leaf, Ordering::Relaxed);
        Ok(())
    }

    /// The table of `level` that maps `at`.
    fn table(&mut self, at: PhysAddr, level: Level) -> Result<&'static Table, NoMemoryForTables> {
        let above = match level {
            Level::One => return Ok(kernel_root()),
            Level::Two => Level::One,
            Level::Three => Level::Two,
        };
        let number = at.0 >> above.shift();
        let slot = level as usize - Level::Two as usize;
        if let Some((open, table)) = self.open[slot]
            && open == number
        {
            return Ok(table);
        }
        let frame = self.free.carve(PAGE_SIZE, PAGE_SIZE).ok_or(NoMemoryForTables { at })?;
        let table = fixed_map::window(self.windows, frame);
        self.windows += 1;
        for entry in table {
            entry.store(0, Ordering::Relaxed);
        }
        let upper = self.table(at, above)?;
        let entry = descriptor::encode(Entry::Table(frame.frame()), above);
        // The zeros have to be seen before the table is.
        fixed_map::publish();
        upper[above.index(layout::linear(at).page())].store(entry, Ordering::Relaxed);
        self.open[slot] = Some((number, table));
        Ok(table)
    }
}

/// The kernel's level-1 table.
pub(super) fn kernel_root() -> &'static Table {
    let root = layout::__kernel_root.address().0 as usize;
    // SAFETY: `linker.ld` reserves a page there, `boot.s` maps it for good; it is only ever used as atomic words.
    unsafe { &*core::ptr::with_exposed_provenance::<Table>(root) }
}

/// The frame at `at`, as a table, through the linear map. It is zeroed.
///
/// # Safety
///
/// The linear map stands, and the frame is the caller's.
pub(super) unsafe fn new_table(at: PhysAddr) -> &'static Table {
    let VirtAddr(place) = layout::linear(at);
    // SAFETY: the caller has the frame, and the linear map maps it.
    let table = unsafe { &*core::ptr::with_exposed_provenance::<Table>(place as usize) };
    for entry in table {
        entry.store(0, Ordering::Relaxed);
    }
    table
}
