//! Memory that was fragmented: how soon and at what price it is in blocks again; what blocks cost where little is used; and how long a
//! fault takes in the worst case.

use crate::faults::{set_policy, slots, touch};
use crate::sample::{figure, ticks};
use ashlar::arch::aarch64::{gate, memory};
use ashlar::memory::{Mapping, counter, is_huge, map, policy, set_policy as set, usage};
use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE};
use ashlar::mm::huge::{Enabled, FaultMode, HugePolicy};
use ashlar::println;
use ashlar::thread;
use ashlar_test::fragment::{Fragments, State, fragment};
use core::time::Duration;

/// Slots of the application: 512 MiB.
const SLOTS: usize = 256;
/// Ticks in a second.
const SECOND: f64 = 1e9;
/// GiB that it is.
const GIB: f64 = 0.5;

/// RAM in `state`, and the application's memory, touched since. No slot is a block, or hardly one.
fn application(state: State) -> (Fragments, Mapping) {
    set("khugepaged", "off").expect("it is a policy");
    set_policy(Enabled::Always, FaultMode::Adaptive);
    let fragments = fragments(state);
    let mut memory = slots(SLOTS);
    for page in 0..SLOTS * BLOCK_SIZE / PAGE_SIZE {
        touch(&mut memory, page * PAGE_SIZE);
    }
    // One may have been on its way into the pool of zeroed ones.
    assert!(blocks(&memory) <= 2, "no block was free");
    (fragments, memory)
}

fn fragments(state: State) -> Fragments {
    gate::call(move || fragment(memory::manager(), state))
}

fn give_back(fragments: Fragments) {
    gate::call(move || fragments.give_back(memory::manager()));
}

/// How many slots of `memory` are blocks.
fn blocks(memory: &Mapping) -> usize {
    let bytes = memory.as_slice();
    (0..bytes.len()).step_by(BLOCK_SIZE).filter(|&offset| is_huge(&raw const bytes[offset])).count()
}

/// Runs `work` again and again until nine tenths of `memory` are in blocks. Returns the ticks that this took.
fn until_recovered(memory: &mut Mapping, mut work: impl FnMut(&mut Mapping)) -> u64 {
    let start = ticks();
    while blocks(memory) < SLOTS * 9 / 10 {
        assert!(ticks() - start < 100_000_000_000, "it does not recover: {} blocks", blocks(memory));
        work(memory);
    }
    ticks() - start
}

/// A thousand pieces of an application's work: a page here and there, read and written.
fn work(memory: &mut Mapping, seed: &mut u64) {
    let bytes = memory.as_mut_slice();
    for _ in 0..1000 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let at = (*seed >> 33) as usize % bytes.len();
        let page = at - at % PAGE_SIZE;
        for word in bytes[page..page + 512].iter_mut() {
            *word = word.wrapping_add(1);
        }
    }
}

/// Holders in every block, then none: on an idle core.
pub fn idle() {
    let (fragments, mut memory) = application(State::Held);
    give_back(fragments);
    set("khugepaged", "on").expect("it is a policy");
    let ticks = until_recovered(&mut memory, |_| thread::sleep(Duration::from_millis(5)));
    figure("recovery_idle_s_per_gib", format_args!("{:.3}", ticks as f64 / SECOND / GIB), "seconds");
}

/// The same while the application uses its only core and its memory.
pub fn budget() {
    let (fragments, mut memory) = application(State::Held);
    give_back(fragments);
    let mut seed = 1;
    // How long a piece of work takes when nothing else is done.
    let pieces = 1000;
    let start = ticks();
    (0..pieces).for_each(|_| work(&mut memory, &mut seed));
    let alone = (ticks() - start) as f64 / f64::from(pieces);
    set("khugepaged", "on").expect("it is a policy");
    let mut done = 0_u64;
    let mut looks = 0;
    let ticks = until_recovered(&mut memory, |memory| {
        let before = crate::sample::ticks();
        (0..100).for_each(|_| work(memory, &mut seed));
        looks += crate::sample::ticks() - before;
        done += 100;
    });
    let slowdown = (looks as f64 / done as f64 / alone - 1.0) * 100.0;
    println!("  {done} pieces of work, {} access flag faults", counter("access_flag_fault").unwrap_or(0));
    figure("recovery_budget_s_per_gib", format_args!("{:.3}", ticks as f64 / SECOND / GIB), "seconds");
    figure("recovery_slowdown_pct", format_args!("{slowdown:.2}"), "percent");
}

/// Waits until the background has nothing more to do.
fn rest() {
    let mut before = u64::MAX;
    loop {
        let now = counter("khugepaged_slots_scanned").unwrap_or(0) + counter("migrate_pages").unwrap_or(0);
        if now == before {
            return;
        }
        before = now;
        thread::sleep(Duration::from_millis(200));
    }
}

