//! The memory report: what a user wants to know after a run.

use super::memory::{Bytes, Stalls, Usage, pressure, usage};
use super::time;
use crate::arch::aarch64::{gate, memory};
use crate::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE};
use crate::mm::stats::Counters;
use core::fmt;
use core::time::Duration;

/// The application's memory at one moment, and what happened to it since boot. Displayed as a table.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is mapped.
    pub usage: Usage,
    /// Frames: all, free, absent from their homes, unmovable, pinned.
    pub frames: [usize; 5],
    /// Blocks that are free as a whole.
    pub free_blocks: usize,
    /// Time lost for want of memory.
    pub stalls: Stalls,
    /// Since the machine was switched on.
    pub time: Duration,
    counters: &'static Counters,
}

/// The memory report of this moment.
pub fn report() -> Report {
    let (frames, free_blocks) = gate::call(|| {
        let statistics = memory::manager().frames().statistics();
        let frames =
            [statistics.total, statistics.unused(), statistics.absent, statistics.unmovable, statistics.pinned];
        (frames, statistics.free_blocks())
    });
    let (stalls, time) = (pressure(), time::since_start());
    Report { usage: usage(), frames, free_blocks, stalls, time, counters: memory::manager().counters() }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { blocks, groups, pages, tables, regions, region_pages, .. } = self.usage;
        let (mapped, coverage) = (Bytes(self.usage.mapped_bytes() as u64), self.usage.coverage());
        let of = |count: usize, size: usize| Bytes((count * size) as u64);
        let region_bytes = Bytes(region_pages * PAGE_SIZE as u64);
        writeln!(f, "memory: {mapped} mapped, {}.{:02} % of it in blocks", coverage / 100, coverage % 100)?;
        writeln!(f, "  blocks of 2 MiB   {blocks:8}  {}", of(blocks, BLOCK_SIZE))?;
        writeln!(f, "  groups of 64 KiB  {groups:8}  {}", of(groups, GROUP_SIZE))?;
        writeln!(f, "  pages of 4 KiB    {pages:8}  {}", of(pages, PAGE_SIZE))?;
        writeln!(f, "  tables            {tables:8}  {}", of(tables, PAGE_SIZE))?;
        writeln!(f, "  regions           {regions:8}  {region_bytes}")?;

        let c = self.counters;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, counts: &[(&str, u64)]| {
            write!(f, "{what}:")?;
            let mut separator = " ";
            for (name, count) in counts {
                write!(f, "{separator}{count} {name}")?;
                separator = ", ";
            }
            writeln!(f)
        };
        line(
            f,
            "faults",
            &[
                ("in all", c.pgfault.get()),
                ("blocks", c.pgfault_block.get()),
                ("groups", c.pgfault_group.get()),
                ("pages", c.pgfault_page.get()),
                ("access flag", c.access_flag_fault.get()),
                ("spurious", c.spurious_fault.get()),
            ],
        )?;
        line(f, "slots", &[("given a block", c.thp_fault_alloc.get()), ("promoted in place", c.promote.get())])?;
        line(
            f,
            "fallbacks",
            &[
                ("no free block", c.thp_fault_fallback.get()),
                ("region too small", c.thp_fault_fallback_unaligned.get()),
                ("policy", c.thp_fault_fallback_policy.get()),
                ("no free group", c.group_fault_fallback.get()),
            ],
        )?;
        line(
            f,
            "splits",
            &[
                ("in all", c.thp_split_pmd.get()),
                ("by release", c.thp_split_pmd_release.get()),
                ("by unmap", c.thp_split_pmd_unmap.get()),
                ("by protect", c.thp_split_pmd_protect.get()),
                ("for zero pages", c.thp_split_pmd_underused.get()),
            ],
        )?;
        line(
            f,
            "homes",
            &[
                ("dissolved", c.thp_split_page.get()),
                ("refused, pinned", c.thp_split_page_failed.get()),
                ("deferred", c.thp_deferred_split_page.get()),
            ],
        )?;
        line(
            f,
            "collapsed, moved, pinned",
            &[("slots", c.collapse.get()), ("pages", c.migrate_pages.get()), ("frames", c.pin_frames.get())],
        )?;
        line(
            f,
            "background",
            &[
                ("slots collapsed", c.khugepaged_collapsed.get()),
                ("blocks emptied", c.compact_blocks.get()),
                ("times memory was given back", c.kswapd_steal.get()),
            ],
        )?;
        line(f, "invalidations", &[("by address", c.tlb_flush_page.get()), ("of everything", c.tlb_flush_all.get())])?;
        let [all, free, absent, unmovable, pinned] = self.frames.map(|count| of(count, PAGE_SIZE));
        writeln!(
            f,
            "RAM: {all}, of it {free} free ({} whole blocks), {absent} absent from homes, {unmovable} unmovable, \
             {pinned} pinned",
            self.free_blocks
        )?;
        writeln!(f, "zeroed: {}", Bytes(c.zeroed_bytes.get()))?;
        writeln!(f, "pressure: {}", self.stalls)?;
        write!(f, "time: {}.{:03} s since the start", self.time.as_secs(), self.time.subsec_millis())
    }
}
