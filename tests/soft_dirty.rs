//! Linux's `soft-dirty`: which pages were written since. There a bit of each page is cleared, here a snapshot is made; what
//! differs from it is what is dirty.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=128M khugepaged=off",
    "run memory=128M khugepaged=off fault=eager",
    "run memory=128M cores=2",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{UNITS, assert_filled, blocks, fill, filled, gap, huge, is_filled, is_zero, protect, region};
    use alloc::vec::Vec;
    use ashlar::memory::{Access, Destination, HugePolicy, MapRequest, Mapping, Snapshot, VirtAddr};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
    use core::ops::Range;

    /// Linux has 10000, of a cheaper operation.
    const ROUNDS: usize = 500;

    /// From here on all of `mapping` is clean.
    fn clear(mapping: &Mapping) -> Snapshot {
        mapping.snapshot().expect("memory is free")
    }

    /// The pages that are dirty.
    fn dirty(mapping: &Mapping, since: &Snapshot) -> Vec<Range<usize>> {
        let changed = mapping.changed_since(since).expect("all of it is mapped");
        changed.into_iter().map(|run| run.start / PAGE_SIZE..run.end / PAGE_SIZE).collect()
    }

    fn write(mapping: &mut Mapping, page: usize) {
        let byte = &mut mapping.as_mut_slice()[page * PAGE_SIZE];
        *byte = byte.wrapping_add(1);
    }

    fn at(start: VirtAddr, pages: usize) -> Mapping {
        Mapping::new(MapRequest::new(pages * PAGE_SIZE).at(start)).expect("nothing is there")
    }

    /// A page is clean, is written to, is dirty; another one each time.
    fn rounds(mapping: &mut Mapping, after: impl Fn(&Mapping)) {
        let pages = mapping.len() / PAGE_SIZE;
        for round in 0..ROUNDS {
            let page = round * 7 % pages;
            let since = clear(mapping);
            assert_eq!(dirty(mapping, &since), [], "round {round}");
            write(mapping, page);
            assert_eq!(dirty(mapping, &since), core::slice::from_ref(&(page..page + 1)), "round {round}");
            drop(since);
            after(mapping);
        }
    }

    pub fn test_simple() {
        for pages in UNITS {
            let mut mapping = filled(pages);
            mapping.advise(0..pages * PAGE_SIZE, HugePolicy::Never).expect("records are at hand");
            rounds(&mut mapping, |_| ());
        }
    }

    /// Addresses that are used anew are dirty where there was something before, touched or not.
    pub fn test_vma_reuse() {
        for pages in UNITS {
            let mapping = filled(pages);
            let (start, since) = (mapping.start(), clear(&mapping));
            drop(mapping);
            let again = at(start, pages);
            assert_eq!(dirty(&again, &since), core::slice::from_ref(&(0..pages)));
            assert!(is_zero(again.as_slice()));
            assert_eq!(dirty(&again, &since), core::slice::from_ref(&(0..pages)));
            assert!(since.chunks_exact(PAGE_SIZE).enumerate().all(|(page, bytes)| is_filled(bytes, page)));
        }
        // Where there was nothing, the first write is what changes it.
        let mapping = at(gap(PAGES_PER_SLOT), PAGES_PER_SLOT);
        let (start, since) = (mapping.start(), clear(&mapping));
        drop(mapping);
        let mut again = at(start, PAGES_PER_SLOT);
        again.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        assert!(is_zero(again.as_slice()));
        assert_eq!(dirty(&again, &since), []);
        write(&mut again, 3);
        let changed = dirty(&again, &since);
        assert!(changed.len() == 1 && changed[0].contains(&3), "{changed:?}");
        assert!(is_zero(&since));
    }

    /// Once all of it is dirty it can be cleared again, and the first snapshot goes on to say so.
    pub fn cleared_again() {
        for pages in UNITS {
            let mut mapping = filled(pages);
            let first = clear(&mapping);
            (0..pages).for_each(|page| write(&mut mapping, page));
            let second = clear(&mapping);
            assert_eq!(dirty(&mapping, &second), []);
            assert_eq!(dirty(&mapping, &first), core::slice::from_ref(&(0..pages)));
            write(&mut mapping, pages - 1);
            assert_eq!(dirty(&mapping, &second), core::slice::from_ref(&(pages - 1..pages)));
            assert_eq!(dirty(&mapping, &first), core::slice::from_ref(&(0..pages)));
            mapping.release(0..pages * PAGE_SIZE).expect("whole pages");
            assert_eq!(dirty(&mapping, &second), core::slice::from_ref(&(0..pages)));
            assert_eq!(dirty(&mapping, &first), core::slice::from_ref(&(0..pages)));
            assert!(first.chunks_exact(PAGE_SIZE).enumerate().all(|(page, bytes)| is_filled(bytes, page)));
        }
    }

    /// A block is clean and dirty by the page, and one again afterwards.
    pub fn test_hugepage() {
        let mut mapping = blocks(1);
        rounds(&mut mapping, |mapping| assert_eq!(huge(mapping), 1));
        fill(&mut mapping, 0..PAGES_PER_SLOT);
        // As long as nothing is dirty, it is one as well.
        let since = clear(&mapping);
        assert_eq!((huge(&mapping), dirty(&mapping, &since)), (1, Vec::new()));
        write(&mut mapping, PAGES_PER_SLOT - 1);
        assert_eq!(huge(&mapping), 0);
        let bytes = mapping.as_slice().chunks_exact(PAGE_SIZE).enumerate();
        bytes.for_each(|(page, bytes)| assert_eq!(is_filled(bytes, page), page != PAGES_PER_SLOT - 1, "page {page}"));
    }

    /// Neither does a protection make a page dirty, nor does it let a write through unseen.
    pub fn test_mprotect_anon() {
        for pages in UNITS {
            let mut mapping = filled(pages);
            let since = clear(&mapping);
            for access in [Access::READ, Access::NONE, Access::READ, Access::READ_WRITE] {
                mapping.protect(access).expect("mapped");
                assert_eq!(dirty(&mapping, &since), []);
            }
            for page in [0, pages - 1] {
                protect(&mapping, page..page + 1, Access::READ).expect("mapped");
                protect(&mapping, page..page + 1, Access::READ_WRITE).expect("mapped");
                assert_eq!(dirty(&mapping, &since), []);
            }
            write(&mut mapping, pages / 2);
            assert_eq!(dirty(&mapping, &since), core::slice::from_ref(&(pages / 2..pages / 2 + 1)));
            assert!(since.chunks_exact(PAGE_SIZE).enumerate().all(|(page, bytes)| is_filled(bytes, page)));
        }
    }

    /// What comes to lie beside a region, and becomes one with it, is its own: it is dirty where it was written, and nowhere else.
    pub fn test_merge() {
        let reserved = gap(3 * PAGES_PER_SLOT);
        let place = |page: usize| reserved + (page * PAGE_SIZE) as u64;
        let mut first = at(place(1), 1);
        fill(&mut first, 0..1);
        let since = clear(&first);
        // Away from it; then between both, which makes them one region.
        let mut third = at(place(3), 1);
        write(&mut third, 0);
        let mut second = at(place(2), 1);
        write(&mut second, 0);
        assert_eq!(dirty(&first, &since), []);
        // By a move.
        let mut fourth = filled(1);
        fourth.remap(PAGE_SIZE, Destination::At(place(4))).expect("nothing is there");
        let joined = region(place(1)).expect("it is mapped").0;
        assert!(joined.start <= place(1) && joined.end >= place(4), "{joined:?}");
        assert_eq!(dirty(&first, &since), []);
        [second, third, fourth].into_iter().for_each(drop);
        assert_eq!(dirty(&first, &since), []);
        assert_filled(&first);
        write(&mut first, 0);
        assert_eq!(dirty(&first, &since), core::slice::from_ref(&(0..1)));
        assert!(is_filled(&since, 0));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    test_simple,
    #[cfg(target_os = "none")]
    cleared_again,
    #[cfg(target_os = "none")]
    test_vma_reuse,
    #[cfg(target_os = "none")]
    test_hugepage,
    #[cfg(target_os = "none")]
    test_mprotect_anon,
    #[cfg(target_os = "none")]
    test_merge,
}
