//! The guest's input files as an initrd: a cpio archive of the `newc` kind, the same bytes for the same files.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;

use cpio::newc;
use thiserror::Error;
use walkdir::WalkDir;

use crate::words::Input;

/// What the default input aims at, and the least that makes it worth indexing, in bytes of text.
const AIM: u64 = 48 << 20;
const ENOUGH: u64 = 32 << 20;

/// What counts as text in the default input.
const TEXT: [&str; 4] = ["html", "md", "txt", "rs"];

/// Input that can't be packed.
#[derive(Debug, Error)]
pub enum InputError {
    /// A file or directory that can't be read, or an archive that can't be written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A size that the archive has no digits for.
    #[error("{}: larger than 4 GiB, more than an initrd's file may have", .0.display())]
    TooLarge(PathBuf),
    /// A file name that is no text.
    #[error("{}: its name is not UTF-8", .0.display())]
    Name(PathBuf),
    /// No default input on this machine.
    #[error("no text found for input=default: `rustup component add rust-docs` brings some, or name a directory")]
    NoDefault,
}

/// A file on its way into the archive.
#[derive(Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Its name in the archive, relative and with `/`.
    name: String,
    path: PathBuf,
    size: u64,
    modified: Option<std::time::SystemTime>,
}

impl Entry {
    /// About how much of the file is text: most of a documentation page is markup.
    fn text(&self) -> u64 {
        if self.path.extension() == Some(OsStr::new("html")) { self.size / 4 } else { self.size }
    }
}

/// Packs `input` and returns the archive's path below `directory`; one that is there already is used again when no
/// file has changed its name, size or time since.
///
/// # Errors
/// The first file that can't be packed.
pub fn archive(input: &Input, directory: &Path) -> Result<PathBuf, InputError> {
    let (entries, origin) = match input {
        Input::Path(path) => (files(path, "")?, path.clone()),
        Input::Default => (default_files()?, PathBuf::from("default")),
    };
    let (origin, content) = (format!("{:016x}", hash(&origin)), hash(&entries));
    let archive = directory.join(format!("{origin}-{content:016x}.cpio"));
    if archive.exists() {
        return Ok(archive);
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| InputError::Io { path, error }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    for old in fs::read_dir(directory).map_err(failed(directory))?.flatten() {
        if old.file_name().to_string_lossy().starts_with(&origin) {
            fs::remove_file(old.path()).map_err(failed(&old.path()))?;
        }
    }
    // Written under a name of its own first: another runner may be looking for the same archive.
    let unfinished = directory.join(format!("{origin}.{}", std::process::id()));
    let file = File::create(&unfinished).map_err(failed(&unfinished))?;
    pack(&entries, BufWriter::new(file), &unfinished)?;
    fs::rename(&unfinished, &archive).map_err(failed(&archive))?;
    Ok(archive)
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The regular files at and below `root`, by name, each name with `prefix` before it. Symbolic links below it are
/// not followed.
fn files(root: &Path, prefix: &str) -> Result<Vec<Entry>, InputError> {
    let failed = |error: walkdir::Error| {
        let path = error.path().unwrap_or(root).to_path_buf();
        InputError::Io { path, error: error.into() }
    };
    let mut entries = Vec::new();
    for found in WalkDir::new(root) {
        let found = found.map_err(failed)?;
        let metadata = match found.depth() {
            0 => fs::metadata(root).map_err(|error| InputError::Io { path: root.into(), error })?,
            _ => found.metadata().map_err(failed)?,
        };
        if !metadata.is_file() {
            continue;
        }
        let path = found.into_path();
        let relative = match path.strip_prefix(root) {
            Ok(relative) if !relative.as_os_str().is_empty() => relative,
            _ => path.file_name().map_or(path.as_path(), Path::new),
        };
        let name = relative.to_str().ok_or_else(|| InputError::Name(path.clone()))?;
        if metadata.len() > u64::from(u32::MAX) {
            return Err(InputError::TooLarge(path));
        }
        let name = format!("{prefix}{name}");
        entries.push(Entry { name, size: metadata.len(), modified: metadata.modified().ok(), path });
    }
    entries.sort();
    Ok(entries)
}

/// The first there is of Rust's documentation, its sources and the dependencies' sources; more than one of them
/// where one alone has not enough text.
fn default_files() -> Result<Vec<Entry>, InputError> {
    let mut candidates = Vec::new();
    let rustc = Command::new("rustc").args(["--print", "sysroot"]).output();
    if let Some(root) = rustc.ok().and_then(|output| String::from_utf8(output.stdout).ok()) {
        let root = Path::new(root.trim());
        candidates.push((root.join("share/doc/rust/html"), "doc/"));
        candidates.push((root.join("lib/rustlib/src/rust/library"), "library/"));
    }
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    if let Some(cargo) = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home) {
        candidates.push((cargo.join("registry/src"), "registry/"));
    }
    let mut combined = Vec::new();
    for (root, prefix) in candidates.into_iter().filter(|(root, _)| root.is_dir()) {
        let chosen = texts(files(&root, prefix)?);
        if total(&chosen) >= ENOUGH {
            return Ok(chosen);
        }
        combined.extend(chosen);
    }
    if combined.is_empty() { Err(InputError::NoDefault) } else { Ok(texts(combined)) }
}

/// The text files among `entries`, in order, until they come to [`AIM`] bytes of text.
fn texts(entries: Vec<Entry>) -> Vec<Entry> {
    let mut sum = 0;
    let is_text = |entry: &Entry| TEXT.iter().any(|text| entry.path.extension() == Some(OsStr::new(text)));
    let mut fits = |entry: &Entry| {
        let before = sum;
        sum += entry.text();
        before < AIM
    };
    entries.into_iter().filter(is_text).take_while(|entry| fits(entry)).collect()
}

fn total(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::text).sum()
}

