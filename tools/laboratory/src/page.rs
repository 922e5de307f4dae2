//! The report as one page: no script, nothing to load, light or dark as its reader has it.

use crate::goals::Bound;
use crate::guest::STATIC;
use crate::plot::{self, Bar};
use crate::report::Report;
use crate::table::{FIRST, PEER, Row, Table, number, precise, times};
use crate::walks::Phase;
use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::BTreeMap;

const STYLE: &str = "
:root { color-scheme: light dark; --rule: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; background: Canvas; color: CanvasText; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--rule); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td.text { text-align: left; white-space: normal; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; } svg { max-width: 100%; height: auto; }
.met { color: light-dark(#0a7040, #5fd39a); font-weight: 600; } .not { color: light-dark(#b3261e, #ff8a80); font-weight: 600; }
pre { overflow-x: auto; font-size: .8rem; }
";
/// Systems whose latencies are drawn.
const DRAWN: [&str; 4] = [FIRST, "eager", PEER, "L never"];
/// Page sizes, in the order of their colours.
const SIZES: [&str; 3] = ["2M", "64K", "4K"];
/// A size that fewer walks than one in so many are for is not drawn.
const FEW: u64 = 10;
/// What differs by less is not worth a line.
const SAME: f64 = 0.02;

pub fn bound(bound: Bound) -> String {
    match bound {
        Bound::AtMost(most) => format!("≤ {most}"),
        Bound::AtLeast(least) => format!("≥ {least}"),
    }
}

/// To three digits, which a bound of 1.02 needs, or to those that a small one has.
pub fn ratio(value: f64) -> String {
    if value < 0.01 { precise(value) } else { format!("{value:.3}") }
}

fn figure(caption: &str, svg: String) -> Markup {
    html! { figure { (PreEscaped(svg)) figcaption { (caption) } } }
}

fn cell(value: Option<f64>) -> Markup {
    html! { td { (value.map_or("–".into(), number)) } }
}

fn unit(row: &Row) -> &'static str {
    if row.unit == "percent" { " (%)" } else { "" }
}

pub fn html(report: &Report) -> Result<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Ashlar: report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Ashlar, measured" }
                (head(report))
                (goals(report))
                (faults(report)?)
                (walks(report)?)
                (ablations(report)?)
                (regret(report))
                (scaling(report)?)
                h2 { "What was run" }
                p { "Ashlar: words of the runner, with " code { "icount=on" } ". Linux: its command line. All by " code { "just report" } "." }
                pre { (report.commands.join("\n")) }
            }
        }
    };
    Ok(page.into_string())
}

fn head(report: &Report) -> Markup {
    let versions = &report.versions;
    html! {
        p {
            (report.date) ", commit " (versions.commit) @if report.quick { ", quick: small sizes" } ". "
            (format!("{:.1}", report.minutes)) " minutes on a host whose load was " (report.host_load) " at first."
        }
        table {
            tr { td { "machine" } td.text { "QEMU: " (report.machine) "; for walks 2 GiB" } }
            tr { td { "rustc" } td.text { (versions.rustc) } }
            tr { td { "QEMU" } td.text { (versions.qemu) } }
            tr { td { "Linux" } td.text { (versions.linux) } }
        }
        p {
            "Figures are guest instructions (" code { "-icount shift=0" } ") and counts of a model of the Cortex-A72's TLBs: the same on every run. "
            "Neither is time: zeroing 64 bytes is one instruction, and a walk costs none. "
            code { "docs/laboratory.md" } " and " code { "docs/tlb-model.md" } " say what that leaves out."
        }
    }
}

fn goals(report: &Report) -> Markup {
    let met = report.goals.iter().filter(|goal| goal.is_met).count();
    html! {
        h2 { "Goals" }
        p { (met) " of " (report.goals.len()) " are met." }
        div.scroll { table {
            tr { th { "goal" } th { "ratio" } th { "bound" } th { "met" } th { "of" } th { "to" } th { "which are" } }
            @for goal in &report.goals {
                tr {
                    td { (goal.name) } td { (ratio(goal.value)) } td { (bound(goal.bound)) }
                    @if goal.is_met { td.met { "met" } } @else { td.not { "not met" } }
                    (cell(Some(goal.of[0]))) (cell(Some(goal.of[1]))) td.text { (goal.how) }
                }
            }
        } }
        p {
            "A pool of zeroed blocks holds a sixteenth of RAM, and 128 MiB at most: 256 MiB are never in it. The figure is eight times that of 32 MiB."
        }
    }
}

