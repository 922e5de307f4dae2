//! The model and a guest that theory has numbers for: `bench part=reach`, and `part=stale` with a missing TLBI.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Boots the benchmark; what the runner says, among it the path of the lines of JSON.
fn bench(words: &[&str]) -> (Output, String) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--release", "-p", "bench", "--target", "aarch64-unknown-none", "--", "timeout=300"]);
    let output = cargo.args(words).current_dir(root()).output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let path = said.lines().find_map(|line| line.strip_prefix("tlb: as JSON in ")).unwrap_or_else(|| panic!("{said}"));
    let lines = std::fs::read_to_string(root().join(path)).expect("the runner has just named it");
    (output, lines)
}

/// The number after the keys, one within the other, in the line of `tag`.
fn number(lines: &str, tag: &str, keys: &[&str]) -> u64 {
    let start = format!("{{\"tag\":\"{tag}\",");
    let line = lines.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{tag}: {lines}"));
    let rest = keys.iter().fold(line, |rest, key| match rest.split_once(&format!("\"{key}\":")) {
        Some((_, rest)) => rest,
        None => panic!("{key}: {line}"),
    });
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().unwrap_or_else(|_| panic!("{keys:?}: {line}"))
}

/// Whether QEMU takes the plugin: not every distribution's does. Where nobody reads the output, an old one is a failure.
fn takes_plugins() -> bool {
    let output = Command::new("qemu-system-aarch64").arg("--version").output().expect("QEMU is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = said.split("version ").nth(1).and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let takes = major.is_some_and(|major| major >= 10) || std::env::var_os("CI").is_some();
    if !takes {
        println!("skipped: the model needs QEMU 10, which tools/setup --boards brings; this is {said}");
    }
    takes
}

#[test]
fn random_reads_miss_as_theory_has_it() {
    if !takes_plugins() {
        return;
    }
    let (output, lines) = bench(&["part=reach", "icount=on", "tlb=a72"]);
    assert!(output.status.success(), "{output:?}");
    let per_read = |tag, keys: &[&str]| number(&lines, tag, keys) as f64 / 4e6;
    let close = |value: f64, theory: f64| assert!((value - theory).abs() < 5e-4, "{value} and {theory}: {lines}");
    // 1024 entries for 16384 pages, 32 in level 1; each walk reads one descriptor, its table is known.
    close(per_read("pages", &["walks", "all"]), 1.0 - 1024.0 / 16384.0);
    close(per_read("pages", &["walk_accesses", "all"]), 1.0 - 1024.0 / 16384.0);
    close(per_read("pages", &["l1_misses", "d"]), 1.0 - 32.0 / 16384.0);
    // 1024 groups fit; level 1 has 32 of them.
    assert!(number(&lines, "groups", &["walks", "all"]) <= 1024 + 64, "{lines}");
    close(per_read("groups", &["l1_misses", "d"]), 1.0 - 32.0 / 1024.0);
    // 32 blocks, of which level 1 has 32 pieces of 1 MiB.
    assert!(number(&lines, "blocks", &["walks", "all"]) <= 64, "{lines}");
    close(per_read("blocks", &["l1_misses", "d"]), 1.0 - 32.0 / 64.0);
    for tag in ["pages", "groups", "blocks", "exit"] {
        assert_eq!(number(&lines, tag, &["walk_fail"]), 0, "{lines}");
    }
}

#[test]
fn a_missing_invalidation_is_flagged() {
    if !takes_plugins() {
        return;
    }
    let (output, lines) = bench(&["part=stale", "tlb=a72,check=1"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert_eq!(number(&lines, "exit", &["stale"]), 10, "{lines}");
    let found: Vec<_> = lines.lines().filter(|line| line.starts_with("{\"finding\":\"moved\"")).collect();
    assert_eq!(found.len(), 10, "{lines}");
    assert_eq!(number(&lines, "exit", &["walk_fail"]), 0, "{lines}");
}