/// Holders in every block, which stay and can move.
pub fn movable() {
    let (fragments, memory) = application(State::Held);
    set("khugepaged", "on").expect("it is a policy");
    rest();
    let coverage = blocks(&memory) as f64 * 100.0 / SLOTS as f64;
    println!("  {} blocks were emptied", counter("compact_blocks").unwrap_or(0));
    figure("movable_coverage_pct", format_args!("{coverage:.1}"), "percent");
    drop(memory);
    give_back(fragments);
}

/// Memory that is used in part: by each scenario, the bytes that are mapped beyond those of a run in pages, in percent.
pub fn bloat() {
    let mut worst = 0.0_f64;
    for (name, scenario) in [("sparse", sparse as fn(&mut Mapping) -> usize), ("shrunk", shrunk), ("table", table)] {
        let mapped = |enabled: Enabled, mode: FaultMode| {
            set_policy(enabled, mode);
            let before = usage().mapped_bytes();
            let mut memory = slots(64);
            let once = scenario(&mut memory);
            rest();
            if mode == FaultMode::Eager {
                squeeze();
            }
            // The first group of a slot counts as used.
            let allowed = if mode == FaultMode::Adaptive && enabled == Enabled::Always { once } else { 0 };
            (usage().mapped_bytes() - before).saturating_sub(allowed * (GROUP_SIZE - PAGE_SIZE))
        };
        let pages = mapped(Enabled::Never, FaultMode::Adaptive);
        for mode in [FaultMode::Adaptive, FaultMode::Eager] {
            let percent = (mapped(Enabled::Always, mode) as f64 / pages as f64 - 1.0) * 100.0;
            println!("  {name}, {mode:?}: {percent:.2} % beyond {} KiB", pages >> 10);
            worst = worst.max(percent);
        }
    }
    set_policy(Enabled::Always, FaultMode::Adaptive);
    figure("bloat_pct", format_args!("{worst:.2}"), "percent");
}

/// Takes what is free until memory is low, and gives it back.
fn squeeze() {
    let given = || counter("kswapd_steal").unwrap_or(0);
    let spare = || gate::call(|| memory::manager().frames().spare());
    let (low, _) = gate::call(|| memory::manager().frames().watermarks());
    gate::call(|| memory::manager().set_overcommit(true));
    let mut hold = map(1 << 30).expect("there are addresses");
    hold.advise(0..hold.len(), HugePolicy::Never).expect("records are at hand");
    let mut next = 0;
    let mut before = u64::MAX;
    // As often as something is given back.
    while before != given() {
        before = given();
        while spare() > low / 2 && next + PAGE_SIZE < hold.len() {
            touch(&mut hold, next);
            next += PAGE_SIZE;
        }
        rest();
    }
}

/// Objects of 64 KiB, one in 256 KiB, of which every second one is released again. Returns how many slots have but their first
/// group.
fn sparse(memory: &mut Mapping) -> usize {
    for object in (0..memory.len()).step_by(4 * GROUP_SIZE) {
        (object..object + GROUP_SIZE).step_by(PAGE_SIZE).for_each(|page| touch(memory, page));
    }
    for object in (0..memory.len()).step_by(8 * GROUP_SIZE) {
        memory.release(object..object + GROUP_SIZE).expect("whole pages");
    }
    0
}

/// A heap that was full, and keeps a fifth: 64 KiB of 320.
fn shrunk(memory: &mut Mapping) -> usize {
    for page in (0..memory.len()).step_by(PAGE_SIZE) {
        touch(memory, page);
    }
    for start in (0..memory.len()).step_by(5 * GROUP_SIZE) {
        let end = (start + 5 * GROUP_SIZE).min(memory.len());
        memory.release((start + GROUP_SIZE).min(end)..end).expect("whole pages");
    }
    0
}

/// A word in every slot.
fn table(memory: &mut Mapping) -> usize {
    for slot in (0..memory.len()).step_by(BLOCK_SIZE) {
        touch(memory, slot);
    }
    memory.len() / BLOCK_SIZE
}

/// The slowest of all faults, in every state of RAM, without compaction.
pub fn worst_fault() {
    assert!(policy().iter().any(|(name, value)| name == "defrag" && value == 4), "defrag=never");
    set("khugepaged", "off").expect("it is a policy");
    set_policy(Enabled::Always, FaultMode::Adaptive);
    let mut worst = 0;
    for state in [State::Random(50), State::Random(90), State::Pinned, State::Held] {
        let fragments = fragments(state);
        let free = gate::call(|| memory::manager().frames().spare());
        let mut memory = slots(free * PAGE_SIZE * 3 / 4 / BLOCK_SIZE);
        let mut slowest = 0;
        for page in (0..memory.len()).step_by(PAGE_SIZE) {
            let start = ticks();
            touch(&mut memory, page);
            slowest = slowest.max(ticks() - start);
        }
        println!("  {state:?}: {slowest} of {} faults", memory.len() / PAGE_SIZE);
        worst = worst.max(slowest);
        drop(memory);
        give_back(fragments);
    }
    set("khugepaged", "on").expect("it is a policy");
    figure("worst_fault", worst, "instructions");
}
