//! `laboratory [quick] [WORD…]`: runs the workloads of `bench/workloads` on Ashlar and on Debian's Linux, both in the same machine,
//! prints a table of both and writes `target/bench-linux.json`. Words are the workloads': `part=NAME,…`, `size=64M`, `rounds=5`.
//!
//! Two measures: *exact*, guest instructions under `-icount shift=0`, the same on every run; and *wall*, nanoseconds of an emulator on
//! whatever host this is. What is fair about that and what is not: `docs/laboratory.md`.

mod exact;
mod guest;
mod initrd;
mod kernel;
mod output;
mod table;

use anyhow::{Context, Result, bail};
use guest::{Measure, System};
use output::Output;
use serde::Serialize;
use std::path::{Path, PathBuf};
use table::Table;

/// How often everything is timed.
const PASSES: usize = 2;

/// Everything, as it is written to the file.
#[derive(Serialize)]
struct Report {
    kernel: String,
    machine: &'static str,
    /// Instructions in which Linux zeroes 64 bytes, as its code says.
    linux_zeroing_instructions: Option<u32>,
    exact: Table,
    /// The host's load average of the minute before.
    host_load: f64,
    wall: Table,
}

/// What the words ask for.
struct Words {
    quick: bool,
    workload: Vec<String>,
}

impl Words {
    fn read() -> Result<Self> {
        let mut words = Words { quick: false, workload: Vec::new() };
        for word in std::env::args().skip(1) {
            match word.split_once('=') {
                None if word == "quick" => words.quick = true,
                Some(("part" | "size" | "reach" | "rounds", _)) => words.workload.push(word),
                _ => bail!("`{word}`: there are quick, part=NAME,…, size=64M, reach=256M, rounds=5"),
            }
        }
        if words.quick {
            // Those that were given come later, and count.
            words.workload.splice(0..0, ["size=16M", "reach=64M", "rounds=3"].map(String::from));
        }
        Ok(words)
    }
}

/// Where cargo builds, and `tools/fetch` puts what it brings.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

/// The host's load average of the last minute; zero where nobody says.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn main() -> Result<()> {
    let (words, host_load) = (Words::read()?, load());
    let target = target();
    let (image, version) = kernel::fetch(&target)?;
    let initrd = initrd::build(&target.join("laboratory"))?;
    guest::build_ashlar()?;
    let run = |system: &System, measure| -> Result<Output> {
        let text = guest::run(system, measure, &words.workload, Path::new(&image), &initrd)?;
        Ok(Output::read(&text, measure == Measure::Wall))
    };
    let zeroing = kernel::zeroing_instructions(&std::fs::read(&image)?);

    let systems: Vec<&System> = guest::SYSTEMS.iter().collect();
    let mut exact = Table::new(&systems, exact::run(&systems, |system| run(system, Measure::Exact))?);
    if let Some(instructions) = zeroing {
        exact.derive_zeroing(instructions);
    }
    let timed: Vec<&System> = systems.iter().copied().filter(|system| system.is_timed(words.quick)).collect();
    let mut outputs = Vec::<Output>::new();
    // One after the other: each is to have the host for itself. In turns: what disturbs one may spare it the next time.
    for pass in 0..if words.quick { 1 } else { PASSES } {
        for (place, system) in timed.iter().enumerate() {
            let output = run(system, Measure::Wall)?;
            match outputs.get_mut(place) {
                Some(before) => before.lower_to(&output),
                None => outputs.push(output),
            }
        }
        eprintln!("pass {} of those that are timed is done", pass + 1);
    }
    let wall = Table::new(&timed, outputs);

    println!("Linux {version}, 1 GiB, one Cortex-A72; ratio: Linux always to Ashlar\n");
    println!(
        "Exact: guest instructions. An emulator's instructions are not time: a TLB miss is none, zeroing 64 bytes is one.\n"
    );
    exact.print();
    println!(
        "\nWall: nanoseconds of the emulator on this host, the least of all; its load was {host_load} at first.\n"
    );
    wall.print();
    let machine = guest::MACHINE;
    let report = Report { kernel: version, machine, linux_zeroing_instructions: zeroing, host_load, exact, wall };
    std::fs::create_dir_all("target")?;
    std::fs::write("target/bench-linux.json", serde_json::to_string_pretty(&report)? + "\n")
        .context("target/bench-linux.json")?;
    println!("\nwritten to target/bench-linux.json");
    Ok(())
}
