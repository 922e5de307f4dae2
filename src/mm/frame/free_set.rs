//! The free frames of one broken block, and the buddy rules below 2 MiB.
//!
//! No lists and no per-frame marks: an aligned free run of 2ⁿ frames is n shift-and-mask steps on a word of the
//! bitmap, and a byte per order says which of the eight words have that order as their largest run.
#![forbid(unsafe_code)]

use super::super::address::PAGES_PER_SLOT;
use super::super::bits::Bits512;

/// Free runs by order, up to the 2¹⁸ frames of 1 GiB.
pub(super) type RunCounts = [u32; 19];

/// Order of a run that fills a word of the bitmap.
const WORD_ORDER: u32 = 6;
/// The largest order of a run that is not the whole block.
pub(super) const MAX_FRAME_ORDER: u32 = 8;

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

/// The maximal aligned run in `word` of the smallest order that is at least `order`: its first bit, and its order.
#[inline]
fn smallest_fit(word: u64, order: u32) -> Option<(u32, u32)> {
    let mut runs = word;
    for below in 0..order {
        runs = pairs(runs, below);
    }
    for order in order..WORD_ORDER {
        let larger = pairs(runs, order);
        let maximal = runs & !(larger | larger << (1 << order));
        if maximal != 0 {
            return Some((maximal.trailing_zeros(), order));
        }
        runs = larger;
    }
    (runs != 0).then_some((0, WORD_ORDER))
}

/// Which frames of a broken block are free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FreeSet {
    bits: Bits512,
    /// Byte n has bit w set when the largest aligned free run in word w of `bits` is of order n. Byte 6 thus names
    /// the words that are free altogether; byte 7 is unused.
    orders: u64,
    count: u16,
}

impl FreeSet {
    /// No frame free.
    pub(super) const EMPTY: FreeSet = FreeSet { bits: Bits512::EMPTY, orders: 0, count: 0 };

    /// How many frames are free.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// The free frames.
    #[inline]
    pub(super) fn bits(&self) -> &Bits512 {
        &self.bits
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

    /// Takes an aligned run of 2^`order` frames out (`order` ≤ 8), from the smallest run that has it. Returns its
    /// first index, and keeps `counts` right.
    #[inline]
    pub(super) fn take(&mut self, order: u32, counts: &mut RunCounts) -> Option<usize> {
        let within =
            if order < WORD_ORDER { (self.orders >> (8 * order)) & (u64::MAX >> (8 * (order + 2))) } else { 0 };
        let (index, found) = if within != 0 {
            // The lowest byte that is not empty is the smallest order that any word has as its largest.
            let word = within.trailing_zeros() as usize % 8;
            let (bit, found) = smallest_fit(self.bits.words()[word], order)?;
            (word * 64 + bit as usize, found)
        } else {
            let (word, found) = smallest_fit(self.full_words(), order.saturating_sub(WORD_ORDER))?;
            (word as usize * 64, WORD_ORDER + found)
        };
        counts[found as usize] -= 1;
        for left in order..found {
            counts[left as usize] += 1;
        }
        let frames = 1 << order;
        self.bits.clear_range(index..index + frames);
        self.count -= frames as u16;
        for word in index / 64..(index + frames).div_ceil(64) {
            self.set_word_order(word, largest_in(self.bits.words()[word]));
        }
        Some(index)
    }

    /// Puts an aligned run of 2^`order` frames back (`order` ≤ 8), none of which is free, and keeps `counts` right.
    #[inline]
    pub(super) fn give(&mut self, index: usize, order: u32, counts: &mut RunCounts) {
        let frames = 1 << order;
        debug_assert!(index.is_multiple_of(frames) && !self.bits.any_in(index..index + frames));
        let (mut start, mut merged) = (index, order);
        while merged <= MAX_FRAME_ORDER {
            let buddy = start ^ (1 << merged);
            if !self.bits.all_in(buddy..buddy + (1 << merged)) {
                break;
            }
            counts[merged as usize] -= 1;
            start &= !(1 << merged);
            merged += 1;
        }
        counts[merged as usize] += 1;
        self.bits.set_range(index..index + frames);
        self.count += frames as u16;
        for word in index / 64..(index + frames).div_ceil(64) {
            let largest = self.word_order(word).max(Some(merged.min(WORD_ORDER)));
            self.set_word_order(word, largest);
        }
    }

    /// Puts every frame of `range` back.
    pub(super) fn give_range(&mut self, mut range: core::ops::Range<usize>, counts: &mut RunCounts) {
        debug_assert!(range.end <= PAGES_PER_SLOT);
        while !range.is_empty() {
            let aligned = range.start.trailing_zeros().min(MAX_FRAME_ORDER);
            let order = aligned.min(range.len().ilog2());
            self.give(range.start, order, counts);
            range.start += 1 << order;
        }
    }

    /// Order of the largest aligned run in `word`, as `orders` has it.
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
        assert_eq!(self.bits.count(), self.count as usize, "FR-5: free frames of a block miscounted");
        for (word, &bits) in self.bits.words().iter().enumerate() {
            assert_eq!(self.word_order(word), largest_in(bits), "FR-5: largest run of word {word} wrong");
            if bits == u64::MAX {
                continue;
            }
            let mut rest = bits;
            while let Some((bit, order)) = smallest_fit(rest, 0) {
                counts[order as usize] += 1;
                rest &= !((u64::MAX >> (64 - (1 << order))) << bit);
            }
        }
        let mut words = self.full_words();
        while let Some((word, order)) = smallest_fit(words, 0) {
            counts[(WORD_ORDER + order) as usize] += 1;
            words &= !((u64::MAX >> (64 - (1 << order))) << word);
        }
    }
}
