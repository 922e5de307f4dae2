//! Every workload on the host, small: it comes to its end, which it does only when what it computed is right, and says what it is
//! to say.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::time::Instant;
use workloads::{Failure, OutOfMemory, Plan, Platform, Usage, run};

const PAGE: usize = 4096;

/// Pages of a vector.
struct Pages {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.length]
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.length]
    }
}

struct Host {
    start: Instant,
    lines: RefCell<Vec<String>>,
    /// Bytes that can be mapped at once.
    limit: usize,
    frequency: u64,
    /// Loses what is written to the second page of what is released.
    forgetful: bool,
}

impl Host {
    fn new() -> Self {
        Host {
            start: Instant::now(),
            lines: RefCell::default(),
            limit: usize::MAX,
            frequency: 1_000_000_000,
            forgetful: false,
        }
    }

    fn figures(&self) -> Vec<String> {
        let lines = self.lines.borrow();
        lines.iter().filter_map(|line| Some(line.strip_prefix("figure ")?.split(' ').next()?.to_owned())).collect()
    }
}

impl Platform for Host {
    type Memory = Pages;

    fn map(&self, bytes: usize) -> Result<Pages, OutOfMemory> {
        assert!(bytes.is_multiple_of(PAGE), "{bytes} bytes are not whole pages");
        if bytes > self.limit {
            return Err(OutOfMemory);
        }
        let all = vec![0; bytes + PAGE];
        let start = all.as_ptr().align_offset(PAGE);
        Ok(Pages { bytes: all, start, length: bytes })
    }

    fn release(&self, memory: &mut Pages, range: Range<usize>) {
        assert!(range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE) && !range.is_empty());
        let end = if self.forgetful { memory.len().min(range.end + 16 * PAGE) } else { range.end };
        memory[range.start..end].fill(0);
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn sleep(&self, _seconds: u64) {}

    fn zeroing(&self, bytes: usize) -> Option<u64> {
        Some(bytes as u64)
    }

    fn line(&self, line: fmt::Arguments<'_>) {
        self.lines.borrow_mut().push(line.to_string());
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn frequency(&self) -> u64 {
        self.frequency
    }
}

fn plan(words: &[(&str, &str)]) -> Plan {
    let mut plan = Plan::default();
    for (key, value) in [("size", "1M"), ("rounds", "2")].iter().chain(words) {
        plan.word(key, value).expect("a plan's word");
    }
    plan
}

#[test]
fn everything_is_right_and_says_so() {
    let host = Host::new();
    run(&host, &plan(&[]), 5).expect("every workload verifies what it computed");
    let figures = host.figures();
    for wanted in [
        "populate_4m",
        "populate_4m_zeroing",
        "populate_4m_unmap",
        "populate_512k_rested",
        "latency_1m",
        "latency_1m_max",
        "latency_random_1m_p99",
        "churn_1m_fill",
        "churn_1m_round",
        "churn_1m_full_in_blocks_pct",
        "churn_1m_rested_in_blocks_pct",
        "chase_64k",
        "chase_4m",
        "gups_1m",
        "triad_768k",
        "join_512k_build",
        "join_512k_probe",
        "btree_1m",
        "spmv_1m",
        "bfs_544k",
    ] {
        assert!(figures.iter().any(|figure| figure == wanted), "{wanted} is not in {figures:?}");
    }
    // Nothing has two figures under one name.
    let mut once = figures.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), figures.len());
    let lines = host.lines.borrow();
    let histogram = lines.iter().find(|line| line.starts_with("histogram latency_1m ")).expect("one of each touch");
    let counts = histogram.split(' ').skip(2).map(|bucket| bucket.split_once('=').expect("BOUND=COUNT").1);
    assert_eq!(counts.map(|count| count.parse::<usize>().expect("a count")).sum::<usize>(), 256);
}

#[test]
fn every_size_is_right() {
    for size in ["1M", "2M", "8M"] {
        // Timed, by a counter that ticks every other nanosecond.
        let host = Host { frequency: 500_000_000, ..Host::new() };
        run(&host, &plan(&[("size", size), ("reach", "64K")]), 5).expect("every workload verifies what it computed");
    }
}

#[test]
fn a_part_runs_by_itself() {
    let host = Host::new();
    run(&host, &plan(&[("part", "gups,triad")]), 5).expect("they are right");
    assert_eq!(host.figures(), ["boot_to_app", "gups_1m_setup", "gups_1m", "triad_768k"]);
}

#[test]
fn memory_that_forgets_is_noticed() {
    let host = Host { forgetful: true, ..Host::new() };
    let result = run(&host, &plan(&[("part", "churn")]), 5);
    assert!(matches!(result, Err(Failure::Wrong("an object's stamps"))), "{result:?}");
    assert!(host.lines.borrow().iter().any(|line| line == "failed churn: wrong: an object's stamps"));
}

#[test]
fn too_little_memory_is_a_failure() {
    let host = Host { limit: 1 << 20, ..Host::new() };
    assert!(matches!(run(&host, &plan(&[("part", "populate")]), 5), Err(Failure::Memory)));
}
