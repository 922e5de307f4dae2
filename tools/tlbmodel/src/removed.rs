//! What invalidations took out: a walk for it afterwards is a refill, a cost that the invalidation left behind.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// What took an entry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A TLBI by address, or by a range of them.
    Address,
    /// One by ASID.
    Asid,
    /// One of everything.
    All,
}

/// An entry that was taken out. Larger ones are refilled in up to 512 parts: after a split, page by page.
#[derive(Debug)]
struct Mark {
    shift: u8,
    cause: Cause,
    refilled: [u64; 8],
}

impl Mark {
    /// The size of a part.
    fn unit(&self) -> u8 {
        self.shift.saturating_sub(9).max(12)
    }

    /// The words of parts that the `1 << shift` bytes at `start` fall into, and which in each.
    fn parts(&self, base: u64, start: u64, shift: u8) -> impl Iterator<Item = (usize, u64)> + use<> {
        let first = (start - base) >> self.unit();
        let count = 1 << shift.saturating_sub(self.unit());
        (first..first + count).map(|part| ((part / 64) as usize, 1 << (part % 64)))
    }

    fn is_done(&self) -> bool {
        let parts: u32 = self.refilled.iter().map(|word| word.count_ones()).sum();
        parts == 1 << (self.shift - self.unit())
    }
}

/// More are not kept: what is left out then is not counted.
const MOST: usize = 1 << 20;

/// Everything that was taken out and not walked for since.
#[derive(Debug, Default)]
pub struct Removed(BTreeMap<(Option<u16>, u64), Mark>);

impl Removed {
    /// Notes an entry that was taken out.
    pub fn note(&mut self, asid: Option<u16>, start: u64, shift: u8, cause: Cause) {
        if let Some((base, mark)) = self.around(asid, start, shift) {
            for (word, bit) in mark.parts(base, start, shift) {
                mark.refilled[word] &= !bit;
            }
            mark.cause = cause;
            return;
        }
        self.within(asid, start, shift);
        if self.0.len() < MOST {
            self.0.insert((asid, start), Mark { shift, cause, refilled: [0; 8] });
        }
    }

    /// What took out the entry that a walk brings back, if one did.
    pub fn refill(&mut self, asid: Option<u16>, start: u64, shift: u8) -> Option<Cause> {
        if self.0.is_empty() {
            return None;
        }
        let Some((base, mark)) = self.around(asid, start, shift) else { return self.within(asid, start, shift) };
        let mut fresh = false;
        for (word, bit) in mark.parts(base, start, shift) {
            fresh |= mark.refilled[word] & bit == 0;
            mark.refilled[word] |= bit;
        }
        let (cause, done) = (mark.cause, mark.is_done());
        if done {
            self.0.remove(&(asid, base));
        }
        fresh.then_some(cause)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The mark that all of an entry lies in, and where that begins.
    fn around(&mut self, asid: Option<u16>, start: u64, shift: u8) -> Option<(u64, &mut Mark)> {
        let (&(_, base), mark) = self.0.range_mut((asid, 0)..=(asid, start)).next_back()?;
        (mark.shift >= shift && (start ^ base) >> mark.shift == 0).then_some((base, mark))
    }

    /// Takes out all marks that lie in an entry; the cause of one of them.
    fn within(&mut self, asid: Option<u16>, start: u64, shift: u8) -> Option<Cause> {
        let range = (asid, start)..=(asid, start | ((1 << shift) - 1));
        let found: Vec<_> = self.0.range(range).map(|(&key, _)| key).collect();
        found.into_iter().filter_map(|key| self.0.remove(&key)).last().map(|mark| mark.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<u16> = Some(1);

    #[test]
    fn an_entry_is_refilled_once() {
        let mut removed = Removed::default();
        removed.note(ONE, 0x1000, 12, Cause::Address);
        assert_eq!(removed.refill(ONE, 0x2000, 12), None);
        assert_eq!(removed.refill(Some(2), 0x1000, 12), None);
        assert_eq!(removed.refill(ONE, 0x1000, 12), Some(Cause::Address));
        assert_eq!(removed.refill(ONE, 0x1000, 12), None);
    }

    #[test]
    fn a_split_block_is_refilled_page_by_page() {
        let mut removed = Removed::default();
        removed.note(ONE, 0x20_0000, 21, Cause::Address);
        for page in 0..512 {
            assert_eq!(removed.refill(ONE, 0x20_0000 + (page << 12), 12), Some(Cause::Address));
            assert_eq!(removed.refill(ONE, 0x20_0000 + (page << 12), 12), None);
        }
        assert!(removed.0.is_empty());
        removed.note(ONE, 0x20_0000, 21, Cause::Asid);
        assert_eq!(removed.refill(ONE, 0x21_0000, 16), Some(Cause::Asid));
        assert_eq!(removed.refill(ONE, 0x21_3000, 12), None);
    }

    #[test]
    fn a_promoted_slot_is_refilled_at_once() {
        let mut removed = Removed::default();
        for page in 0..512 {
            removed.note(ONE, 0x20_0000 + (page << 12), 12, Cause::Address);
        }
        assert_eq!(removed.refill(ONE, 0x20_0000, 21), Some(Cause::Address));
        assert!(removed.0.is_empty());
    }

    #[test]
    fn a_page_taken_out_again_is_refilled_again() {
        let mut removed = Removed::default();
        removed.note(ONE, 0x20_0000, 21, Cause::All);
        assert!(removed.refill(ONE, 0x20_3000, 12).is_some());
        removed.note(ONE, 0x20_3000, 12, Cause::Address);
        assert_eq!(removed.refill(ONE, 0x20_3000, 12), Some(Cause::Address));
    }

    #[test]
    fn larger_entries_replace_what_lies_in_them() {
        let mut removed = Removed::default();
        removed.note(ONE, 0x20_1000, 12, Cause::Address);
        removed.note(ONE, 0x20_0000, 21, Cause::All);
        assert_eq!(removed.0.len(), 1);
        // 1 GiB has parts of 2 MiB.
        removed.note(None, 0x4000_0000, 30, Cause::All);
        assert_eq!(removed.refill(None, 0x4000_1000, 12), Some(Cause::All));
        assert_eq!(removed.refill(None, 0x4000_2000, 12), None);
        assert_eq!(removed.refill(None, 0x4020_0000, 21), Some(Cause::All));
    }
}
