//! `report [quick] [size=512M] [part=NAME,…]`: everything that is exact, in one page, and as data. `size=` and `part=` are what walks are counted on.

use crate::bench::Part;
use crate::goals::{self, Goal};
use crate::guest::{self, ABLATIONS, Done, MACHINE, Measure, Peer, Run, STATIC, SYSTEMS, System, WALKED};
use crate::output::Output;
use crate::table::{Row, Table};
use crate::versions::{self, Versions};
use crate::walks::Phase;
use crate::{exact, kernel, load, page, peer};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

const DIRECTORY: &str = "target/report";
/// What faults are measured by. Small enough for each run; `populate` touches 256 MiB then.
const FAULTS: [&str; 2] = ["part=populate,latency,churn", "size=64M"];
/// What TLBs are measured by.
const WALKS: &str = "chase,gups,join,btree,spmv,bfs";
/// Chains that are longer show nothing more: pages are beyond their reach, and blocks are not.
const REACH: &str = "reach=64M";
const ROUNDS: &str = "rounds=3";
/// What shows a mechanism's worth. More than a TLB of 1024 entries holds in groups.
const ABLATED: [&str; 3] = ["part=populate,latency,churn,gups,join", "size=128M", "rounds=3"];
/// What of `bench` does: all of it boots, fragments RAM, and ends by itself.
const RECOVERY: [&str; 3] = ["fill", "recovery", "budget"];

/// Everything that is measured.
#[derive(Serialize)]
pub struct Report {
    pub date: String,
    pub quick: bool,
    pub machine: &'static str,
    pub versions: Versions,
    /// The host's load average when it began, and how long it took.
    pub host_load: f64,
    pub minutes: f64,
    /// Instructions in which Linux zeroes 64 bytes, as its code says.
    pub linux_zeroing_instructions: Option<u32>,
    pub goals: Vec<Goal>,
    pub faults: Table,
    pub walks: Vec<Phase>,
    /// What the same runs say themselves.
    pub walked: Table,
    /// Of systems without a mechanism each.
    pub ablations: Table,
    pub ablation_walks: Vec<Phase>,
    pub regret: Vec<Regret>,
    pub scaling: Vec<Scaling>,
    /// What was run, in the runner's words or on Linux's command line.
    pub commands: Vec<String>,
}

/// What a system needs for a rate, or to set it up, to what the static map of blocks needs.
#[derive(Serialize)]
pub struct Regret {
    pub workload: String,
    pub system: &'static str,
    pub instructions: f64,
    /// None where nothing is observed.
    pub walks: Option<f64>,
    /// Of the illustration, an access more.
    pub cycles_per_access: Option<f64>,
}

/// What a rate's figure is followed by where it says what comes before.
const BEFORE: [&str; 2] = ["_setup", "_build"];

/// How the rate of faults grows with the cores: times, of an emulator's cores.
#[derive(Serialize)]
pub struct Scaling {
    pub name: String,
    pub per_second: f64,
    /// On two cores and on four.
    pub speedup: [f64; 2],
}

