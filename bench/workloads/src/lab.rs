//! The harness: names, samples, and the lines that are made of them.

use crate::plan::{MOST_ROUNDS, Plan};
use crate::platform::{OutOfMemory, PAGE, Platform};
use crate::{bfs, btree, chase, churn, faults, gups, join, spmv, triad};
use arrayvec::ArrayVec;
use core::fmt;
use core::hint::black_box;

/// The frequency at which a counter ticks with every instruction, under `-icount shift=0`.
const COUNTED: u64 = 1_000_000_000;

/// Why a workload came to no end.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// Its memory can't be mapped.
    Memory,
    /// What it computed is not right.
    Wrong(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Memory => write!(f, "there is not enough memory"),
            Failure::Wrong(what) => write!(f, "wrong: {what}"),
        }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(_: OutOfMemory) -> Self {
        Failure::Memory
    }
}

/// How often what is timed is done before. An emulator's own TLB, in which it looks for the host's addresses, grows by the factor of two
/// when it is flushed, and only then: a system that invalidates little would be slower there, and on no machine.
const WARM_UPS: usize = 10;
const BLOCK: usize = 2 << 20;

/// How long a system is left alone where that counts, in seconds: as long as Linux's khugepaged sleeps between two looks, where idle
/// time takes none of the host's; and not so long elsewhere.
const REST: [u64; 2] = [10, 1];

/// Fails unless `right`.
pub fn verify(right: bool, what: &'static str) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(Failure::Wrong(what)) }
}

/// What is measured: a part of a workload on so many bytes.
#[derive(Clone, Copy)]
pub struct Name {
    pub workload: &'static str,
    pub bytes: usize,
    /// Which part of it; empty for what it is about.
    pub part: &'static str,
}

impl Name {
    pub fn new(workload: &'static str, bytes: usize) -> Self {
        Name { workload, bytes, part: "" }
    }

    pub fn part(self, part: &'static str) -> Self {
        Name { part, ..self }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, unit) = match self.bytes {
            bytes if bytes >= 1 << 20 => (bytes >> 20, 'm'),
            bytes => (bytes >> 10, 'k'),
        };
        write!(f, "{}_{size}{unit}", self.workload)?;
        if self.part.is_empty() { Ok(()) } else { write!(f, "_{}", self.part) }
    }
}

