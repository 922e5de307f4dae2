//! `compare [quick] [WORD…]`: both systems in a table. Words are the workloads': `part=NAME,…`, `size=64M`, `rounds=5`.

use crate::guest::{self, Measure, Run, System};
use crate::output::Output;
use crate::table::Table;
use crate::{exact, kernel, load, peer};
use anyhow::{Context, Result, bail};
use serde::Serialize;

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
    fn read(all: Vec<String>) -> Result<Self> {
        let mut words = Words { quick: false, workload: Vec::new() };
        for word in all {
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

pub fn run(words: Vec<String>) -> Result<()> {
    let (words, host_load) = (Words::read(words)?, load());
    let peer = peer()?;
    guest::build_ashlar("lab")?;
    let run = |system: &System, measure| -> Result<Output> {
        let run = Run { system, measure, memory: "1G", workload: words.workload.clone(), observer: None };
        Ok(run.run(Some(&peer))?.output)
    };
    let zeroing = kernel::zeroing_instructions(&std::fs::read(&peer.kernel)?);

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

    println!("Linux {}, 1 GiB, one Cortex-A72; ratio: Linux always to Ashlar\n", peer.version);
    println!(
        "Exact: guest instructions. An emulator's instructions are not time: a TLB miss is none, zeroing 64 bytes is one.\n"
    );
    exact.print();
    println!(
        "\nWall: nanoseconds of the emulator on this host, the least of all; its load was {host_load} at first.\n"
    );
    wall.print();
    let machine = guest::MACHINE;
    let report = Report { kernel: peer.version, machine, linux_zeroing_instructions: zeroing, host_load, exact, wall };
    std::fs::create_dir_all("target")?;
    std::fs::write("target/bench-linux.json", serde_json::to_string_pretty(&report)? + "\n")
        .context("target/bench-linux.json")?;
    println!("\nwritten to target/bench-linux.json");
    Ok(())
}
