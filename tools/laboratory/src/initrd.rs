//! Linux's whole user space: `/init`, and the console that it prints to.

use crate::guest::TARGET;
use anyhow::{Context, Result, ensure};
use cpio::newc::{Builder, trailer};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program for Linux in place of an image for Ashlar: what `.cargo/config.toml` says for the target, with another linker script.
const FLAGS: &str = "-C link-arg=-Tbench/linux/user.ld -C force-frame-pointers=yes -C strip=symbols";

/// Builds `/init` in `directory`, a target directory of its own, and packs it; returns the archive's path.
pub fn build(directory: &Path) -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--target", TARGET, "-p", "lab-linux", "--target-dir"])
        .arg(directory)
        // They replace those of the configuration.
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cargo build")?;
    ensure!(status.success(), "/init can't be built");
    let program = directory.join(TARGET).join("release/lab-linux");
    let program = fs::read(&program).with_context(|| program.display().to_string())?;
    let archive = directory.join("initrd.cpio");
    fs::write(&archive, pack(&program)?).with_context(|| archive.display().to_string())?;
    Ok(archive)
}

/// The same bytes for the same program: no times, no numbers of the host's.
fn pack(program: &[u8]) -> io::Result<Vec<u8>> {
    let directory = Builder::new("dev").ino(1).nlink(2).mode(0o40_755).write(Vec::new(), 0).finish()?;
    let console = Builder::new("dev/console").ino(2).mode(0o20_600).rdev_major(5).rdev_minor(1);
    let archive = console.write(directory, 0).finish()?;
    let mut init = Builder::new("init").ino(3).mode(0o100_755).write(archive, program.len() as u32);
    init.write_all(program)?;
    trailer(init.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;

    #[test]
    fn a_console_and_a_program() {
        let archive = pack(b"code").unwrap();
        assert_eq!(archive, pack(b"code").unwrap());
        let mut rest = &archive[..];
        let mut found = Vec::new();
        loop {
            let reader = Reader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            assert_eq!(entry.mtime(), 0);
            found.push((entry.name().to_owned(), entry.mode(), entry.file_size()));
            rest = reader.finish().unwrap();
        }
        let expected = [("dev", 0o40_755, 0), ("dev/console", 0o20_600, 0), ("init", 0o100_755, 4)];
        assert_eq!(found, expected.map(|(name, mode, size)| (name.to_owned(), mode, size)));
    }
}
