//! The initrd as an archive of files: cpio, as Linux has it.
#![forbid(unsafe_code)]

use core::fmt;
use cpio_reader::{Entry, Mode};

/// Begins every entry of a `newc` archive, and of its variant with checksums.
const MAGIC: [&[u8]; 2] = [b"070701", b"070702"];
/// Bytes of an entry's header, before its name.
const HEADER: usize = 110;
/// The name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!\0";
/// The bits of a mode that say what kind of file it is.
const KIND: u32 = 0o170_000;

/// Files in memory: a cpio archive (`newc`), checked.
#[derive(Clone, Copy)]
pub struct Archive<'a>(&'a [u8]);

/// What is wrong with an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveError {
    /// It does not begin as a `newc` archive does.
    Magic,
    /// The entry at `offset` is malformed, cut off, or has a name that is not UTF-8.
    Entry {
        /// Bytes from the start of the archive.
        offset: usize,
    },
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it is not a cpio archive of the kind newc"),
            Self::Entry { offset } => {
                write!(f, "the cpio archive is damaged at byte {offset}, or has a file name there that is not UTF-8")
            }
        }
    }
}

impl core::error::Error for ArchiveError {}

impl<'a> Archive<'a> {
    /// The archive that `bytes` begins with; what follows its end is ignored. Looks at every entry's header once.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] says what is wrong, and where.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        if !MAGIC.iter().any(|magic| bytes.starts_with(magic)) {
            return Err(ArchiveError::Magic);
        }
        // The crate's iterator ends at the trailer and at the first thing that it cannot read alike: only the trailer
        // may be what it stopped at.
        let offset = cpio_reader::iter_files(bytes).last().map_or(0, |entry| end(bytes, &entry));
        let rest = bytes.get(offset..).unwrap_or_default();
        let is_trailer = MAGIC.iter().any(|magic| rest.starts_with(magic))
            && rest.get(HEADER..).is_some_and(|name| name.starts_with(TRAILER));
        if is_trailer { Ok(Self(bytes)) } else { Err(ArchiveError::Entry { offset }) }
    }

    /// Name and contents of each regular file, in the archive's order.
    pub fn files(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        cpio_reader::iter_files(self.0)
            .filter(|entry| entry.mode().bits() & KIND == Mode::REGULAR_FILE.bits())
            .map(|entry| (entry.name(), entry.file()))
    }
}

/// Where the entry after `entry`, which lies in `archive`, begins: contents are padded to a multiple of 4.
fn end(archive: &[u8], entry: &Entry<'_>) -> usize {
    // A slice of no bytes still says where it is, unless the archive ends before it.
    let start = entry.file().as_ptr().addr().checked_sub(archive.as_ptr().addr());
    let end = start.map(|start| (start + entry.file().len()).next_multiple_of(4));
    end.filter(|&end| end <= archive.len()).unwrap_or(archive.len())
}