/// One boot.
enum Job<'a> {
    Lab(Section, Run<'a>),
    Bench(&'static str, Part<'a>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Faults,
    Walks,
    Ablations,
}

struct Words {
    quick: bool,
    /// What walks are counted on, and by which workloads.
    walked: Vec<String>,
}

impl Words {
    fn read(all: &[String]) -> Result<Self> {
        let quick = all.iter().any(|word| word == "quick");
        let size = if quick { "size=64M" } else { "size=512M" };
        let mut words = Words { quick, walked: strings(&[&format!("part={WALKS}"), size, REACH, ROUNDS]) };
        for word in all.iter().filter(|word| *word != "quick") {
            let key = word.split_once('=').map(|(key, _)| key);
            ensure!(matches!(key, Some("size" | "part")), "`{word}`: there are quick, size=512M, part=NAME,…");
            // Of two the later one counts.
            words.walked.push(word.clone());
        }
        Ok(words)
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.into()).collect()
}

/// All boots, the longest first.
fn jobs<'a>(words: &Words, plugin: &Path) -> Vec<Job<'a>> {
    let observer = |section: &str, system: &System| {
        let file = format!("{section}-{}.jsonl", system.name.replace(' ', "-"));
        Some((plugin.to_owned(), PathBuf::from(DIRECTORY).join(file)))
    };
    let exact = |system, memory, workload| Run { system, measure: Measure::Exact, memory, workload, observer: None };
    let mut jobs = Vec::new();
    for system in &WALKED {
        let run = Run { observer: observer("walks", system), ..exact(system, "2G", words.walked.clone()) };
        jobs.push(Job::Lab(Section::Walks, run));
    }
    for system in &ABLATIONS {
        let run = Run { observer: observer("ablations", system), ..exact(system, "1G", strings(&ABLATED)) };
        jobs.push(Job::Lab(Section::Ablations, run));
        // There is nothing to recover by without the background.
        let words = system.words;
        if !words.contains(&"khugepaged=off") {
            jobs.extend(RECOVERY.iter().map(|name| Job::Bench(system.name, Part { name, words })));
        }
    }
    jobs.extend(SYSTEMS.iter().map(|system| Job::Lab(Section::Faults, exact(system, "1G", strings(&FAULTS)))));
    jobs
}

fn do_job(job: &Job, peer: &Peer) -> Result<Done> {
    match job {
        Job::Lab(_, run) => run.run(Some(peer)),
        Job::Bench(system, part) => {
            // A part may wait for what does not come without a mechanism: then there is no figure.
            let output = part.exact().unwrap_or_else(|error| {
                eprintln!(
                    "{system:<13} bench  {} has no end: {}",
                    part.name,
                    error.to_string().lines().next().unwrap_or("")
                );
                Output::default()
            });
            eprintln!("{system:<13} bench  {}", part.name);
            Ok(Done { output, phases: Vec::new() })
        }
    }
}

/// A table of the runs of `section`, with what `bench` says of the same systems.
fn table(section: Section, systems: &[System], jobs: &[Job], done: &mut [Done]) -> Table {
    let mut outputs = Vec::new();
    for system in systems {
        let mut all = Output::default();
        for (job, done) in jobs.iter().zip(&mut *done) {
            let is_its = match job {
                Job::Lab(of, run) => *of == section && run.system.name == system.name,
                Job::Bench(of, _) => section == Section::Ablations && *of == system.name,
            };
            if is_its {
                let output = std::mem::take(&mut done.output);
                all.figures.extend(output.figures);
                all.histograms.extend(output.histograms);
                all.tags.extend(output.tags);
            }
        }
        outputs.push(all);
    }
    Table::new(&systems.iter().collect::<Vec<_>>(), outputs)
}

/// What each phase of `phases` needs, to the same phase of the static map.
fn regret(phases: &[Phase]) -> Vec<Regret> {
    let per = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let of = |phase: &Phase| {
        let best = phases.iter().find(|best| best.system == STATIC && best.workload == phase.workload)?;
        Some(Regret {
            workload: phase.workload.clone(),
            system: phase.system,
            instructions: per(phase.instructions, best.instructions),
            walks: Some(per(phase.walks, best.walks)),
            cycles_per_access: Some(per(phase.cycles, phase.accesses) - per(best.cycles, best.accesses)),
        })
    };
    phases.iter().filter(|phase| phase.system != STATIC).filter_map(of).collect()
}

/// The same of what comes before each rate.
fn regret_before(table: &Table) -> Vec<Regret> {
    let rows = table.rows.iter().filter(|row| BEFORE.iter().any(|suffix| row.figure.ends_with(suffix)));
    let of_row = |row: &Row| -> Vec<Regret> {
        let Some(&best) = row.values.get(STATIC) else { return Vec::new() };
        let others = table.names().filter(|&system| system != STATIC);
        let of = |system| {
            let instructions = row.values.get(system)? / best;
            Some(Regret { workload: row.figure.clone(), system, instructions, walks: None, cycles_per_access: None })
        };
        others.filter_map(of).collect()
    };
    rows.flat_map(of_row).collect()
}

/// Lines such as `faults, own regions: 1000 a second on one core; ×1.90 on 2, ×3.10 on 4`.
fn scaling(text: &str) -> Vec<Scaling> {
    let read = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("faults, ")?.split_once(": ")?;
        let (rate, rest) = rest.split_once(" a second on one core; ×")?;
        let (two, rest) = rest.split_once(" on 2, ×")?;
        let four = rest.strip_suffix(" on 4")?;
        let speedup = [two.parse().ok()?, four.parse().ok()?];
        Some(Scaling { name: name.into(), per_second: rate.parse().ok()?, speedup })
    };
    text.lines().filter_map(read).collect()
}

