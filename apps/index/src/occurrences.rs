//! Reading the corpus once: every word becomes a number.
//!
//! Parts of the corpus are read side by side, each with a dictionary of its own. Then the parts' words are entered into one
//! dictionary, part after part, each part's in their order: so they get the numbers that they get when all is one part.

use crate::dictionary::Dictionary;
use crate::html::{self, Stripped};
use crate::workers::{self, Workers};
use crate::{Corpus, IndexError, reserve, words};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// A word's number in its part, and where in its file it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occurrence {
    pub(crate) word: u32,
    pub(crate) offset: u32,
}

/// All words of a corpus in the order of the text.
#[derive(Debug)]
pub struct Occurrences {
    pub(crate) dictionary: Dictionary,
    pub(crate) parts: Vec<Part>,
}

/// The words of some documents.
#[derive(Debug)]
pub(crate) struct Part {
    /// The first of the documents.
    pub(crate) document: u32,
    pub(crate) occurrences: Vec<Occurrence>,
    /// For each document, where in `occurrences` it ends.
    pub(crate) ends: Vec<u32>,
    /// How many different words there are, numbered in the order in which they first occur in the part.
    pub(crate) different: usize,
    /// The number that each of them has in the whole; of no use to a part that is the whole.
    pub(crate) numbers: Vec<u32>,
    text: usize,
}

impl Occurrences {
    /// Reads all of `corpus`.
    pub fn scan(corpus: &Corpus, workers: &dyn Workers) -> Result<Self, IndexError> {
        let documents = corpus.documents();
        let cuts = workers::cut(documents.iter().map(|document| document.bytes()), workers::parts(workers))?;
        let scanned = workers::map(workers, cuts, |documents| Part::scan(corpus, documents))?;

        let (mut parts, mut dictionaries) = (Vec::new(), Vec::new());
        reserve(&mut parts, scanned.len(), "the parts")?;
        reserve(&mut dictionaries, scanned.len(), "the parts")?;
        for (part, dictionary) in scanned {
            parts.push(part);
            dictionaries.push(dictionary);
        }
        let all = Self { dictionary: merge(dictionaries, &mut parts)?, parts };
        u32::try_from(all.len()).map_err(|_| IndexError::TooManyWords)?;
        Ok(all)
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.occurrences.len()).sum()
    }

    /// Whether there is no word at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different words there are.
    pub fn different(&self) -> usize {
        self.dictionary.len()
    }

    /// Bytes of text: without what HTML wraps around it.
    pub fn text_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.text).sum()
    }
}

/// One dictionary out of those of the parts, in which every word has the number of its first occurrence in the whole.
fn merge(dictionaries: Vec<Dictionary>, parts: &mut [Part]) -> Result<Dictionary, IndexError> {
    let mut dictionaries = dictionaries.into_iter();
    // The first part's words come first, so its dictionary is the beginning of the whole one.
    let mut all = dictionaries.next().unwrap_or_default();
    let Some((first, rest)) = parts.split_first_mut().filter(|(_, rest)| !rest.is_empty()) else { return Ok(all) };
    reserve(&mut first.numbers, all.len(), "the dictionary")?;
    first.numbers.extend(0..all.len() as u32);
    for (part, own) in rest.iter_mut().zip(dictionaries) {
        reserve(&mut part.numbers, own.len(), "the dictionary")?;
        for word in own.words() {
            part.numbers.push(all.enter(word)?);
        }
    }
    Ok(all)
}

impl Part {
    fn scan(corpus: &Corpus, documents: Range<usize>) -> Result<(Self, Dictionary), IndexError> {
        let document = u32::try_from(documents.start).map_err(|_| IndexError::TooManyWords)?;
        let mut dictionary = Dictionary::default();
        let mut part =
            Self { document, occurrences: Vec::new(), ends: Vec::new(), different: 0, numbers: Vec::new(), text: 0 };
        reserve(&mut part.ends, documents.len(), "the list of files")?;
        let (mut stripped, mut buffer) = (Stripped::default(), String::new());
        for document in &corpus.documents()[documents] {
            let contents = corpus.contents(document);
            let mut push = |word: &str, offset| part.push(dictionary.enter(word)?, offset);
            if document.is_html() {
                html::strip(contents, &mut stripped)?;
                let mut places = stripped.places();
                words(&stripped.text, &mut buffer, |word, offset| push(word, places.source(offset)))?;
                part.text += stripped.text.len();
            } else {
                words(contents, &mut buffer, |word, offset| push(word, offset as u32))?;
                part.text += contents.len();
            }
            part.ends.push(u32::try_from(part.occurrences.len()).map_err(|_| IndexError::TooManyWords)?);
        }
        part.different = dictionary.len();
        Ok((part, dictionary))
    }

    #[inline]
    fn push(&mut self, word: u32, offset: u32) -> Result<(), IndexError> {
        if self.occurrences.len() == self.occurrences.capacity() {
            reserve(&mut self.occurrences, 1, "the words of the text")?;
        }
        self.occurrences.push(Occurrence { word, offset });
        Ok(())
    }
}
