//! Faults on several cores at once: whether they wait for each other, and how their rate grows.

use crate::sample::figure;
use alloc::vec::Vec;
use ashlar::memory::{Mapping, counter, map};
use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, VirtAddr};
use ashlar::sync::{Barrier, lock_waits};
use ashlar::{println, thread, time};
use core::ptr::with_exposed_provenance_mut;
use core::time::Duration;

/// Slots that are touched in each run, each by all its groups.
const SLOTS: usize = 96;
const GROUPS: usize = BLOCK_SIZE / GROUP_SIZE;

/// Which memory the threads touch.
#[derive(Clone, Copy)]
enum Share {
    /// All of them the same slots, each its own groups.
    Slots,
    /// One region, each its own slots.
    Region,
    /// Each its own region.
    Nothing,
}

/// Which addresses thread `number` of `threads` touches.
fn places(share: Share, regions: &[Mapping], number: usize, threads: usize) -> Vec<VirtAddr> {
    let region = |index: usize| regions[index].start();
    let group = |base: VirtAddr, slot: usize, group: usize| base + (slot * BLOCK_SIZE + group * GROUP_SIZE) as u64;
    match share {
        Share::Slots => (0..SLOTS * GROUPS)
            .filter(|n| n % threads == number)
            .map(|n| group(region(0), n / GROUPS, n % GROUPS))
            .collect(),
        Share::Region => (0..SLOTS)
            .filter(|slot| slot % threads == number)
            .flat_map(|slot| (0..GROUPS).map(move |n| (slot, n)))
            .map(|(slot, n)| group(region(0), slot, n))
            .collect(),
        Share::Nothing => (0..SLOTS / threads)
            .flat_map(|slot| (0..GROUPS).map(move |n| (slot, n)))
            .map(|(slot, n)| group(region(number), slot, n))
            .collect(),
    }
}

/// Touches all slots on `threads` threads; how long it took.
fn run(share: Share, threads: usize) -> Duration {
    let regions: Vec<Mapping> = match share {
        Share::Nothing => (0..threads).map(|_| SLOTS / threads).collect::<Vec<_>>(),
        _ => alloc::vec![SLOTS],
    }
    .into_iter()
    .map(|slots| map(slots * BLOCK_SIZE).expect("RAM has room for the benchmark"))
    .collect();
    let ready = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let places = places(share, &regions, number, threads);
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    for place in &places {
                        // SAFETY: in a mapping that outlives the scope; each place is one thread's, and nobody reads it.
                        unsafe { with_exposed_provenance_mut::<u8>(place.0 as usize).write_volatile(1) };
                    }
                })
            })
            .collect();
        ready.wait();
        let start = time::now();
        workers.into_iter().for_each(|worker| worker.join().expect("nobody panics"));
        start.elapsed()
    })
}

fn count(name: &str) -> u64 {
    counter(name).expect("it is counted")
}

/// What four cores that fault in different slots wait for each other: locks that were taken, and attempts that had to
/// begin anew, by the fault.
pub fn waits() {
    // What is allocated once is there.
    run(Share::Region, 4);
    let before = (lock_waits(), count("fault_retry"), count("pgfault"));
    run(Share::Region, 4);
    let (waits, retries, faults) =
        (lock_waits() - before.0, count("fault_retry") - before.1, count("pgfault") - before.2);
    println!("  4 cores, different slots: {faults} faults, {waits} waits for locks, {retries} retries");
    figure("lock_waits_per_fault", waits as f64 / faults as f64, "waits");
    figure("retries_per_fault", retries as f64 / faults as f64, "retries");
}

/// How the rate of faults grows with the cores.
pub fn scaling() {
    for (name, share) in [("same slots", Share::Slots), ("same region", Share::Region), ("own regions", Share::Nothing)]
    {
        let rate = |threads| {
            let seconds = (0..3).map(|_| run(share, threads)).min().unwrap_or_default().as_secs_f64();
            (SLOTS * GROUPS) as f64 / seconds
        };
        let rates = [1, 2, 4].map(rate);
        let [one, two, four] = rates;
        println!("  faults, {name}: {one:.0} a second on one core; ×{:.2} on 2, ×{:.2} on 4", two / one, four / one);
    }
}