type Part<P> = fn(&Lab<'_, P>) -> Result<(), Failure>;

/// All parts, in the order in which they run; a part's number goes into its tags.
fn parts<P: Platform>() -> [(&'static str, Part<P>); 10] {
    [
        ("populate", faults::populate),
        ("latency", faults::latency),
        ("churn", churn::run),
        ("chase", chase::run),
        ("gups", gups::run),
        ("triad", triad::run),
        ("join", join::run),
        ("btree", btree::run),
        ("spmv", spmv::run),
        ("bfs", bfs::run),
    ]
}

/// Runs what `plan` says, and reports first what it took to get here: the counter showed `start` then.
///
/// # Errors
///
/// The first workload that fails, which a line has named.
pub fn run<P: Platform>(platform: &P, plan: &Plan, start: u64) -> Result<(), Failure> {
    let lab = Lab { platform, plan, number: 0 };
    lab.figure("boot_to_app", format_args!("{:.0}", lab.each(start, 1)), lab.unit());
    for (number, (name, part)) in parts::<P>().into_iter().enumerate() {
        if !plan.has(name) {
            continue;
        }
        let lab = Lab { platform, plan, number: number as u64 + 1 };
        if let Err(failure) = part(&lab) {
            platform.line(format_args!("failed {name}: {failure}"));
            return Err(failure);
        }
    }
    Ok(())
}

/// A system, what is to be run on it, and which part of that runs.
pub struct Lab<'a, P> {
    pub platform: &'a P,
    pub plan: &'a Plan,
    number: u64,
}

impl<P: Platform> Lab<'_, P> {
    /// Ticks that `work` takes, those of taking the time left out, after what comes of it.
    #[inline]
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> (R, u64) {
        let empty = self.nothing();
        let start = self.platform.now();
        let result = work();
        (result, (self.platform.now() - start).saturating_sub(empty))
    }

    /// Maps `bytes`, and what is left of the last page.
    pub fn map(&self, bytes: usize) -> Result<P::Memory, OutOfMemory> {
        self.platform.map(bytes.next_multiple_of(PAGE))
    }

    /// Leaves the system alone.
    pub fn rest(&self) {
        let [counted, otherwise] = REST;
        self.platform.sleep(if self.is_counted() { counted } else { otherwise });
    }

    /// Ticks that taking a time takes.
    #[inline]
    pub fn nothing(&self) -> u64 {
        let start = self.platform.now();
        self.platform.now() - start
    }

    fn is_counted(&self) -> bool {
        self.platform.frequency() == COUNTED
    }

    fn unit(&self) -> &'static str {
        if self.is_counted() { "instructions" } else { "ns" }
    }

    /// `ticks` for `operations` of them, each in the figures' unit.
    fn each(&self, ticks: u64, operations: u64) -> f64 {
        ticks as f64 * (COUNTED as f64 / self.platform.frequency() as f64) / operations as f64
    }

    /// Reports a figure.
    pub fn figure(&self, name: impl fmt::Display, value: impl fmt::Display, unit: &str) {
        self.platform.line(format_args!("figure {name} {value} {unit}"));
    }

    /// Reports what took `ticks` for all `operations` of it.
    pub fn once(&self, name: Name, ticks: u64, operations: u64) {
        let digits = if operations == 1 { 0 } else { 3 };
        self.figure(name, format_args!("{:.digits$}", self.each(ticks, operations)), self.unit());
    }

    /// Unmaps a block, so that something is invalidated.
    fn invalidate(&self) {
        if let Ok(mut memory) = self.platform.map(BLOCK) {
            faults::touch(&mut memory);
        }
    }

    /// Takes samples of `work`, which does `operations` each time, with the observer told; reports the middle one. What went before
    /// is thrown away.
    pub fn rate(&self, name: Name, operations: u64, mut work: impl FnMut()) {
        let tag = self.number << 8 | u64::from(name.bytes.ilog2());
        self.platform.line(format_args!("marker {tag} {name}"));
        for _ in 0..if self.is_counted() { 1 } else { WARM_UPS } {
            work();
            self.invalidate();
        }
        let mut samples = ArrayVec::<u64, MOST_ROUNDS>::new();
        // An emulator computes by the host's arithmetic once a result was inexact, and by its own, slowly, before.
        black_box(black_box(1.0) / 3.0);
        self.platform.start(tag);
        for _ in 0..self.plan.rounds {
            let start = self.platform.now();
            work();
            samples.push(self.platform.now() - start);
        }
        let counts = self.platform.stop(tag);
        self.report(name, &mut samples, operations);
        let all = samples.len() as u64 * operations;
        for (event, count) in counts.into_iter().flatten() {
            self.figure(format_args!("{name}_{event}"), format_args!("{:.4}", count as f64 / all as f64), event);
        }
    }

    /// Reports the middle one of `samples`, each of `operations`, and what surrounds it.
    pub fn report(&self, name: Name, samples: &mut [u64], operations: u64) {
        samples.sort_unstable();
        let last = samples.len() - 1;
        let digits = if operations == 1 { 0 } else { 3 };
        let [min, p99, max] = [0, last * 99 / 100, last].map(|at| self.each(samples[at], operations));
        self.platform.line(format_args!(
            "  {name}: {} samples, min {min:.digits$}, p99 {p99:.digits$}, max {max:.digits$}",
            samples.len()
        ));
        self.once(name, samples[samples.len() / 2], operations);
    }

    /// Reports how many of `samples`, sorted, are below each power of two and not below the one before.
    pub fn histogram(&self, name: Name, samples: &[u64]) {
        struct Buckets<'a>(&'a [u64], f64);
        impl fmt::Display for Buckets<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Buckets(mut rest, scale) = *self;
                for power in 0..64 {
                    let bound = 1_u64 << power;
                    let count = rest.partition_point(|&ticks| (ticks as f64 * scale) < bound as f64);
                    if count > 0 {
                        write!(f, " {bound}={count}")?;
                    }
                    rest = &rest[count..];
                }
                Ok(())
            }
        }
        self.platform.line(format_args!("histogram {name}{}", Buckets(samples, self.each(1, 1))));
    }
}
