//! Measures the memory manager from inside. Prints a line `figure NAME VALUE UNIT` for each figure; `just bench` makes a
//! table of them.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[cfg(target_os = "none")]
mod collapse;
#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod lookup;
#[cfg(target_os = "none")]
mod parallel;
#[cfg(target_os = "none")]
mod ranges;
#[cfg(target_os = "none")]
mod reach;
#[cfg(target_os = "none")]
mod recovery;
#[cfg(target_os = "none")]
mod sample;
#[cfg(target_os = "none")]
mod threads;

#[cfg(target_os = "none")]
use ashlar::arch::aarch64::{gate, linear_map, memory};

ashlar::entry!(main);

/// What is measured in guest instructions, by one core: exact, the same on every run.
#[cfg(target_os = "none")]
const EXACT: [(&str, fn()); 24] = [
    ("eager", faults::eager),
    ("pool", faults::pool),
    ("group", faults::group),
    ("zeros", faults::zeros),
    ("fill", faults::fill_slot),
    ("page", faults::page),
    ("split", faults::splits),
    ("collapse", collapse::scattered_pages),
    ("promote", collapse::promote),
    ("unmap", collapse::unmap),
    ("pin", collapse::pin),
    ("dissolve", collapse::dissolve),
    ("remap", ranges::remap),
    ("protect", ranges::protect),
    ("snapshot", ranges::snapshot),
    ("lookup", lookup::measure),
    ("switch", threads::context_switch),
    ("spawn", threads::spawn_join),
    ("mutex", threads::mutex),
    ("worst", recovery::worst_fault),
    ("recovery", recovery::idle),
    ("budget", recovery::budget),
    ("movable", recovery::movable),
    ("bloat", recovery::bloat),
];

/// What is counted, or timed by the clock, on several cores.
#[cfg(target_os = "none")]
const PARALLEL: [(&str, fn()); 2] = [("waits", parallel::waits), ("scaling", parallel::scaling)];

/// What is for the TLB model, when it is asked for.
#[cfg(target_os = "none")]
const MODELLED: [(&str, fn()); 2] = [("reach", reach::reach), ("stale", reach::stale)];

#[cfg(target_os = "none")]
fn main() {
    let start = sample::ticks();
    // `part=NAME` measures no more than that.
    let part = ashlar::args().find(|argument| argument.key == "part").and_then(|argument| argument.value);
    if let Some((_, measure)) = MODELLED.iter().find(|(name, _)| part == Some(name)) {
        return measure();
    }
    let parts = if sample::tick_is_instruction() {
        sample::figure("boot_to_app", start, "instructions");
        let records = gate::call(|| memory::manager().frames().statistics().metadata);
        sample::figure("kernel_tables", linear_map::tables() as u64, "tables");
        sample::figure("frame_records", records as u64, "pages");
        &EXACT[..]
    } else if ashlar::thread::available_parallelism().get() > 1 {
        &PARALLEL[..]
    } else {
        ashlar::println!("run with icount=on, where the counter counts instructions, or on several cores");
        &[]
    };
    for (_, measure) in parts.iter().filter(|(name, _)| part.is_none_or(|part| part == *name)) {
        measure();
    }
}
