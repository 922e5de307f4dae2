//! The inverted index: for each word, every place where it occurs.

use crate::html::{self, Stripped};
use crate::occurrences::Dictionary;
use crate::{Corpus, Document, IndexError, Occurrences, reserve, words};
use alloc::string::String;
use alloc::vec::Vec;

/// The words shown before and after the one that a snippet is about.
const CONTEXT: (usize, usize) = (5, 8);
/// The most characters that a snippet has.
const SNIPPET: usize = 160;

/// One occurrence of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Posting {
    /// Which file: an index into [`Index::documents`].
    pub document: u32,
    /// The how many-th word of its file this is, from 0.
    pub position: u32,
    /// Where in the file the word begins, in bytes.
    pub offset: u32,
}

/// A corpus, and where in it each word occurs.
#[derive(Debug)]
pub struct Index {
    pub(crate) corpus: Corpus,
    dictionary: Dictionary,
    /// Postings of all words, one word's behind another's; each word's in ascending order.
    postings: Vec<Posting>,
    /// For each word, where in `postings` its own end.
    ends: Vec<u32>,
    /// How many words each document has.
    lengths: Vec<u32>,
}

impl Index {
    /// Turns the occurrences, in the order of the text, into postings word by word: a counting sort.
    /// `occurrences` are those of `corpus`; their memory is freed.
    pub fn invert(corpus: Corpus, occurrences: Occurrences) -> Result<Self, IndexError> {
        let Occurrences { dictionary, occurrences, ends: document_ends, .. } = occurrences;
        let mut starts = Vec::new();
        reserve(&mut starts, dictionary.len() + 1, "the postings")?;
        starts.resize(dictionary.len() + 1, 0u32);
        for occurrence in &occurrences {
            starts[occurrence.word as usize + 1] += 1;
        }
        for word in 1..starts.len() {
            starts[word] += starts[word - 1];
        }

        let mut postings = Vec::new();
        reserve(&mut postings, occurrences.len(), "the postings")?;
        postings.resize(occurrences.len(), Posting::default());
        let mut lengths = Vec::new();
        reserve(&mut lengths, document_ends.len(), "the lengths of the files")?;
        let mut start = 0;
        for (document, &end) in document_ends.iter().enumerate() {
            for (position, occurrence) in occurrences[start as usize..end as usize].iter().enumerate() {
                let place = &mut starts[occurrence.word as usize];
                postings[*place as usize] =
                    Posting { document: document as u32, position: position as u32, offset: occurrence.offset };
                *place += 1;
            }
            lengths.push(end - start);
            start = end;
        }
        // Each word's start has moved to its end.
        starts.truncate(dictionary.len());
        Ok(Self { corpus, dictionary, postings, ends: starts, lengths })
    }

    /// The files.
    pub fn documents(&self) -> &[Document] {
        self.corpus.documents()
    }

    /// How many words the document at `document` has.
    pub(crate) fn length(&self, document: u32) -> u32 {
        self.lengths[document as usize]
    }

    /// How many occurrences of all words there are.
    pub fn len(&self) -> usize {
        self.postings.len()
    }

    /// Whether no word occurs at all.
    pub fn is_empty(&self) -> bool {
        self.postings.is_empty()
    }

    /// Every occurrence of `word` (lower case), by file and position; empty if there is none.
    pub fn postings(&self, word: &str) -> &[Posting] {
        self.dictionary.number(word).map_or(&[], |number| self.postings_of(number))
    }

    fn postings_of(&self, number: u32) -> &[Posting] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        &self.postings[start as usize..self.ends[number as usize] as usize]
    }

    /// The `count` most frequent words with their numbers of occurrences; ties in alphabetical order.
    pub fn most_frequent(&self, count: usize) -> Vec<(&str, usize)> {
        let mut words: Vec<_> = (0..self.dictionary.len() as u32)
            .map(|number| (self.dictionary.word(number), self.postings_of(number).len()))
            .collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        words.truncate(count);
        words
    }

    /// The line of its file that `posting` is on, from 1.
    pub fn line(&self, posting: Posting) -> usize {
        let contents = self.corpus.contents(&self.documents()[posting.document as usize]);
        1 + contents.as_bytes()[..posting.offset as usize].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The text around `posting`: five words before and eight after it, blanks and line ends drawn together, cut to 160
    /// characters.
    pub fn snippet(&self, posting: Posting) -> String {
        let document = &self.documents()[posting.document as usize];
        let mut stripped = Stripped::default();
        let text = if document.is_html() {
            html::strip(self.corpus.contents(document), &mut stripped);
            stripped.text.as_str()
        } else {
            self.corpus.contents(document)
        };
        let first = (posting.position as usize).saturating_sub(CONTEXT.0);
        let last = posting.position as usize + CONTEXT.1;
        let (mut start, mut end, mut position) = (0, 0, 0);
        // The end of the word after which it stops is not known to `words`: it is found from the start.
        let _ = words(text, &mut String::new(), |_, offset| {
            if position == first {
                start = offset;
            }
            end = offset;
            position += 1;
            if position > last { Err(()) } else { Ok(()) }
        });
        let word = text[end..].find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len() - end);
        let mut snippet = String::new();
        for part in text[start..end + word].split_whitespace() {
            if !snippet.is_empty() {
                snippet.push(' ');
            }
            snippet.push_str(part);
        }
        if let Some((cut, _)) = snippet.char_indices().nth(SNIPPET) {
            snippet.truncate(cut);
        }
        snippet
    }
}
