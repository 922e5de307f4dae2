//! The background's share of a core that the application could use: no more than the budget, by the exact count of instructions, and
//! never nothing for good.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run icount=on memory=256M cores=1", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{assert_filled, fill, huge};
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{self, HugePolicy, Mapping, counter, set_policy};
    use ashlar::mm::address::{BLOCK_SIZE, PAGES_PER_SLOT};
    use ashlar::{println, thread, time};
    use core::hint::black_box;
    use core::time::Duration;

    const SLOTS: usize = 24;

    /// Slots of pages that may be blocks, while nothing is done about it.
    fn candidates() -> Mapping {
        set_policy("khugepaged", "off").expect("it is a policy");
        let mut mapping = memory::map(SLOTS * BLOCK_SIZE).expect("RAM has room");
        mapping.advise(0..SLOTS * BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        // Backwards, so that each page has to be copied.
        (0..SLOTS * PAGES_PER_SLOT).rev().for_each(|page| fill(&mut mapping, page..page + 1));
        mapping.advise(0..SLOTS * BLOCK_SIZE, HugePolicy::Default).expect("records are at hand");
        mapping
    }

    /// A piece of work that touches no memory but a register's worth: how long it took.
    fn work() -> Duration {
        let start = time::now();
        let mut sum = 0_u64;
        (0..200_000_u64).for_each(|n| sum = black_box(sum.wrapping_add(n)));
        time::now() - start
    }

    /// Works until `mapping` is in blocks, or for so many pieces: how many it were, and how long.
    fn busy(mapping: &Mapping, most: u32) -> (u32, Duration) {
        let (start, mut pieces) = (time::now(), 0);
        while huge(mapping) < SLOTS && pieces < most {
            work();
            pieces += 1;
        }
        (pieces, time::now() - start)
    }

    /// What the background took of the core by `budget`, in percent of all, until all is in blocks; and how long it took.
    fn share(budget: &str) -> (f64, Duration) {
        let mapping = candidates();
        // With the same looks at the memory.
        let (pieces, alone) = busy(&mapping, 50);
        let piece = alone.as_secs_f64() / f64::from(pieces);
        set_policy("khugepaged_budget", budget).expect("it is a policy");
        set_policy("khugepaged", "on").expect("it is a policy");
        let (pieces, all) = busy(&mapping, 100_000);
        assert_eq!(huge(&mapping), SLOTS, "the background never came to it");
        assert_filled(&mapping);
        let share = 100.0 * (1.0 - f64::from(pieces) * piece / all.as_secs_f64());
        println!("khugepaged_budget={budget}: {share:.2} % of the core, for {all:?}");
        (share, all)
    }

    pub fn the_budget_holds_and_the_background_is_not_starved() {
        let (five, long) = share("5");
        let (twenty, short) = share("20");
        assert!((1.0..=6.0).contains(&five), "{five} % of a budget of 5");
        assert!((5.0..=22.0).contains(&twenty), "{twenty} % of a budget of 20");
        assert!(short < long, "four times the budget, and no faster");
    }

    pub fn without_a_budget_only_idle_time_is_used() {
        let mapping = candidates();
        set_policy("khugepaged_budget", "0").expect("it is a policy");
        set_policy("khugepaged", "on").expect("it is a policy");
        let before = counter("khugepaged_slots_scanned");
        busy(&mapping, 100);
        assert_eq!((huge(&mapping), counter("khugepaged_slots_scanned")), (0, before), "the core had no time");
        while gate::call(|| manager().candidates()) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(huge(&mapping), SLOTS);
        assert_filled(&mapping);
        set_policy("khugepaged_budget", "5").expect("it is a policy");
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    the_budget_holds_and_the_background_is_not_starved,
    #[cfg(target_os = "none")]
    without_a_budget_only_idle_time_is_used,
}
