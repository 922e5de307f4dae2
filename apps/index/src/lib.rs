//! A full-text index: which words stand where in which files, and which files answer a query best.
//!
//! ```text
//! Corpus ──scan──▶ Occurrences ──invert──▶ Index ──search──▶ Answers
//! (files)          (words, in the          (occurrences,      (ranked)
//!                   order of the text)      word by word)
//! ```
//!
//! What counts as text, everywhere the same:
//!
//! - a file with a NUL byte among its first 8 KiB is binary and is left out; bytes that are not UTF-8 read as U+FFFD;
//! - of files called `*.html` or `*.htm`, what [`html::strip`] leaves of them;
//! - a **word** is a maximal run of characters that are alphanumeric in Unicode's sense, each lower-cased by itself.
//!
//! Files are ranked by BM25 (k₁ = 1.2, b = 0.75), ties by the order in which they were added, so answers are the
//! same on every machine. Everything is held in memory, in a few large vectors: no allocation is made per word.
//!
//! Each step is done by the threads that it is given as [`Workers`], and its result is the same for any number of them.
//! A file is read by one thread: a corpus of few large files keeps few of them busy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod corpus;
mod dictionary;
pub mod html;
mod inverted;
mod occurrences;
mod postings;
pub mod report;
mod search;
mod words;
mod workers;

pub use corpus::{Corpus, Document};
pub use inverted::Index;
pub use occurrences::Occurrences;
pub use postings::Posting;
pub use search::{Answer, Answers, Query};
pub use words::words;
pub use workers::{Alone, Workers};

use core::fmt;

/// Why no index could be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IndexError {
    /// The allocator refused `bytes` more for `purpose`.
    OutOfMemory {
        /// What the memory was for.
        purpose: &'static str,
        /// How much was asked for.
        bytes: usize,
    },
    /// The file called `name` has `bytes` bytes; places in a file are counted in 32 bits.
    FileTooLarge {
        /// The file.
        name: alloc::string::String,
        /// Its length.
        bytes: usize,
    },
    /// More than 2³² − 1 words in all, or different ones.
    TooManyWords,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::OutOfMemory { purpose, bytes } => write!(f, "no memory for {purpose}: {bytes} bytes refused"),
            IndexError::FileTooLarge { name, bytes } => {
                write!(f, "{name} is too large: {bytes} bytes, at most {}", u32::MAX)
            }
            IndexError::TooManyWords => write!(f, "more than {} words", u32::MAX),
        }
    }
}

impl core::error::Error for IndexError {}

/// Room for `additional` more elements, or the error that says what they were for.
fn reserve<T>(vector: &mut alloc::vec::Vec<T>, additional: usize, purpose: &'static str) -> Result<(), IndexError> {
    vector
        .try_reserve(additional)
        .map_err(|_| IndexError::OutOfMemory { purpose, bytes: additional.saturating_mul(size_of::<T>()) })
}
