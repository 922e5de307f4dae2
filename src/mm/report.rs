//! What memory looks like: how much of it is in blocks, and what stands at one address.
#![forbid(unsafe_code)]

use super::MemoryManager;
use super::address::{BLOCK_SIZE, GROUP_SIZE, LOWER_END, PAGE_SIZE, PAGES_PER_SLOT, VirtAddr, part_in, slots_of};
use super::bits::Bits512;
use super::mmu::{Entry, Level, Mmu};
use super::walk::{Origin, Size};
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;

/// The application's memory by the size of its descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Slots mapped by a block descriptor.
    pub blocks: usize,
    /// Groups of 64 KiB mapped with the contiguous bit.
    pub groups: usize,
    /// Pages mapped singly.
    pub pages: usize,
    /// Pages mapped to the zero block: no memory of theirs.
    pub zeros: usize,
    /// Pages that are mapped to memory which is counted elsewhere: of snapshots, to the live memory; of other places of what is
    /// mapped at several.
    pub shared: u32,
    /// Frames that hold translation tables, deposits included.
    pub tables: usize,
    /// Regions.
    pub regions: u32,
    /// Pages of all regions, touched or not.
    pub region_pages: u64,
    /// Pages charged against the commit limit.
    pub committed_pages: u64,
}

impl Usage {
    /// Bytes mapped.
    pub fn mapped_bytes(&self) -> usize {
        self.blocks * BLOCK_SIZE + self.groups * GROUP_SIZE + self.pages * PAGE_SIZE
    }

    /// Hundredths of a percent of the mapped bytes that block descriptors map; 0 when nothing is mapped.
    pub fn coverage(&self) -> usize {
        (self.blocks * BLOCK_SIZE * 10_000).checked_div(self.mapped_bytes()).unwrap_or(0)
    }
}

/// How many of the largest are named.
const NAMED: usize = 8;

/// The largest of some ranges of pages: how many pages count, the range, and what it is.
struct Largest {
    found: usize,
    largest: ArrayVec<(usize, Range<u64>, &'static str), { NAMED + 1 }>,
}

impl Largest {
    fn new() -> Self {
        Largest { found: 0, largest: ArrayVec::new() }
    }

    #[inline(never)] // Every image has it: twice would be too much.
    fn add(&mut self, pages: usize, range: Range<u64>, what: &'static str) {
        self.found += 1;
        let rank = self.largest.iter().position(|(counted, ..)| *counted < pages).unwrap_or(self.largest.len());
        self.largest.insert(rank, (pages, range, what));
        self.largest.truncate(NAMED);
    }

    #[inline(never)]
    fn describe(&self, title: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{title}, of {}:", self.found)?;
        for (pages, range, what) in &self.largest {
            let (start, end) = (range.start * PAGE_SIZE as u64, range.end * PAGE_SIZE as u64);
            writeln!(out, "  {start:#x}..{end:#x}: {} KiB of {} KiB{what}", pages * 4, (end - start) / 1024)?;
        }
        Ok(())
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Counts the application's memory. Looks at every slot, one lock at a time.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage { tables: 1, ..Usage::default() };
        {
            let space = self.space.lock();
            usage.committed_pages = space.committed;
            for (range, _) in self.regions.read().iter() {
                usage.regions += 1;
                usage.region_pages += range.end - range.start;
            }
        }
        for index in 0..PAGES_PER_SLOT {
            usage.tables += self.machine.read_entry(self.root, index, Level::One).is_valid() as usize;
        }
        let (mut last, mut block_pages) = (None, 0);
        self.walk(0..LOWER_END / PAGE_SIZE as u64, |leaf| {
            let is_first = last.replace(leaf.page.slot()) != Some(leaf.page.slot());
            usage.tables += usize::from(is_first && leaf.origin != Origin::Alias);
            match leaf.origin {
                Origin::Own => {}
                Origin::Zeros => return usage.zeros += leaf.pages,
                Origin::Live | Origin::Alias => return usage.shared += leaf.pages as u32,
            }
            match leaf.size {
                Size::Block => block_pages += leaf.pages,
                Size::Group => usage.groups += 1,
                Size::Page => usage.pages += 1,
            }
        });
        usage.blocks = block_pages / PAGES_PER_SLOT;
        usage
    }

    /// Writes which regions hold most memory and which pins there are, the largest first. Takes no lock that is held, as
    /// [`MemoryManager::describe`].
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn describe_holders(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Some(tree) = self.regions.try_read() else { return writeln!(out, "regions: unknown, they are locked") };
        let mut holders = Largest::new();
        tree.iter().for_each(|(range, _)| holders.add(self.present_in(&range), range, ""));
        holders.describe("regions that hold most", out)?;
        let mut pins = Largest::new();
        self.each_pin(|range, kind| pins.add((range.end - range.start) as usize, range, kind));
        pins.describe("pins", out)
    }

    /// Present pages of `range`, slots that are locked left out.
    fn present_in(&self, range: &Range<u64>) -> usize {
        let present = |(number, handle)| {
            let mut inside = Bits512::EMPTY;
            inside.set_range(part_in(range, number));
            self.slots.get(handle).try_state().map_or(0, |state| state.present().and(&inside).count())
        };
        self.directory.slots(slots_of(range)).map(present).sum()
    }

    /// Writes what stands at `address`: its region, its slot, the descriptors of the walk. Takes no lock that is held, so
    /// that a crash report can call it wherever the crash was.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn describe(&self, address: VirtAddr, out: &mut dyn fmt::Write) -> fmt::Result {
        if address.0 >= LOWER_END {
            return writeln!(out, "    {address} is not the application's to use");
        }
        match self.regions.try_read() {
            None => writeln!(out, "    region: unknown, the regions are locked")?,
            Some(regions) => match regions.find(address.page().0) {
                Some((range, region)) => {
                    let (start, end) = (range.start * PAGE_SIZE as u64, range.end * PAGE_SIZE as u64);
                    let (access, policy) = (region.access, region.policy);
                    writeln!(out, "    region {start:#x}..{end:#x}: allows {access}, huge pages {policy:?}")?;
                }
                None => {
                    writeln!(out, "    in no region")?;
                    if let Some((range, _)) = regions.next(address.page().0) {
                        let start = range.start * PAGE_SIZE as u64;
                        writeln!(out, "    next region begins at {start:#x}, {:#x} further on", start - address.0)?;
                    }
                }
            },
        }
        let (page, index) = (address.page(), address.page().index());
        match self.directory.get(page.slot()).map(|handle| self.slots.get(handle).try_state()) {
            None => writeln!(out, "    slot: never touched")?,
            Some(None) => writeln!(out, "    slot: locked")?,
            Some(Some(state)) => {
                let page = match (state.present().get(index), state.away().get(index), state.released().get(index)) {
                    (true, false, _) => "present, at home",
                    (true, true, _) => "present, away from home",
                    _ if state.borrowed().get(index) => "read, but not written: zeros",
                    (_, _, true) => "released",
                    _ => "never touched",
                };
                let (mapping, home, count) = (state.mapping(), state.home(), state.present().count());
                writeln!(out, "    slot: {mapping:?}, home {home:?}, {count} of 512 pages present")?;
                writeln!(out, "    page: {page}")?;
            }
        }
        let mut table = self.root;
        for level in [Level::One, Level::Two, Level::Three] {
            let entry = self.machine.read_entry(table, level.index(page), level);
            writeln!(out, "    level {}: {entry:?}", level as u8)?;
            match entry {
                Entry::Table(next) => table = next,
                _ => break,
            }
        }
        Ok(())
    }
}
