//! `laboratory compare|report|gate|accept [WORD…]`: the workloads of `bench/workloads`, on Ashlar and on Debian's Linux in the same machine.
//!
//! | command | does |
//! | --- | --- |
//! | `compare` | one table of both, and `target/bench-linux.json` |
//! | `report` | the same exact figures, what TLBs would walk for, what each mechanism is worth, and which goals are met: `target/report` |
//! | `gate` | fails where a small set of exact figures is more than what `baseline.json` has |
//! | `accept` | makes what is measured now the baseline |
//!
//! Two measures: *exact*, guest instructions under `-icount shift=0`, the same on every run; and *wall*, nanoseconds of an emulator on
//! whatever host this is. What is fair about that and what is not: `docs/laboratory.md`.

mod bench;
mod compare;
mod exact;
mod gate;
mod goals;
mod guest;
mod initrd;
mod kernel;
mod output;
mod page;
mod plot;
mod report;
mod table;
mod versions;
mod walks;

use anyhow::{Context, Result, bail};
use guest::Peer;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where cargo builds, and `tools/fetch` puts what it brings.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

/// The host's load average of the last minute; zero where nobody says.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Brings Linux's kernel and builds its only program.
fn peer() -> Result<Peer> {
    let target = target();
    let (kernel, version) = kernel::fetch(&target)?;
    Ok(Peer { kernel, version, initrd: initrd::build(&target.join("laboratory"))? })
}

fn main() -> ExitCode {
    // A figure that is worse is an answer, not a bug of this program's: no backtrace.
    run().map_or_else(
        |error| {
            eprintln!("laboratory: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let command = words.next().context("there are compare, report, gate, accept")?;
    let words: Vec<String> = words.collect();
    let nothing_else =
        || if words.is_empty() { Ok(()) } else { bail!("`{}`: {command} takes no words", words.join(" ")) };
    match command.as_str() {
        "compare" => compare::run(words),
        "report" => report::run(&words),
        "gate" => nothing_else().and_then(|()| gate::compare()),
        "accept" => nothing_else().and_then(|()| gate::accept()),
        _ => bail!("`{command}`: there are compare, report, gate, accept"),
    }
}
