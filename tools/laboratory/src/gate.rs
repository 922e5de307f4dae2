//! `gate` and `accept`: a small set of exact figures against `baseline.json`.
//!
//! They are the same on every run of the same tree by the same compiler and emulator. So the baseline is kept by the versions of
//! both; with others there is nothing to fail by, and they are only told.

use crate::bench::Part;
use crate::guest::{self, Done, Measure, Run, WALKED};
use crate::{exact, versions};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

const BASELINE: &str = "tools/laboratory/baseline.json";
/// How much more is no failure, in percent: a compiler inlines otherwise when its input is moved about.
const SLACK: f64 = 3.0;
/// … and how many more, of what is counted in few: walks; instructions of a single touch, of which a tick more or less is one.
const FEW_WALKS: f64 = 2.0;
const FEW_INSTRUCTIONS: f64 = 1.0;
const WALKS: &str = "_walks";

/// Figures by name.
type Figures = BTreeMap<String, f64>;
/// By the versions that they hold for.
type Baseline = BTreeMap<String, Figures>;

/// What is run: workloads on Ashlar as it comes, and parts of `bench`.
const WORKLOAD: [&str; 3] = ["part=populate,latency,churn,gups,join,btree", "size=32M", "rounds=1"];
const PARTS: [&str; 6] = ["eager", "pool", "page", "fill", "split", "promote"];

fn measure() -> Result<Figures> {
    for package in ["lab", "bench"] {
        guest::build_ashlar(package)?;
    }
    let plugin = guest::build_observer()?;
    std::fs::create_dir_all("target/tlb")?;
    let jobs: Vec<Option<&str>> = [None].into_iter().chain(PARTS.iter().map(|&part| Some(part))).collect();
    let all = exact::run(&jobs, |job| match job {
        Some(name) => Ok(Done { output: Part { name, words: &[] }.exact()?, phases: Vec::new() }),
        None => {
            let run = Run {
                system: &WALKED[0],
                measure: Measure::Exact,
                memory: "512M",
                workload: WORKLOAD.map(String::from).into(),
                observer: Some((plugin.clone(), PathBuf::from("target/tlb/gate.jsonl"))),
            };
            run.run(None)
        }
    })?;
    let mut figures = Figures::new();
    for Done { output, phases } in all {
        let counted = output.figures.into_iter().filter(|(_, value)| value.unit == "instructions");
        for (name, value) in counted {
            // The start is everybody's: that of the workloads is kept, which come first.
            figures.entry(name).or_insert(value.value);
        }
        figures.extend(phases.into_iter().map(|phase| (phase.workload + WALKS, phase.walks as f64)));
    }
    Ok(figures)
}

fn load() -> Result<Baseline> {
    match std::fs::read_to_string(BASELINE) {
        Ok(text) => serde_json::from_str(&text).context(BASELINE),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Baseline::new()),
        Err(error) => Err(error).context(BASELINE),
    }
}

/// What came of a figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Same,
    Within,
    Better,
    Worse,
    New,
    /// It is not measured any more: a gate must not open by that.
    Missing,
}

fn judge(name: &str, before: Option<f64>, now: Option<f64>) -> Verdict {
    let Some(now) = now else { return Verdict::Missing };
    let Some(before) = before else { return Verdict::New };
    let few = if name.ends_with(WALKS) { FEW_WALKS } else { FEW_INSTRUCTIONS };
    let slack = (before * SLACK / 100.0).max(few);
    match now - before {
        0.0 => Verdict::Same,
        more if more > slack => Verdict::Worse,
        more if more < -slack => Verdict::Better,
        _ => Verdict::Within,
    }
}

/// Tells what differs, and returns how many are worse, or are not measured any more.
fn tell(before: &Figures, now: &Figures) -> usize {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let mut worse = 0;
    for name in names {
        let values = [before.get(name).copied(), now.get(name).copied()];
        let verdict = judge(name, values[0], values[1]);
        let text = |value: Option<f64>| value.map_or("–".into(), |value| value.to_string());
        worse += usize::from([Verdict::Worse, Verdict::Missing].contains(&verdict));
        if verdict != Verdict::Same {
            let change = match values {
                [Some(before), Some(now)] if before > 0.0 => format!("{:+.2} %", (now / before - 1.0) * 100.0),
                _ => String::new(),
            };
            println!("{name:<36} {:>14} {:>14} {change:>10} {verdict:?}", text(values[0]), text(values[1]));
        }
    }
    worse
}

/// Fails if a figure is worse than the baseline of these versions.
pub fn compare() -> Result<()> {
    let (key, now) = (versions::key(), measure()?);
    let baseline = load()?;
    if let Some(before) = baseline.get(&key) {
        match tell(before, &now) {
            0 => println!("{} figures, none of them more than {SLACK} % worse", now.len()),
            worse => bail!("{worse} figures are worse, or missing: `just bench-accept` if that is meant"),
        }
    } else {
        println!("there is no baseline for {key}: nothing can fail");
        if let Some((other, before)) = baseline.last_key_value() {
            println!("beside that of {other}:");
            tell(before, &now);
        }
    }
    Ok(())
}

/// Makes what is measured the baseline of these versions.
pub fn accept() -> Result<()> {
    let (key, now) = (versions::key(), measure()?);
    let mut baseline = load()?;
    tell(baseline.get(&key).unwrap_or(&Figures::new()), &now);
    baseline.insert(key, now);
    std::fs::write(BASELINE, serde_json::to_string_pretty(&baseline)? + "\n").context(BASELINE)?;
    println!("written to {BASELINE}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_or_a_few_walks() {
        let judge = |name, before: f64, now: f64| super::judge(name, Some(before), Some(now));
        assert_eq!(judge("a", 1000.0, 1000.0), Verdict::Same);
        assert_eq!(judge("a", 1000.0, 1030.0), Verdict::Within);
        assert_eq!(judge("a", 1000.0, 1031.0), Verdict::Worse);
        assert_eq!(judge("a", 1000.0, 969.0), Verdict::Better);
        assert_eq!(judge("a_walks", 16.0, 18.0), Verdict::Within);
        assert_eq!(judge("a_walks", 16.0, 19.0), Verdict::Worse);
        assert_eq!(judge("a_walks", 0.0, 3.0), Verdict::Worse);
        assert_eq!((judge("a", 5.0, 6.0), judge("a", 5.0, 7.0)), (Verdict::Within, Verdict::Worse));
        assert_eq!(super::judge("a", None, Some(1.0)), Verdict::New);
        assert_eq!(super::judge("a", Some(1.0), None), Verdict::Missing);
    }

    #[test]
    fn what_is_not_measured_any_more_is_a_failure() {
        let figures = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1.0)).collect::<Figures>();
        assert_eq!(tell(&figures(&["a", "b"]), &figures(&["b", "c"])), 1);
        assert_eq!(tell(&figures(&["a"]), &figures(&["a", "c"])), 0);
    }
}
