//! The free frames of one broken block, and the buddy rules below 2 MiB.
//!
//! No lists and no per-frame marks: an aligned free run of 2ⁿ frames is n shift-and-mask steps on a word of the
//! bitmap, and a byte per order says which of the eight words have that order as their largest run.
#![forbid(unsafe_code)]

use super::super::address::{BLOCK_SHIFT, PAGE_SHIFT, PAGES_PER_SLOT};
use super::super::bits::Bits512;
use core::ops::Range;

/// Free runs by order, up to the 2¹⁸ frames of 1 GiB.
pub(super) type RunCounts = [u32; 19];

/// Order of a run that fills a word of the bitmap.
const WORD_ORDER: u32 = 6;
/// Order of a block.
pub(super) const BLOCK_ORDER: u32 = BLOCK_SHIFT - PAGE_SHIFT;
/// The largest order of a run that is not a whole block.
pub(super) const MAX_FRAME_ORDER: u32 = BLOCK_ORDER - 1;

/// Bit positions that are multiples of 2ⁿ, for each order n within a word.
const ALIGNED: [u64; 7] = [
    u64::MAX,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    1 << 32 | 1,
    1,
];

/// Starts of the aligned runs of 2ⁿ⁺¹ set bits, from the starts of those of 2ⁿ.
#[inline]
const fn pairs(runs: u64, order: u32) -> u64 {
    runs & (runs >> (1 << order)) & ALIGNED[order as usize + 1]
}

/// 2ⁿ set bits from `bit` on, for n up to that of a word.
#[inline]
const fn run(bit: u32, order: u32) -> u64 {
    (u64::MAX >> (64 - (1 << order))) << bit
}

/// Order of the largest aligned run of set bits in `word`.
#[inline]
fn largest_in(word: u64) -> Option<u32> {
    if word == 0 {
        return None;
    }
    let mut runs = word;
    let mut order = 0;
    while order < WORD_ORDER {
        runs = pairs(runs, order);
        if runs == 0 {
            break;
        }
        order += 1;
    }
    Some(order)
}

/// A run found in a word.
struct Fit {
    bit: u32,
    order: u32,
    /// Whether there is another one of that order, maximal as this one is.
    more: bool,
}

/// A maximal aligned run in `word` of the smallest order that is at least `order`.
#[inline]
fn smallest_fit(word: u64, order: u32) -> Option<Fit> {
    let mut runs = word;
    for below in 0..order {
        runs = pairs(runs, below);
    }
    for order in order..WORD_ORDER {
        let larger = pairs(runs, order);
        let maximal = runs & !(larger | larger << (1 << order));
        if maximal != 0 {
            return Some(Fit { bit: maximal.trailing_zeros(), order, more: !maximal.is_power_of_two() });
        }
        runs = larger;
    }
    (runs != 0).then_some(Fit { bit: 0, order: WORD_ORDER, more: false })
}

/// Which frames of a broken block are free.
#[derive(Clone, Copy)]
pub(super) struct FreeSet {
    /// A bit a frame, set when it is free.
    words: [u64; 8],
    /// Byte n has bit w set when the largest aligned free run in `words[w]` is of order n. Byte 6 thus names the words
    /// that are free altogether; byte 7 is unused.
    orders: u64,
    count: u16,
}

impl FreeSet {
    /// No frame free.
    pub(super) const EMPTY: FreeSet = FreeSet { words: [0; 8], orders: 0, count: 0 };
    /// All frames free: one run of the order of a block.
    pub(super) const FULL: FreeSet =
        FreeSet { words: [u64::MAX; 8], orders: 0xff << (8 * WORD_ORDER), count: PAGES_PER_SLOT as u16 };

    /// These frames free. Adds their maximal runs to `counts`.
    pub(super) fn of(frames: &Bits512, counts: &mut RunCounts) -> FreeSet {
        let mut set = FreeSet { words: *frames.words(), orders: 0, count: frames.count() as u16 };
        let full = WORD_ORDER as usize;
        for (word, &bits) in set.words.iter().enumerate() {
            let mut largest = full;
            if bits != u64::MAX {
                for_maximal_runs(bits, |order, runs| {
                    counts[order] += runs;
                    largest = order;
                });
            }
            if bits != 0 {
                set.orders |= 1 << (8 * largest + word);
            }
        }
        for_maximal_runs(set.full_words(), |order, runs| counts[full + order] += runs);
        set
    }

    /// Which frames are free, as bits.
    pub(super) fn bits(&self) -> Bits512 {
        Bits512::from(self.words)
    }

    /// Takes its maximal runs out of `counts`.
    pub(super) fn subtract_runs(&self, counts: &mut RunCounts) {
        for &word in self.words.iter().filter(|&&word| word != u64::MAX) {
            for_maximal_runs(word, |order, runs| counts[order] -= runs);
        }
        for_maximal_runs(self.full_words(), |order, runs| counts[WORD_ORDER as usize + order] -= runs);
    }

