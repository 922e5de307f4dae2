//! The TLBs of some processors, and the words that change them.
//!
//! Sizes are from the processors' Technical Reference Manuals, which say nothing of the set that an entry goes to, of
//! which one goes, nor (but for the A53) of what holds tables: those are assumptions, the same for all. Each preset says
//! what else is one. `docs/tlb-model.md` has it all as a table.
#![forbid(unsafe_code)]

const K4: u8 = 12;
const K64: u8 = 16;
const M1: u8 = 20;
const M2: u8 = 21;
const M32: u8 = 25;
const M512: u8 = 29;
const G1: u8 = 30;

/// One core's TLBs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The preset's name.
    pub name: &'static str,
    /// Entries of the TLBs of level 1, for instructions and for data: any entry anywhere.
    pub micro: [usize; 2],
    /// Sizes that these hold, as shifts; a larger mapping is held in pieces.
    pub micro_sizes: [&'static [u8]; 2],
    /// Every invalidation empties them.
    pub micro_emptied: bool,
    /// Entries of the TLB of level 2, which has both, and how many are in a set.
    pub main: (usize, usize),
    /// Sizes that it holds.
    pub main_sizes: &'static [u8],
    /// Tables that walks found, and how many are in a set.
    pub tables: (usize, usize),
    /// Only tables of the last level are held, those that walks to pages end in.
    pub last_tables: bool,
    /// Contiguous descriptors are held as one.
    pub contiguous: bool,
    /// Cycles that a hit in level 2 takes, for the estimate.
    pub main_latency: u64,
    /// Cycles that each descriptor of a walk takes.
    pub walk_latency: u64,
}

/// Cortex-A72 (TRM 100095, 5.2: 48 and 32 entries, fully associative; 1024 in 4 ways; 5.2.3: sizes in level 2, of which 1 MiB and
/// 16 MiB are of another table format). Assumed: the sizes in level 1, where 2 MiB are held in pieces of 1 MiB.
const A72: Geometry = Geometry {
    name: "a72",
    micro: [48, 32],
    micro_sizes: [&[K4, K64, M1], &[K4, K64, M1]],
    micro_emptied: false,
    main: (1024, 4),
    main_sizes: &[K4, K64, M2, G1],
    tables: (64, 64),
    last_tables: false,
    contiguous: true,
    main_latency: 7,
    walk_latency: 20,
};

/// Cortex-A53 (TRM DDI 0500, 5.1: 10 and 10 entries, fully associative; 512 in 4 ways; a walk cache of 64 in 4 ways; 5.2: all
/// sizes but 1 GiB, which is held in pieces of 512 MiB; maintenance empties the micro TLBs; the walk cache holds what a walk has found up
/// to the last level, and nothing of walks that end before). Assumed: the sizes in the micro TLBs.
const A53: Geometry = Geometry {
    name: "a53",
    micro: [10, 10],
    micro_sizes: [&[K4, K64, M2], &[K4, K64, M2]],
    micro_emptied: true,
    main: (512, 4),
    main_sizes: &[K4, K64, M2, M512],
    tables: (64, 4),
    last_tables: true,
    ..A72
};

/// Cortex-A76 (TRM 100798, A5.1 and A5.2: 48 and 48 entries, fully associative; 1280 in 5 ways; all sizes; a hit in level 2
/// usually takes three cycles). Assumed: a walk cache of its own; the A76's level 2 holds what walks find on the way.
const A76: Geometry = Geometry {
    name: "a76",
    micro: [48, 48],
    micro_sizes: [&[K4, K64, M2, M32], &[K4, K64, M2, M512]],
    main: (1280, 5),
    main_sizes: &[K4, K64, M2, M32, M512, G1],
    main_latency: 3,
    ..A72
};

/// Neoverse N1 (TRM 100616). Assumed: as the Cortex-A76, of which it is the server's form.
const N1: Geometry = Geometry { name: "n1", ..A76 };

/// All of them.
pub const PRESETS: [&Geometry; 4] = [&A72, &A53, &A76, &N1];

impl Default for Geometry {
    fn default() -> Self {
        A72
    }
}

impl Geometry {
    /// The preset of this name.
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS.into_iter().find(|preset| preset.name == name).cloned()
    }

    /// Changes what `key` names; `None` if it names nothing, or `value` is no number for it.
    pub fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let number: usize = value.parse().ok()?;
        match key {
            "l1i" => self.micro[0] = number,
            "l1d" => self.micro[1] = number,
            "l2" => self.main.0 = number,
            "l2ways" => self.main.1 = number,
            "wc" => self.tables.0 = number,
            "wcways" => self.tables.1 = number,
            "contig" => self.contiguous = number != 0,
            "l2lat" => self.main_latency = number as u64,
            "wlat" => self.walk_latency = number as u64,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_a_preset() {
        let mut geometry = Geometry::preset("n1").unwrap();
        assert_eq!((geometry.name, geometry.main), ("n1", (1280, 5)));
        assert!(geometry.set("l2", "2048").is_some() && geometry.set("l2ways", "8").is_some());
        assert_eq!(geometry.main, (2048, 8));
        assert!(geometry.set("l3", "1").is_none() && geometry.set("wc", "many").is_none());
        assert!(Geometry::preset("z80").is_none());
    }

    #[test]
    fn sizes_rise() {
        for preset in PRESETS {
            for sizes in [preset.micro_sizes[0], preset.micro_sizes[1], preset.main_sizes] {
                assert!(sizes.is_sorted() && sizes[0] == K4, "{}", preset.name);
            }
        }
    }
}
