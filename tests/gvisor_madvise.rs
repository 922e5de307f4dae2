//! gVisor's cases of `MADV_DONTNEED` on parts of huge pages: what was released is zero and its frames are given up, every other
//! byte is as it was.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run memory=64M", "run memory=64M fault=eager", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{UNITS, filled, is_filled};
    use super::backing::{assert_filled, assert_filled_but, blocks, fill, huge, is_zero, pointer, protect, readable};
    use ashlar::memory::{self, Access, usage};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
    use core::ops::Range;

    const BLOCK: usize = PAGES_PER_SLOT;

    /// Releases `pages` of `slots` blocks.
    fn release_part(slots: usize, pages: Range<usize>) {
        let mut mapping = blocks(slots);
        let before = usage().mapped_bytes();
        mapping.release(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE).expect("whole pages");
        assert_eq!(usage().mapped_bytes(), before - pages.len() * PAGE_SIZE, "nothing else went");
        for page in 0..slots * BLOCK {
            let there = readable(pointer(&mapping, page * PAGE_SIZE)).is_some();
            assert_eq!(there, !pages.contains(&page), "page {page}");
        }
        for slot in 0..slots {
            let touched = pages.start < (slot + 1) * BLOCK && slot * BLOCK < pages.end;
            assert_eq!(memory::is_huge(pointer(&mapping, slot * BLOCK_SIZE)), !touched, "slot {slot}");
        }
        assert_filled_but(&mapping, |page| pages.contains(&page));
        fill(&mut mapping, pages);
        assert_filled(&mapping);
        assert_eq!(huge(&mapping), slots, "used again, each slot is a block again");
    }

    pub fn one_huge_page_whole() {
        release_part(1, 0..BLOCK);
    }

    pub fn one_huge_page_partial() {
        release_part(1, BLOCK / 4..BLOCK * 3 / 4);
    }

    pub fn two_huge_pages_partial_start() {
        release_part(2, BLOCK / 2..BLOCK);
    }

    pub fn two_huge_pages_partial_end() {
        release_part(2, BLOCK..BLOCK * 3 / 2);
    }

    pub fn two_huge_pages_partial_start_and_end() {
        release_part(2, BLOCK / 2..BLOCK * 3 / 2);
    }

    pub fn three_huge_pages_partial_start() {
        release_part(3, BLOCK / 2..BLOCK * 2);
    }

    pub fn three_huge_pages_partial_end() {
        release_part(3, BLOCK..BLOCK * 5 / 2);
    }

    pub fn three_huge_pages_partial_start_and_end() {
        release_part(3, BLOCK / 2..BLOCK * 5 / 2);
    }

    pub fn zeros_private_anon_page() {
        let mut mapping = memory::map(PAGE_SIZE).expect("RAM has room");
        for value in [1, 2] {
            assert!(is_zero(mapping.as_slice()));
            mapping.as_mut_slice().fill(value);
            assert!(mapping.as_slice().iter().all(|&byte| byte == value));
            mapping.release(0..PAGE_SIZE).expect("a whole page");
        }
        assert!(is_zero(mapping.as_slice()));
    }

    /// gVisor forks; here a snapshot shows the memory that is released.
    pub fn zeros_cow_anon_page_in_caller_only() {
        for pages in UNITS {
            for released in [0..pages, pages / 2..pages] {
                let mut mapping = filled(pages);
                let snapshot = mapping.snapshot().expect("memory is free");
                mapping.release(released.start * PAGE_SIZE..released.end * PAGE_SIZE).expect("whole pages");
                assert_filled_but(&mapping, |page| released.contains(&page));
                fill(&mut mapping, released);
                mapping.as_mut_slice().fill(1);
                assert!(snapshot.chunks_exact(PAGE_SIZE).enumerate().all(|(page, bytes)| is_filled(bytes, page)));
            }
        }
    }

    pub fn ignores_permissions() {
        let mut mapping = blocks(1);
        protect(&mapping, 0..BLOCK, Access::NONE).expect("mapped");
        mapping.release(PAGE_SIZE..3 * PAGE_SIZE).expect("whole pages");
        protect(&mapping, 0..BLOCK, Access::READ).expect("mapped");
        assert_filled_but(&mapping, |page| (1..3).contains(&page));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    one_huge_page_whole,
    #[cfg(target_os = "none")]
    one_huge_page_partial,
    #[cfg(target_os = "none")]
    two_huge_pages_partial_start,
    #[cfg(target_os = "none")]
    two_huge_pages_partial_end,
    #[cfg(target_os = "none")]
    two_huge_pages_partial_start_and_end,
    #[cfg(target_os = "none")]
    three_huge_pages_partial_start,
    #[cfg(target_os = "none")]
    three_huge_pages_partial_end,
    #[cfg(target_os = "none")]
    three_huge_pages_partial_start_and_end,
    #[cfg(target_os = "none")]
    zeros_private_anon_page,
    #[cfg(target_os = "none")]
    zeros_cow_anon_page_in_caller_only,
    #[cfg(target_os = "none")]
    ignores_permissions,
}
