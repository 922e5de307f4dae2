//! The region map against a `BTreeMap`, under failing allocation, at 100,000 regions, and at both ends of the space.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ashlar::mm::region_map::{InsertError, NoMemory, PAGES, RegionMap, ResizeError};
use common::{Frames, Random};
use core::ops::Range;

/// Emulated cores are slower than the host's by a factor of a hundred.
const STEPS: u64 = if cfg!(target_os = "none") { 2_000 } else { 24_000 };
const MANY: u64 = if cfg!(target_os = "none") { 10_000 } else { 100_000 };
const SEEDS: [u64; 4] = [1, 0xa51a, 0xdead_beef, 0x1234_5678_9abc];

/// Start → (end, payload).
type Model = BTreeMap<u64, (u64, u32)>;

fn overlap(model: &Model, range: &Range<u64>) -> Option<Range<u64>> {
    if let Some((&start, &(end, _))) = model.range(..=range.start).next_back()
        && end > range.start
    {
        return Some(start..end);
    }
    model.range(range.clone()).next().map(|(&start, &(end, _))| start..end)
}

fn containing(model: &Model, page: u64) -> Option<(Range<u64>, u32)> {
    let (&start, &(end, payload)) = model.range(..=page).next_back()?;
    (page < end).then_some((start..end, payload))
}

/// The lowest gap, by a look at every one of them.
fn gap(model: &Model, pages: u64, align: u64, within: &Range<u64>) -> Option<u64> {
    let mut from = 0;
    let ends = model.iter().map(|(&start, &(end, _))| (start, end)).chain([(PAGES, PAGES)]);
    for (start, end) in ends {
        let at = from.max(within.start).next_multiple_of(align);
        if at + pages <= start.min(within.end) {
            return Some(at);
        }
        from = end;
    }
    None
}

fn same(map: &RegionMap<u32>, model: &Model) {
    map.check();
    assert_eq!(map.len(), model.len());
    assert!(map.iter().eq(model.iter().map(|(&start, &(end, payload))| (start..end, payload))));
}

/// A map in a window of pages, its model, and operations that are done to both.
struct Pair {
    map: RegionMap<u32>,
    model: Model,
    random: Random,
    window: Range<u64>,
    longest: u64,
}

impl Pair {
    fn new(seed: u64, window: Range<u64>, longest: u64) -> Self {
        Self { map: RegionMap::new(), model: Model::new(), random: Random::new(seed), window, longest }
    }

    fn page(&mut self) -> u64 {
        self.window.start + self.random.below(self.window.end - self.window.start)
    }

    fn range(&mut self) -> Range<u64> {
        let start = self.page();
        start..(start + 1 + self.random.below(self.longest)).min(self.window.end)
    }

    /// The start of a region, usually.
    fn start(&mut self) -> u64 {
        let page = self.page();
        self.model.range(page..).next().map_or(page, |(&start, _)| start)
    }

    /// One random change; whether memory was enough for it. If not, the model stays as it is.
    fn change(&mut self, frames: &Frames, weight: u64) -> bool {
        let payload = self.random.below(3) as u32;
        match self.random.below(10 + weight) {
            0 | 1 => {
                let start = self.start();
                let removed = self.map.remove(start);
                assert_eq!(removed, self.model.remove(&start).map(|(end, payload)| (start..end, payload)));
            }
            2 => {
                let start = self.start();
                assert_eq!(self.map.set(start, payload), self.model.get(&start).map(|&(_, old)| old));
                self.model.entry(start).and_modify(|(_, old)| *old = payload);
            }
            3 | 4 => self.resize(),
            5 | 6 => {
                let page = self.page();
                let expected = containing(&self.model, page).filter(|(range, _)| range.start < page);
                match self.map.split(frames, page) {
                    Ok(cut) => assert_eq!(cut, expected.is_some()),
                    Err(NoMemory) => return false,
                }
                if let Some((range, payload)) = expected {
                    self.model.insert(range.start, (page, payload));
                    self.model.insert(page, (range.end, payload));
                }
            }
            7 => {
                let page = self.start();
                let right = self.model.get(&page).copied();
                let left = page.checked_sub(1).and_then(|before| containing(&self.model, before));
                let expected = matches!((&left, right), (Some((_, left)), Some((_, right))) if *left == right);
                assert_eq!(self.map.merge(page), expected);
                if let (true, Some((left, payload)), Some((end, _))) = (expected, left, right) {
                    self.model.remove(&page);
                    self.model.insert(left.start, (end, payload));
                }
            }
            _ => {
                let range = self.range();
                let expected = overlap(&self.model, &range);
                match self.map.insert(frames, range.clone(), payload) {
                    Ok(()) => assert_eq!(expected, None),
                    Err(InsertError::Overlap(culprit)) => {
                        assert_eq!(Some(culprit), expected);
                        return true;
                    }
                    Err(InsertError::NoMemory) => return false,
                }
                self.model.insert(range.start, (range.end, payload));
            }
        }
        true
    }

