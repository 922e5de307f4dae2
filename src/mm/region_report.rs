//! What a region has of memory, and whether it may have blocks (Linux: `/proc/PID/smaps`).
#![forbid(unsafe_code)]

use super::address::{PAGE_SIZE, PAGES_PER_SLOT, Page, VirtAddr};
use super::huge::HugePolicy;
use super::mmu::{Access, Mmu};
use super::walk::{Origin, Size};
use super::{MemoryManager, Refusal};
use core::fmt;
use core::ops::Range;

/// A region, and the memory in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionReport {
    /// Its addresses.
    pub range: Range<VirtAddr>,
    /// What the application may do.
    pub access: Access,
    /// Its wish for blocks.
    pub policy: HugePolicy,
    /// Bytes that are present.
    pub present: usize,
    /// Of them, those in blocks.
    pub huge: usize,
    /// Of them, those in groups of 64 KiB.
    pub groups: usize,
    /// Whether it may have blocks; or why not.
    pub eligible: Result<(), Refusal>,
}

impl fmt::Display for RegionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end, access, policy) = (self.range.start, self.range.end, self.access, self.policy);
        writeln!(f, "{start}..{end}: {access}, huge pages {policy:?}")?;
        let mut line = |name: &str, bytes: usize| writeln!(f, "{name:<16}{:>8} kB", bytes / 1024);
        let size = (end - start) as usize;
        line("Size:", size)?;
        line("Rss:", self.present)?;
        line("AnonHugePages:", self.huge)?;
        line("Groups:", self.groups)?;
        write!(f, "{:<16}{:>8}", "THPeligible:", u8::from(self.eligible.is_ok()))?;
        if let Err(refusal) = self.eligible {
            write!(f, "  ({refusal})")?;
        }
        Ok(())
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// The first region that ends above `after`, and what is in it. Looks at its slots, one lock at a time.
    pub fn region_report(&self, after: VirtAddr) -> Option<RegionReport> {
        let (pages, region) = self.regions.read().next(after.page().0)?;
        let mut report = RegionReport {
            range: Page(pages.start).start()..Page(pages.end).start(),
            access: region.access,
            policy: region.policy,
            present: 0,
            huge: 0,
            groups: 0,
            eligible: Ok(()),
        };
        let first = pages.start.next_multiple_of(PAGES_PER_SLOT as u64);
        if first + PAGES_PER_SLOT as u64 > pages.end {
            report.eligible = Err(Refusal::NotCovered);
        } else if !self.policy.allows(region.policy) {
            report.eligible = Err(Refusal::Policy);
        }
        self.walk(pages, |leaf| {
            if matches!(leaf.origin, Origin::Zeros | Origin::Live) {
                return;
            }
            let bytes = leaf.pages * PAGE_SIZE;
            report.present += bytes;
            match leaf.size {
                Size::Block => report.huge += bytes,
                Size::Group => report.groups += bytes,
                Size::Page => {}
            }
        });
        Some(report)
    }
}
