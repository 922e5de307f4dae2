//! LTP's `mprotect` cases, over blocks: what is forbidden cannot be done, code can be run, and regions are cut and joined.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=64M khugepaged=off",
    "run memory=64M khugepaged=off cpu=max gic=3 el=2",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{
        assert_filled, blocks, fault, fill, huge, is_filled, pointer, protect, readable, region, writable,
    };
    use ashlar::memory::{Access, FaultError, Mapping, usage};
    use ashlar::mm::address::{PAGE_SIZE, PAGES_PER_SLOT};
    use core::ops::Range;

    /// What the processor and the memory manager allow at both ends of `pages`.
    fn assert_allowed(mapping: &Mapping, pages: &Range<usize>, access: Access) {
        for offset in [pages.start * PAGE_SIZE, pages.end * PAGE_SIZE - 1] {
            let (at, address) = (pointer(mapping, offset), mapping.start() + offset as u64);
            assert_eq!((readable(at).is_some(), writable(at).is_some()), (access.read, access.write), "{address}");
            for wanted in [Access::READ, Access::READ_WRITE, Access::READ_EXECUTE] {
                let denied = FaultError::Denied { address, wanted, allowed: access };
                let expected = if access.permits(wanted) { Ok(()) } else { Err(denied) };
                assert_eq!(fault(address, wanted), expected);
            }
        }
    }

    /// Takes all access to `pages` away, and gives it back.
    fn forbid(slots: usize, pages: Range<usize>, whole: usize) {
        let mapping = blocks(slots);
        let total = 0..slots * PAGES_PER_SLOT;
        protect(&mapping, pages.clone(), Access::NONE).expect("mapped");
        assert_allowed(&mapping, &pages, Access::NONE);
        assert_eq!(huge(&mapping), whole, "blocks that the range does not cut stay");
        for rest in [total.start..pages.start, pages.end..total.end].into_iter().filter(|rest| !rest.is_empty()) {
            assert_allowed(&mapping, &rest, Access::READ_WRITE);
            for page in rest {
                // SAFETY: the page is in the mapping and may be read.
                let bytes = unsafe { core::slice::from_raw_parts(pointer(&mapping, page * PAGE_SIZE), PAGE_SIZE) };
                assert!(is_filled(bytes, page), "page {page}");
            }
        }
        protect(&mapping, pages, Access::READ).expect("mapped");
        assert_filled(&mapping);
        protect(&mapping, total.clone(), Access::READ_WRITE).expect("mapped");
        assert_allowed(&mapping, &total, Access::READ_WRITE);
        assert_filled(&mapping);
        assert_eq!(huge(&mapping), slots, "with one access again each slot is a block");
    }

    pub fn mprotect04_testfunc_protnone() {
        forbid(1, 0..1, 0);
        forbid(1, 0..PAGES_PER_SLOT, 1);
        forbid(2, 511..513, 0);
        forbid(3, 100..2 * PAGES_PER_SLOT, 2);
    }

    /// `mov w0, #number; ret`.
    fn code(number: u32) -> [u8; 8] {
        let instructions = u64::from(0x5280_0000 | number << 5) | 0xd65f_03c0 << 32;
        instructions.to_le_bytes()
    }

    fn call(mapping: &Mapping, page: usize) -> u32 {
        // SAFETY: `code` was written there, and the page may be executed.
        let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(pointer(mapping, page * PAGE_SIZE)) };
        function()
    }

    /// Code runs from a block, and from single pages of one whose other pages are data; it is replaced in between.
    pub fn mprotect04_testfunc_protexec() {
        let mut mapping = blocks(1);
        for (round, pages) in [(0, 0..PAGES_PER_SLOT), (1, 0..1), (2, 300..301), (3, 16..64)].into_iter() {
            fill(&mut mapping, 0..PAGES_PER_SLOT);
            for page in pages.clone() {
                let at = page * PAGE_SIZE;
                mapping.as_mut_slice()[at..at + 8].copy_from_slice(&code((round << 12 | page) as u32));
            }
            protect(&mapping, pages.clone(), Access::READ_EXECUTE).expect("mapped");
            assert_eq!(huge(&mapping), usize::from(pages.len() == PAGES_PER_SLOT));
            for page in pages.clone() {
                assert_eq!(call(&mapping, page), (round << 12 | page) as u32, "page {page}");
            }
            assert_allowed(&mapping, &pages, Access::READ_EXECUTE);
            protect(&mapping, 0..PAGES_PER_SLOT, Access::READ_WRITE).expect("mapped");
            assert_allowed(&mapping, &pages, Access::READ_WRITE);
            assert_eq!(huge(&mapping), 1);
            for (page, bytes) in mapping.as_slice().chunks_exact(PAGE_SIZE).enumerate() {
                assert!(pages.contains(&page) || is_filled(bytes, page), "page {page}");
            }
        }
    }

    /// Protects the second and the fourth of five pieces, each of `unit` pages, then the last four alike. `whole`: how many slots
    /// are blocks in between.
    fn split_and_merge(slots: usize, unit: usize, whole: usize) {
        let mapping = blocks(slots);
        protect(&mapping, 0..slots * PAGES_PER_SLOT, Access::READ).expect("mapped");
        let regions = usage().regions;
        let piece = |number: usize| number * unit..(number + 1) * unit;
        protect(&mapping, piece(1), Access::READ_EXECUTE).expect("mapped");
        assert_eq!(usage().regions, regions + 2);
        protect(&mapping, piece(3), Access::READ_WRITE).expect("mapped");
        assert_eq!(usage().regions, regions + 4);
        let accesses = [Access::READ, Access::READ_EXECUTE, Access::READ, Access::READ_WRITE, Access::READ];
        for (number, access) in accesses.into_iter().enumerate() {
            assert_allowed(&mapping, &piece(number), access);
            let at = mapping.start() + (number * unit * PAGE_SIZE) as u64;
            let (found, allowed) = region(at).expect("it is mapped");
            assert_eq!((found.start, allowed), (at, access));
        }
        assert_eq!(huge(&mapping), whole);
        assert_filled(&mapping);
        protect(&mapping, unit..5 * unit, Access::READ).expect("mapped");
        assert_eq!(usage().regions, regions, "all are one again");
        (0..5).for_each(|number| assert_allowed(&mapping, &piece(number), Access::READ));
        assert_eq!(huge(&mapping), slots);
        assert_filled(&mapping);
    }

    pub fn mprotect05() {
        split_and_merge(5, PAGES_PER_SLOT, 5);
        split_and_merge(1, 1, 0);
        split_and_merge(1, 16, 0);
        split_and_merge(3, 300, 0);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    mprotect04_testfunc_protnone,
    #[cfg(target_os = "none")]
    mprotect04_testfunc_protexec,
    #[cfg(target_os = "none")]
    mprotect05,
}
