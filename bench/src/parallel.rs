//! Faults on several cores at once: whether they wait for each other, and how their rate grows.

use crate::sample::figure;
use alloc::vec::Vec;
use ashlar::memory::{Mapping, counter, map};
use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, VirtAddr};
use ashlar::sync::{Barrier, Rank, lock_waits_of};
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

/// What a run took.
struct Run {
    time: Duration,
    faults: u64,
    waits: u64,
    retries: u64,
}

/// The locks that a fault may take.
const LOCKS: [Rank; 6] = [Rank::Region, Rank::Slot, Rank::Directory, Rank::Slab, Rank::Cache, Rank::Frames];

fn lock_waits() -> [u64; LOCKS.len()] {
    LOCKS.map(lock_waits_of)
}

fn counts() -> (u64, u64, u64) {
    (count("pgfault"), lock_waits().iter().sum(), count("fault_retry"))
}

/// Touches all slots on `threads` threads: from when all are ready until the last one is done.
fn run(share: Share, threads: usize) -> Run {
    let sizes = match share {
        Share::Nothing => alloc::vec![SLOTS / threads; threads],
        _ => alloc::vec![SLOTS],
    };
    let region = |slots: usize| map(slots * BLOCK_SIZE).expect("RAM has room for the benchmark");
    let regions: Vec<Mapping> = sizes.into_iter().map(region).collect();
    let (ready, done) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    thread::scope(|scope| {
        for number in 0..threads {
            let places = places(share, &regions, number, threads);
            let (ready, done) = (&ready, &done);
            scope.spawn(move || {
                ready.wait();
                for place in &places {
                    // SAFETY: in a mapping that outlives the scope; each place is one thread's, and nobody reads it.
                    unsafe { with_exposed_provenance_mut::<u8>(place.0 as usize).write_volatile(1) };
                }
                done.wait();
            });
        }
        ready.wait();
        let (start, before) = (time::now(), counts());
        done.wait();
        let (time, after) = (start.elapsed(), counts());
        Run { time, faults: after.0 - before.0, waits: after.1 - before.1, retries: after.2 - before.2 }
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
    let before = lock_waits();
    let Run { faults, waits, retries, .. } = run(Share::Region, 4);
    for ((rank, before), after) in
        LOCKS.iter().zip(before).zip(lock_waits()).filter(|((_, before), after)| before != after)
    {
        println!("  {} waits for locks of rank {rank:?}, threads' beginnings and ends included", after - before);
    }
    println!("  4 cores, different slots: {faults} faults, {waits} waits for locks, {retries} retries");
    figure("lock_waits_per_fault", waits as f64 / faults as f64, "waits");
    figure("retries_per_fault", retries as f64 / faults as f64, "retries");
}

/// How the rate of faults grows with the cores.
pub fn scaling() {
    for (name, share) in [("same slots", Share::Slots), ("same region", Share::Region), ("own regions", Share::Nothing)]
    {
        let rate = |threads| {
            let seconds = (0..3).map(|_| run(share, threads).time).min().unwrap_or_default().as_secs_f64();
            (SLOTS * GROUPS) as f64 / seconds
        };
        let rates = [1, 2, 4].map(rate);
        let [one, two, four] = rates;
        println!("  faults, {name}: {one:.0} a second on one core; ×{:.2} on 2, ×{:.2} on 4", two / one, four / one);
    }
}
