//! Output files on the host, by semihosting: below the directory that the boot argument `out=` names.

use super::power;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use arrayvec::ArrayVec;
use core::ffi::CStr;
use core::fmt;
use semihosting::io::{self, Write};

/// Bytes handed to the host at once, and of the longest path with its terminator.
const CHUNK: usize = 4096;

/// What the host reads from: it does so without faults of the guest, and in the image every page is there. Only
/// application mode takes this lock, with no other held, so that filling the buffer may fault; who waits for the host sleeps.
static TRANSFER: Mutex<ArrayVec<u8, CHUNK>> = Mutex::new(ArrayVec::new_const());

/// The buffer, whatever a thread that was stopped with it has left there: who takes it fills it anew.
fn transfer() -> MutexGuard<'static, ArrayVec<u8, CHUNK>> {
    TRANSFER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file being written; dropping it closes it.
pub struct File(semihosting::fs::File);

/// Why a file cannot be made or written.
#[derive(Debug)]
pub enum FileError {
    /// `semihosting=on` was not given: there is no host to write to.
    NoHost,
    /// `out=` was not given.
    NoDirectory,
    /// A name that is empty, holds a zero byte, is absolute or leads out of the directory, or is too long.
    Name,
    /// The host refused.
    Host(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => f.write_str("no output files: boot argument semihosting=on is not given"),
            Self::NoDirectory => f.write_str("no output files: boot argument out= is not given"),
            Self::Name => f.write_str("not a name for an output file"),
            Self::Host(error) => write!(f, "the host refuses: {error:?}"),
        }
    }
}

impl core::error::Error for FileError {}

impl File {
    /// Makes the file `name` in `directory` (the boot arguments' [`out`](crate::arguments::Arguments::out)), or empties
    /// the one that is there. `name` may hold slashes; the directories must be there.
    ///
    /// # Errors
    ///
    /// All of [`FileError`].
    pub fn create(directory: Option<&str>, name: &str) -> Result<Self, FileError> {
        if !power::has_semihosting() {
            return Err(FileError::NoHost);
        }
        let directory = directory.ok_or(FileError::NoDirectory)?;
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) || name.contains('\0') {
            return Err(FileError::Name);
        }
        let mut path = transfer();
        path.clear();
        for part in [directory, "/", name, "\0"] {
            path.try_extend_from_slice(part.as_bytes()).map_err(|_| FileError::Name)?;
        }
        let path = CStr::from_bytes_with_nul(&path).map_err(|_| FileError::Name)?;
        semihosting::fs::File::create(path).map(Self).map_err(FileError::Host)
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// [`FileError::Host`]; then some of the bytes may have been written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        for chunk in bytes.chunks(CHUNK) {
            let mut buffer = transfer();
            buffer.clear();
            buffer.extend(chunk.iter().copied());
            self.0.write_all(&buffer).map_err(FileError::Host)?;
        }
        Ok(())
    }
}
