//! Queries and their ranked answers.

use crate::{Index, Posting, words};
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;

/// BM25's saturation: how fast further occurrences in a file stop to count.
const K1: f64 = 1.2;
/// BM25's length normalization: how far a long file's occurrences count less.
const B: f64 = 0.75;

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query<'a> {
    /// Files in which at least one of the words occurs.
    Words(&'a str),
    /// Files in which the words occur one behind another.
    Phrase(&'a str),
}

/// A file that answers a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which file: an index into [`Index::documents`].
    pub document: u32,
    /// Its rank's measure, in millionths: whole numbers, so that the last bit of a logarithm decides nothing.
    pub score: u64,
    /// How many occurrences of the query's words, or of the phrase, it has.
    pub occurrences: u32,
    /// The place to show: the first occurrence of the phrase, or of the rarest word that occurs in the file.
    pub place: Posting,
}

/// The answers to one query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answers {
    /// How many files match.
    pub matching: usize,
    /// The best of them, best first.
    pub best: Vec<Answer>,
}

/// What is known of a file while the terms of a query are gone through.
#[derive(Clone, Copy, Default)]
struct Tally {
    score: f64,
    occurrences: u32,
    place: Posting,
    /// In how many files the term of `place` occurs.
    files: usize,
}

impl Index {
    /// The `count` best answers to `query`. A word given twice counts once; a query without a word has no answer.
    pub fn search(&self, query: Query<'_>, count: usize) -> Answers {
        let mut tallies = alloc::vec![Tally::default(); self.documents().len()];
        match query {
            Query::Words(text) => {
                let mut wanted = split(text);
                let mut seen = Vec::new();
                wanted.retain(|word| {
                    !seen.contains(word) && {
                        seen.push(word.clone());
                        true
                    }
                });
                for word in &wanted {
                    self.count(self.postings(word), &mut tallies);
                }
            }
            Query::Phrase(text) => self.count(&self.phrase(&split(text)), &mut tallies),
        }
        let mut best: Vec<Answer> = tallies
            .iter()
            .enumerate()
            .filter(|(_, tally)| tally.occurrences != 0)
            .map(|(document, tally)| Answer {
                document: document as u32,
                score: libm::round(tally.score * 1e6) as u64,
                occurrences: tally.occurrences,
                place: tally.place,
            })
            .collect();
        let matching = best.len();
        best.sort_unstable_by(|a, b| b.score.cmp(&a.score).then(a.document.cmp(&b.document)));
        best.truncate(count);
        Answers { matching, best }
    }

    /// Adds one term, whose occurrences are `postings` in ascending order, to the files' tallies.
    fn count(&self, postings: &[Posting], tallies: &mut [Tally]) {
        let by_file = || postings.chunk_by(|a, b| a.document == b.document);
        let files = by_file().count();
        let all = self.documents().len() as f64;
        let average = self.len() as f64 / all;
        let rarity = libm::log(1.0 + (all - files as f64 + 0.5) / (files as f64 + 0.5));
        for postings in by_file() {
            let document = postings[0].document;
            let tally = &mut tallies[document as usize];
            let frequency = postings.len() as f64;
            let length = f64::from(self.length(document)) / average;
            tally.score += rarity * frequency * (K1 + 1.0) / (frequency + K1 * (1.0 - B + B * length));
            if tally.occurrences == 0 || files < tally.files {
                (tally.place, tally.files) = (postings[0], files);
            }
            tally.occurrences += postings.len() as u32;
        }
    }

    /// Where `words` occur one behind another: the postings of the first one.
    fn phrase(&self, words: &[String]) -> Vec<Posting> {
        let Some((first, rest)) = words.split_first() else { return Vec::new() };
        let rest: Vec<&[Posting]> = rest.iter().map(|word| self.postings(word)).collect();
        let follows = |posting: &&Posting| {
            (1..).zip(&rest).all(|(distance, postings)| {
                let place = (posting.document, posting.position + distance);
                postings.binary_search_by_key(&place, |other| (other.document, other.position)).is_ok()
            })
        };
        self.postings(first).iter().filter(follows).copied().collect()
    }
}

/// The words of a query.
fn split(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(()) = words(text, &mut String::new(), |word, _| -> Result<(), Infallible> {
        found.push(String::from(word));
        Ok(())
    });
    found
}
