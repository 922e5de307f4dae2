//! The inverted index: for each word, every place where it occurs.

use crate::dictionary::Dictionary;
use crate::html::{self, Stripped};
use crate::postings::{self, Posting, Postings};
use crate::workers::Workers;
use crate::{Corpus, Document, IndexError, Occurrences, reserve, words};
use alloc::string::String;
use alloc::vec::Vec;

/// The words shown before and after the one that a snippet is about.
const CONTEXT: (usize, usize) = (5, 8);
/// The most characters that a snippet has.
const SNIPPET: usize = 160;

/// A corpus, and where in it each word occurs.
#[derive(Debug)]
pub struct Index {
    pub(crate) corpus: Corpus,
    dictionary: Dictionary,
    /// The postings of all words: of ascending ranges of them.
    postings: Vec<Postings>,
    /// How many words each document has.
    lengths: Vec<u32>,
}

impl Index {
    /// Turns the occurrences, in the order of the text, into postings word by word.
    /// `occurrences` are those of `corpus`; their memory is freed.
    pub fn invert(corpus: Corpus, occurrences: Occurrences, workers: &dyn Workers) -> Result<Self, IndexError> {
        let Occurrences { dictionary, parts } = occurrences;
        let mut lengths = Vec::new();
        reserve(&mut lengths, corpus.documents().len(), "the lengths of the files")?;
        for part in &parts {
            let starts = core::iter::once(0).chain(part.ends.iter().copied());
            lengths.extend(part.ends.iter().zip(starts).map(|(end, start)| end - start));
        }
        let postings = postings::invert(parts, dictionary.len(), workers)?;
        Ok(Self { corpus, dictionary, postings, lengths })
    }

    /// Forgets all but the files.
    pub fn into_corpus(self) -> Corpus {
        self.corpus
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
        self.postings.iter().map(Postings::len).sum()
    }

    /// Whether no word occurs at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The different words, in the order in which they first occur.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.dictionary.words()
    }

    /// Every occurrence of `word` (lower case), by file and position; empty if there is none.
    pub fn postings(&self, word: &str) -> &[Posting] {
        self.dictionary.number(word).map_or(&[], |number| self.postings_of(number))
    }

    fn postings_of(&self, number: u32) -> &[Posting] {
        let behind = self.postings.partition_point(|postings| postings.first() <= number);
        let postings = &self.postings[behind - 1];
        postings.of(number - postings.first())
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
            // Without memory for the text there is nothing to show.
            html::strip(self.corpus.contents(document), &mut stripped).map_or("", |()| stripped.text.as_str())
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