fn measure(words: &Words) -> Result<Report> {
    let (started, host_load) = (Instant::now(), load());
    let peer = peer()?;
    for package in ["lab", "bench"] {
        guest::build_ashlar(package)?;
    }
    let plugin = guest::build_observer()?;
    std::fs::create_dir_all(DIRECTORY)?;
    let jobs = jobs(words, &plugin);
    let mut done = exact::run(&jobs, |job| do_job(job, &peer))?;

    let phases = |wanted: Section, done: &mut [Done]| -> Vec<Phase> {
        let is_wanted = |job: &Job| matches!(job, Job::Lab(section, _) if *section == wanted);
        let found = jobs.iter().zip(done).filter(|(job, _)| is_wanted(job));
        found.flat_map(|(_, done)| std::mem::take(&mut done.phases)).collect()
    };
    let (walks, ablation_walks) = (phases(Section::Walks, &mut done), phases(Section::Ablations, &mut done));
    let mut faults = table(Section::Faults, &SYSTEMS, &jobs, &mut done);
    let linux_zeroing_instructions = kernel::zeroing_instructions(&std::fs::read(&peer.kernel)?);
    if let Some(instructions) = linux_zeroing_instructions {
        faults.derive_zeroing(instructions);
    }
    let ablations = table(Section::Ablations, &ABLATIONS, &jobs, &mut done);
    let walked = table(Section::Walks, &WALKED, &jobs, &mut done);
    let regret = [regret(&walks), regret_before(&walked), regret(&ablation_walks), regret_before(&ablations)];
    // By itself: it is timed. What took so long is not lost if four cores are too many for this host.
    let scaling = match words.quick {
        true => String::new(),
        false => Part { name: "scaling", words: &[] }.boot(&["cores=4"]).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            String::new()
        }),
    };
    let in_words = |job: &Job| match job {
        Job::Lab(_, run) => run.in_words(),
        Job::Bench(_, part) => format!("Ashlar bench icount=on memory=1G part={} {}", part.name, part.words.join(" ")),
    };
    Ok(Report {
        date: versions::now(),
        quick: words.quick,
        machine: MACHINE,
        versions: Versions::read(peer.version),
        host_load,
        minutes: started.elapsed().as_secs_f64() / 60.0,
        linux_zeroing_instructions,
        goals: goals::judge(&faults, &walks),
        regret: regret.into_iter().flatten().collect(),
        faults,
        walks,
        walked,
        ablations,
        ablation_walks,
        scaling: self::scaling(&scaling),
        commands: jobs.iter().map(in_words).collect(),
    })
}

