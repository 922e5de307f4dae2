//! A copy of the tree to make mistakes in, with a target directory of its own.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What came of a `cargo test`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All tests passed.
    Passed,
    /// A test failed: its name, or that of its binary.
    Failed(String),
    /// It took longer than this.
    Hung(Duration),
    /// The code does not compile; the compiler's words.
    NotCompiled(String),
}

/// The copy.
pub struct Tree {
    root: PathBuf,
    target: PathBuf,
    /// How long the tests may take.
    limit: Duration,
}

impl Tree {
    /// Copies all files of the repository at `from` that are not ignored, as they are now, to `directory`. Files
    /// that are there with the same content keep their time, so that cargo builds only what has changed.
    ///
    /// # Errors
    /// git or a file can't be read, or the copy can't be written.
    pub fn copy(from: &Path, directory: &Path, limit: Duration) -> io::Result<Self> {
        let root = directory.join("tree");
        let names = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(from)
            .stderr(Stdio::inherit())
            .output()?;
        if !names.status.success() {
            return Err(io::Error::other("git ls-files failed"));
        }
        let names = String::from_utf8(names.stdout).map_err(io::Error::other)?;
        // The copy lies below the tree, so cargo reads the tree's own configuration there; with a second one, both would count.
        let is_wanted = |name: &&str| from.join(name).is_file() && !name.starts_with(".cargo/");
        let names: Vec<&str> = names.split_terminator('\0').filter(is_wanted).collect();
        remove_others(&root, &root, &names)?;
        for name in names {
            let (source, copy) = (from.join(name), root.join(name));
            let content = fs::read(&source)?;
            if fs::read(&copy).is_ok_and(|old| old == content) {
                continue;
            }
            fs::create_dir_all(copy.parent().unwrap_or(&root))?;
            fs::write(&copy, content)?;
            fs::set_permissions(&copy, fs::metadata(&source)?.permissions())?;
        }
        Ok(Self { root, target: directory.join("target"), limit })
    }

    /// The text of one file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.root.join(file))
    }

    /// Replaces the text of one file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.root.join(file), text)
    }

    /// Runs `cargo test` with `arguments`.
    ///
    /// # Errors
    /// cargo can't be started.
    pub fn test(&self, arguments: &[String]) -> io::Result<Verdict> {
        let build = self.cargo(arguments).arg("--no-run").stdin(Stdio::null()).output()?;
        if !build.status.success() {
            return Ok(Verdict::NotCompiled(String::from_utf8_lossy(&build.stderr).into_owned()));
        }
        // Into a file, for a pipe that nobody reads would stop the tests.
        let log = self.target.join("mutate.log");
        let output = fs::File::create(&log)?;
        let mut child = self
            .cargo(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
                return Ok(if status.success() { Verdict::Passed } else { Verdict::Failed(failed_test(&output)) });
            }
            if started.elapsed() > self.limit {
                // cargo's children as well.
                kill_process_group(Pid::from_child(&child), Signal::KILL)?;
                child.wait()?;
                return Ok(Verdict::Hung(self.limit));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn cargo(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("cargo");
        command.arg("test").args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// Removes files below `directory` that the original no longer has.
fn remove_others(root: &Path, directory: &Path, names: &[&str]) -> io::Result<()> {
    let Ok(found) = fs::read_dir(directory) else { return Ok(()) };
    for entry in found {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            // The runner's own target directory, in which it is built.
            if path != root.join("target") {
                remove_others(root, &path, names)?;
            }
        } else if !path.strip_prefix(root).is_ok_and(|name| names.iter().any(|known| Path::new(known) == name)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The first test that failed, with its binary: `bits::single_bits`.
fn failed_test(output: &str) -> String {
    let mut binary = "cargo test";
    for line in output.lines() {
        if let Some(path) = line.trim_start().strip_prefix("Running ") {
            let path = path.trim_start_matches("unittests ").split(' ').next().unwrap_or(path);
            binary = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or(path);
        }
        let result = line.trim_end().strip_prefix("test ").and_then(|line| line.split_once(" ... FAILED"));
        let result = result.or_else(|| line.strip_prefix("test ")?.split_once(" ... failed"));
        if let Some((test, _)) = result {
            return format!("{binary}::{}", test.trim());
        }
    }
    binary.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_test_is_named_with_its_binary() {
        let output = "   Compiling x\n     Running tests/bits.rs (target/debug/deps/bits-1)\ntest one ... ok\n\
                      test two  ... FAILED\n";
        assert_eq!(failed_test(output), "bits::two");
        assert_eq!(failed_test("     Running unittests src/main.rs (target/x)\nabort"), "main");
        assert_eq!(failed_test("nothing"), "cargo test");
    }
}
