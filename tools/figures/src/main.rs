//! Runs the benchmarks, prints a table (figure, bound, peer, ratio, met or not) and writes `target/bench.json`.
//!
//! All times are guest instructions under `-icount shift=0` on one cortex-a72; what is said by the fault is counted on four of
//! them. The peer is Linux 6.12 (Debian's cloud kernel, `thp=always`,
//! `init_on_alloc=0`) in the same emulator.

mod guest;
mod table;

use anyhow::{Context, Result};
use table::{FIGURES, Row};

fn main() -> Result<()> {
    let measured = guest::measure()?;
    let rows: Vec<Row> = FIGURES
        .iter()
        .map(|figure| {
            let value = measured.iter().find(|(name, _)| name == figure.name).map(|&(_, value)| value);
            let value = value.with_context(|| format!("no figure {} was measured", figure.name))?;
            Ok(Row::new(figure, value))
        })
        .collect::<Result<_>>()?;
    table::print(&rows);
    let json = serde_json::to_string_pretty(&rows)?;
    std::fs::write("target/bench.json", json + "\n").context("target/bench.json")?;
    println!("\nwritten to target/bench.json");
    Ok(())
}
