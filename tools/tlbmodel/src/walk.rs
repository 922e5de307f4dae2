//! Translation tables as a walker reads them: stage 1 of EL1&0 with pages of 4 KiB (Arm ARM D8.2, D8.3).
#![forbid(unsafe_code)]

/// The guest's physical memory.
pub trait Memory {
    /// The 8 bytes at `at`, if there is memory.
    fn read(&self, at: u64) -> Option<u64>;
}

/// The registers that say how addresses are translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regime {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}

/// A table, and what the descriptors that led to it forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Of its descriptors.
    pub level: u8,
    /// Where it lies.
    pub at: u64,
    /// APTable, UXNTable and PXNTable of all levels above, as in bits 63 to 59 (Arm ARM D8.4.1).
    limits: u64,
}

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    const WRITE: u8 = 1;
    const USER: u8 = 2;
    const FETCH: u8 = 4;
    const USER_FETCH: u8 = 8;

    /// Stores.
    pub fn writes(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// Fetches, at EL1 or at EL0.
    pub fn fetches(self) -> bool {
        self.0 & (Self::FETCH | Self::USER_FETCH) != 0
    }

    /// Whether these allow what `others` don't.
    pub fn exceed(self, others: Rights) -> bool {
        self.0 & !others.0 != 0
    }
}

/// What a walk finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first virtual address.
    pub start: u64,
    /// The physical address of that.
    pub output: u64,
    /// Its size, as a shift; that of 16 descriptors where they are contiguous.
    pub shift: u8,
    /// The size of the one descriptor.
    pub leaf: u8,
    /// For all address spaces: nG is clear.
    pub global: bool,
    /// What it allows.
    pub rights: Rights,
    /// AttrIndx and SH.
    pub attributes: u8,
}

impl Mapping {
    /// The physical address of `va`, which it maps.
    pub fn physical(&self, va: u64) -> u64 {
        self.output + (va - self.start)
    }
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No tables for such an address.
    Range,
    /// Pages of another size than 4 KiB.
    Granule,
    /// A descriptor that is not valid, at this level.
    Translation(u8),
    /// The access flag is clear.
    AccessFlag(u8),
    /// A table where no memory is.
    Unreadable,
}

/// Bytes that a descriptor at `level` is for, as a shift.
pub const fn shift(level: u8) -> u8 {
    39 - 9 * level
}

const VALID: u64 = 1;
const TABLE: u64 = 1 << 1;
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const ACCESS_FLAG: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const CONTIGUOUS: u64 = 1 << 52;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const PXN_TABLE: u64 = 1 << 59;
const UXN_TABLE: u64 = 1 << 60;
const NO_USER_TABLE: u64 = 1 << 61;
const READ_ONLY_TABLE: u64 = 1 << 62;
const LIMITS: u64 = 0x1f << 59;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Whether `va` is in the upper half, that of TTBR1.
pub const fn is_upper(va: u64) -> bool {
    va >> 55 & 1 != 0
}

/// `va` with bit 55 in all above it, as TLBs compare it.
pub const fn canonical(va: u64) -> u64 {
    ((va << 8) as i64 >> 8) as u64
}

impl Regime {
    /// Whether addresses are translated at all.
    pub fn is_on(&self) -> bool {
        self.sctlr & 1 != 0
    }

    /// The address space: of the base register that A1 names, 8 bits of it unless AS is set.
    pub fn asid(&self) -> u16 {
        let base = if self.tcr >> 22 & 1 != 0 { self.ttbr1 } else { self.ttbr0 };
        let asid = (base >> 48) as u16;
        if self.tcr >> 36 & 1 != 0 { asid } else { asid & 0xff }
    }

    /// Whether tables limit what is below them: HPD0 and HPD1 say that they don't.
    fn limits(&self, va: u64) -> u64 {
        let disabled = self.tcr >> if is_upper(va) { 42 } else { 41 } & 1 != 0;
        if disabled { 0 } else { LIMITS }
    }

    fn root(&self, va: u64) -> Result<Table, Fault> {
        let (size, off, granule, base) = if is_upper(va) {
            (self.tcr >> 16 & 0x3f, self.tcr >> 23 & 1, self.tcr >> 30 & 3 != 2, self.ttbr1)
        } else {
            (self.tcr & 0x3f, self.tcr >> 7 & 1, self.tcr >> 14 & 3 != 0, self.ttbr0)
        };
        if granule {
            return Err(Fault::Granule);
        }
        let bits = 64 - size.clamp(16, 39);
        let above = va as i64 >> bits;
        if off != 0 || !(above == 0 || above == -1) {
            return Err(Fault::Range);
        }
        let levels = (bits - 12).div_ceil(9) as u8;
        Ok(Table { level: 4 - levels, at: base & 0x0000_ffff_ffff_fffe, limits: 0 })
    }
}

/// A walk, whatever came of it.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// What was found.
    pub result: Result<Mapping, Fault>,
    /// Descriptors that were read.
    pub reads: u8,
    /// The tables that were found on the way, by level.
    pub tables: [Option<Table>; 4],
}

