//! `migration`, of private memory: threads add to words in pages that move all the time; no addition is lost.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run cores=4 memory=64M", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{huge, migrate, pointer, readable};
    use ashlar::memory::{self, HugePolicy, Mapping, counter};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, VirtAddr};
    use ashlar::mm::huge::Unit;
    use ashlar::sync::Barrier;
    use ashlar::thread;
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    const THREADS: usize = 6;

    /// Pages that threads add to. Each has a word of its own in every page.
    struct Shared {
        start: VirtAddr,
        pages: usize,
        stop: AtomicBool,
        together: Barrier,
        /// How often each thread has been through all pages.
        rounds: [AtomicU64; THREADS],
    }

    impl Shared {
        fn word(&self, page: usize, thread: usize) -> &AtomicU64 {
            let at = self.start + (page * PAGE_SIZE + 64 * thread) as u64;
            // SAFETY: in the mapping, which outlives `self`, and used as atomic words only for as long as that.
            unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(at.0 as usize)) }
        }

        fn add(&self, thread: usize) {
            self.together.wait();
            while !self.stop.load(Ordering::Relaxed) {
                let round = self.rounds[thread].load(Ordering::Relaxed);
                for page in 0..self.pages {
                    let before = self.word(page, thread).fetch_add(1, Ordering::Relaxed);
                    assert_eq!(before, round, "page {page}");
                }
                self.rounds[thread].store(round + 1, Ordering::Relaxed);
            }
        }
    }

    /// Runs `move_about` while the threads add, until each has added a few times more.
    fn with_threads(mapping: &mut Mapping, move_about: impl FnOnce(&mut Mapping)) {
        let shared = Shared {
            start: mapping.start(),
            pages: mapping.len() / PAGE_SIZE,
            stop: AtomicBool::new(false),
            together: Barrier::new(THREADS + 1),
            rounds: [const { AtomicU64::new(0) }; THREADS],
        };
        thread::scope(|scope| {
            let shared = &shared;
            for thread in 0..THREADS {
                scope.spawn(move || shared.add(thread));
            }
            shared.together.wait();
            move_about(mapping);
            while shared.rounds.iter().any(|rounds| rounds.load(Ordering::Relaxed) < 3) {
                thread::yield_now();
            }
            shared.stop.store(true, Ordering::Relaxed);
        });
        for (thread, rounds) in shared.rounds.iter().enumerate() {
            let rounds = rounds.load(Ordering::Relaxed);
            assert!((0..shared.pages).all(|page| shared.word(page, thread).load(Ordering::Relaxed) == rounds));
        }
    }

    pub fn private_anon() {
        const MOVES: u64 = 2000;
        let mut mapping = memory::map(PAGE_SIZE).expect("RAM has room");
        mapping.advise(0..PAGE_SIZE, HugePolicy::Never).expect("records are at hand");
        mapping.populate(0..PAGE_SIZE).expect("RAM has room");
        let moved = counter("migrate_pages").expect("it is counted");
        with_threads(&mut mapping, |mapping| {
            for _ in 0..MOVES {
                let before = readable(pointer(mapping, 0));
                migrate(mapping.start(), Unit::Page).expect("a frame is free");
                assert_ne!(readable(pointer(mapping, 0)), before);
            }
        });
        assert_eq!(counter("migrate_pages"), Some(moved + MOVES));
    }

    /// Groups and pages leave their block while all of it is in use, and come home again.
    pub fn private_anon_thp() {
        const ROUNDS: usize = 24;
        let mut mapping = memory::map(BLOCK_SIZE).expect("RAM has room");
        mapping.populate(0..BLOCK_SIZE).expect("RAM has room");
        assert_eq!(huge(&mapping), 1);
        with_threads(&mut mapping, |mapping| {
            for round in 0..ROUNDS {
                // The first move splits the block. In every third round all of it moves, and the block ends.
                let step = if round % 3 == 0 { 1 } else { 3 };
                for group in (0..PAGES_PER_SLOT / PAGES_PER_GROUP).step_by(step) {
                    let page = group * PAGES_PER_GROUP + (round + group) % PAGES_PER_GROUP;
                    let unit = if (round + group) % 2 == 0 || step == 1 { Unit::Group } else { Unit::Page };
                    let at = pointer(mapping, page * PAGE_SIZE);
                    let before = readable(at);
                    migrate(mapping.start() + (page * PAGE_SIZE) as u64, unit).expect("frames are free");
                    assert_ne!(readable(at), before);
                }
                assert_eq!(huge(mapping), 0);
                let report = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
                assert!(report.is_complete() && huge(mapping) == 1, "{report}");
            }
        });
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    private_anon,
    #[cfg(target_os = "none")]
    private_anon_thp,
}
