//! What the observer says of each rate: accesses, and what a core's TLBs would walk the tables for.

use crate::output::Output;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// All sizes together.
const ALL: &str = "all";

#[derive(Clone, Copy, Deserialize)]
struct Sides {
    i: u64,
    d: u64,
}

#[derive(Deserialize)]
struct Estimate {
    cycles: u64,
}

/// A line of the observer's, as far as it is of interest here.
#[derive(Deserialize)]
struct Line {
    tag: String,
    instructions: u64,
    accesses: Sides,
    l1_misses: Sides,
    walks: BTreeMap<String, u64>,
    walk_accesses: BTreeMap<String, u64>,
    estimate: Estimate,
    walk_fail: u64,
}

/// A rate's rounds on a system, observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// The rate's name, with its size.
    pub workload: String,
    pub system: &'static str,
    pub instructions: u64,
    /// Loads and stores.
    pub accesses: u64,
    pub l1_misses: u64,
    /// For data and for code, application's and kernel's.
    pub walks: u64,
    /// By the size of the mapping that they found.
    pub by_size: BTreeMap<String, u64>,
    /// Descriptors that they read.
    pub reads: u64,
    /// The illustration of `docs/tlb-model.md`.
    pub cycles: u64,
}

impl Phase {
    pub fn walks_per_access(&self) -> f64 {
        self.walks as f64 / self.accesses.max(1) as f64
    }
}

/// The phases that are in the file `report`, of the run of `system` that printed `output`.
pub fn read(report: &Path, system: &'static str, output: &Output) -> Result<Vec<Phase>> {
    let text = fs::read_to_string(report).with_context(|| report.display().to_string())?;
    parse(&text, system, output).with_context(|| report.display().to_string())
}

fn parse(text: &str, system: &'static str, output: &Output) -> Result<Vec<Phase>> {
    let mut phases = Vec::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line)?;
        ensure!(line.walk_fail == 0, "the model has lost the guest: {} walks found nothing", line.walk_fail);
        // What follows the last of them, up to the end, has no marker.
        let Some(workload) = output.tags.get(&line.tag) else { continue };
        let all = |of: &BTreeMap<String, u64>| of.get(ALL).copied().unwrap_or(0);
        phases.push(Phase {
            workload: workload.clone(),
            system,
            instructions: line.instructions,
            accesses: line.accesses.d,
            l1_misses: line.l1_misses.i + line.l1_misses.d,
            walks: all(&line.walks),
            reads: all(&line.walk_accesses),
            cycles: line.estimate.cycles,
            by_size: line.walks.into_iter().filter(|(size, _)| size != ALL).collect(),
        });
    }
    ensure!(phases.len() == output.tags.len(), "{} phases of {}", phases.len(), output.tags.len());
    Ok(phases)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"tag":"1306","preset":"a72","cores":1,"instructions":70,"accesses":{"i":10,"d":4},"l1_misses":{"i":1,"d":3},
        "l2_misses":{"i":0,"d":2},"walks":{"all":2,"4K":2},"walk_accesses":{"all":5,"4K":5},"estimate":{"cycles":140},"walk_fail":0}"#;

    #[test]
    fn tags_become_names() {
        let line = LINE.replace('\n', "");
        let output = Output::read("marker 1306 gups_64m", false);
        let text = format!("{line}\n{}", line.replace("1306", "exit"));
        let phases = parse(&text, "Ashlar", &output).unwrap();
        assert_eq!(phases.len(), 1);
        let phase = &phases[0];
        assert_eq!((phase.workload.as_str(), phase.walks, phase.reads, phase.cycles), ("gups_64m", 2, 5, 140));
        assert_eq!(phase.by_size, BTreeMap::from([("4K".into(), 2)]));
        assert_eq!((phase.l1_misses, phase.walks_per_access()), (4, 0.5));
    }

    #[test]
    fn what_is_missing_or_lost_is_no_report() {
        let line = LINE.replace('\n', "");
        let output = Output::read("marker 1306 gups_64m\nmarker 7 x", false);
        assert!(parse(&line, "Ashlar", &output).is_err());
        let lost = line.replace("\"walk_fail\":0", "\"walk_fail\":1");
        assert!(parse(&lost, "Ashlar", &Output::read("marker 1306 gups_64m", false)).is_err());
    }
}