/// Walks the tables for `va`, which is canonical: from the root, or from a table that is known.
pub fn walk(regime: &Regime, va: u64, from: Option<Table>, memory: &impl Memory) -> Walk {
    let mut walk = Walk { result: Err(Fault::Range), reads: 0, tables: [None; 4] };
    walk.result = (|| {
        let mut table = match from {
            Some(table) => table,
            None => regime.root(va)?,
        };
        loop {
            let level = table.level;
            let index = va >> shift(level) & 0x1ff;
            // A root may be smaller than a page: then what is above the addresses' size is not part of the index.
            let index = if from.is_none() && walk.reads == 0 { index & root_mask(regime, va, level) } else { index };
            walk.reads += 1;
            let descriptor = memory.read(table.at + index * 8).ok_or(Fault::Unreadable)?;
            let is_table = descriptor & TABLE != 0;
            if descriptor & VALID == 0 || (level == 3 && !is_table) || (level == 0 && !is_table) {
                return Err(Fault::Translation(level));
            }
            if level == 3 || !is_table {
                return leaf(descriptor, va, &table);
            }
            table = Table {
                level: level + 1,
                at: descriptor & ADDRESS,
                limits: table.limits | descriptor & regime.limits(va),
            };
            walk.tables[usize::from(table.level)] = Some(table);
        }
    })();
    walk
}

fn root_mask(regime: &Regime, va: u64, level: u8) -> u64 {
    let size = if is_upper(va) { regime.tcr >> 16 } else { regime.tcr } & 0x3f;
    let bits = 64 - size.clamp(16, 39);
    (1 << (bits - u64::from(shift(level)))) - 1
}

