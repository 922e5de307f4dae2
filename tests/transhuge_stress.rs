//! `transhuge-stress`: twice as many slots as there are blocks are touched as a whole, and soon after that all but the last page
//! of each is released, round after round. It breaks up as much memory as it can; what it held is whole again afterwards.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=48M overcommit=on use_zero_page=0",
    "run memory=48M overcommit=on use_zero_page=0 fault=eager",
    "output different blocks",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{assert_filled, fill, huge, is_filled, is_zero, readable};
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use ashlar::memory::{self, HugePolicy, MapRequest, Mapping, is_huge};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
    use ashlar::{println, time};

    const ROUNDS: usize = 3;
    /// Slots that are whole at one time.
    const WHOLE: usize = 6;
    const LAST: usize = PAGES_PER_SLOT - 1;
    /// Pages that are written, apart from the touch of all.
    const WRITTEN: [usize; 3] = [0, 300, LAST];

    /// What became of the slots in one round.
    #[derive(Debug, Default)]
    struct Round {
        succeeded: usize,
        failed: usize,
        blocks: BTreeSet<u64>,
    }

    fn slot() -> Mapping {
        Mapping::new(MapRequest::new(BLOCK_SIZE).policy(HugePolicy::Always)).expect("overcommit is on")
    }

    /// Maps `mapping` anew, and touches all of it.
    fn touch(mapping: &mut Mapping, round: &mut Round) {
        let at = mapping.start();
        *mapping = slot();
        assert_ne!(mapping.start(), at, "the old one goes when the new one is there");
        mapping.populate(0..BLOCK_SIZE).expect("what others released is enough");
        let first = mapping.as_slice().as_ptr();
        if is_huge(first) {
            round.succeeded += 1;
            round.blocks.insert(readable(first).expect("it is present").0 / BLOCK_SIZE as u64);
        } else {
            round.failed += 1;
        }
        WRITTEN.into_iter().for_each(|page| fill(mapping, page..page + 1));
    }

    fn release_all_but_last_page(mapping: &mut Mapping) {
        let page = |page: usize| &mapping.as_slice()[page * PAGE_SIZE..][..PAGE_SIZE];
        WRITTEN.into_iter().for_each(|written| assert!(is_filled(page(written), written), "page {written}"));
        assert!(is_zero(page(1)) && is_zero(page(LAST - 1)));
        mapping.release(0..LAST * PAGE_SIZE).expect("whole pages");
    }

    fn assert_last_page(mapping: &Mapping) {
        assert!(is_filled(&mapping.as_slice()[LAST * PAGE_SIZE..], LAST), "the page that was kept");
    }

    pub fn transhuge_stress() {
        let free = memory::report().free_blocks;
        let dissolved = memory::counter("thp_split_page");
        let mut slots: Vec<_> = (0..2 * free).map(|_| slot()).collect();
        for number in 0..ROUNDS {
            let (mut round, start) = (Round::default(), time::now());
            for index in 0..slots.len() + WHOLE {
                if let Some(mapping) = index.checked_sub(WHOLE).map(|before| &mut slots[before]) {
                    release_all_but_last_page(mapping);
                }
                if let Some(mapping) = slots.get_mut(index) {
                    touch(mapping, &mut round);
                }
            }
            slots.iter().for_each(assert_last_page);
            let Round { succeeded, failed, blocks } = round;
            let blocks = blocks.len();
            println!("{:?}: {succeeded} succeeded, {failed} failed, {blocks} different blocks", start.elapsed());
            assert_eq!(succeeded + failed, slots.len());
            assert!(succeeded >= blocks && blocks > 0, "round {number}");
        }
        assert!(memory::counter("thp_split_page") > dissolved, "absent frames were taken back from some");
        for mapping in &slots {
            let (released, last) = mapping.as_slice().split_at(LAST * PAGE_SIZE);
            assert!(is_zero(&released[..PAGE_SIZE]) && is_filled(last, LAST));
        }
        slots.clear();
        let again = memory::report().free_blocks;
        // The manager's own records lie where there was room for them when they were made.
        assert!((free - 4..=free).contains(&again), "{again} free blocks, {free} at the start");
        let mut all: Vec<_> = (0..again).map(|_| slot()).collect();
        for mapping in &mut all {
            assert!(is_zero(mapping.as_slice()));
            fill(mapping, 0..PAGES_PER_SLOT);
        }
        assert_eq!(all.iter().map(huge).sum::<usize>(), again, "each free block serves a slot");
        all.iter().for_each(|mapping| assert_filled(mapping));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    transhuge_stress,
}