    fn resize(&mut self) {
        let start = self.start();
        let Some(&(end, payload)) = self.model.get(&start) else {
            assert_eq!(self.map.resize(start, start..start + 1), Err(ResizeError::NotFound));
            return;
        };
        let new = match self.random.below(4) {
            0 => start + self.random.below(end - start)..end,
            1 => start..end - self.random.below(end - start),
            2 => start..(end + self.random.below(self.longest)).min(self.window.end),
            _ => start.saturating_sub(self.random.below(self.longest)).max(self.window.start)..end,
        };
        self.model.remove(&start);
        match overlap(&self.model, &new) {
            Some(culprit) => {
                assert_eq!(self.map.resize(start, new), Err(ResizeError::Overlap(culprit)));
                self.model.insert(start, (end, payload));
            }
            None => {
                assert_eq!(self.map.resize(start, new.clone()), Ok(()));
                self.model.insert(new.start, (new.end, payload));
            }
        }
    }

    /// The same questions to both.
    fn ask(&mut self) {
        let page = self.page();
        let found = containing(&self.model, page);
        assert_eq!(self.map.find(page), found);
        let next = found.or_else(|| {
            let (&start, &(end, payload)) = self.model.range(page..).next()?;
            Some((start..end, payload))
        });
        assert_eq!(self.map.next(page), next);
    }

    fn ask_for_gap(&mut self) {
        let within = match self.random.below(3) {
            0 => 0..PAGES,
            1 => self.window.clone(),
            _ => self.page()..self.page(),
        };
        let align = 1 << self.random.below(12);
        let pages = 1 + self.random.below(2 * self.longest);
        let expected = gap(&self.model, pages, align, &within);
        assert_eq!(self.map.find_gap(pages, align, within.clone()), expected, "{pages} by {align} in {within:?}");
    }

    fn ask_for_overlapping(&mut self) {
        let range = self.range();
        let expected = self.model.iter().map(|(&start, &(end, payload))| (start..end, payload));
        let expected = expected.filter(|(other, _)| other.start < range.end && range.start < other.end);
        assert!(self.map.overlapping(range.clone()).eq(expected), "overlapping {range:?}");
    }
}

/// Windows from crowded to sparse, at both ends of the address space; in turn with more insertions and with fewer,
/// so that the tree grows and shrinks by several heights.
fn random_operations() {
    let windows = [(0..600, 5), (0..40_000, 9), (PAGES - 200_000..PAGES, 40), (0..PAGES, 5_000)];
    for (seed, (window, longest)) in SEEDS.into_iter().zip(windows) {
        let frames = Frames::plenty();
        let mut pair = Pair::new(seed, window, longest);
        for step in 0..STEPS {
            let growing = (step / (STEPS / 6)).is_multiple_of(2);
            assert!(pair.change(&frames, if growing { 10 } else { 0 }));
            pair.ask();
            if step.is_multiple_of(256) {
                same(&pair.map, &pair.model);
                pair.ask_for_gap();
                pair.ask_for_overlapping();
            }
        }
        for start in pair.model.keys().copied().collect::<Vec<_>>() {
            assert!(pair.map.remove(start).is_some());
        }
        assert!(pair.map.is_empty());
        pair.map.check();
        assert_eq!(pair.map.frames(), frames.given());
    }
}

/// The source fails after n frames, for every n; what fails leaves the map as it was, and works once there are frames.
fn exhaustion() {
    for limit in 0..12 {
        let frames = Frames::new(limit);
        let mut pair = Pair::new(limit as u64, 0..30_000, 4);
        let mut failures = 0;
        while failures < 20 {
            if !pair.change(&frames, 40) {
                failures += 1;
                same(&pair.map, &pair.model);
            }
        }
        same(&pair.map, &pair.model);
        assert_eq!(pair.map.frames(), limit);
        frames.set(usize::MAX);
        for _ in 0..STEPS / 64 {
            assert!(pair.change(&frames, 20));
        }
        same(&pair.map, &pair.model);
    }
}