fn leaf(descriptor: u64, va: u64, table: &Table) -> Result<Mapping, Fault> {
    if descriptor & ACCESS_FLAG == 0 {
        return Err(Fault::AccessFlag(table.level));
    }
    let leaf = shift(table.level);
    let shift = leaf + if descriptor & CONTIGUOUS != 0 { 4 } else { 0 };
    let limits = table.limits;
    let mut rights = 0;
    let mut allow = |right, forbidden: bool| rights |= if forbidden { 0 } else { right };
    allow(Rights::WRITE, descriptor & READ_ONLY != 0 || limits & READ_ONLY_TABLE != 0);
    allow(Rights::USER, descriptor & USER == 0 || limits & NO_USER_TABLE != 0);
    allow(Rights::FETCH, descriptor & PXN != 0 || limits & PXN_TABLE != 0);
    allow(Rights::USER_FETCH, descriptor & UXN != 0 || limits & UXN_TABLE != 0);
    let mask = (1 << shift) - 1;
    Ok(Mapping {
        start: va & !mask,
        output: descriptor & ADDRESS & !mask,
        shift,
        leaf,
        global: descriptor & NOT_GLOBAL == 0,
        rights: Rights(rights),
        attributes: (descriptor >> 2 & 7 | descriptor >> 5 & 0x18) as u8,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Tables in memory of their own, made as they are needed.
    #[derive(Default)]
    pub struct Space {
        words: HashMap<u64, u64>,
        next: u64,
        pub regime: Regime,
    }

    impl Memory for Space {
        fn read(&self, at: u64) -> Option<u64> {
            Some(self.words.get(&at).copied().unwrap_or(0))
        }
    }

    pub const PAGE: u64 = ACCESS_FLAG | TABLE | VALID | NOT_GLOBAL;
    pub const BLOCK: u64 = ACCESS_FLAG | VALID | NOT_GLOBAL;
    pub const GROUP: u64 = PAGE | CONTIGUOUS;

    impl Space {
        /// Addresses of 39 bits in either half, ASID 1.
        pub fn new() -> Self {
            let (ttbr0, ttbr1) = (0x1000 | 1 << 48, 0x2000);
            let tcr = 25 | 25 << 16 | 2 << 30 | 1 << 36;
            Self { words: HashMap::new(), next: 0x3000, regime: Regime { sctlr: 1, tcr, ttbr0, ttbr1 } }
        }

        /// Where the descriptor of `level` for `va` lies, with tables down to there.
        pub fn slot(&mut self, va: u64, level: u8) -> u64 {
            let mut at = if is_upper(va) { self.regime.ttbr1 } else { self.regime.ttbr0 } & ADDRESS;
            for above in 1..level {
                let entry = at + (va >> shift(above) & 0x1ff) * 8;
                let next = &mut self.next;
                let descriptor = self.words.entry(entry).or_default();
                if *descriptor & (TABLE | VALID) != TABLE | VALID {
                    *next += 0x1000;
                    *descriptor = *next | TABLE | VALID;
                }
                at = *descriptor & ADDRESS;
            }
            at + (va >> shift(level) & 0x1ff) * 8
        }

        pub fn set(&mut self, va: u64, level: u8, descriptor: u64) {
            let at = self.slot(va, level);
            self.words.insert(at, descriptor);
        }
    }

    fn find(space: &Space, va: u64) -> Result<Mapping, Fault> {
        walk(&space.regime, va, None, space).result
    }

    #[test]
    fn pages_groups_and_blocks() {
        let mut space = Space::new();
        space.set(0x40_0000_1000, 3, 0x8000_3000 | PAGE);
        space.set(0x40_0021_3000, 3, 0x8001_3000 | GROUP);
        space.set(0x40_0040_0000, 2, 0x8020_0000 | BLOCK);
        space.set(0x40_8000_0000, 1, 0xc000_0000 | BLOCK);
        let page = find(&space, 0x40_0000_1234).unwrap();
        assert_eq!((page.shift, page.leaf, page.physical(0x40_0000_1234)), (12, 12, 0x8000_3234));
        let group = find(&space, 0x40_0021_3008).unwrap();
        assert_eq!((group.shift, group.leaf, group.start, group.output), (16, 12, 0x40_0021_0000, 0x8001_0000));
        assert_eq!(group.physical(0x40_0021_3008), 0x8001_3008);
        let block = find(&space, 0x40_0040_5008).unwrap();
        assert_eq!((block.shift, block.physical(0x40_0040_5008)), (21, 0x8020_5008));
        assert_eq!(find(&space, 0x40_8000_0008).unwrap().shift, 30);
        assert_eq!(walk(&space.regime, 0x40_0000_1000, None, &space).reads, 3);
        assert_eq!(walk(&space.regime, 0x40_0040_0000, None, &space).reads, 2);
    }

    #[test]
    fn a_known_table_shortens_a_walk() {
        let mut space = Space::new();
        space.set(0x1000, 3, 0x8000_3000 | PAGE);
        let whole = walk(&space.regime, 0x1000, None, &space);
        let part = walk(&space.regime, 0x1000, whole.tables[3], &space);
        assert_eq!((part.reads, part.result), (1, whole.result));
    }

    #[test]
    fn faults_are_told_apart() {
        let mut space = Space::new();
        assert_eq!(find(&space, 0x1000), Err(Fault::Translation(1)));
        space.set(0x1000, 3, 0x8000_3000 | PAGE);
        assert_eq!(find(&space, 0x2000), Err(Fault::Translation(3)));
        space.set(0x2000, 3, 0x8000_3000 | PAGE & !ACCESS_FLAG);
        assert_eq!(find(&space, 0x2000), Err(Fault::AccessFlag(3)));
        // A block's bits at level 3 are reserved.
        space.set(0x3000, 3, 0x8000_3000 | BLOCK);
        assert_eq!(find(&space, 0x3000), Err(Fault::Translation(3)));
        assert_eq!(find(&space, 1 << 40), Err(Fault::Range));
        assert_eq!(find(&space, canonical(1 << 55 | 0x1000)), Err(Fault::Range));
    }

    #[test]
    fn rights_are_the_leafs_within_the_tables() {
        let mut space = Space::new();
        space.set(0x1000, 3, 0x8000_3000 | PAGE | UXN);
        space.set(0x2000, 3, 0x8000_3000 | PAGE | UXN | READ_ONLY | PXN);
        let open = find(&space, 0x1000).unwrap().rights;
        let closed = find(&space, 0x2000).unwrap().rights;
        assert!(open.writes() && open.fetches() && !closed.writes() && !closed.fetches());
        assert!(open.exceed(closed) && !closed.exceed(open));
        let at = space.slot(0x1000, 2);
        *space.words.get_mut(&at).unwrap() |= READ_ONLY_TABLE | PXN_TABLE;
        let limited = find(&space, 0x1000).unwrap().rights;
        assert!(!limited.writes() && !limited.fetches());
    }

    #[test]
    fn the_upper_half_has_tables_of_its_own() {
        let mut space = Space::new();
        let va = 0xffff_ff80_0000_1000;
        space.set(va, 3, 0x9000_1000 | PAGE & !NOT_GLOBAL);
        let mapping = find(&space, va).unwrap();
        assert!(mapping.global && mapping.output == 0x9000_1000);
        assert_eq!(find(&space, 0x1000), Err(Fault::Translation(1)));
    }

    #[test]
    fn roots_may_be_small() {
        // 34 bits: level 1, of which 16 descriptors count.
        let mut space = Space::new();
        space.regime.tcr = space.regime.tcr & !(0x3f << 16) | 30 << 16;
        space.words.insert(0x2000 + 15 * 8, 0x4000_0000 | BLOCK);
        let mapping = find(&space, 0xffff_ffff_c000_1000).unwrap();
        assert_eq!((mapping.shift, mapping.output), (30, 0x4000_0000));
    }

    #[test]
    fn asids_have_8_or_16_bits() {
        let mut regime = Regime { ttbr0: 0x1234 << 48, ttbr1: 0x5678 << 48, ..Regime::default() };
        assert_eq!(regime.asid(), 0x34);
        regime.tcr = 1 << 36;
        assert_eq!(regime.asid(), 0x1234);
        regime.tcr |= 1 << 22;
        assert_eq!(regime.asid(), 0x5678);
    }
}
