//! A set of the 512 pages of a slot, or the 512 frames of a block.
#![forbid(unsafe_code)]

use super::address::{PAGES_PER_GROUP, PAGES_PER_SLOT};
use core::ops::Range;

const WORDS: usize = PAGES_PER_SLOT / 64;

/// 512 bits, one a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bits512([u64; WORDS]);

impl Bits512 {
    /// No bit set.
    pub const EMPTY: Bits512 = Bits512([0; WORDS]);
    /// All bits set.
    pub const FULL: Bits512 = Bits512([u64::MAX; WORDS]);

    /// The bits of `range`.
    pub fn of(range: Range<usize>) -> Self {
        let mut bits = Bits512::EMPTY;
        bits.set_range(range);
        bits
    }

    /// Whether bit `index` (0..512) is set.
    #[inline]
    pub const fn get(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 != 0
    }

    /// Sets bit `index` (0..512).
    #[inline]
    pub const fn set(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Clears bit `index` (0..512).
    #[inline]
    pub const fn clear(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }

    /// The word that `range` lies in and its bits there, if it is one: so for every group, which is what faults ask about.
    #[inline]
    fn one_mask(range: &Range<usize>) -> Option<(usize, u64)> {
        let (word, length) = (range.start / 64, range.end.wrapping_sub(range.start));
        let fits = length.wrapping_sub(1) < 64 && range.start % 64 + length <= 64;
        (fits && word < WORDS).then(|| (word, (u64::MAX >> (64 - length)) << (range.start % 64)))
    }

    /// The words that `range` touches, each with the bits of `range` in it.
    #[inline]
    fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        debug_assert!(range.end <= PAGES_PER_SLOT);
        let (first, last) = (range.start / 64, range.end.wrapping_sub(1) / 64);
        let words = if range.is_empty() { 0..0 } else { first..last + 1 };
        words.map(move |word| {
            let low = if word == first { u64::MAX << (range.start % 64) } else { u64::MAX };
            let high = if word == last { u64::MAX >> (63 - (range.end - 1) % 64) } else { u64::MAX };
            (word, low & high)
        })
    }

    /// Sets all bits of `range`.
    #[inline]
    pub fn set_range(&mut self, range: Range<usize>) {
        if let Some((word, mask)) = Self::one_mask(&range) {
            self.0[word] |= mask;
            return;
        }
        for (word, mask) in Self::masks(range) {
            self.0[word] |= mask;
        }
    }

    /// Clears all bits of `range`.
    #[inline]
    pub fn clear_range(&mut self, range: Range<usize>) {
        if let Some((word, mask)) = Self::one_mask(&range) {
            self.0[word] &= !mask;
            return;
        }
        for (word, mask) in Self::masks(range) {
            self.0[word] &= !mask;
        }
    }

    /// Whether all bits of `range` are set.
    #[inline]
    pub fn all_in(&self, range: Range<usize>) -> bool {
        if let Some((word, mask)) = Self::one_mask(&range) {
            return self.0[word] & mask == mask;
        }
        Self::masks(range).all(|(word, mask)| self.0[word] & mask == mask)
    }

    /// Whether any bit of `range` is set.
    #[inline]
    pub fn any_in(&self, range: Range<usize>) -> bool {
        if let Some((word, mask)) = Self::one_mask(&range) {
            return self.0[word] & mask != 0;
        }
        Self::masks(range).any(|(word, mask)| self.0[word] & mask != 0)
    }

    /// The 16 bits from `start` on, a multiple of 16.
    #[inline]
    pub const fn group(&self, start: usize) -> u16 {
        (self.0[start / 64] >> (start % 64)) as u16
    }

    /// Sets those of the 16 bits from `start` on, a multiple of 16, that `bits` has set.
    #[inline]
    pub const fn set_group(&mut self, start: usize, bits: u16) {
        self.0[start / 64] |= (bits as u64) << (start % 64);
    }

    /// Clears those of the 16 bits from `start` on, a multiple of 16, that `bits` has set.
    #[inline]
    pub const fn clear_group(&mut self, start: usize, bits: u16) {
        self.0[start / 64] &= !((bits as u64) << (start % 64));
    }

    /// How many bits are set.
    #[inline]
    pub const fn count(&self) -> usize {
        let mut sum = 0;
        let mut word = 0;
        while word < WORDS {
            sum += self.0[word].count_ones() as usize;
            word += 1;
        }
        sum
    }

    /// Whether no bit is set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Whether all bits are set.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.iter().all(|&word| word == u64::MAX)
    }

    /// How many whole groups of 16 are set.
    pub fn full_groups(&self) -> usize {
        (0..PAGES_PER_SLOT).step_by(PAGES_PER_GROUP).filter(|&start| self.group(start) == u16::MAX).count()
    }

    /// Bits set in both.
    #[inline]
    pub fn and(&self, other: &Bits512) -> Bits512 {
        Bits512(core::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// Bits set in either.
    #[inline]
    pub fn or(&self, other: &Bits512) -> Bits512 {
        Bits512(core::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Bits not set.
    #[inline]
    pub fn not(&self) -> Bits512 {
        Bits512(core::array::from_fn(|word| !self.0[word]))
    }

    /// The first bit set at or after `from`.
    #[inline]
    pub fn next_set(&self, from: usize) -> Option<usize> {
        if from >= PAGES_PER_SLOT {
            return None;
        }
        let mut word = from / 64;
        let mut bits = self.0[word] & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            if word == WORDS {
                return None;
            }
            bits = self.0[word];
        }
    }

    /// Where the run of equal bits ends that `start` is in: `end` at the latest.
    pub fn run_end(&self, start: usize, end: usize) -> usize {
        let differs = if self.get(start) { self.not().next_set(start) } else { self.next_set(start) };
        differs.map_or(end, |next| next.min(end))
    }

    /// The bits that are set, in ascending order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, &bits)| {
            let mut left = bits;
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * 64 + bit)
            })
        })
    }

    /// The maximal runs of set bits, in ascending order.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let start = self.next_set(from)?;
            let end = self.not().next_set(start).unwrap_or(PAGES_PER_SLOT);
            from = end;
            Some(start..end)
        })
    }

    /// The 64-bit words, lowest bit first.
    #[inline]
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.0
    }
}

impl From<[u64; WORDS]> for Bits512 {
    fn from(words: [u64; WORDS]) -> Self {
        Bits512(words)
    }
}