/// Writes the archive. A file that has shrunk or grown since it was listed is an error.
fn pack(entries: &[Entry], archive: impl io::Write, archive_path: &Path) -> Result<(), InputError> {
    let mut archive = archive;
    for (number, entry) in entries.iter().enumerate() {
        let failed = |error| InputError::Io { path: entry.path.clone(), error };
        let size = u32::try_from(entry.size).map_err(|_| InputError::TooLarge(entry.path.clone()))?;
        let mut file = File::open(&entry.path).map_err(failed)?;
        // Inode numbers from 1: two names with one number could pass for hard links of one file.
        let builder = newc::Builder::new(&entry.name).ino(number as u32 + 1).mode(0o100_644);
        let mut writer = builder.write(archive, size);
        io::copy(&mut file, &mut writer).map_err(failed)?;
        archive = writer.finish().map_err(failed)?;
    }
    let failed = |error| InputError::Io { path: archive_path.into(), error };
    let mut archive = newc::trailer(archive).map_err(failed)?;
    archive.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A directory of its own for one test.
    fn scratch(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("ashlar-runner-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("texts/b")).unwrap();
        fs::write(root.join("texts/z.txt"), "last").unwrap();
        fs::write(root.join("texts/b/a.md"), "in a directory").unwrap();
        fs::write(root.join("texts/empty"), "").unwrap();
        std::os::unix::fs::symlink("z.txt", root.join("texts/link")).unwrap();
        root
    }

    fn unpack(archive: &Path) -> Vec<(String, String)> {
        let mut rest = io::Cursor::new(fs::read(archive).unwrap());
        let mut found = Vec::new();
        loop {
            let mut entry = newc::Reader::new(rest).unwrap();
            if entry.entry().is_trailer() {
                return found;
            }
            assert_eq!((entry.entry().mtime(), entry.entry().mode()), (0, 0o100_644));
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.entry().name().into(), text));
            rest = entry.finish().unwrap();
        }
    }

    #[test]
    fn regular_files_by_relative_name_in_order() {
        let root = scratch("order");
        let archive = archive(&Input::Path(root.join("texts")), &root.join("packed")).unwrap();
        let expected = [("b/a.md", "in a directory"), ("empty", ""), ("z.txt", "last")];
        assert_eq!(unpack(&archive), expected.map(|(name, text)| (name.to_string(), text.to_string())));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn packed_again_only_after_a_change() {
        let root = scratch("change");
        let (input, packed) = (Input::Path(root.join("texts")), root.join("packed"));
        let first = archive(&input, &packed).unwrap();
        assert_eq!(archive(&input, &packed).unwrap(), first);
        fs::write(root.join("texts/z.txt"), "longer than before").unwrap();
        let second = archive(&input, &packed).unwrap();
        assert_ne!(second, first);
        assert!(!first.exists());
        assert_eq!(unpack(&second)[2].1, "longer than before");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn one_file_has_its_own_name() {
        let root = scratch("one");
        let archive = archive(&Input::Path(root.join("texts/z.txt")), &root.join("packed")).unwrap();
        assert_eq!(unpack(&archive), [("z.txt".to_string(), "last".to_string())]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn missing_input_is_named() {
        let missing = Input::Path("/nowhere/at/all".into());
        let error = archive(&missing, Path::new("/tmp")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/at/all: "), "{error}");
    }

    #[test]
    fn the_default_takes_texts_up_to_its_aim() {
        let entry = |name: &str, size| Entry { name: name.into(), path: name.into(), size, modified: None };
        let listed =
            vec![entry("a.rs", AIM - 2), entry("b.png", 9), entry("c.html", 4), entry("d.md", 5), entry("e.txt", 1)];
        let names: Vec<_> = texts(listed).into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["a.rs", "c.html", "d.md"]);
    }
}
