//! The files, as they are.

use crate::workers::{self, Workers};
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
    /// Which of the corpus' pieces holds the contents.
    piece: usize,
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

    /// Bytes of its contents.
    pub(crate) fn bytes(&self) -> usize {
        self.contents.len()
    }
}

/// Text files, their contents in a few large pieces of memory.
#[derive(Debug)]
pub struct Corpus {
    documents: Vec<Document>,
    pieces: Vec<String>,
    binary: usize,
}

/// Some of the files, one behind another.
#[derive(Default)]
struct Piece {
    documents: Vec<Document>,
    contents: String,
    binary: usize,
}

impl Corpus {
    /// Copies the files, each a name and its contents; binary ones are only counted.
    pub fn read<'a>(
        files: impl Iterator<Item = (&'a str, &'a [u8])>,
        workers: &dyn Workers,
    ) -> Result<Self, IndexError> {
        let mut all = Vec::new();
        for file in files {
            reserve(&mut all, 1, "the list of files")?;
            all.push(file);
        }
        let cuts = workers::cut(all.iter().map(|(_, contents)| contents.len()), workers::parts(workers))?;
        let pieces = workers::map(workers, cuts, |piece| Piece::read(&all[piece]))?;

        let mut corpus = Self { documents: Vec::new(), pieces: Vec::new(), binary: 0 };
        reserve(&mut corpus.documents, pieces.iter().map(|piece| piece.documents.len()).sum(), "the list of files")?;
        reserve(&mut corpus.pieces, pieces.len(), "the list of files")?;
        for (number, piece) in pieces.into_iter().enumerate() {
            corpus.documents.extend(piece.documents.into_iter().map(|document| Document { piece: number, ..document }));
            corpus.pieces.push(piece.contents);
            corpus.binary += piece.binary;
        }
        Ok(corpus)
    }

    /// The text files, in the order in which they were read.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// What `document`, one of this corpus, holds.
    pub fn contents(&self, document: &Document) -> &str {
        &self.pieces[document.piece][document.contents.clone()]
    }

    /// Bytes of all text files.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(String::len).sum()
    }

    /// How many binary files were left out.
    pub fn binary(&self) -> usize {
        self.binary
    }
}

impl Piece {
    fn read(files: &[(&str, &[u8])]) -> Result<Self, IndexError> {
        let mut piece = Self::default();
        let bytes = files.iter().map(|(_, contents)| contents.len()).sum();
        let refused = |_| IndexError::OutOfMemory { purpose: "the contents of the files", bytes };
        piece.contents.try_reserve_exact(bytes).map_err(refused)?;
        for (name, contents) in files {
            piece.add(name, contents)?;
        }
        Ok(piece)
    }

    /// Adds the file `name`, unless it is binary: then it is only counted.
    fn add(&mut self, name: &str, contents: &[u8]) -> Result<(), IndexError> {
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
        self.documents.push(Document { name: name.to_owned(), piece: 0, contents, html });
        Ok(())
    }
}
