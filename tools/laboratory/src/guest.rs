//! The systems that are compared, and the machine that all of them boot in.

use crate::output::Output;
use crate::table::{FIRST, PEER};
use crate::walks::{self, Phase};
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

pub const TARGET: &str = "aarch64-unknown-none";
/// In words, for the report.
pub const MACHINE: &str = "virt, gic-version=2, cortex-a72, 1 GiB, one core";
/// How long a run may take, in seconds: observed, on a busy host.
const TIMEOUT: &str = "3600";
/// The observer's model, and when it looks: between the workloads' hints.
const OBSERVER: &str = "a72,start=hint";

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
    pub words: &'static [&'static str],
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

const fn ashlar(name: &'static str, words: &'static [&'static str]) -> System {
    System { name, kind: Kind::Ashlar, words, timed: [false; 2] }
}

const fn linux(name: &'static str, words: &'static [&'static str]) -> System {
    System { name, kind: Kind::Linux, words, timed: [false; 2] }
}

/// What more than one list has.
const AS_IT_COMES: System = ashlar(FIRST, &[]).timed(true);
const NEVER: System = ashlar("never", &["thp=never"]).timed(false);
const STATIC_MAP: System = ashlar(STATIC, &["fault=eager", "khugepaged=off"]);
const LINUX_ALWAYS: System = linux(PEER, &["thp=always"]).timed(true);
const LINUX_NEVER: System = linux("L never", &["thp=never"]).timed(true);

/// In the order of the columns. The first is what the fourth is compared with.
pub const SYSTEMS: [System; 8] = [
    AS_IT_COMES,
    ashlar("eager", &["fault=eager"]),
    NEVER,
    LINUX_ALWAYS,
    linux("L madvise", &["thp=madvise"]),
    LINUX_NEVER,
    linux("L 64K", &["thp=never", "mthp=64"]).timed(false),
    linux("L shipped", &[]),
];

/// Whose walks are compared: Ashlar as it comes, without blocks, and with a map of blocks that nothing changes once it was touched, which
/// is the most that any policy can come to.
pub const WALKED: [System; 6] = [
    AS_IT_COMES,
    NEVER,
    STATIC_MAP,
    LINUX_ALWAYS,
    // Up to 6.12, the first write to what was only read splits the huge page of zeros, and pages it stays.
    linux("L no zeros", &["thp=always", "use_zero_page=0"]),
    LINUX_NEVER,
];
pub const STATIC: &str = "static";

/// Ashlar, and without one mechanism each; without promotion khugepaged makes the blocks, so both are missing once.
pub const ABLATIONS: [System; 8] = [
    AS_IT_COMES,
    ashlar("no pool", &["without=pool"]),
    ashlar("no groups", &["without=groups"]),
    ashlar("no promotion", &["without=promotion"]),
    ashlar("no heat", &["without=heat"]),
    ashlar("no khugepaged", &["khugepaged=off"]),
    ashlar("groups only", &["without=promotion", "khugepaged=off"]),
    STATIC_MAP,
];

/// What Linux boots from.
pub struct Peer {
    pub kernel: PathBuf,
    pub version: String,
    pub initrd: PathBuf,
}

/// A run of the workloads.
pub struct Run<'a> {
    pub system: &'a System,
    pub measure: Measure,
    /// RAM, in QEMU's words.
    pub memory: &'static str,
    pub workload: Vec<String>,
    /// The plugin that observes it, and the file that it reports to.
    pub observer: Option<(PathBuf, PathBuf)>,
}

/// What came of it.
pub struct Done {
    pub output: Output,
    /// What the observer reported, if there is one.
    pub phases: Vec<Phase>,
}

impl System {
    /// It is timed, too; even if that is to be `quick`.
    const fn timed(self, quick: bool) -> Self {
        System { timed: [true, quick], ..self }
    }

    pub fn is_timed(&self, quick: bool) -> bool {
        self.timed[usize::from(quick)]
    }

    /// Whether it is a Linux that is made a [`FAIR`] peer.
    pub fn is_fair(&self) -> bool {
        self.kind == Kind::Linux && !self.words.is_empty()
    }

    /// Linux's command line.
    fn command_line(&self, measure: Measure, workload: &[String]) -> String {
        let mut words = vec!["console=ttyAMA0", "panic=-1", "quiet"];
        if self.is_fair() {
            words.extend(FAIR);
        }
        // Idle time that is counted takes none of the host's.
        words.push(if measure == Measure::Exact { "settle=10" } else { "settle=2" });
        words.extend(self.words);
        words.extend(workload.iter().map(String::as_str));
        words.join(" ")
    }
}

/// Builds application `package`, so that runs side by side find it built.
pub fn build_ashlar(package: &str) -> Result<()> {
    let arguments = ["build", "--quiet", "--release", "--target", TARGET, "-p", package];
    let status = Command::new("cargo").args(arguments).status();
    ensure!(status.context("cargo build")?.success(), "{package} can't be built");
    Ok(())
}

/// Boots application `package`; what follows are the runner's words.
pub fn cargo_run(package: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--release", "--target", TARGET, "-p", package, "--"]);
    command
}

/// Builds the observer, where the runner does; returns the plugin.
pub fn build_observer() -> Result<PathBuf> {
    let arguments = ["build", "--quiet", "--release", "--manifest-path", "tools/tlbmodel/Cargo.toml"];
    let mut cargo = Command::new("cargo");
    // What was set for this build is not meant for that one.
    ["CARGO_BUILD_TARGET", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"].iter().for_each(|name| {
        cargo.env_remove(name);
    });
    let status = cargo.args(arguments).args(["--target-dir", "target/tools"]).status();
    ensure!(status.context("cargo build")?.success(), "the TLB model can't be built");
    Path::new("target/tools/release/libtlbmodel.so").canonicalize().context("libtlbmodel.so")
}

