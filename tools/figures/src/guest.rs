//! Boots what is measured.

use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Output, Stdio};

const TARGET: &str = "aarch64-unknown-none";
/// Smallest RAM tried first, in MiB; each step is one less.
const HELLO_FROM_MIB: u64 = 16;

/// All figures, by name.
pub fn measure() -> Result<Vec<(String, f64)>> {
    let mut figures = inside(&["icount=on", "memory=1G"])?;
    // Counts, and ratios of times: on several cores there is no exact order of instructions.
    figures.extend(inside(&["cores=4", "memory=1G"])?);
    figures.extend(start("8g", &["memory=8G", "dtb=bench/data/board-8g.dtb"])?);
    figures.extend(start("64g", &["memory=64G"])?);
    figures.push(("hello_min_ram_mib".into(), hello_min_ram()?));
    figures.push(("hello_image_kib".into(), hello_image()?));
    Ok(figures)
}

/// What the benchmark measures from inside.
fn inside(words: &[&str]) -> Result<Vec<(String, f64)>> {
    let text = bench(words)?;
    println!("{text}");
    Ok(figures_in(&text))
}

/// What the benchmark prints.
fn bench(words: &[&str]) -> Result<String> {
    let output = boot("bench", words)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the benchmark with {words:?} ended with {}:\n{text}", output.status);
    Ok(text)
}

fn figures_in(text: &str) -> Vec<(String, f64)> {
    let figure = |line: &str| {
        let mut words = line.strip_prefix("figure ")?.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(figure).collect()
}

/// What it takes to come to the application in the RAM of `machine`: milliseconds from reset, a nanosecond being an instruction, and KiB of
/// tables for the linear map and of the frames' records.
fn start(name: &str, machine: &[&str]) -> Result<[(String, f64); 3]> {
    let text = bench(&[&["icount=on", "part=boot"], machine].concat())?;
    let found = figures_in(&text);
    let figure = |wanted: &str| {
        let value = found.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        value.with_context(|| format!("the benchmark did not say {wanted}:\n{text}"))
    };
    Ok([
        (format!("boot_{name}_ms"), figure("boot_to_app")? / 1e6),
        (format!("boot_{name}_tables_kib"), figure("kernel_tables")? * 4.0),
        (format!("boot_{name}_records_kib"), figure("frame_records")? * 4.0),
    ])
}

/// Size of hello's image, which the runner made when it booted.
fn hello_image() -> Result<f64> {
    let path = format!("target/{TARGET}/release/hello.img");
    let bytes = std::fs::metadata(&path).with_context(|| path.clone())?.len();
    Ok((bytes as f64 / 1024.0).ceil())
}

/// The smallest RAM that hello runs in, whole MiB.
fn hello_min_ram() -> Result<f64> {
    let runs = |mib: u64| -> Result<bool> {
        let output = boot("hello", &[&format!("memory={mib}M"), "timeout=10"])?;
        Ok(output.status.success())
    };
    let mut mib = HELLO_FROM_MIB;
    while !runs(mib)? {
        mib *= 2;
        if mib > 1024 {
            bail!("hello does not run in 1 GiB");
        }
    }
    while mib > 1 && runs(mib - 1)? {
        mib -= 1;
    }
    Ok(mib as f64)
}

/// Boots package `application` with the runner's `words`.
fn boot(application: &str, words: &[&str]) -> Result<Output> {
    Command::new("cargo")
        .args(["run", "--quiet", "--release", "--target", TARGET, "-p", application, "--"])
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo run")
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_are_found_in_output() {
        let text = "hello\nfigure a 12 instructions\n  figure b 3 x\nfigure c no\nfigure d 1.5 ms\n";
        assert_eq!(super::figures_in(text), [("a".into(), 12.0), ("d".into(), 1.5)]);
    }
}
