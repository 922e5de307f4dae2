//! Counters, and the lines made of them.
#![forbid(unsafe_code)]

use std::array;
use std::fmt::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::presets::Geometry;
use crate::removed::Cause;
use crate::tlb::{Contradiction, Side};

/// Sizes of mappings that are told apart, as shifts, and their names; what is left is "other".
pub const SIZES: [(u8, &str); 6] = [(12, "4K"), (16, "64K"), (21, "2M"), (25, "32M"), (30, "1G"), (0, "other")];

/// What is counted. Those with halves of the address space have the upper one, the kernel's, apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Of a half, on a side.
    Accesses(bool, Side),
    /// What level 1 did not have.
    MicroMisses(bool, Side),
    /// What level 2 did not have either.
    MainMisses(bool, Side),
    /// Walks that found a mapping of the size with this shift.
    Walks(bool, u8),
    /// Descriptors that they read.
    WalkReads(bool, u8),
    /// Walks for what an invalidation had taken out.
    Refills(Cause),
    /// TLBIs by address, by range, by ASID, of everything.
    Invalidations(usize),
    /// Entries of level 2 that they took out.
    Removed,
    /// Instructions.
    Instructions,
    /// Lines that were zeroed by DC ZVA.
    ZeroedLines,
    /// Walks that found nothing for an access that was made.
    WalkFails,
    /// Likewise with several cores, one of which may have changed the tables just now.
    WalkRaces,
    /// Hits that the tables contradict.
    Stale(Contradiction),
}

const CELLS: usize = 12 + 4 * SIZES.len() + 3 + 4 + 5 + Contradiction::ALL.len();

impl Count {
    fn cell(self) -> usize {
        let sides = |half: bool, side: Side| usize::from(half) * 2 + side as usize;
        let sizes = |half: bool, shift: u8| {
            let size = SIZES.iter().position(|&(size, _)| size == shift).unwrap_or(SIZES.len() - 1);
            usize::from(half) * SIZES.len() + size
        };
        const AFTER_SIZES: usize = 12 + 4 * SIZES.len();
        match self {
            Self::Accesses(half, side) => sides(half, side),
            Self::MicroMisses(half, side) => 4 + sides(half, side),
            Self::MainMisses(half, side) => 8 + sides(half, side),
            Self::Walks(half, shift) => 12 + sizes(half, shift),
            Self::WalkReads(half, shift) => 12 + 2 * SIZES.len() + sizes(half, shift),
            Self::Refills(cause) => AFTER_SIZES + cause as usize,
            Self::Invalidations(kind) => AFTER_SIZES + 3 + kind,
            Self::Removed => AFTER_SIZES + 7,
            Self::Instructions => AFTER_SIZES + 8,
            Self::ZeroedLines => AFTER_SIZES + 9,
            Self::WalkFails => AFTER_SIZES + 10,
            Self::WalkRaces => AFTER_SIZES + 11,
            Self::Stale(contradiction) => AFTER_SIZES + 12 + contradiction as usize,
        }
    }
}

/// One core's counters: it alone adds, others may read.
#[derive(Debug)]
pub struct Counters([AtomicU64; CELLS]);

impl Default for Counters {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Adds to one.
    pub fn add(&self, count: Count, amount: u64) {
        let cell = &self.0[count.cell()];
        cell.store(cell.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    /// One of them.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count.cell()].load(Ordering::Relaxed)
    }

    /// What they stand at.
    pub fn now(&self) -> Counts {
        Counts(array::from_fn(|cell| self.0[cell].load(Ordering::Relaxed)))
    }
}

/// Values of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts([u64; CELLS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; CELLS])
    }
}

