//! The same image on every machine that it meets: memory in blocks, threads on all cores, a timer that interrupts. The machines are the lines
//! below; docs/machines.md has them in its table, which the host's half of this test keeps true. `just test-matrix` boots them through U-Boot too.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run gic=2 el=1",
    "run gic=2 el=2",
    "run gic=3 el=1",
    "run gic=3 el=2 cores=4",
    "run machine=virt,secure=on",
    "run machine=virt,secure=on el=2 gic=3",
    "run machine=virt,highmem=off",
    "run machine=virt,highmem=off memory=3G gic=3",
    "run image=elf",
    "run image=elf el=2 gic=3",
    "run offset=516K",
    "run cpu=cortex-a35",
    "run cpu=cortex-a53 cores=4 el=2",
    "run cpu=cortex-a55",
    "run cpu=cortex-a57",
    "run cpu=cortex-a76 gic=3",
    "run cpu=cortex-a710 gic=3 el=2",
    "run cpu=neoverse-n1 gic=3 cores=2",
    "run cpu=neoverse-v1 gic=3",
    "run cpu=neoverse-n2 gic=3",
    "run cpu=a64fx",
    "run cpu=max el=2 gic=3 cores=4",
    "run memory=128M",
    "run memory=256M",
    "run memory=512M cores=2",
    "run memory=2G",
    "run memory=4G el=2",
    "run memory=8G",
    "run memory=64G",
    "run cores=8",
    "run machine=raspi4b dtb=tests/data/pi4-four-cores.dtb",
    "run machine=raspi4b dtb=tests/data/pi4-four-cores.dtb cores=2 memory=256M",
    "output test result: ok",
    "absent WARN",
    "absent ERROR"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::arch::aarch64::{gate, percore};
    use ashlar::memory::{is_huge, map, usage};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::{thread, time};
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use core::time::Duration;

    const BLOCKS: usize = 8;

    fn value(at: usize) -> u8 {
        (at / PAGE_SIZE % 251) as u8 + 1
    }

    /// Touched to its end, memory is in blocks; in part released, it is in pages, and in blocks again when it is used.
    pub fn memory_is_in_blocks() {
        let mut mapping = map(BLOCKS * BLOCK_SIZE).expect("RAM has room");
        let before = usage();
        (0..mapping.len()).step_by(PAGE_SIZE).for_each(|at| mapping.as_mut_slice()[at] = value(at));
        assert_eq!(usage().blocks - before.blocks, BLOCKS);
        mapping.release(BLOCK_SIZE..BLOCK_SIZE + PAGE_SIZE).expect("it is mapped");
        assert!(!is_huge(&mapping.as_slice()[BLOCK_SIZE]) && is_huge(&mapping.as_slice()[0]));
        assert_eq!(mapping.as_slice()[BLOCK_SIZE], 0);
        mapping.as_mut_slice()[BLOCK_SIZE] = value(BLOCK_SIZE);
        assert!(is_huge(&mapping.as_slice()[BLOCK_SIZE]));
        assert!((0..mapping.len()).step_by(PAGE_SIZE).all(|at| mapping.as_slice()[at] == value(at)));
    }

    /// As many as there are, each with memory of its own, at the same time.
    pub fn all_cores_run() {
        let cores = thread::available_parallelism().get();
        let (seen, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    let mut mapping = map(BLOCK_SIZE).expect("RAM has room");
                    let own = mapping.as_mut_slice();
                    while !stop.load(Ordering::Relaxed) {
                        let core = gate::call(percore::index);
                        own[core * PAGE_SIZE] = core as u8;
                        if seen.fetch_or(1 << core, Ordering::Relaxed) | 1 << core == u64::MAX >> (64 - cores) {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(seen.into_inner().count_ones() as usize, cores);
    }

    /// What sleeps is woken, and a thread that never rests is interrupted for others.
    pub fn the_timer_interrupts() {
        let start = time::now();
        thread::sleep(Duration::from_millis(3));
        assert!(start.elapsed() >= Duration::from_millis(3));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().get() {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        core::hint::spin_loop();
                    }
                });
            }
            // Each core has one that is busy.
            scope.spawn(|| stop.store(true, Ordering::Relaxed));
        });
    }
}
#[cfg(target_os = "none")]
use guest::*;

#[cfg(not(target_os = "none"))]
mod document {
    use std::collections::BTreeSet;
    use std::path::Path;

    fn read(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The table's first column is the words of a machine in backticks.
    pub fn the_table_has_every_machine_that_is_booted() {
        let source = read("tests/every_machine.rs");
        let runs = source.lines().filter_map(|line| line.trim().strip_prefix("\"run ")?.strip_suffix("\","));
        let booted: BTreeSet<&str> = runs.collect();
        let document = read("docs/machines.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let told: BTreeSet<&str> = rows.map(|(words, _)| words).collect();
        assert!(booted.len() > 20);
        assert_eq!(booted, told);
    }
}
#[cfg(not(target_os = "none"))]
use document::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    memory_is_in_blocks,
    #[cfg(target_os = "none")]
    all_cores_run,
    #[cfg(target_os = "none")]
    the_timer_interrupts,
    #[cfg(not(target_os = "none"))]
    the_table_has_every_machine_that_is_booted,
}