impl Run<'_> {
    /// Runs the workloads.
    pub fn run(&self, peer: Option<&Peer>) -> Result<Done> {
        let started = Instant::now();
        let name = self.system.name;
        let mut command = self.command(peer)?;
        let output = command.stdin(Stdio::null()).output().with_context(|| self.in_words())?;
        let end = (self.system.kind == Kind::Linux).then_some("ended: all is right");
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let complete = end.is_none_or(|end| text.lines().any(|line| line == end));
        ensure!(
            output.status.success() && complete,
            "{name} ended with {} before its end:\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let how = match (self.measure, &self.observer) {
            (Measure::Wall, _) => "wall",
            (Measure::Exact, None) => "exact",
            (Measure::Exact, Some(_)) => "walks",
        };
        eprintln!("{name:<13} {how:<6} {:5.1} s", started.elapsed().as_secs_f32());
        let output = Output::read(&text, self.measure == Measure::Wall);
        let phases = match &self.observer {
            Some((_, file)) => walks::read(file, name, &output)?,
            None => Vec::new(),
        };
        Ok(Done { output, phases })
    }

    /// The words that describe it, for the report.
    pub fn in_words(&self) -> String {
        let observer = self.observer.as_ref().map(|_| format!("tlb={OBSERVER}"));
        let system = match self.system.kind {
            Kind::Ashlar => self.system.words.join(" "),
            Kind::Linux => self.system.command_line(self.measure, &[]),
        };
        let words = [format!("memory={}", self.memory), observer.unwrap_or_default(), system, self.workload.join(" ")];
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        format!("{:?} {}", self.system.kind, words.join(" "))
    }

    fn command(&self, peer: Option<&Peer>) -> Result<Command> {
        match self.system.kind {
            Kind::Ashlar => Ok(self.ashlar()),
            Kind::Linux => Ok(self.linux(peer.context("there is no Linux")?)),
        }
    }

    fn ashlar(&self) -> Command {
        let icount = if self.measure == Measure::Exact { "icount=on" } else { "icount=off" };
        let mut command = cargo_run("lab");
        command
            .args([&format!("memory={}", self.memory), icount, &format!("timeout={TIMEOUT}")])
            .args(self.system.words)
            .args(&self.workload);
        if let Some((plugin, out)) = &self.observer {
            command.env("ASHLAR_TLBMODEL", plugin).arg(format!("tlb={OBSERVER},out={}", out.display()));
        }
        command
    }

    /// As the runner starts QEMU, with another kernel.
    fn linux(&self, peer: &Peer) -> Command {
        let (frequency, icount): (_, &[&str]) = match self.measure {
            Measure::Exact => (
                ",cntfrq=1000000000",
                &["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2025-01-01T00:00:00,clock=vm"],
            ),
            Measure::Wall => ("", &[]),
        };
        let mut command = Command::new("timeout");
        command
            .args([TIMEOUT, "qemu-system-aarch64", "-cpu", &format!("cortex-a72{frequency}")])
            .args(["-m", self.memory, "-M", "virt,gic-version=2", "-smp", "1", "-nic", "none", "-display", "none"])
            .args(["-monitor", "none", "-serial", "stdio", "-no-reboot"])
            .args(icount)
            .args([OsStr::new("-kernel"), peer.kernel.as_ref(), OsStr::new("-initrd"), peer.initrd.as_ref()])
            .args(["-append", &self.system.command_line(self.measure, &self.workload)]);
        if let Some((plugin, out)) = &self.observer {
            command.args(["-plugin", &format!("{},preset={OBSERVER},out={}", plugin.display(), out.display())]);
        }
        command
    }
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
