//! What measures, and what is measured.

use serde::Serialize;
use std::process::Command;

/// Versions on which figures depend, and those that only tell where they are from.
#[derive(Clone, Serialize)]
pub struct Versions {
    pub rustc: String,
    pub qemu: String,
    pub linux: String,
    /// With `+` where the tree has changes that are in none.
    pub commit: String,
}

impl Versions {
    pub fn read(linux: String) -> Self {
        let commit = first_line("git", &["rev-parse", "--short", "HEAD"]);
        let changed = !first_line("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        Versions { rustc: rustc(), qemu: qemu(), linux, commit: commit + if changed { "+" } else { "" } }
    }
}

/// What exact figures depend on, beside the tree: the compiler's code, and how QEMU counts.
pub fn key() -> String {
    format!("{}, {}", rustc(), qemu())
}

fn rustc() -> String {
    first_line("rustc", &["--version"])
}

fn qemu() -> String {
    first_line("qemu-system-aarch64", &["--version"])
}

/// The day and time, as the host has it.
pub fn now() -> String {
    first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// What a program prints first; empty where there is none.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("").trim().to_owned()
}