    /// How many frames are free.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether frame `index` is free.
    #[inline]
    pub(super) fn is_free(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 != 0
    }

    /// Whether any frame of the aligned run at `index` is free.
    #[inline]
    pub(super) fn any_free(&self, index: usize, order: u32) -> bool {
        if order < WORD_ORDER {
            return self.words[index / 64] & run(index as u32 % 64, order) != 0;
        }
        self.words[index / 64..][..1 << (order - WORD_ORDER)].iter().any(|&word| word != 0)
    }

    /// Order of the largest aligned free run, 9 when all are free.
    #[inline]
    pub(super) fn largest(&self) -> Option<u32> {
        if self.orders == 0 {
            return None;
        }
        let order = (63 - self.orders.leading_zeros()) / 8;
        if order < WORD_ORDER {
            return Some(order);
        }
        largest_in(self.full_words()).map(|words| WORD_ORDER + words)
    }

    #[inline]
    fn full_words(&self) -> u64 {
        self.orders >> (8 * WORD_ORDER)
    }

    /// Takes an aligned run of 2^`order` frames out (`order` ≤ 8): from a word whose largest run is the smallest that
    /// suffices, and there from the smallest that does. Returns its first index, and the order of the run that it was a
    /// part of. Keeps `counts` right.
    #[inline]
    pub(super) fn take(&mut self, order: u32, counts: &mut RunCounts) -> Option<(usize, u32)> {
        let within =
            if order < WORD_ORDER { (self.orders >> (8 * order)) & (u64::MAX >> (8 * (order + 2))) } else { 0 };
        let (index, found) = if within != 0 {
            // The lowest byte that is not empty is the smallest order that any word has as its largest.
            let lowest = within.trailing_zeros();
            let (word, largest) = (lowest as usize % 8, order + lowest / 8);
            let fit = smallest_fit(self.words[word], order)?;
            self.words[word] &= !run(fit.bit, order);
            if fit.order == largest && !fit.more {
                let rest = if fit.order > order { Some(fit.order - 1) } else { largest_in(self.words[word]) };
                self.set_word_order(word, rest);
            }
            (word * 64 + fit.bit as usize, fit.order)
        } else {
            let fit = smallest_fit(self.full_words(), order.saturating_sub(WORD_ORDER))?;
            let first = fit.bit as usize;
            if order < WORD_ORDER {
                self.words[first] = !run(0, order);
                self.set_word_order(first, Some(WORD_ORDER - 1));
            } else {
                let words = 1 << (order - WORD_ORDER);
                self.words[first..first + words].fill(0);
                self.orders &= !(run(fit.bit, order - WORD_ORDER) << (8 * WORD_ORDER));
            }
            (first * 64, WORD_ORDER + fit.order)
        };
        counts[found as usize] -= 1;
        for left in order..found {
            counts[left as usize] += 1;
        }
        self.count -= 1 << order;
        Some((index, found))
    }

    /// The first free frame.
    pub(super) fn lowest(&self) -> Option<usize> {
        self.bits().next_set(0)
    }

    /// Takes the first free frame out. Keeps `counts` right.
    pub(super) fn take_lowest(&mut self, counts: &mut RunCounts) -> Option<usize> {
        let index = self.lowest()?;
        let mut rest = self.bits();
        rest.clear(index);
        self.subtract_runs(counts);
        *self = FreeSet::of(&rest, counts);
        Some(index)
    }

    /// Takes up to `most` frames out, more than none, all from one word, and what is in small runs first. Returns the first
    /// index of the word, and the frames as bits. Keeps `counts` right.
    #[inline]
    pub(super) fn take_some(&mut self, most: u32, counts: &mut RunCounts) -> Option<(usize, u64)> {
        let partial = self.orders & (u64::MAX >> 16);
        let mut order = WORD_ORDER - 1;
        if partial != 0 {
            let word = partial.trailing_zeros() as usize % 8;
            let bits = self.words[word];
            if bits.count_ones() <= most {
                for_maximal_runs(bits, |order, runs| counts[order] -= runs);
                self.words[word] = 0;
                self.set_word_order(word, None);
                self.count -= bits.count_ones() as u16;
                return Some((word * 64, bits));
            }
            order = smallest_fit(bits, 0)?.order;
        }
        order = order.min(most.ilog2());
        let (index, _) = self.take(order, counts)?;
        Some((index & !63, run(index as u32 % 64, order)))
    }

