//! From the order of the text to the order of the words.
//!
//! Each part's occurrences are sorted by its own words; then the postings of each word are copied together, those of the
//! first part first. Both is done side by side: part by part, then for one range of words by another.

use crate::occurrences::Part;
use crate::workers::{self, Workers};
use crate::{IndexError, reserve};
use alloc::vec::Vec;
use core::ops::Range;

/// One occurrence of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Posting {
    /// Which file: an index into [`Index::documents`](crate::Index::documents).
    pub document: u32,
    /// The how many-th word of its file this is, from 0.
    pub position: u32,
    /// Where in the file the word begins, in bytes.
    pub offset: u32,
}

/// The postings of words with consecutive numbers, one word's behind another's; each word's in ascending order.
#[derive(Debug)]
pub(crate) struct Postings {
    all: Vec<Posting>,
    /// The number of the first word.
    first: u32,
    /// For each word, where in `all` its own end.
    ends: Vec<u32>,
}

/// Sorts the occurrences of all parts by their words, of which there are `different`: postings of ascending ranges of
/// words that together are all of them.
pub(crate) fn invert(parts: Vec<Part>, different: usize, workers: &dyn Workers) -> Result<Vec<Postings>, IndexError> {
    let sorted = workers::map(workers, parts, |part| Ok((Postings::sort(&part)?, part.numbers)))?;
    if sorted.len() <= 1 {
        let mut whole = Vec::new();
        reserve(&mut whole, 1, "the postings")?;
        whole.extend(sorted.into_iter().map(|(postings, _)| postings));
        return Ok(whole);
    }
    let mut counts = zeros(different)?;
    for (postings, numbers) in &sorted {
        for (own, &number) in (0..).zip(numbers) {
            counts[number as usize] += postings.of(own).len() as u32;
        }
    }
    let ranges = workers::cut(counts.iter().map(|&count| count as usize), workers.count())?;
    workers::map(workers, ranges, |words| Postings::gather(words, &counts, &sorted))
}

/// `count` numbers to count with.
fn zeros(count: usize) -> Result<Vec<u32>, IndexError> {
    let mut counts = Vec::new();
    reserve(&mut counts, count, "the postings")?;
    counts.resize(count, 0);
    Ok(counts)
}

impl Postings {
    /// `count` postings yet to be filled in, and where each word's start, which moves to its end as they are.
    fn blank(first: u32, starts: Vec<u32>, count: usize) -> Result<Self, IndexError> {
        let mut all = Vec::new();
        reserve(&mut all, count, "the postings")?;
        all.resize(count, Posting::default());
        Ok(Self { all, first, ends: starts })
    }

    /// Sorts the occurrences of `part` by its own words: a counting sort.
    fn sort(part: &Part) -> Result<Self, IndexError> {
        let mut counts = zeros(part.different)?;
        for occurrence in &part.occurrences {
            counts[occurrence.word as usize] += 1;
        }
        starts(&mut counts);
        let mut sorted = Self::blank(0, counts, part.occurrences.len())?;
        let mut start = 0;
        for (document, &end) in (part.document..).zip(&part.ends) {
            for (position, occurrence) in (0..).zip(&part.occurrences[start as usize..end as usize]) {
                let place = &mut sorted.ends[occurrence.word as usize];
                sorted.all[*place as usize] = Posting { document, position, offset: occurrence.offset };
                *place += 1;
            }
            start = end;
        }
        Ok(sorted)
    }

    /// The postings of `words`, of which each has so many as `counts` says, out of those of all parts.
    fn gather(words: Range<usize>, counts: &[u32], parts: &[(Self, Vec<u32>)]) -> Result<Self, IndexError> {
        let mut places = Vec::new();
        reserve(&mut places, words.len(), "the postings")?;
        places.extend_from_slice(&counts[words.clone()]);
        let count = starts(&mut places);
        let mut gathered = Self::blank(words.start as u32, places, count)?;
        let (first, last) = (words.start as u32, words.len() as u32);
        for (postings, numbers) in parts {
            for (own, &number) in (0..).zip(numbers) {
                let word = number.wrapping_sub(first);
                if word < last {
                    let (from, place) = (postings.of(own), &mut gathered.ends[word as usize]);
                    let start = *place as usize;
                    gathered.all[start..start + from.len()].copy_from_slice(from);
                    *place += from.len() as u32;
                }
            }
        }
        Ok(gathered)
    }

    /// The number of the first word.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// How many postings there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The postings of the word that comes so many after the first.
    pub(crate) fn of(&self, word: u32) -> &[Posting] {
        let start = word.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        &self.all[start as usize..self.ends[word as usize] as usize]
    }
}

/// Replaces each count by the sum of those before it; returns the sum of all.
fn starts(counts: &mut [u32]) -> usize {
    let mut sum = 0;
    for count in counts {
        sum += core::mem::replace(count, sum);
    }
    sum as usize
}