/// All figures, one a line.
fn csv(report: &Report) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["section", "figure", "system", "value", "unit"])?;
    let mut add = |section: &str, figure: &str, system: &str, value: f64, unit: &str| {
        writer.write_record([section, figure, system, &value.to_string(), unit])
    };
    for goal in &report.goals {
        add("goals", &goal.name, if goal.is_met { "met" } else { "not met" }, goal.value, "ratio")?;
    }
    for (section, table) in [("faults", &report.faults), ("walked", &report.walked), ("ablations", &report.ablations)] {
        for row in &table.rows {
            row.values.iter().try_for_each(|(system, value)| add(section, &row.figure, system, *value, &row.unit))?;
        }
        for (figure, systems) in &table.histograms {
            for (system, buckets) in systems {
                for (bound, count) in buckets {
                    add(section, &format!("{figure}_below_{bound}"), system, *count as f64, "samples")?;
                }
            }
        }
    }
    for (section, phases) in [("walks", &report.walks), ("ablation_walks", &report.ablation_walks)] {
        for phase in phases {
            let counts = [
                ("instructions", phase.instructions),
                ("accesses", phase.accesses),
                ("l1_misses", phase.l1_misses),
                ("walks", phase.walks),
                ("walk_reads", phase.reads),
                ("cycles", phase.cycles),
            ];
            for (name, count) in counts {
                add(section, &phase.workload, phase.system, count as f64, name)?;
            }
            for (size, count) in &phase.by_size {
                add(section, &phase.workload, phase.system, *count as f64, &format!("walks of {size}"))?;
            }
        }
    }
    for of in &report.regret {
        add("regret", &of.workload, of.system, of.instructions, "instructions")?;
        of.walks.map_or(Ok(()), |walks| add("regret", &of.workload, of.system, walks, "walks"))?;
    }
    for of in &report.scaling {
        for (cores, times) in [("1 core", 1.0), ("2 cores", of.speedup[0]), ("4 cores", of.speedup[1])] {
            add("scaling", &of.name, cores, of.per_second * times, "faults a second")?;
        }
    }
    writer.into_inner().context("a vector has room")
}

fn print(report: &Report) {
    println!("{:<36} {:>10}  {:<8} met", "goal", "value", "bound");
    for goal in &report.goals {
        let bound = page::bound(goal.bound);
        println!(
            "{:<36} {:>10}  {bound:<8} {}",
            goal.name,
            page::ratio(goal.value),
            if goal.is_met { "yes" } else { "NO" }
        );
    }
}

pub fn run(words: &[String]) -> Result<()> {
    let report = measure(&Words::read(words)?)?;
    let directory = Path::new(DIRECTORY);
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    write("report.json", (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    write("report.csv", &csv(&report)?)?;
    write("index.html", page::html(&report)?.as_bytes())?;
    print(&report);
    println!("\nwritten to {DIRECTORY}: index.html, report.json, report.csv; {:.1} minutes", report.minutes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_words_count() {
        let words = Words::read(&strings(&["size=16M", "quick"])).unwrap();
        assert!(words.quick);
        assert_eq!((words.walked[1].as_str(), words.walked[4].as_str()), ("size=64M", "size=16M"));
        assert!(Words::read(&strings(&["rounds=3"])).is_err());
    }

    #[test]
    fn regret_is_beside_the_static_map() {
        let phase = |system, walks, cycles| Phase {
            workload: "gups_64m".into(),
            system,
            instructions: 100,
            accesses: 10,
            l1_misses: 0,
            walks,
            by_size: [].into(),
            reads: 0,
            cycles,
        };
        let regret = regret(&[phase("Ashlar", 34, 70), phase(STATIC, 32, 50)]);
        assert_eq!(regret.len(), 1);
        assert_eq!(
            (regret[0].walks, regret[0].instructions, regret[0].cycles_per_access),
            (Some(34.0 / 32.0), 1.0, Some(2.0))
        );
    }

    #[test]
    fn rates_on_more_cores_are_found() {
        let found =
            scaling("  faults, own regions: 1000 a second on one core; ×1.90 on 2, ×3.10 on 4\n  faults, none\n");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].name.as_str(), found[0].per_second, found[0].speedup),
            ("own regions", 1000.0, [1.9, 3.1])
        );
    }
}
