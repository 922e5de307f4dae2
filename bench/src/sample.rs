//! Taking times, and what is made of many of them.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0};
use alloc::vec::Vec;
use ashlar::println;
use tock_registers::interfaces::Readable;

/// The virtual counter, read after everything before it.
#[inline]
pub fn ticks() -> u64 {
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Whether the counter goes at 1 GHz, at which `-icount shift=0` has it count instructions.
pub fn tick_is_instruction() -> bool {
    CNTFRQ_EL0.get() == 1_000_000_000
}

/// Ticks that `work` takes, those of taking the time left out.
#[inline]
pub fn time(work: impl FnOnce()) -> u64 {
    let empty = {
        let start = ticks();
        ticks() - start
    };
    let start = ticks();
    work();
    (ticks() - start).saturating_sub(empty)
}

/// The middle one of `samples`.
///
/// # Panics
///
/// Without samples.
pub fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Reports the median of `samples`, and what surrounds it.
pub fn report(name: &str, mut samples: Vec<u64>) {
    samples.sort_unstable();
    let (last, count) = (samples.len() - 1, samples.len());
    let (min, p99, max) = (samples[0], samples[last * 99 / 100], samples[last]);
    println!("  {name}: {count} samples, min {min}, p99 {p99}, max {max}");
    figure(name, median(samples), "instructions");
}

/// Reports one figure.
pub fn figure(name: &str, value: impl core::fmt::Display, unit: &str) {
    println!("figure {name} {value} {unit}");
}