fn faults(report: &Report) -> Result<Markup> {
    let table = &report.faults;
    let is_drawn = |row: &&Row| row.ratio.is_some() && !row.is_the_same();
    let bars = table.rows.iter().filter(is_drawn).map(|row| {
        let value = row.ratio.unwrap_or(1.0);
        Bar { label: row.figure.clone(), value, colour: usize::from(value < 1.0) }
    });
    let ratios = plot::bars(&["Ashlar needs less", "Linux needs less"], &bars.collect::<Vec<_>>())?;
    let mut histograms = Vec::new();
    for (name, systems) in &table.histograms {
        let series: Vec<(&str, &BTreeMap<u64, u64>)> =
            DRAWN.iter().filter_map(|&system| Some((system, systems.get(system)?))).collect();
        let caption = format!("{name}: each first touch of a page, by what it took.");
        histograms.push(figure(&caption, plot::histogram(&series)?));
    }
    Ok(html! {
        h2 { "First touches, and a heap" }
        p {
            "Instructions; shares in percent. Zeroing stands apart: Ashlar's is measured, Linux's follows from the loop in its image. The last column is "
            "Linux always to Ashlar."
        }
        (figure("What Linux (always) needs, to what Ashlar needs.", ratios))
        @for histogram in histograms { (histogram) }
        (whole(table))
    })
}

/// All rows of a table.
fn whole(table: &Table) -> Markup {
    html! { div.scroll { table {
        tr { th { "figure" } @for name in table.names() { th { (name) } } th { "ratio" } }
        @for row in &table.rows {
            tr {
                td { (row.figure) (unit(row)) }
                @for name in table.names() { (cell(row.values.get(name).copied())) }
                td { (row.ratio.map_or("–".into(), times)) }
            }
        }
    } } }
}

/// The bars of a workload's phases, by the size that was walked for.
fn walk_bars(phases: &[&Phase]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for phase in phases {
        for (colour, size) in SIZES.iter().enumerate() {
            let walks = phase.by_size.get(*size).copied().unwrap_or(0);
            if walks * FEW >= phase.walks {
                bars.push(Bar { label: format!("{}, {}", phase.workload, phase.system), value: walks as f64, colour });
            }
        }
    }
    bars
}

fn walks(report: &Report) -> Result<Markup> {
    // Of the chains only the longest: the others show where the reach ends, and stand in the table.
    let longest =
        report.walks.iter().filter(|phase| phase.workload.starts_with("chase_")).max_by_key(|phase| phase.l1_misses);
    let is_drawn = |phase: &&Phase| {
        !phase.workload.starts_with("chase_") || longest.is_some_and(|longest| longest.workload == phase.workload)
    };
    let mut all: Vec<&Phase> = report.walks.iter().collect();
    all.sort_by_key(|phase| report.walks.iter().position(|other| other.workload == phase.workload));
    let drawn: Vec<&Phase> = all.iter().copied().filter(is_drawn).collect();
    Ok(html! {
        h2 { "Walks" }
        p {
            "What a Cortex-A72's TLBs would walk the tables for, from a cold start on, in the rounds of each rate. "
            (STATIC) " is a map of blocks that nothing changes once it was touched: the most that any policy can come to."
        }
        (figure("Walks, by the size of the mapping that they found; a size that has less than a tenth of them is only in the table.", plot::bars(&SIZES, &walk_bars(&drawn))?))
        (phases(&all))
    })
}

