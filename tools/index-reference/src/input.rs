//! The files, from a directory or from the archive that the application got.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// A file to index.
pub struct Source {
    /// Its name, relative to the directory.
    pub name: String,
    /// Its bytes.
    pub contents: Vec<u8>,
}

/// What can go wrong with the input: the path, and why.
pub type InputError = (std::path::PathBuf, io::Error);

/// All regular files of `path` in the order of their names: those below a directory, those in a `newc` cpio archive
/// (`*.cpio`), or the file itself.
pub fn files(path: &Path) -> Result<Vec<Source>, InputError> {
    let failed = |error| (path.to_path_buf(), error);
    if path.extension().is_some_and(|extension| extension == "cpio") {
        return archive(fs::File::open(path).map_err(failed)?).map_err(failed);
    }
    let mut files = Vec::new();
    for found in walkdir::WalkDir::new(path) {
        let found = found.map_err(|error| failed(error.into()))?;
        if !found.file_type().is_file() {
            continue;
        }
        let relative = found.path().strip_prefix(path).unwrap_or(found.path());
        let name = if relative.as_os_str().is_empty() { Path::new(found.file_name()) } else { relative };
        let contents = fs::read(found.path()).map_err(|error| (found.path().to_path_buf(), error))?;
        files.push(Source { name: name.to_string_lossy().into_owned(), contents });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn archive(file: fs::File) -> io::Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut rest = io::BufReader::new(file);
    loop {
        let mut reader = cpio::newc::Reader::new(rest)?;
        if reader.entry().is_trailer() {
            return Ok(files);
        }
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents)?;
        if reader.entry().mode() & 0o170_000 == 0o100_000 {
            files.push(Source { name: reader.entry().name().to_string(), contents });
        }
        rest = reader.finish()?;
    }
}
