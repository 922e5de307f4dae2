//! The systems that are compared, and the machine that all of them boot in.

use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

pub const TARGET: &str = "aarch64-unknown-none";
/// In words, for the report.
pub const MACHINE: &str = "virt, gic-version=2, cortex-a72, 1 GiB, one core";
/// How long a run may take, in seconds.
const TIMEOUT: &str = "600";

/// What ticks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Every instruction is a nanosecond of the guest's.
    Exact,
    /// Time of the host's.
    Wall,
}

/// A system, as it is configured.
pub struct System {
    /// The table's column.
    pub name: &'static str,
    pub kind: Kind,
    /// Further words of its command line.
    words: &'static [&'static str],
    /// Whether it is timed, too; and even if that is to be quick.
    timed: [bool; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Ashlar,
    Linux,
}

/// What makes Linux a fair peer: memory is zeroed once, the kernel's own is in blocks, and nothing of the boot goes on later.
const FAIR: [&str; 5] =
    ["init_on_alloc=0", "rodata=off", "cryptomgr.notests", "nokaslr", "randomize_kstack_offset=off"];

const fn system(name: &'static str, kind: Kind, words: &'static [&'static str], timed: [bool; 2]) -> System {
    System { name, kind, words, timed }
}

/// In the order of the columns. The first is what the fourth is compared with.
pub const SYSTEMS: [System; 8] = [
    system("Ashlar", Kind::Ashlar, &[], [true, true]),
    system("eager", Kind::Ashlar, &["fault=eager"], [false, false]),
    system("never", Kind::Ashlar, &["thp=never"], [true, false]),
    system("L always", Kind::Linux, &["thp=always"], [true, true]),
    system("L madvise", Kind::Linux, &["thp=madvise"], [false, false]),
    system("L never", Kind::Linux, &["thp=never"], [true, true]),
    system("L 64K", Kind::Linux, &["thp=never", "mthp=64"], [true, false]),
    system("L shipped", Kind::Linux, &[], [false, false]),
];

impl System {
    pub fn is_timed(&self, quick: bool) -> bool {
        self.timed[usize::from(quick)]
    }

    /// Linux's command line.
    fn command_line(&self, measure: Measure, workload: &[String]) -> String {
        let mut words = vec!["console=ttyAMA0", "panic=-1", "quiet"];
        if !self.words.is_empty() {
            words.extend(FAIR);
        }
        // Idle time that is counted takes none of the host's.
        words.push(if measure == Measure::Exact { "settle=10" } else { "settle=2" });
        words.extend(self.words);
        words.extend(workload.iter().map(String::as_str));
        words.join(" ")
    }
}

/// Builds the workloads' application, so that runs side by side find it built.
pub fn build_ashlar() -> Result<()> {
    let status =
        Command::new("cargo").args(["build", "--quiet", "--release", "--target", TARGET, "-p", "lab"]).status();
    ensure!(status.context("cargo build")?.success(), "the workloads' application can't be built");
    Ok(())
}

/// Runs the workloads on `system`; returns what it printed.
pub fn run(system: &System, measure: Measure, workload: &[String], kernel: &Path, initrd: &Path) -> Result<String> {
    let started = Instant::now();
    let (output, end) = match system.kind {
        Kind::Ashlar => (ashlar(system, measure, workload)?, None),
        Kind::Linux => (linux(system, measure, workload, kernel, initrd)?, Some("ended: all is right")),
    };
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let complete = end.is_none_or(|end| text.lines().any(|line| line == end));
    ensure!(
        output.status.success() && complete,
        "{} ended with {} before its end:\n{text}{}",
        system.name,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let how = if measure == Measure::Exact { "exact" } else { "wall" };
    eprintln!("{:<10} {how:<6} {:5.1} s", system.name, started.elapsed().as_secs_f32());
    Ok(text)
}

fn ashlar(system: &System, measure: Measure, workload: &[String]) -> Result<Output> {
    let icount = if measure == Measure::Exact { "icount=on" } else { "icount=off" };
    Command::new("cargo")
        .args(["run", "--quiet", "--release", "--target", TARGET, "-p", "lab", "--"])
        .args(["memory=1G", icount, &format!("timeout={TIMEOUT}")])
        .args(system.words)
        .args(workload)
        .stdin(Stdio::null())
        .output()
        .context("cargo run")
}

/// As the runner starts QEMU, with another kernel.
fn linux(system: &System, measure: Measure, workload: &[String], kernel: &Path, initrd: &Path) -> Result<Output> {
    let (frequency, icount): (_, &[&str]) = match measure {
        Measure::Exact => (
            ",cntfrq=1000000000",
            &["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2025-01-01T00:00:00,clock=vm"],
        ),
        Measure::Wall => ("", &[]),
    };
    Command::new("timeout")
        .args([TIMEOUT, "qemu-system-aarch64", "-cpu", &format!("cortex-a72{frequency}")])
        .args(["-m", "1G", "-M", "virt,gic-version=2", "-smp", "1", "-nic", "none", "-display", "none"])
        .args(["-monitor", "none", "-serial", "stdio", "-no-reboot"])
        .args(icount)
        .args([OsStr::new("-kernel"), kernel.as_ref(), OsStr::new("-initrd"), initrd.as_ref()])
        .args(["-append", &system.command_line(measure, workload)])
        .stdin(Stdio::null())
        .output()
        .context("qemu-system-aarch64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_shipped_lacks_what_is_fair() {
        for system in SYSTEMS.iter().filter(|system| system.kind == Kind::Linux) {
            let line = system.command_line(Measure::Exact, &["size=1M".into()]);
            assert_eq!(line.contains("init_on_alloc=0 rodata=off"), system.name != "L shipped", "{line}");
            assert!(line.ends_with(" size=1M") && line.contains(" settle=10 "), "{line}");
        }
    }
}