impl Counts {
    /// One of them.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count.cell()]
    }

    /// Adds what was counted from `before` to `after`.
    pub fn add_between(&mut self, before: &Counts, after: &Counts) {
        for (cell, value) in self.0.iter_mut().enumerate() {
            *value += after.0[cell] - before.0[cell];
        }
    }

    fn sum(&self, halves: &[bool], count: impl Fn(bool) -> Count) -> u64 {
        halves.iter().map(|&half| self.get(count(half))).sum()
    }

    /// Hits that the tables contradict, of all kinds.
    pub fn stale(&self) -> u64 {
        Contradiction::ALL.iter().map(|&kind| self.get(Count::Stale(kind))).sum()
    }

    /// A line of JSON: what was counted on `cores` cores under the name `tag`, and `suspects` that are not settled yet.
    pub fn line(&self, tag: &str, cores: usize, suspects: usize, geometry: &Geometry) -> String {
        let mut line = String::new();
        let both = &[false, true][..];
        let mut add = |text: std::fmt::Arguments<'_>| line.write_fmt(text).expect("a string has room");
        add(format_args!("{{\"tag\":\"{tag}\",\"preset\":\"{}\",\"cores\":{cores}", geometry.name));
        add(format_args!(",\"instructions\":{}", self.get(Count::Instructions)));
        add(format_args!(",{}", self.halves(both)));
        add(format_args!(",\"kernel\":{{{}}}", self.halves(&both[1..])));
        let causes = [Cause::Address, Cause::Asid, Cause::All].map(|cause| self.get(Count::Refills(cause)));
        add(format_args!(",\"refills\":{{\"address\":{},\"asid\":{},\"all\":{}}}", causes[0], causes[1], causes[2]));
        let tlbi = array::from_fn::<_, 4, _>(|kind| self.get(Count::Invalidations(kind)));
        add(format_args!(
            ",\"tlbi\":{{\"address\":{},\"range\":{},\"asid\":{},\"all\":{},\"removed\":{}}}",
            tlbi[0],
            tlbi[1],
            tlbi[2],
            tlbi[3],
            self.get(Count::Removed)
        ));
        add(format_args!(",\"zeroed_lines\":{}", self.get(Count::ZeroedLines)));
        let per_side = |count: fn(bool, Side) -> Count| -> u64 {
            [Side::Fetch, Side::Data].iter().map(|&side| self.sum(both, |half| count(half, side))).sum()
        };
        let hits = per_side(Count::MicroMisses) - per_side(Count::MainMisses);
        let reads: u64 = SIZES.iter().map(|&(size, _)| self.sum(both, |half| Count::WalkReads(half, size))).sum();
        let (l2lat, wlat) = (geometry.main_latency, geometry.walk_latency);
        let cycles = hits * l2lat + reads * wlat;
        add(format_args!(",\"estimate\":{{\"l2lat\":{l2lat},\"wlat\":{wlat},\"cycles\":{cycles}}}"));
        add(format_args!(",\"walk_fail\":{},\"walk_race\":{}", self.get(Count::WalkFails), self.get(Count::WalkRaces)));
        add(format_args!(",\"stale\":{},\"suspects\":{suspects}}}", self.stale()));
        line
    }

    /// What both halves, or one, have.
    fn halves(&self, halves: &[bool]) -> String {
        let sides = |name: &str, count: fn(bool, Side) -> Count| {
            let [fetch, data] = [Side::Fetch, Side::Data].map(|side| self.sum(halves, |half| count(half, side)));
            format!("\"{name}\":{{\"i\":{fetch},\"d\":{data}}}")
        };
        let sizes = |name: &str, count: fn(bool, u8) -> Count| {
            let values = SIZES.map(|(size, text)| (text, self.sum(halves, |half| count(half, size))));
            let all: u64 = values.iter().map(|(_, value)| value).sum();
            let mut text = format!("\"{name}\":{{\"all\":{all}");
            for (size, value) in values.iter().filter(|(_, value)| *value != 0) {
                text += &format!(",\"{size}\":{value}");
            }
            text + "}"
        };
        [
            sides("accesses", Count::Accesses),
            sides("l1_misses", Count::MicroMisses),
            sides("l2_misses", Count::MainMisses),
            sizes("walks", Count::Walks),
            sizes("walk_accesses", Count::WalkReads),
        ]
        .join(",")
    }
}

/// The name that x0 holds for a marker: up to 8 letters, the first in the lowest byte, or else a number.
pub fn tag(value: u64) -> String {
    let bytes = value.to_le_bytes();
    let length = 8 - value.leading_zeros() as usize / 8;
    let letters = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-+.".contains(byte));
    let used: Range<usize> = 0..length;
    match str::from_utf8(&bytes[used]) {
        Ok(text) if length != 0 && letters(text.as_bytes()) => text.into(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_cell_of_its_own() {
        let mut all = Vec::new();
        for half in [false, true] {
            for side in [Side::Fetch, Side::Data] {
                all.extend([
                    Count::Accesses(half, side),
                    Count::MicroMisses(half, side),
                    Count::MainMisses(half, side),
                ]);
            }
            for (size, _) in SIZES {
                all.extend([Count::Walks(half, size), Count::WalkReads(half, size)]);
            }
        }
        all.extend([Cause::Address, Cause::Asid, Cause::All].map(Count::Refills));
        all.extend((0..4).map(Count::Invalidations));
        all.extend([Count::Removed, Count::Instructions, Count::ZeroedLines, Count::WalkFails, Count::WalkRaces]);
        all.extend(Contradiction::ALL.map(Count::Stale));
        let mut cells: Vec<_> = all.iter().map(|count| count.cell()).collect();
        cells.sort_unstable();
        assert_eq!(cells, (0..CELLS).collect::<Vec<_>>());
    }

    #[test]
    fn a_line() {
        let counters = Counters::default();
        counters.add(Count::Accesses(false, Side::Data), 10);
        counters.add(Count::MicroMisses(false, Side::Data), 4);
        counters.add(Count::MainMisses(true, Side::Fetch), 1);
        counters.add(Count::MicroMisses(true, Side::Fetch), 1);
        counters.add(Count::Walks(true, 21), 1);
        counters.add(Count::WalkReads(true, 21), 3);
        counters.add(Count::Stale(Contradiction::Moved), 2);
        let line = counters.now().line("x", 1, 0, &Geometry::default());
        for part in [
            r#"{"tag":"x","preset":"a72","cores":1,"#,
            r#""accesses":{"i":0,"d":10},"l1_misses":{"i":1,"d":4},"l2_misses":{"i":1,"d":0},"walks":{"all":1,"2M":1},"#,
            r#""kernel":{"accesses":{"i":0,"d":0},"l1_misses":{"i":1,"d":0},"#,
            r#""estimate":{"l2lat":7,"wlat":20,"cycles":88}"#,
            r#""stale":2,"#,
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn tags() {
        assert_eq!(tag(u64::from_le_bytes(*b"pages\0\0\0")), "pages");
        assert_eq!(tag(u64::from_le_bytes(*b"in_2M-4K")), "in_2M-4K");
        assert_eq!(tag(7), "7");
        assert_eq!(tag(0), "0");
        assert_eq!(tag(u64::from_le_bytes(*b"a\"b\0\0\0\0\0")), 0x62_2261.to_string());
    }
}
