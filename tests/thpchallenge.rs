//! MMTests' `thpchallenge`: threads fault memory in and give it back all the time, in RAM that is fragmented. No fault fails, every
//! byte is right, and once those who hold RAM let go, the background makes blocks of what is kept. How long faults take is said.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run cores=4 memory=256M", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{assert_filled, fill, huge};
    use alloc::vec::Vec;
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{self, counter, map};
    use ashlar::mm::address::{BLOCK_SIZE, PAGES_PER_SLOT};
    use ashlar::{println, thread, time};
    use ashlar_test::fragment::{State, fragment};
    use core::time::Duration;

    const THREADS: usize = 4;
    const ROUNDS: usize = 24;
    /// Slots that a thread has at most.
    const SLOTS: usize = 6;

    /// Faults memory in, page by page, looks at it, and gives it back. Returns the slowest fault, and how many slots were blocks at the
    /// end of each round, of how many.
    fn churn(number: usize) -> (Duration, usize, usize) {
        let (mut slowest, mut blocks, mut all) = (Duration::ZERO, 0, 0);
        for round in 0..ROUNDS {
            let slots = 1 + (number + round) % SLOTS;
            let mut memory = map(slots * BLOCK_SIZE).expect("the limit is lifted");
            for page in 0..slots * PAGES_PER_SLOT {
                let start = time::now();
                fill(&mut memory, page..page + 1);
                slowest = slowest.max(time::now() - start);
            }
            assert_filled(&memory);
            blocks += huge(&memory);
            all += slots;
        }
        (slowest, blocks, all)
    }

    pub fn thpchallenge() {
        let fragments = gate::call(|| fragment(manager(), State::Random(50)));
        let slowest = thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || churn(number))).collect();
            workers.into_iter().map(|worker| worker.join().expect("no byte was wrong")).collect::<Vec<_>>()
        });
        for (slowest, blocks, all) in slowest {
            println!("slowest fault {slowest:?}; {blocks} of {all} slots were blocks");
        }
        assert_eq!(counter("out_of_memory"), Some(0));
        let mut kept = map(8 * BLOCK_SIZE).expect("the limit is lifted");
        fill(&mut kept, 0..8 * PAGES_PER_SLOT);
        gate::call(move || fragments.give_back(manager()));
        let start = time::now();
        while huge(&kept) < 8 {
            assert!(time::now() - start < Duration::from_secs(60), "it does not recover: {} blocks", huge(&kept));
            thread::sleep(Duration::from_millis(1));
        }
        println!("8 slots were blocks after {:?}", time::now() - start);
        assert_filled(&kept);
        drop(kept);
        memory::set_policy("defrag", "never").expect("it is the default");
    }
}
#[cfg(target_os = "none")]
use guest::thpchallenge;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    thpchallenge,
}
