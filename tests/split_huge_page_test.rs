//! `split_huge_page_test`: blocks are given up, those mapped as one and those in pages, and their zero pages under pressure;
//! no byte changes.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=64M khugepaged=off",
    "run memory=64M khugepaged=off fault=eager",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{
        assert_filled, assert_filled_but, blocks, dissolve, fill, frames, hoard, huge, is_filled, pointer, protect,
        readable,
    };
    use alloc::vec::Vec;
    use ashlar::memory::{self, Access, HugePolicy, MapRequest, Mapping, counter, usage};
    use ashlar::mm::Refusal;
    use ashlar::mm::address::{
        BLOCK_SIZE, GROUPS_PER_SLOT, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, PhysAddr, VirtAddr,
    };

    const SLOTS: usize = 4;
    const PAGES: usize = SLOTS * PAGES_PER_SLOT;

    fn slot(mapping: &Mapping, number: usize) -> VirtAddr {
        mapping.start() + (number * BLOCK_SIZE) as u64
    }

    /// Where each page lies.
    fn places(mapping: &Mapping) -> Vec<Option<PhysAddr>> {
        (0..PAGES).map(|page| readable(pointer(mapping, page * PAGE_SIZE))).collect()
    }

    fn dissolve_all(mapping: &Mapping) {
        let (before, dissolved) = (frames(), counter("thp_split_page"));
        for number in 0..SLOTS {
            assert_eq!(dissolve(slot(mapping, number)), Ok(0), "no frame was absent");
            assert_eq!(dissolve(slot(mapping, number)), Err(Refusal::NoHome), "there is no block to give up any more");
        }
        assert_eq!(frames().homes, before.homes - SLOTS);
        assert_eq!(frames().movable, before.movable + PAGES, "each frame is one by itself");
        assert_eq!(counter("thp_split_page"), dissolved.map(|dissolved| dissolved + SLOTS as u64));
        assert_eq!(huge(mapping), 0);
    }

    /// Linux splits on demand and gives zero pages back on the way; here they are given back when memory is short.
    pub fn split_pmd_zero_pages() {
        let mut mapping = memory::map(SLOTS * BLOCK_SIZE).expect("RAM has room");
        mapping.populate(0..SLOTS * BLOCK_SIZE).expect("RAM has room");
        let kept = [0, 600, 601, 2047];
        kept.into_iter().for_each(|page| fill(&mut mapping, page..page + 1));
        assert_eq!(huge(&mapping), SLOTS);
        let request = MapRequest::new(BLOCK_SIZE).policy(HugePolicy::Never);
        let mut other = Mapping::new(request).expect("RAM has room");
        fill(&mut other, 0..1);
        let (before, given) = (usage().mapped_bytes(), counter("zero_pages_released").expect("it is counted"));

        let taken = hoard();
        let mut pages = 1;
        while huge(&mapping) > 0 {
            // No frame is free: this touch takes some back, and the hoard what it leaves.
            fill(&mut other, pages..pages + 1);
            taken.take_more();
            pages += 1;
        }
        drop(taken);
        let after = usage().mapped_bytes();
        let least = PAGES - kept.len() - SLOTS;
        assert!(after + least * PAGE_SIZE <= before + pages * PAGE_SIZE, "{after} bytes are mapped, {before} were");
        assert!(counter("zero_pages_released") >= Some(given + least as u64));
        for page in 0..PAGES {
            let there = readable(pointer(&mapping, page * PAGE_SIZE)).is_some();
            assert!(there || !kept.contains(&page), "page {page} is not zero, and stays");
        }
        assert_filled_but(&mapping, |page| !kept.contains(&page));
        assert!((0..pages).all(|page| is_filled(&other.as_slice()[page * PAGE_SIZE..][..PAGE_SIZE], page)));
    }

    pub fn split_pmd_thp() {
        let mut mapping = blocks(SLOTS);
        let before = places(&mapping);
        dissolve_all(&mapping);
        assert_eq!(places(&mapping), before, "no page moved");
        assert_filled(&mapping);
        // What is released now is free at once.
        let unused = frames().unused;
        mapping.release(PAGE_SIZE..BLOCK_SIZE - PAGE_SIZE).expect("whole pages");
        assert_eq!(frames().unused, unused + PAGES_PER_SLOT - 2);
        assert_filled_but(&mapping, |page| (1..PAGES_PER_SLOT - 1).contains(&page));
        fill(&mut mapping, 1..PAGES_PER_SLOT - 1);
        assert_filled(&mapping);
    }

    /// Of the orders below a block there are two: 4, groups of 64 KiB, which is what a split leaves; and 0, pages, where something
    /// treats one page of a group apart.
    pub fn split_pmd_thp_to_order() {
        let mapping = blocks(SLOTS);
        let before = usage();
        dissolve_all(&mapping);
        let groups = SLOTS * GROUPS_PER_SLOT;
        assert_eq!((usage().groups, usage().pages), (before.groups + groups, before.pages));
        assert_filled(&mapping);
        for group in 0..groups {
            let page = group * PAGES_PER_GROUP + group % PAGES_PER_GROUP;
            for access in [Access::READ, Access::READ_WRITE] {
                protect(&mapping, page..page + 1, access).expect("mapped");
            }
        }
        assert_eq!((usage().groups, usage().pages), (before.groups, before.pages + PAGES));
        assert_eq!(usage().mapped_bytes(), before.mapped_bytes());
        assert_filled(&mapping);
    }

    /// One page of each block is treated apart, and some are released, so that the blocks are in pages already.
    pub fn split_pte_mapped_thp() {
        const HOLE: usize = 10;
        let mut mapping = blocks(SLOTS);
        let page = |number: usize| number * PAGES_PER_SLOT + number;
        let hole = |number: usize| page(number) + 20..page(number) + 20 + HOLE;
        for number in 0..SLOTS {
            protect(&mapping, page(number)..page(number) + 1, Access::READ).expect("mapped");
            mapping.release(hole(number).start * PAGE_SIZE..hole(number).end * PAGE_SIZE).expect("whole pages");
        }
        assert_eq!(huge(&mapping), 0, "all are in pages");
        let (places_before, before) = (places(&mapping), frames());
        for number in 0..SLOTS {
            assert_eq!(dissolve(slot(&mapping, number) + 123), Ok(HOLE), "what was absent is free");
        }
        let after = frames();
        assert_eq!((after.homes, after.absent), (before.homes - SLOTS, before.absent - SLOTS * HOLE));
        assert_eq!(after.unused, before.unused + SLOTS * HOLE);
        assert_eq!(places(&mapping), places_before, "no page moved");
        assert_filled_but(&mapping, |page| (0..SLOTS).any(|number| hole(number).contains(&page)));
        protect(&mapping, 0..PAGES, Access::READ_WRITE).expect("mapped");
        fill(&mut mapping, 0..PAGES);
        assert_eq!(huge(&mapping), 0, "pages that lie apart are no block");
        assert_filled(&mapping);
    }

    /// Splitting a mapping takes no memory: there is none.
    pub fn split_pmd_never_fails() {
        let mut mapping = blocks(SLOTS);
        let split = counter("thp_split_pmd").expect("it is counted");
        let taken = hoard();
        mapping.release(7 * PAGE_SIZE..9 * PAGE_SIZE).expect("whole pages");
        assert_eq!(frames().unused, 0, "released frames stay with their block");
        // They serve the same pages again, though no frame is free.
        fill(&mut mapping, 7..8);
        for number in 1..SLOTS {
            assert_eq!(dissolve(slot(&mapping, number)), Ok(0));
        }
        assert_eq!(huge(&mapping), 0);
        drop(taken);
        assert_eq!(counter("thp_split_pmd"), Some(split + SLOTS as u64));
        assert_filled_but(&mapping, |page| page == 8);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    split_pmd_zero_pages,
    #[cfg(target_os = "none")]
    split_pmd_thp,
    #[cfg(target_os = "none")]
    split_pmd_thp_to_order,
    #[cfg(target_os = "none")]
    split_pte_mapped_thp,
    #[cfg(target_os = "none")]
    split_pmd_never_fails,
}