    /// Puts an aligned run of 2^`order` frames back (`order` ≤ 8), none of which is free. Returns the order of the run
    /// that it is a part of now. Keeps `counts` right.
    #[inline]
    pub(super) fn give(&mut self, index: usize, order: u32, counts: &mut RunCounts) -> u32 {
        debug_assert!(index.is_multiple_of(1 << order) && !self.any_free(index, order));
        let first = index / 64;
        let mut merged = order;
        if order < WORD_ORDER {
            let bits = self.words[first];
            let mut bit = index as u32 % 64;
            while merged < WORD_ORDER {
                let buddy = run(bit ^ (1 << merged), merged);
                if bits & buddy != buddy {
                    break;
                }
                counts[merged as usize] -= 1;
                bit &= !(1 << merged);
                merged += 1;
            }
            self.words[first] |= run(index as u32 % 64, order);
            if self.word_order(first) < Some(merged) {
                self.set_word_order(first, Some(merged));
            }
        } else {
            let words = first..first + (1 << (order - WORD_ORDER));
            self.words[words.clone()].fill(u64::MAX);
            words.for_each(|word| self.set_word_order(word, Some(WORD_ORDER)));
        }
        if merged >= WORD_ORDER {
            let mut word = first as u32 & !((1 << (merged - WORD_ORDER)) - 1);
            while merged < BLOCK_ORDER {
                let buddy = run(word ^ (1 << (merged - WORD_ORDER)), merged - WORD_ORDER);
                if self.full_words() & buddy != buddy {
                    break;
                }
                counts[merged as usize] -= 1;
                word &= !(1 << (merged - WORD_ORDER));
                merged += 1;
            }
        }
        counts[merged as usize] += 1;
        self.count += 1 << order;
        merged
    }

    /// Puts `frames` of the word that begins at `first` back, none of which is free. Returns the order of the largest run that
    /// one of them is a part of now, or of another in the word. Keeps `counts` right.
    pub(super) fn give_some(&mut self, first: usize, frames: u64, counts: &mut RunCounts) -> Option<u32> {
        let word = first / 64;
        let before = self.words[word];
        debug_assert!(before & frames == 0);
        if before | frames == u64::MAX {
            for_maximal_runs(before, |order, runs| counts[order] -= runs);
            self.words[word] = 0;
            self.set_word_order(word, None);
            self.count -= before.count_ones() as u16;
            return Some(self.give(first, WORD_ORDER, counts));
        }
        for_maximal_runs(before, |order, runs| counts[order] -= runs);
        for_maximal_runs(before | frames, |order, runs| counts[order] += runs);
        self.words[word] = before | frames;
        self.set_word_order(word, largest_in(before | frames));
        self.count += frames.count_ones() as u16;
        self.largest()
    }

    /// Puts every frame of `range` back.
    pub(super) fn give_range(&mut self, mut range: Range<usize>, counts: &mut RunCounts) {
        debug_assert!(range.end <= PAGES_PER_SLOT);
        while !range.is_empty() {
            let order = range.start.trailing_zeros().min(range.len().ilog2()).min(MAX_FRAME_ORDER);
            self.give(range.start, order, counts);
            range.start += 1 << order;
        }
    }

    /// Order of the largest aligned run in a word, as `orders` has it.
    #[inline]
    fn word_order(&self, word: usize) -> Option<u32> {
        let bytes = (self.orders >> word) & ALIGNED[3];
        (bytes != 0).then(|| (63 - bytes.leading_zeros()) / 8)
    }

    #[inline]
    fn set_word_order(&mut self, word: usize, order: Option<u32>) {
        self.orders &= !(ALIGNED[3] << word);
        if let Some(order) = order {
            self.orders |= 1 << (8 * order as usize + word);
        }
    }

    /// Panics unless what is kept agrees with the bitmap; adds its maximal runs to `counts`.
    pub(super) fn check(&self, counts: &mut RunCounts) {
        assert_eq!(Bits512::from(self.words).count(), self.count(), "FR-5: free frames of a block miscounted");
        for (word, &bits) in self.words.iter().enumerate() {
            assert_eq!(self.word_order(word), largest_in(bits), "FR-5: largest run of word {word} wrong");
            if bits != u64::MAX {
                count_runs(bits, 0, counts);
            }
        }
        count_runs(self.full_words(), WORD_ORDER, counts);
    }
}

/// Calls `each` with every order below that of a word, and how many maximal runs of that order `word`, which is not full,
/// has.
#[inline]
fn for_maximal_runs(word: u64, mut each: impl FnMut(usize, u32)) {
    let mut runs = word;
    for order in 0..WORD_ORDER {
        if runs == 0 {
            return;
        }
        let larger = pairs(runs, order);
        each(order as usize, (runs & !(larger | larger << (1 << order))).count_ones());
        runs = larger;
    }
}

/// Adds the maximal runs in `word` to `counts`, where a bit is a run of order `unit`.
fn count_runs(mut word: u64, unit: u32, counts: &mut RunCounts) {
    while let Some(fit) = smallest_fit(word, 0) {
        counts[(unit + fit.order) as usize] += 1;
        word &= !run(fit.bit, fit.order);
    }
}