/// After `reserve`, that many changes need no frame, wherever they are.
fn reserved_changes_cannot_fail() {
    let frames = Frames::plenty();
    let mut pair = Pair::new(7, 0..60_000, 3);
    for round in 0..STEPS / 20 {
        let count = 1 + pair.random.below(12) as usize;
        frames.set(usize::MAX);
        assert_eq!(pair.map.reserve(&frames, count), Ok(()));
        frames.set(0);
        let weight = if round % 200 < 120 { 20 } else { 0 };
        for _ in 0..count {
            assert!(pair.change(&frames, weight));
        }
    }
    same(&pair.map, &pair.model);
    frames.set(0);
    assert_eq!(pair.map.reserve(&frames, 1 << 20), Err(NoMemory));
    same(&pair.map, &pair.model);
}

/// One insertion at a time, each provided for by itself, until the tree has split its root twice.
fn single_reservations_suffice() {
    const COUNT: u64 = 4_000;
    for stride in [1, 1_237] {
        let frames = Frames::plenty();
        let mut map = RegionMap::new();
        for number in 0..COUNT {
            frames.set(usize::MAX);
            assert_eq!(map.reserve(&frames, 1), Ok(()));
            frames.set(0);
            let start = number * stride % COUNT * 2;
            assert_eq!(map.insert(&frames, start..start + 1, number), Ok(()), "insertion {number}");
        }
        map.check();
    }
}

/// A full space with a single gap, aligned to its length and to no more: found for that alignment, and no other.
fn only_gap_by_alignment() {
    const END: u64 = 4096;
    for align in (0..11).map(|bit| 1 << bit) {
        let frames = Frames::plenty();
        let mut map = RegionMap::new();
        let gap = 1024 + align..1024 + 2 * align;
        for page in (0..END).filter(|page| !gap.contains(page)) {
            assert_eq!(map.insert(&frames, page..page + 1, ()), Ok(()));
        }
        for other in (0..11).map(|bit| 1 << bit) {
            let expected = (other <= align).then_some(gap.start);
            assert_eq!(map.find_gap(align, other, 0..END), expected, "gap {gap:?} for alignment {other}");
        }
        assert_eq!(map.find_gap(align + 1, 1, 0..END), None);
        assert_eq!(map.find_gap(1, 1, 0..gap.start), None);
        assert_eq!(map.find_gap(1, 1, gap.end..END), None);
        assert_eq!(map.find_gap(1, 1, gap.end - 1..END), Some(gap.end - 1));
    }
}

/// `count` regions of three pages with a page between them, inserted and removed in the order of `numbers`.
fn fill_and_empty(numbers: &[u64]) {
    let count = numbers.len() as u64;
    let frames = Frames::plenty();
    let mut map = RegionMap::new();
    let region = |number: u64| number * 4..number * 4 + 3;
    for &number in numbers {
        assert_eq!(map.insert(&frames, region(number), number), Ok(()));
    }
    map.check();
    for number in (0..count).step_by(7) {
        assert_eq!(map.find(number * 4 + 2), Some((region(number), number)));
        assert_eq!(map.find(number * 4 + 3), None);
        assert_eq!(map.next(number * 4 + 3).map(|(_, next)| next), Some(number + 1).filter(|&next| next < count));
    }
    assert_eq!(map.find_gap(1, 1, 0..PAGES), Some(3));
    assert_eq!(map.find_gap(1, 1, count * 2..PAGES), Some(count * 2 + 3));
    assert_eq!(map.find_gap(2, 1, 0..PAGES), Some(count * 4 - 1));
    assert_eq!(map.find_gap(1, 2, 0..PAGES), Some(count * 4));
    // Nodes are at least a quarter full, usually more than half, and an entry takes 28 bytes.
    assert!(map.frames() as u64 * 4096 < count * 80, "{} frames", map.frames());
    for &number in numbers {
        assert_eq!(map.remove(number * 4), Some((region(number), number)));
    }
    map.check();
    assert!(map.is_empty());
}

fn many_regions() {
    let mut numbers: Vec<u64> = (0..MANY).collect();
    let mut random = Random::new(5);
    (1..numbers.len()).for_each(|last| numbers.swap(last, random.below(last as u64 + 1) as usize));
    fill_and_empty(&numbers);
}

fn regions_in_rising_and_falling_order() {
    let mut numbers: Vec<u64> = (0..MANY / 8).collect();
    fill_and_empty(&numbers);
    numbers.reverse();
    fill_and_empty(&numbers);
}

