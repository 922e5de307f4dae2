//! What each frame of RAM is used for: table, mapped memory, code.
#![forbid(unsafe_code)]

use super::memory::Memory;
use super::walker::Leaf;
use crate::mm::address::{Frame, PAGE_SHIFT, PAGES_PER_SLOT, Page};
use crate::mm::mmu::Level;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// Pages that one entry of a table of `level` translates.
pub(super) fn entry_pages(level: Level) -> u64 {
    1 << (level.shift() - PAGE_SHIFT)
}

/// Where a table is linked: its level, and the first page that it translates.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub level: Level,
    pub first: Page,
}

/// Books of all frames, by their number in RAM. All zero at first, so that frames never used cost nothing.
pub(super) struct Frames {
    /// How the frame is linked as a table: level in bits 1:0, page above; 0 if it is not.
    links: Vec<u64>,
    /// More places where level-3 tables are linked.
    others: BTreeMap<Frame, Vec<Link>>,
    /// Page descriptors that map the frame; in the upper half, those of them that allow stores.
    pages: Vec<u32>,
    /// The same of block descriptors, at the first frame of each block.
    blocks: Vec<u32>,
    /// A bit each: written since the last `sync_code`.
    code: Vec<u64>,
}

impl Frames {
    pub(super) fn new(frames: usize) -> Self {
        Self {
            links: vec![0; frames],
            others: BTreeMap::new(),
            pages: vec![0; frames],
            blocks: vec![0; frames],
            code: vec![0; frames.div_ceil(64)],
        }
    }

    /// Where `table` is linked.
    pub(super) fn link_of(&self, memory: &Memory, table: Frame) -> Option<Link> {
        let packed = self.links[memory.index(table)?];
        let level = match packed & 3 {
            1 => Level::One,
            2 => Level::Two,
            3 => Level::Three,
            _ => return None,
        };
        Some(Link { level, first: Page(packed >> 2) })
    }

    pub(super) fn set_link(&mut self, memory: &Memory, table: Frame, link: Option<Link>) {
        if let Some(slot) = memory.index(table) {
            self.links[slot] = link.map_or(0, |link| link.first.0 << 2 | link.level as u64);
        }
    }

    /// Where else `table` is linked.
    pub(super) fn other_links_of(&self, table: Frame) -> &[Link] {
        self.others.get(&table).map_or(&[], |links| links)
    }

    /// Links `table`, which is linked, at one more place.
    pub(super) fn add_link(&mut self, table: Frame, link: Link) {
        self.others.entry(table).or_default().push(link);
    }

    /// Takes the link of `table` at `first` away, if it has others.
    pub(super) fn remove_link(&mut self, memory: &Memory, table: Frame, first: Page) -> bool {
        let Some(others) = self.others.get_mut(&table) else { return false };
        match others.iter().position(|link| link.first == first) {
            Some(at) => _ = others.swap_remove(at),
            None => {
                let link = others.pop();
                self.set_link(memory, table, link);
            }
        }
        self.others.retain(|_, links| !links.is_empty());
        true
    }

    /// Whether one of the `count` frames from `first` is linked as a table.
    pub(super) fn hold_table(&self, memory: &Memory, first: Frame, count: usize) -> bool {
        memory.index(first).is_some_and(|slot| self.links[slot..slot + count].iter().any(|&link| link != 0))
    }

    /// Counts a leaf as one user more (`change` = 1) or less (-1) of what it maps.
    pub(super) fn count(&mut self, memory: &Memory, leaf: Leaf, change: i32) {
        let amount = if leaf.access.write { change * 0x1_0001 } else { change };
        let add = |uses: &mut Vec<u32>, frame| {
            if let Some(slot) = memory.index(frame) {
                uses[slot] = uses[slot].wrapping_add_signed(amount);
            }
        };
        let first = leaf.output.frame();
        match leaf.level {
            Level::Three => add(&mut self.pages, first),
            level => {
                (0..entry_pages(level)).step_by(PAGES_PER_SLOT).for_each(|offset| add(&mut self.blocks, first + offset))
            }
        }
    }

    /// Whether the tables map one of the `count` frames from `first`.
    pub(super) fn mapped(&self, memory: &Memory, first: Frame, count: usize) -> bool {
        self.used(memory, first, count, |uses| uses != 0)
    }

    /// Whether the tables map one of the `count` frames from `first` for stores.
    pub(super) fn writable(&self, memory: &Memory, first: Frame, count: usize) -> bool {
        self.used(memory, first, count, |uses| uses >> 16 != 0)
    }

    fn used(&self, memory: &Memory, first: Frame, count: usize, what: impl Fn(u32) -> bool) -> bool {
        let Some(slot) = memory.index(first) else { return false };
        let block_start = |block: u64| memory.index(Frame(block * PAGES_PER_SLOT as u64));
        let mut blocks = first.block().0..=(first + (count as u64 - 1)).block().0;
        self.pages[slot..slot + count].iter().any(|&uses| what(uses))
            || blocks.any(|block| block_start(block).is_some_and(|slot| what(self.blocks[slot])))
    }

    /// Sets whether `count` frames hold bytes that instruction fetches may not see yet.
    pub(super) fn note_code(&mut self, memory: &Memory, first: Frame, count: usize, written: bool) {
        let Some(slot) = memory.index(first) else { return };
        for slot in slot..slot + count {
            match written {
                true => self.code[slot / 64] |= 1 << (slot % 64),
                false => self.code[slot / 64] &= !(1 << (slot % 64)),
            }
        }
    }

    /// Whether `frame` was written since its last `sync_code`.
    pub(super) fn is_unsynchronized(&self, memory: &Memory, frame: Frame) -> bool {
        memory.index(frame).is_some_and(|slot| self.code[slot / 64] >> (slot % 64) & 1 == 1)
    }
}
