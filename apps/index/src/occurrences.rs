//! Reading the corpus once, from beginning to end: every word becomes a number.

use crate::html::{self, Stripped};
use crate::{Corpus, IndexError, reserve, words};
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// A word's number, and where in its file it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occurrence {
    pub(crate) word: u32,
    pub(crate) offset: u32,
}

/// The different words, numbered in the order in which they first occur. Their letters lie one behind another.
#[derive(Default, Debug)]
pub(crate) struct Dictionary {
    letters: String,
    /// Where in `letters` each word ends: it begins where the one before it ends.
    ends: Vec<u32>,
    numbers: HashTable<u32>,
}

fn hash(word: &str) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(word.as_bytes());
    hasher.finish()
}

fn letters<'a>(letters: &'a str, ends: &[u32], number: u32) -> &'a str {
    let start = number.checked_sub(1).map_or(0, |before| ends[before as usize]);
    &letters[start as usize..ends[number as usize] as usize]
}

impl Dictionary {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn word(&self, number: u32) -> &str {
        letters(&self.letters, &self.ends, number)
    }

    pub(crate) fn number(&self, word: &str) -> Option<u32> {
        self.numbers.find(hash(word), |&number| self.word(number) == word).copied()
    }

    /// The number of `word`, a new one if it has none.
    #[inline]
    fn enter(&mut self, word: &str) -> Result<u32, IndexError> {
        let hash_of_word = hash(word);
        if let Some(&number) =
            self.numbers.find(hash_of_word, |&number| letters(&self.letters, &self.ends, number) == word)
        {
            return Ok(number);
        }
        let number = u32::try_from(self.ends.len()).map_err(|_| IndexError::TooManyWords)?;
        let end = u32::try_from(self.letters.len() + word.len()).map_err(|_| IndexError::TooManyWords)?;
        let refused = |bytes| IndexError::OutOfMemory { purpose: "the dictionary", bytes };
        self.letters.try_reserve(word.len()).map_err(|_| refused(word.len()))?;
        reserve(&mut self.ends, 1, "the dictionary")?;
        let (all, ends) = (&self.letters, &self.ends);
        self.numbers
            .try_reserve(1, |&number| hash(letters(all, ends, number)))
            .map_err(|_| refused(size_of::<u32>()))?;
        self.letters.push_str(word);
        self.ends.push(end);
        self.numbers.insert_unique(hash_of_word, number, |&number| hash(letters(&self.letters, &self.ends, number)));
        Ok(number)
    }
}

/// All words of a corpus in the order of the text.
#[derive(Debug)]
pub struct Occurrences {
    pub(crate) dictionary: Dictionary,
    pub(crate) occurrences: Vec<Occurrence>,
    /// For each document, where in `occurrences` it ends.
    pub(crate) ends: Vec<u32>,
    text: usize,
}

impl Occurrences {
    /// Reads all of `corpus`.
    pub fn scan(corpus: &Corpus) -> Result<Self, IndexError> {
        let mut all = Self { dictionary: Dictionary::default(), occurrences: Vec::new(), ends: Vec::new(), text: 0 };
        reserve(&mut all.ends, corpus.documents().len(), "the list of files")?;
        let (mut stripped, mut buffer) = (Stripped::default(), String::new());
        for document in corpus.documents() {
            let contents = corpus.contents(document);
            if document.is_html() {
                html::strip(contents, &mut stripped);
                let mut places = stripped.places();
                all.text += stripped.text.len();
                words(&stripped.text, &mut buffer, |word, offset| all.push(word, places.source(offset)))?;
            } else {
                all.text += contents.len();
                words(contents, &mut buffer, |word, offset| all.push(word, offset as u32))?;
            }
            all.ends.push(u32::try_from(all.occurrences.len()).map_err(|_| IndexError::TooManyWords)?);
        }
        Ok(all)
    }

    #[inline]
    fn push(&mut self, word: &str, offset: u32) -> Result<(), IndexError> {
        let word = self.dictionary.enter(word)?;
        if self.occurrences.len() == self.occurrences.capacity() {
            reserve(&mut self.occurrences, 1, "the words of the text")?;
        }
        self.occurrences.push(Occurrence { word, offset });
        Ok(())
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.occurrences.len()
    }

    /// Whether there is no word at all.
    pub fn is_empty(&self) -> bool {
        self.occurrences.is_empty()
    }

    /// How many different words there are.
    pub fn different(&self) -> usize {
        self.dictionary.len()
    }

    /// Bytes of text: without what HTML wraps around it.
    pub fn text_bytes(&self) -> usize {
        self.text
    }
}