fn gaps_against_brute_force() {
    for seed in SEEDS {
        let frames = Frames::plenty();
        let mut pair = Pair::new(seed, 0..20_000, 12);
        for step in 0..STEPS / 20 {
            assert!(pair.change(&frames, if step % 500 < 400 { 6 } else { 0 }));
            pair.ask_for_gap();
            pair.ask_for_gap();
        }
    }
}

/// The first page and the last one, alone and aligned.
fn ends_of_the_address_space() {
    let frames = Frames::plenty();
    let mut map = RegionMap::new();
    assert_eq!(map.find_gap(PAGES, PAGES, 0..PAGES), Some(0));
    assert_eq!(map.find_gap(PAGES + 1, 1, 0..u64::MAX), None);
    assert_eq!(map.find_gap(1, 2 * PAGES, 0..PAGES), None);
    assert_eq!(map.find_gap(0, 1, 0..PAGES), None);
    assert_eq!(map.find_gap(1, 1, 5..5), None);
    assert_eq!(map.find_gap(1, 512, PAGES - 511..PAGES), None);
    assert_eq!(map.find_gap(512, 512, PAGES - 512..u64::MAX), Some(PAGES - 512));
    for page in [0, PAGES - 1, PAGES, u32::MAX.into(), u64::MAX] {
        assert_eq!((map.find(page), map.next(page)), (None, None));
    }

    assert_eq!(map.insert(&frames, 0..1, 'a'), Ok(()));
    assert_eq!(map.insert(&frames, PAGES - 1..PAGES, 'z'), Ok(()));
    assert_eq!(map.find(0), Some((0..1, 'a')));
    assert_eq!(map.find(PAGES - 1), Some((PAGES - 1..PAGES, 'z')));
    assert_eq!(map.next(1), Some((PAGES - 1..PAGES, 'z')));
    for page in [PAGES, u32::MAX.into(), u64::MAX] {
        assert_eq!((map.find(page), map.next(page)), (None, None));
    }
    assert_eq!(map.find_gap(512, 512, 0..PAGES), Some(512));
    assert_eq!(map.find_gap(512, 512, PAGES - 1024..PAGES), Some(PAGES - 1024));
    assert_eq!(map.find_gap(512, 512, PAGES - 1023..PAGES), None);
    assert_eq!(map.find_gap(PAGES - 2, 1, 0..PAGES), Some(1));
    assert_eq!(map.find_gap(PAGES - 1, 1, 0..PAGES), None);
    assert_eq!(map.resize(0, 0..PAGES - 1), Ok(()));
    assert_eq!(map.find_gap(1, 1, 0..PAGES), None);
    assert_eq!(map.resize(0, 0..PAGES), Err(ResizeError::Overlap(PAGES - 1..PAGES)));
    assert!(!map.merge(0) && !map.merge(PAGES) && !map.merge(PAGES - 1));
    assert_eq!(map.set(PAGES - 1, 'a'), Some('z'));
    assert!(map.merge(PAGES - 1));
    assert_eq!(map.find(7), Some((0..PAGES, 'a')));
    assert_eq!(map.insert(&frames, 9..10, 'b'), Err(InsertError::Overlap(0..PAGES)));
    assert_eq!(map.remove(0), Some((0..PAGES, 'a')));
    map.check();
}

/// Taking the middle out of a region, as `unmap` and `protect` do.
fn middle_of_a_region() {
    let frames = Frames::plenty();
    let mut map = RegionMap::new();
    assert_eq!(map.insert(&frames, 100..200, 1), Ok(()));
    assert_eq!(map.reserve(&frames, 2), Ok(()));
    frames.set(0);
    assert_eq!(map.split(&frames, 120), Ok(true));
    assert_eq!(map.split(&frames, 120), Ok(false));
    assert_eq!(map.split(&frames, 150), Ok(true));
    assert_eq!(map.set(120, 2), Some(1));
    assert!(map.iter().eq([(100..120, 1), (120..150, 2), (150..200, 1)]));
    assert!(map.overlapping(119..121).eq([(100..120, 1), (120..150, 2)]));
    assert!(!map.merge(120));
    assert_eq!(map.set(120, 1), Some(2));
    assert!(map.merge(120) && map.merge(150) && !map.merge(130));
    assert!(map.iter().eq([(100..200, 1)]));
    map.check();
}

ashlar_test::tests! {
    random_operations,
    exhaustion,
    reserved_changes_cannot_fail,
    single_reservations_suffice,
    only_gap_by_alignment,
    many_regions,
    regions_in_rising_and_falling_order,
    gaps_against_brute_force,
    ends_of_the_address_space,
    middle_of_a_region,
}
