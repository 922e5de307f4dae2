//! What was hoped for, and whether it came: met or not met, nothing between.

use crate::guest::STATIC;
use crate::table::{FIRST, PEER, Table};
use crate::walks::Phase;
use serde::Serialize;

/// How good a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    pub name: String,
    pub value: f64,
    pub bound: Bound,
    pub is_met: bool,
    /// The two that the value is the ratio of.
    pub of: [f64; 2],
    /// What they are.
    pub how: String,
}

impl Goal {
    /// What the first of `of` is to the second.
    fn new(name: String, of: [f64; 2], bound: Bound, how: String) -> Self {
        let value = of[0] / of[1];
        let is_met = match bound {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        };
        Goal { name, value, bound, is_met, of, how }
    }
}

/// Ashlar's, as it comes and with whole blocks at once.
const MODES: [(&str, &str); 2] = [("", FIRST), ("_eager", "eager")];
/// Figures, each so many times, in which Linux with huge pages is to need so many times as many instructions.
const TIMES: [(&str, &str, u32, f64); 3] = [
    ("populate_256m", "populate_256m", 1, 2.0),
    ("populate_256m_beyond_zeroing", "populate_256m_beyond_zeroing", 1, 10.0),
    // An eighth of it: what a pool in 1 GiB has room for, and some more.
    ("populate_256m_pool", "populate_32m_rested", 8, 20.0),
];
/// Whose walks count.
const WALKED: [&str; 3] = ["gups", "join", "btree"];
/// What a map that is made of blocks at the start is ahead by, at most.
const REGRET: f64 = 1.02;

/// All goals that `faults` and `walks` have figures for.
pub fn judge(faults: &Table, walks: &[Phase]) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let (Some(peer), Some(own)) = (faults.value("boot_to_app", PEER), faults.value("boot_to_app", FIRST)) {
        let how = format!("reset to the application's first instruction, {PEER} to {FIRST}");
        goals.push(Goal::new("boot_ratio_linux".into(), [peer, own], Bound::AtLeast(100.0), how));
    }
    for (name, figure, scale, least) in TIMES {
        for (suffix, system) in MODES {
            let value = |system| Some(faults.value(figure, system)? * f64::from(scale));
            let [peer, own] = [PEER, system].map(value);
            let (Some(peer), Some(own)) = (peer, own) else { continue };
            let times = if scale == 1 { String::new() } else { format!("{scale} times ") };
            let how = format!("{times}{figure}, {PEER} to {system}");
            goals.push(Goal::new(format!("{name}{suffix}"), [peer, own], Bound::AtLeast(least), how));
        }
    }
    for workload in WALKED {
        let of = |system: &str| {
            let is_it = |phase: &&Phase| phase.system == system && phase.workload.starts_with(&format!("{workload}_"));
            walks.iter().find(is_it)
        };
        let Some(own) = of(FIRST) else { continue };
        for (other, name, most) in [(STATIC, "static", REGRET), (PEER, "linux", 1.0)] {
            let Some(other) = of(other) else { continue };
            let how = format!("walks of {}, {FIRST} to {}", own.workload, other.system);
            let walks = [own.walks, other.walks.max(1)].map(|walks| walks as f64);
            goals.push(Goal::new(format!("walks_{workload}_over_{name}"), walks, Bound::AtMost(most), how));
        }
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{SYSTEMS, System};
    use crate::output::Output;
    use std::collections::BTreeMap;

    fn phase(workload: &str, system: &'static str, walks: u64) -> Phase {
        let workload = workload.into();
        let none = BTreeMap::new();
        Phase {
            workload,
            system,
            walks,
            instructions: 1,
            accesses: 1,
            l1_misses: 0,
            by_size: none,
            reads: 0,
            cycles: 0,
        }
    }

    #[test]
    fn ratios_are_judged_both_ways() {
        let systems: Vec<&System> = SYSTEMS.iter().filter(|system| [FIRST, PEER].contains(&system.name)).collect();
        let texts = [
            "figure boot_to_app 5 i\nfigure populate_256m 10 i\nfigure populate_32m_rested 2 i",
            "figure boot_to_app 600 i\nfigure populate_256m 19 i\nfigure populate_32m_rested 40 i",
        ];
        let table = Table::new(&systems, texts.map(|text| Output::read(text, false)).into());
        let walks = [
            phase("gups_64m", FIRST, 103),
            phase("gups_64m", STATIC, 100),
            phase("gups_64m", PEER, 110),
            phase("chase_64m", FIRST, 1),
        ];
        let goals = judge(&table, &walks);
        let verdicts: Vec<_> = goals.iter().map(|goal| (goal.name.as_str(), goal.is_met)).collect();
        assert_eq!(
            verdicts,
            [
                ("boot_ratio_linux", true),
                ("populate_256m", false),
                ("populate_256m_pool", true),
                ("walks_gups_over_static", false),
                ("walks_gups_over_linux", true)
            ]
        );
        assert_eq!(goals[2].of, [320.0, 16.0]);
    }
}
