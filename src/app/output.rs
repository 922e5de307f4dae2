//! Output files on the host: below the directory that `out=` names.

use crate::arguments;
use crate::platform::files;
use core::fmt;

pub use files::FileError;

/// A file on the host that is being written. Dropping it closes it.
pub struct File(files::File);

impl File {
    /// Makes the file `name` in the host's directory `out=`, or empties the one that is there. `name` may hold slashes;
    /// the directories must be there.
    ///
    /// # Errors
    ///
    /// All of [`FileError`]: there is no host to write to, no directory was named, the name is not one for a file below it,
    /// or the host refuses.
    pub fn create(name: &str) -> Result<Self, FileError> {
        let directory = arguments::boot().and_then(|arguments| arguments.out);
        files::File::create(directory, name).map(Self)
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// The host refuses; then some of the bytes may have been written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.0.write(bytes)
    }
}

/// For `write!`. The error behind a [`fmt::Error`] is lost: [`File::write`] says it.
impl fmt::Write for File {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
