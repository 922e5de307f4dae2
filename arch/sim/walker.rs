//! The table walker: raw descriptors to translations, by its own reading of the Arm ARM (D8.3), so that a wrong bit in
//! `descriptor.rs` shows as a wrong translation.
#![forbid(unsafe_code)]

use crate::mm::address::{Frame, LOWER_END, PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr};
use crate::mm::mmu::{Access, Level};

/// Bits of a descriptor that may change while it is valid (Arm ARM D8.16.1): AP\[2:1\], AF, DBM, PXN, UXN and
/// the bits left to software (58:55).
pub(super) const CHANGEABLE: u64 = 0b11 << 6 | 1 << 10 | 1 << 51 | 0b11 << 53 | 0b1111 << 55;
/// The access flag.
pub(super) const ACCESSED: u64 = 1 << 10;
/// The contiguous bit.
pub(super) const CONTIGUOUS: u64 = 1 << 52;
/// Bits 47:12.
pub(super) const OUTPUT: u64 = (1 << 48) - (1 << PAGE_SHIFT);

/// What a block or page descriptor says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leaf {
    /// First byte of what it maps.
    pub output: PhysAddr,
    /// Its level.
    pub level: Level,
    /// What EL1 may do.
    pub access: Access,
    /// The access flag.
    pub accessed: bool,
    /// The contiguous bit.
    pub contiguous: bool,
    /// Not of any ASID.
    pub global: bool,
}

/// A raw descriptor, by the walker's reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    Invalid,
    Table(Frame),
    Leaf(Leaf),
}

/// Reads a descriptor found in a table of `level`.
pub(super) fn read(raw: u64, level: Level) -> Meaning {
    let bit = |n: u32| raw >> n & 1 == 1;
    let output = PhysAddr(raw & OUTPUT);
    match (bit(0), bit(1), level) {
        (false, ..) | (true, false, Level::Three) => Meaning::Invalid,
        (true, true, Level::One | Level::Two) => Meaning::Table(output.frame()),
        _ => {
            let writable = !bit(7);
            // AP[1] opens the page to EL0; what EL0 may write, EL1 never executes (Arm ARM, instruction execution permissions).
            let open = bit(6);
            // Bit 55 is software's: with the access flag clear, it says that the page allows nothing.
            let access = match bit(55) && !bit(10) {
                true => Access::NONE,
                false => Access { read: true, write: writable, execute: !(bit(53) || open && writable) },
            };
            Meaning::Leaf(Leaf {
                output: output.align_down(1 << level.shift()),
                level,
                access,
                accessed: bit(10),
                contiguous: bit(52),
                global: !bit(11),
            })
        }
    }
}

/// The next level down; `None` below level 3.
pub(super) fn below(level: Level) -> Option<Level> {
    match level {
        Level::One => Some(Level::Two),
        Level::Two => Some(Level::Three),
        Level::Three => None,
    }
}

/// Where the entry for `at` lies in `table`, a table of `level`.
pub(super) fn entry_address(table: Frame, level: Level, at: VirtAddr) -> PhysAddr {
    table.start() + (at.0 >> level.shift() & 511) * 8
}

/// A walk that ended at a leaf, or at the level that translates nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// The last entry read; the root's own address for an address outside the lower half.
    pub entry: PhysAddr,
    /// What stood there.
    pub raw: u64,
    /// Its level.
    pub level: Level,
    /// The leaf, if it is one.
    pub leaf: Option<Leaf>,
}

impl Walk {
    /// The physical address of `at`.
    pub(super) fn translate(&self, at: VirtAddr) -> Option<PhysAddr> {
        self.leaf.map(|leaf| leaf.output + (at.0 & ((1 << leaf.level.shift()) - 1)))
    }
}

/// Walks for `at` from `table`, a table of `level`. `fetch` reads a descriptor; `pass` is told of each table descriptor
/// on the way: its address, its level and the table it names.
pub(super) fn walk(
    mut table: Frame,
    mut level: Level,
    at: VirtAddr,
    mut fetch: impl FnMut(PhysAddr) -> u64,
    mut pass: impl FnMut(PhysAddr, Level, Frame),
) -> Walk {
    if at.0 >= LOWER_END {
        return Walk { entry: table.start(), raw: 0, level, leaf: None };
    }
    loop {
        let entry = entry_address(table, level, at);
        let raw = fetch(entry);
        match (read(raw, level), below(level)) {
            (Meaning::Table(next), Some(lower)) => {
                pass(entry, level, next);
                (table, level) = (next, lower);
            }
            (Meaning::Leaf(leaf), _) => return Walk { entry, raw, level, leaf: Some(leaf) },
            _ => return Walk { entry, raw, level, leaf: None },
        }
    }
}

/// A leaf of the tables, as [`SimMachine::mappings`](super::SimMachine::mappings) lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The first address mapped.
    pub va: VirtAddr,
    /// Bytes mapped: 4 KiB, 2 MiB or 1 GiB.
    pub bytes: usize,
    /// What it maps to.
    pub pa: PhysAddr,
    /// What is allowed.
    pub access: Access,
    /// The access flag.
    pub accessed: bool,
    /// The contiguous bit.
    pub contiguous: bool,
}

/// Calls `visit` for every leaf below `table`, a table of `level` whose first entry translates `first`, in order of address.
pub(super) fn visit(
    table: Frame,
    level: Level,
    first: VirtAddr,
    fetch: &impl Fn(PhysAddr) -> u64,
    visit_leaf: &mut impl FnMut(Mapping),
) {
    for index in 0..(PAGE_SIZE / 8) as u64 {
        let va = first + (index << level.shift());
        match (read(fetch(table.start() + index * 8), level), below(level)) {
            (Meaning::Table(next), Some(lower)) => visit(next, lower, va, fetch, visit_leaf),
            (Meaning::Leaf(Leaf { output: pa, access, accessed, contiguous, .. }), _) => {
                visit_leaf(Mapping { va, bytes: 1 << level.shift(), pa, access, accessed, contiguous });
            }
            _ => {}
        }
    }
}
