//! What a board boots from: the kernel, its boot arguments and its input files in a directory of the host's.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The names that the firmware looks for, the last one because `config.txt` says so.
const KERNEL: &str = "kernel8.img";
const ARGUMENTS: &str = "cmdline.txt";
const INPUT: &str = "initramfs.cpio";

/// A file that can't be put there.
#[derive(Debug, Error)]
#[error("{path}: {error}")]
pub struct FileError {
    path: PathBuf,
    error: io::Error,
}

/// Puts the kernel, its `arguments` and the archive `input` into `directory`, each as a whole and for good, so that
/// neither a server nor a card that is pulled out has half of one. An archive of an earlier boot goes.
///
/// # Errors
/// The first file that can't be written. The directory is not made: where a card belongs, it would hide that there is none.
pub fn write(directory: &Path, image: &[u8], input: Option<&Path>, arguments: &str) -> Result<(), FileError> {
    let failed = |path: &Path, error| FileError { path: path.into(), error };
    let put = |name: &str, fill: &dyn Fn(&Path) -> io::Result<()>| {
        let (path, unfinished) = (directory.join(name), directory.join(format!("{name}.new")));
        let result = fill(&unfinished)
            .and_then(|()| File::open(&unfinished)?.sync_all())
            .and_then(|()| fs::rename(&unfinished, &path));
        result.map_err(|error| failed(&path, error))
    };
    fs::read_dir(directory).map_err(|error| failed(directory, error))?;
    put(KERNEL, &|path| fs::write(path, image))?;
    match input {
        Some(archive) => put(INPUT, &|path| fs::copy(archive, path).map(|_| ()))?,
        None => match fs::remove_file(directory.join(INPUT)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&directory.join(INPUT), error)),
            _ => {}
        },
    }
    put(ARGUMENTS, &|path| fs::write(path, format!("{arguments}\n")))?;
    // Not every file system has directories that can be synchronised.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}
