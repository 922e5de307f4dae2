//! Words and their numbers.

use crate::{IndexError, reserve};
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

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

    /// All words in the order of their numbers.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map(|number| self.word(number))
    }

    pub(crate) fn number(&self, word: &str) -> Option<u32> {
        self.numbers.find(hash(word), |&number| self.word(number) == word).copied()
    }

    /// The number of `word`, a new one if it has none.
    #[inline]
    pub(crate) fn enter(&mut self, word: &str) -> Result<u32, IndexError> {
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