fn phases(phases: &[&Phase]) -> Markup {
    html! { div.scroll { table {
        tr {
            th { "workload" } th { "system" } th { "accesses" } th { "miss level 1" } th { "walks" }
            @for size in SIZES { th { "of " (size) } }
            th { "reads" } th { "walks an access" }
        }
        @for phase in phases {
            tr {
                td { (phase.workload) } td { (phase.system) } (cell(Some(phase.accesses as f64)))
                (cell(Some(phase.l1_misses as f64))) (cell(Some(phase.walks as f64)))
                @for size in SIZES { (cell(phase.by_size.get(size).map(|&walks| walks as f64))) }
                (cell(Some(phase.reads as f64))) td { (format!("{:.5}", phase.walks_per_access())) }
            }
        }
    } } }
}

fn ablations(report: &Report) -> Result<Markup> {
    let table = &report.ablations;
    let names: Vec<&str> = table.names().filter(|name| ![FIRST, STATIC].contains(name)).collect();
    let to_whole = |row: &Row, name: &str| {
        let (own, without) = (row.values.get(FIRST)?, row.values.get(name)?);
        (*own > 0.0 && *without > 0.0).then(|| without / own)
    };
    // What comes to nothing has no ratio, and counts the more.
    let differs = |row: &Row, name: &str| {
        let (Some(own), Some(without)) = (row.values.get(FIRST), row.values.get(name)) else { return false };
        (own - without).abs() > SAME * own.max(*without)
    };
    let counts = |row: &&Row| names.iter().any(|name| differs(row, name));
    let rows: Vec<&Row> = table.rows.iter().filter(counts).collect();
    let mut bars = Vec::new();
    for row in &rows {
        for (colour, name) in names.iter().enumerate() {
            if let Some(value) = to_whole(row, name).filter(|_| differs(row, name)) {
                bars.push(Bar { label: row.figure.clone() + unit(row), value, colour });
            }
        }
    }
    let walks: Vec<&Phase> = report.ablation_walks.iter().collect();
    Ok(html! {
        h2 { "What each mechanism is worth" }
        p {
            "Ashlar without one of them (" code { "without=pool" } " and so on, " code { "khugepaged=off" } "): what it needs then, to what it needs with all. "
            "Only what differs by more than " (SAME * 100.0) " %; the data have the rest. Instructions, seconds where the name says so, shares in percent. "
            "No figure: it has no end without the mechanism, or was not tried. Groups only: neither promotion nor khugepaged."
        }
        (figure("Without a mechanism, to with all. Less than one of a time: it is a price, paid for something else. Of what is in blocks, more is better; what comes to nothing is only in the table.",
            plot::bars(&names, &bars)?))
        div.scroll { table {
            tr { th { "figure" } @for name in table.names() { th { (name) } } }
            @for row in rows {
                tr { td { (row.figure) (unit(row)) } @for name in table.names() { (cell(row.values.get(name).copied())) } }
            }
        } }
        h3 { "Walks without it" }
        (phases(&walks))
    })
}

fn regret(report: &Report) -> Markup {
    html! {
        h2 { "Regret" }
        p {
            "To the static map of blocks: instructions of a rate and of what is set up for it, walks of a rate, and cycles an access more by the illustration of the TLB model, whose two latencies "
            "are assumed."
        }
        div.scroll { table {
            tr { th { "workload" } th { "system" } th { "instructions" } th { "walks" } th { "cycles an access" } }
            @for of in report.regret.iter().filter(|of| !of.workload.starts_with("chase_")) {
                tr {
                    td { (of.workload) } td { (of.system) } td { (format!("{:.4}×", of.instructions)) }
                    td { (of.walks.map_or("–".into(), |walks| format!("{walks:.3}×"))) }
                    td { (of.cycles_per_access.map_or("–".into(), |cycles| format!("{cycles:+.3}"))) }
                }
            }
        } }
    }
}

fn scaling(report: &Report) -> Result<Markup> {
    if report.scaling.is_empty() {
        return Ok(html! {});
    }
    let series: Vec<(&str, [f64; 2])> = report.scaling.iter().map(|of| (of.name.as_str(), of.speedup)).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(html! {
        h2 { "Faults on more cores" }
        p {
            "Times, not instructions: of an emulator on a host of " (cores) " cores, and with whatever else runs there. Four cores of a guest can be no faster than that."
        }
        (figure("Faults in a time, to one core's, on 1, 2 and 4 cores.", plot::speedups(&series)?))
    })
}
