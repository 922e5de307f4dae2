//! Timers end sleeps while other threads are in the middle of faults: nobody wakes early, nobody waits for good, and every
//! byte is what was written there.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run cores=4 fault=eager memory=256M timeout=40",
    "run cores=4 memory=256M gic=3 el=2 timeout=40",
    "run cores=1 fault=eager memory=256M timeout=40",
    "output test result: ok"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::memory::{self, counter};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
    use ashlar::sync::Barrier;
    use ashlar::{thread, time};
    use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
    use core::time::Duration;

    const TOUCHERS: usize = 4;
    const SLOTS: usize = 4;
    const ROUNDS: usize = 12;
    const WORDS: usize = PAGE_SIZE / 8;

    /// Sleeps of some microseconds, on and on; how many there were.
    fn sleep_until(stop: &AtomicBool, number: u64) -> u64 {
        let mut sleeps = 0;
        while !stop.load(Ordering::Relaxed) {
            let duration = Duration::from_micros(1 + (number * 37 + sleeps * 13) % 200);
            let start = time::now();
            thread::sleep(duration);
            assert!(start.elapsed() >= duration, "{:?} of {duration:?}", start.elapsed());
            sleeps += 1;
        }
        sleeps
    }

    fn word(round: usize, page: usize, word: usize) -> u64 {
        ((round + 1) << 40 | page << 12 | word) as u64
    }

    /// The pages of one slot that belong to toucher `number`: neighbours belong to different ones, so all fault in each slot.
    fn pages(number: usize) -> impl Iterator<Item = usize> {
        (0..SLOTS).flat_map(move |slot| {
            let first = slot * PAGES_PER_SLOT;
            (0..16).map(move |n| first + n * 32 + number * 5 % 32)
        })
    }

    fn touch(base: *mut u64, number: usize, round: usize, release: bool) {
        for page in pages(number) {
            // SAFETY: `base` is mapped, and the page this thread's own until the next barrier.
            let words = unsafe { core::slice::from_raw_parts_mut(base.add(page * WORDS), WORDS) };
            assert!(words.iter().all(|&word| word == 0), "page {page} is not fresh");
            words.iter_mut().enumerate().for_each(|(n, place)| *place = word(round, page, n));
            if release && page % 3 == 0 {
                thread::yield_now();
            }
        }
        for page in pages(number) {
            // SAFETY: as above.
            let words = unsafe { core::slice::from_raw_parts(base.add(page * WORDS), WORDS) };
            assert!(words.iter().enumerate().all(|(n, &found)| found == word(round, page, n)), "page {page}");
        }
    }

    pub fn many_fault_in_slots_that_are_being_filled() {
        let (stop, sleeps, faults) = (AtomicBool::new(false), AtomicU64::new(0), counter("pgfault"));
        let (turn, base) = (Barrier::new(TOUCHERS + 1), AtomicPtr::new(core::ptr::null_mut()));
        thread::scope(|scope| {
            for number in 0..3 {
                let (stop, sleeps) = (&stop, &sleeps);
                scope.spawn(move || sleeps.fetch_add(sleep_until(stop, number), Ordering::Relaxed));
            }
            for number in 0..TOUCHERS {
                let (turn, base) = (&turn, &base);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        turn.wait();
                        touch(base.load(Ordering::Relaxed), number, round, round % 2 == 1);
                        turn.wait();
                    }
                });
            }
            for _ in 0..ROUNDS {
                // Mapped anew each time: slots that nobody has touched.
                let mut mapping = memory::map(SLOTS * BLOCK_SIZE).expect("RAM has room");
                base.store(mapping.as_mut_slice().as_mut_ptr().cast(), Ordering::Relaxed);
                turn.wait();
                turn.wait();
                drop(mapping);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(sleeps.into_inner() > 20);
        assert!(counter("pgfault") >= faults.map(|faults| faults + (ROUNDS * SLOTS) as u64));
    }

    /// Threads that map, touch and unmap of their own, beside sleepers: what one unmaps is no other's.
    pub fn mappings_come_and_go() {
        let (stop, sleeps) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..3 {
                let (stop, sleeps) = (&stop, &sleeps);
                scope.spawn(move || sleeps.fetch_add(sleep_until(stop, number), Ordering::Relaxed));
            }
            let mappers = [0_usize, 1, 2, 3].map(|number| {
                scope.spawn(move || {
                    for round in 0..20_usize {
                        let length = (1 + (number + round) % 3) * BLOCK_SIZE / 2;
                        let mut mapping = memory::map(length).expect("RAM has room");
                        let value = (number * 20 + round) as u8 + 1;
                        let bytes = mapping.as_mut_slice();
                        for page in bytes.chunks_mut(PAGE_SIZE).step_by(1 + round % 7) {
                            assert!(page.iter().all(|&byte| byte == 0));
                            page.fill(value);
                        }
                        for (n, page) in bytes.chunks(PAGE_SIZE).enumerate() {
                            let wanted = if n % (1 + round % 7) == 0 { value } else { 0 };
                            assert!(page.iter().all(|&byte| byte == wanted), "page {n}");
                        }
                    }
                })
            });
            mappers.into_iter().for_each(|mapper| mapper.join().unwrap());
            stop.store(true, Ordering::Relaxed);
        });
        assert!(sleeps.into_inner() > 20);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    many_fault_in_slots_that_are_being_filled,
    #[cfg(target_os = "none")]
    mappings_come_and_go,
}
