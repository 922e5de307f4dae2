//! All cores of a machine run threads, however they are started and whatever interrupts them.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run expect=1 cores=1 timeout=30",
    "run expect=2 cores=2 gic=3 el=2 timeout=30",
    "run expect=3 cores=3 timeout=30",
    "run expect=4 cores=4 el=2 timeout=30",
    "run expect=5 cores=5 gic=3 timeout=30",
    "run expect=6 cores=6 gic=3 el=2 cpu=max timeout=30",
    "run expect=7 cores=7 timeout=30",
    "run expect=8 cores=8 cpu=max timeout=30",
    "run expect=2 cores=4 maxcpus=2 timeout=30",
    "run expect=4 machine=raspi4b dtb=tests/data/pi4-four-cores.dtb timeout=30",
    "output test result: ok",
    "absent is left out"
);

#[cfg(target_os = "none")]
#[path = "common/on_cores.rs"]
mod on_cores;

#[cfg(target_os = "none")]
mod guest {
    use super::on_cores::{cores_at_once, expected};
    use ashlar::arch::aarch64::threads::SCHEDULER;
    use ashlar::arch::aarch64::{gate, percore};
    use ashlar::sync::Barrier;
    use ashlar::{thread, time};
    use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    use core::time::Duration;

    pub fn there_are_as_many_as_the_machine_has() {
        assert_eq!(thread::available_parallelism().get(), expected());
    }

    pub fn threads_run_on_all_at_once() {
        assert_eq!(cores_at_once(), (1 << expected()) - 1);
    }

    /// Cores that sleep are woken for threads that become ready elsewhere, again and again.
    pub fn idle_cores_are_woken_each_time() {
        let (together, turns) = (Barrier::new(expected()), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..expected() {
                scope.spawn(|| {
                    for _ in 0..20 {
                        together.wait();
                        turns.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_micros(200));
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 20 * expected());
    }

    /// No core stays alone with one busy thread while others share a core: of twice as many threads as cores, all run, and one
    /// waits at each core.
    pub fn busy_threads_spread_over_all() {
        let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
        let rounds = [const { AtomicUsize::new(0) }; 16];
        let rounds = &rounds[..2 * expected()];
        thread::scope(|scope| {
            // All are made on one core, while the others are busy already.
            for rounds in rounds {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        seen.fetch_or(1 << gate::call(percore::index), Ordering::Relaxed);
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let start = time::now();
            let is_spread = || {
                let (least, most) = gate::call(|| SCHEDULER.waiting());
                let all_run = rounds.iter().all(|rounds| rounds.load(Ordering::Relaxed) > 0);
                most <= least + 1 && all_run && seen.load(Ordering::Relaxed) == (1 << expected()) - 1
            };
            while !is_spread() {
                assert!(start.elapsed() < Duration::from_secs(10), "{:?}", gate::call(|| SCHEDULER.waiting()));
                thread::sleep(Duration::from_millis(2));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// Where a thread runs is known where it cannot be moved only: in kernel mode.
    pub fn a_core_knows_its_number() {
        let (index, affinity) = gate::call(|| (percore::index(), percore::current().affinity()));
        assert!(index < expected());
        assert_eq!(percore::core(index).affinity(), affinity);
        let affinities: [u64; 8] = core::array::from_fn(|core| percore::core(core).affinity());
        for core in 1..expected() {
            assert!(!affinities[..core].contains(&affinities[core]), "{affinities:x?}");
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    there_are_as_many_as_the_machine_has,
    #[cfg(target_os = "none")]
    threads_run_on_all_at_once,
    #[cfg(target_os = "none")]
    busy_threads_spread_over_all,
    #[cfg(target_os = "none")]
    idle_cores_are_woken_each_time,
    #[cfg(target_os = "none")]
    a_core_knows_its_number,
}
