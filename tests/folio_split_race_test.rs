//! `folio_split_race_test`: sixteen threads read five blocks again and again, and check every byte, while three of every fifty
//! pages are released and written anew, and at last the blocks are given up and made again.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run cores=4 memory=64M", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{blocks, dissolve, huge, word};
    use alloc::vec::Vec;
    use ashlar::memory::{Mapping, counter};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT, VirtAddr};
    use ashlar::sync::Barrier;
    use ashlar::{println, thread};
    use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

    const BLOCKS: usize = 5;
    const PAGES: usize = BLOCKS * PAGES_PER_SLOT;
    const READERS: usize = 16;
    const ROUNDS: usize = 6;
    /// So many of so many pages are punched, whatever block they are in.
    const PUNCHED: usize = 3;
    const INTERVAL: usize = 50;

    fn is_punched(page: usize) -> bool {
        page % INTERVAL < PUNCHED
    }

    /// What punched pages hold. It only grows: one step more is the next state.
    const FULL: usize = 0;
    const HOLES: usize = 2;
    const STATES: usize = 4;

    struct Shared {
        start: VirtAddr,
        /// The number of the state: full, on the way, holes, on the way, and so on.
        state: AtomicUsize,
        stop: AtomicBool,
        /// Pages that each reader has checked.
        checked: [AtomicU64; READERS],
        together: Barrier,
    }

    impl Shared {
        fn words(&self, page: usize) -> &[AtomicU64] {
            let at = self.start + (page * PAGE_SIZE) as u64;
            // SAFETY: the page is mapped for as long as `self` is used, and everybody takes its words for atomic ones.
            unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at.0 as usize), PAGE_SIZE / 8) }
        }

        /// Whether all words of `page` are as they were written.
        fn is_full(&self, page: usize) -> bool {
            self.words(page).iter().enumerate().all(|(n, found)| found.load(Ordering::Relaxed) == word(page, n))
        }

        fn is_hole(&self, page: usize) -> bool {
            self.words(page).iter().all(|found| found.load(Ordering::Relaxed) == 0)
        }

        fn is_either(&self, page: usize) -> bool {
            let may = |(n, found): (usize, &AtomicU64)| [0, word(page, n)].contains(&found.load(Ordering::Relaxed));
            self.words(page).iter().enumerate().all(may)
        }

        /// Checks `page`: if it is a punched one, as far as the state is the same before and after.
        fn check(&self, page: usize) {
            if !is_punched(page) {
                assert!(self.is_full(page), "page {page} of block {}", page / PAGES_PER_SLOT);
                return;
            }
            let before = self.state.load(Ordering::Acquire);
            let (full, hole, either) = (self.is_full(page), self.is_hole(page), self.is_either(page));
            fence(Ordering::Acquire);
            match before % STATES {
                _ if self.state.load(Ordering::Relaxed) != before => {}
                FULL => assert!(full, "page {page} was written"),
                HOLES => assert!(hole, "page {page} was released"),
                _ => assert!(either, "page {page} holds what nobody wrote"),
            }
        }

        fn read(&self, number: usize) {
            self.together.wait();
            while !self.stop.load(Ordering::Relaxed) {
                for page in (number..PAGES).step_by(READERS) {
                    self.check(page);
                    self.checked[number].fetch_add(1, Ordering::Relaxed);
                }
            }
        }

        /// Lets every reader check some pages.
        fn let_read(&self) {
            let checked = || self.checked.iter().map(|checked| checked.load(Ordering::Relaxed));
            let before: Vec<_> = checked().collect();
            while checked().zip(&before).any(|(now, &before)| now < before + 4) {
                thread::yield_now();
            }
        }

        fn next_state(&self) {
            self.state.fetch_add(1, Ordering::AcqRel);
        }

        /// Punches the holes one after the other, looks at them, and writes what was there.
        fn punch_and_fill(&self, mapping: &mut Mapping) {
            self.next_state();
            for page in (0..PAGES).step_by(INTERVAL) {
                let end = (page + PUNCHED).min(PAGES);
                mapping.release(page * PAGE_SIZE..end * PAGE_SIZE).expect("whole pages");
            }
            self.next_state();
            self.let_read();
            (0..PAGES).filter(|&page| is_punched(page)).for_each(|page| assert!(self.is_hole(page), "page {page}"));
            self.next_state();
            for page in (0..PAGES).filter(|&page| is_punched(page)) {
                self.words(page)
                    .iter()
                    .enumerate()
                    .for_each(|(n, place)| place.store(word(page, n), Ordering::Relaxed));
            }
            self.next_state();
            self.let_read();
        }
    }

    pub fn folio_split_race_test() {
        let mut mapping = blocks(BLOCKS);
        let shared = Shared {
            start: mapping.start(),
            state: AtomicUsize::new(FULL),
            stop: AtomicBool::new(false),
            checked: [const { AtomicU64::new(0) }; READERS],
            together: Barrier::new(READERS + 1),
        };
        let (split, dissolved) = (counter("thp_split_pmd_release"), counter("thp_split_page"));
        thread::scope(|scope| {
            let shared = &shared;
            for number in 0..READERS {
                scope.spawn(move || shared.read(number));
            }
            shared.together.wait();
            for round in 0..ROUNDS {
                shared.punch_and_fill(&mut mapping);
                assert_eq!(huge(&mapping), BLOCKS, "round {round}: all pages are there, so all are blocks again");
            }
            for block in 0..BLOCKS {
                let address = shared.start + (block * BLOCK_SIZE) as u64;
                assert_eq!(dissolve(address), Ok(0), "no frame was absent");
                shared.let_read();
            }
            assert_eq!(huge(&mapping), 0);
            shared.punch_and_fill(&mut mapping);
            let report = mapping.collapse(0..BLOCKS * BLOCK_SIZE, None).expect("slots");
            assert!(report.is_complete() && huge(&mapping) == BLOCKS, "{report}");
            shared.punch_and_fill(&mut mapping);
            assert_eq!(huge(&mapping), BLOCKS);
            shared.stop.store(true, Ordering::Relaxed);
        });
        (0..PAGES).for_each(|page| assert!(shared.is_full(page), "page {page}"));
        assert!(counter("thp_split_pmd_release") >= split.map(|split| split + (ROUNDS * BLOCKS) as u64));
        assert_eq!(counter("thp_split_page"), dissolved.map(|dissolved| dissolved + BLOCKS as u64));
        let checked: u64 = shared.checked.iter().map(|checked| checked.load(Ordering::Relaxed)).sum();
        println!("{checked} pages checked");
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    folio_split_race_test,
}
