//! The files that a boot loader needs, in a directory: what the Raspberry Pi's firmware reads from a card, and what
//! can be sent over a serial line.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The flat image; the firmware looks for this name when it is told to start in 64 bits.
pub const KERNEL: &str = "kernel8.img";
/// The boot arguments, in one line, as the firmware wants them.
pub const COMMAND_LINE: &str = "cmdline.txt";
/// The input files' archive.
pub const INITRAMFS: &str = "initramfs.cpio";

/// A file or directory that can't be written.
#[derive(Debug, Error)]
#[error("{}: {error}", path.display())]
pub struct BootFilesError {
    path: PathBuf,
    error: io::Error,
}

/// Writes [`KERNEL`], [`COMMAND_LINE`] and, if there is an `initrd`, [`INITRAMFS`] into `directory`. An initramfs that
/// is there from another time goes: it would be booted. Each is written as a whole and for good, so that neither a server nor a
/// card that is pulled out has half of one.
///
/// # Errors
/// The first file that can't be written.
pub fn write(directory: &Path, image: &[u8], initrd: Option<&Path>, command_line: &str) -> Result<(), BootFilesError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| BootFilesError { path, error }
    };
    let put = |name: &str, fill: &dyn Fn(&Path) -> io::Result<()>| {
        let (path, unfinished) = (directory.join(name), directory.join(format!("{name}.new")));
        fill(&unfinished)
            .and_then(|()| File::open(&unfinished)?.sync_all())
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(failed(&path))
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    put(KERNEL, &|path| fs::write(path, image))?;
    put(COMMAND_LINE, &|path| fs::write(path, format!("{command_line}\n")))?;
    let initramfs = directory.join(INITRAMFS);
    match initrd {
        Some(initrd) => put(INITRAMFS, &|path| fs::copy(initrd, path).map(|_| ()))?,
        None => fs::remove_file(&initramfs)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .map_err(failed(&initramfs))?,
    }
    // Not every file system has directories that can be synchronised.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_initramfs_goes() {
        let root = std::env::temp_dir().join(format!("ashlar-runner-boot-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let (directory, archive) = (root.join("a/b"), root.join("packed"));
        fs::create_dir_all(&root).unwrap();
        fs::write(&archive, "archive").unwrap();

        write(&directory, b"kernel", Some(&archive), r#"query="two words""#).unwrap();
        assert_eq!(fs::read(directory.join(KERNEL)).unwrap(), b"kernel");
        assert_eq!(fs::read_to_string(directory.join(COMMAND_LINE)).unwrap(), "query=\"two words\"\n");
        assert_eq!(fs::read(directory.join(INITRAMFS)).unwrap(), b"archive");

        write(&directory, b"kernel", None, "").unwrap();
        assert!(!directory.join(INITRAMFS).exists());

        let error = write(&archive, b"kernel", None, "").unwrap_err().to_string();
        assert!(error.starts_with(&*archive.to_string_lossy()), "{error}");
        fs::remove_dir_all(root).unwrap();
    }
}
