//! The files, as they are.

use crate::{IndexError, reserve};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// How far into a file a NUL byte makes it a binary one.
const BINARY_WITHIN: usize = 8192;

/// A file of a [`Corpus`].
#[derive(Debug)]
pub struct Document {
    name: String,
    contents: Range<usize>,
    html: bool,
}

impl Document {
    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether only what [`html::strip`](crate::html::strip) leaves of it is text.
    pub fn is_html(&self) -> bool {
        self.html
    }
}

/// Text files, their contents in one piece of memory.
#[derive(Debug)]
pub struct Corpus {
    documents: Vec<Document>,
    contents: String,
    binary: usize,
}

impl Corpus {
    /// An empty corpus with room for `bytes` bytes of contents.
    pub fn with_capacity(bytes: usize) -> Result<Self, IndexError> {
        let mut contents = String::new();
        contents
            .try_reserve_exact(bytes)
            .map_err(|_| IndexError::OutOfMemory { purpose: "the contents of the files", bytes })?;
        Ok(Self { documents: Vec::new(), contents, binary: 0 })
    }

    /// Adds the file `name`, unless it is binary: then it is only counted.
    pub fn add(&mut self, name: &str, contents: &[u8]) -> Result<(), IndexError> {
        if contents[..contents.len().min(BINARY_WITHIN)].contains(&0) {
            self.binary += 1;
            return Ok(());
        }
        let start = self.contents.len();
        for chunk in contents.utf8_chunks() {
            let (text, replaced) = (chunk.valid(), if chunk.invalid().is_empty() { "" } else { "\u{fffd}" });
            self.contents.try_reserve(text.len() + replaced.len()).map_err(|_| IndexError::OutOfMemory {
                purpose: "the contents of the files",
                bytes: text.len() + replaced.len(),
            })?;
            self.contents.push_str(text);
            self.contents.push_str(replaced);
        }
        let contents = start..self.contents.len();
        if u32::try_from(contents.len()).is_err() {
            return Err(IndexError::FileTooLarge { name: name.to_owned(), bytes: contents.len() });
        }
        reserve(&mut self.documents, 1, "the list of files")?;
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let html = extension.eq_ignore_ascii_case("html") || extension.eq_ignore_ascii_case("htm");
        self.documents.push(Document { name: name.to_owned(), contents, html });
        Ok(())
    }

    /// The text files, in the order in which they were added.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// What `document`, one of this corpus, holds.
    pub fn contents(&self, document: &Document) -> &str {
        &self.contents[document.contents.clone()]
    }

    /// Bytes of all text files.
    pub fn bytes(&self) -> usize {
        self.contents.len()
    }

    /// How many binary files were left out.
    pub fn binary(&self) -> usize {
        self.binary
    }
}
