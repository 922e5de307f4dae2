//! `cow`, as far as there is anything to it without `fork`: what a pin holds is what the application sees, whichever of them
//! writes, and whatever is done to the mapping meanwhile.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run memory=64M khugepaged=off", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{
        assert_filled, assert_filled_but, blocks, fill, frames, huge, is_zero, pinned, pointer, protect,
    };
    use super::backing::{readable, set_pinned};
    use alloc::vec::Vec;
    use ashlar::memory::{self, Access, Collapsed, FaultError, HugePolicy, Mapping, PinError, PinRequest, Refusal};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
    use core::ops::Range;

    /// A page by itself.
    fn base_page() -> Mapping {
        let mut mapping = memory::map(PAGE_SIZE).expect("RAM has room");
        mapping.advise(0..PAGE_SIZE, HugePolicy::Never).expect("records are at hand");
        fill(&mut mapping, 0..1);
        mapping
    }

    /// A block, mapped as one.
    fn thp() -> Mapping {
        blocks(1)
    }

    /// A block in pages.
    fn pte_mapped_thp() -> Mapping {
        let mut mapping = blocks(1);
        // Where pages are wished for, nothing heals by itself.
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        for access in [Access::READ, Access::READ_WRITE] {
            protect(&mapping, 1..2, access).expect("mapped");
        }
        assert_eq!(huge(&mapping), 0);
        mapping
    }

    /// All that is left of a block.
    fn single_pte_of_thp() -> Mapping {
        let mut mapping = blocks(1);
        drop(mapping.split_off(PAGE_SIZE));
        mapping
    }

    /// Half of a block: the other half was unmapped.
    fn partial_thp() -> Mapping {
        let mut mapping = blocks(1);
        drop(mapping.split_off(BLOCK_SIZE / 2));
        mapping
    }

    const SETUPS: [fn() -> Mapping; 5] = [base_page, thp, pte_mapped_thp, single_pte_of_thp, partial_thp];

    fn read_only_and_back(mapping: &Mapping) {
        for access in [Access::READ, Access::READ_WRITE] {
            protect(mapping, 0..mapping.len() / PAGE_SIZE, access).expect("mapped");
        }
    }

    /// Writes each word of the mapping anew, and looks at it by way of the pin; then the other way round.
    fn assert_shared(mapping: &mut Mapping, pin: &memory::Pin) {
        assert_eq!((pin.len(), pinned(pin).count()), (mapping.len(), mapping.len() / 8));
        for round in 1..3_u64 {
            for (n, word) in mapping.as_mut_slice().chunks_exact_mut(8).enumerate() {
                word.copy_from_slice(&(round << 32 | n as u64).to_le_bytes());
            }
            assert!(
                pinned(pin).enumerate().all(|(n, word)| word == round << 32 | n as u64),
                "what was written is seen"
            );
            set_pinned(pin, |n| round << 48 | n as u64);
            let words = mapping.as_slice().chunks_exact(8).enumerate();
            assert!(
                { words }.all(|(n, word)| word == (round << 48 | n as u64).to_le_bytes()),
                "what a device wrote, too"
            );
        }
        fill(mapping, 0..mapping.len() / PAGE_SIZE);
    }

    /// What was pinned to be read, before or after it was read-only for a while, goes on to be what the application writes.
    pub fn test_ro_pin_on_ro_exclusive() {
        for setup in SETUPS {
            for request in [PinRequest::new(), PinRequest::new().long()] {
                let mut mapping = setup();
                read_only_and_back(&mapping);
                let pin = mapping.pin(0..mapping.len(), request).expect("it may be read");
                assert_filled(&mapping);
                assert_shared(&mut mapping, &pin);
                drop(pin);
                assert_filled(&mapping);
            }
        }
    }

    /// As Linux's `test_iouring_ro`: the pin is for writing and long, and the pages are read-only for a while under it.
    pub fn test_rw_pin_then_ro_mapped() {
        for setup in SETUPS {
            let mut mapping = setup();
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write().long()).expect("it may be written");
            read_only_and_back(&mapping);
            assert_filled(&mapping);
            assert_shared(&mut mapping, &pin);
            drop(pin);
            assert_filled(&mapping);
        }
    }

    /// Memory that was never written: no page of zeros is shared, so a pin to read holds what is written later.
    pub fn test_ro_pin() {
        for (length, policy) in [(PAGE_SIZE, HugePolicy::Never), (BLOCK_SIZE, HugePolicy::Always)] {
            for read in [false, true] {
                let mut mapping = memory::map(length).expect("RAM has room");
                mapping.advise(0..length, policy).expect("records are at hand");
                if read {
                    assert!(is_zero(mapping.as_slice()));
                }
                let pin = mapping.pin(0..length, PinRequest::new().long()).expect("it may be read");
                assert!(pinned(&pin).all(|word| word == 0));
                assert_shared(&mut mapping, &pin);
            }
        }
    }

    /// A block in pages becomes one again, and is written and given up without a byte lost.
    pub fn test_anon_thp_collapse_unshared() {
        let mut mapping = pte_mapped_thp();
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records are at hand");
        let report = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
        assert_eq!(report.slots, [(mapping.start(), Ok(Collapsed::Promoted))]);
        assert_eq!(huge(&mapping), 1);
        assert_filled(&mapping);
        mapping.as_mut_slice().fill(0xff);
        assert!(mapping.as_slice().iter().all(|&byte| byte == 0xff));
    }

    /// Pinned pages that are at home stay there when the slot collapses; those that would have to move refuse it.
    pub fn collapse_under_a_pin() {
        let mut mapping = pte_mapped_thp();
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records are at hand");
        mapping.release(100 * PAGE_SIZE..200 * PAGE_SIZE).expect("whole pages");
        let part = 40 * PAGE_SIZE..60 * PAGE_SIZE;
        let pin = mapping.pin(part.clone(), PinRequest::new().write()).expect("it may be written");
        let collapsed = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
        assert_eq!(collapsed.slots[0].1, Ok(Collapsed::Copied { pages: 0, filled: 100 }));
        assert_eq!(huge(&mapping), 1);
        set_pinned(&pin, |n| n as u64);
        let words = mapping.as_slice()[part].chunks_exact(8).enumerate();
        assert!({ words }.all(|(n, word)| word == (n as u64).to_le_bytes()), "the device has the same frames");
        fill(&mut mapping, 40..60);
        assert_filled_but(&mapping, |page| (100..200).contains(&page));
        drop(pin);

        let mut mapping = memory::map(BLOCK_SIZE).expect("RAM has room");
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        (0..PAGES_PER_SLOT).rev().for_each(|page| fill(&mut mapping, page..page + 1));
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records are at hand");
        let ends = [0..PAGE_SIZE, BLOCK_SIZE - PAGE_SIZE..BLOCK_SIZE];
        let pins = ends.map(|page| mapping.pin(page, PinRequest::new()).expect("it may be read"));
        let refused = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
        assert_eq!((refused.slots[0].1, huge(&mapping)), (Err(Refusal::Pinned), 0));
        assert_filled(&mapping);
        drop(pins);
        assert!(mapping.collapse(0..BLOCK_SIZE, None).expect("a slot").is_complete());
        assert_eq!(huge(&mapping), 1);
        assert_filled(&mapping);
    }

    /// A device goes on writing to what the application has released: nobody else gets to see it, the same page neither.
    pub fn release_under_a_pin() {
        for setup in SETUPS {
            let mut mapping = setup();
            let pages = mapping.len() / PAGE_SIZE;
            let before = frames().orphans;
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write()).expect("it may be written");
            let place = readable(pointer(&mapping, 0));
            mapping.release(0..mapping.len()).expect("whole pages");
            assert_eq!(frames().orphans, before + pages);
            assert!(is_zero(mapping.as_slice()));
            assert_ne!(readable(pointer(&mapping, 0)), place);
            set_pinned(&pin, |_| !0);
            assert!(is_zero(mapping.as_slice()));
            fill(&mut mapping, 0..pages);
            assert!(pinned(&pin).all(|word| word == !0));
            drop(pin);
            assert_eq!(frames().orphans, before);
            assert_filled(&mapping);
        }
    }

    /// As above, of a part of a block, which stays the slot's: all other pages go back to where they were.
    pub fn release_a_part_under_a_pin() {
        let mut mapping = blocks(1);
        let (released, part) = (30..70, 40..60);
        let bytes = |pages: &Range<usize>| pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        let places =
            |mapping: &Mapping| released.clone().map(|page| readable(pointer(mapping, page * PAGE_SIZE))).collect();
        let before: Vec<_> = places(&mapping);
        let pin = mapping.pin(bytes(&part), PinRequest::new().write()).expect("it may be written");
        mapping.release(bytes(&released)).expect("whole pages");
        set_pinned(&pin, |_| !0);
        assert_filled_but(&mapping, |page| released.contains(&page));
        set_pinned(&pin, |n| n as u64);
        fill(&mut mapping, released.clone());
        assert_filled(&mapping);
        assert!(pinned(&pin).enumerate().all(|(n, word)| word == n as u64));
        let after: Vec<_> = places(&mapping);
        for (page, (before, after)) in released.clone().zip(before.iter().zip(&after)) {
            assert_eq!(before == after, !part.contains(&page), "page {page}");
        }
        assert_eq!(huge(&mapping), 0, "a device has a part of its block");
        drop(pin);
        assert!(mapping.collapse(0..BLOCK_SIZE, None).expect("a slot").is_complete());
        assert_eq!(places(&mapping), before);
        assert_filled(&mapping);
    }

    /// The pin outlives the mapping, and whoever maps there next.
    pub fn unmap_under_a_pin() {
        for setup in SETUPS {
            let mapping = setup();
            let (pages, before) = (mapping.len() / PAGE_SIZE, frames().orphans);
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write()).expect("it may be written");
            drop(mapping);
            assert_eq!(frames().orphans, before + pages);
            let mut others = blocks(4);
            set_pinned(&pin, |n| n as u64);
            assert_filled(&others);
            others.as_mut_slice().fill(1);
            assert!(pinned(&pin).enumerate().all(|(n, word)| word == n as u64));
            drop(pin);
            assert_eq!(frames().orphans, before);
        }
    }

    /// A device is not the application: it has what it was given when it was pinned, and cannot be given what is forbidden.
    pub fn protect_under_a_pin() {
        for setup in SETUPS {
            let mapping = setup();
            let pages = 0..mapping.len() / PAGE_SIZE;
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write()).expect("it may be written");
            protect(&mapping, pages.clone(), Access::NONE).expect("mapped");
            set_pinned(&pin, |n| !(n as u64));
            let denied =
                |wanted, allowed| PinError::Fault(FaultError::Denied { address: mapping.start(), wanted, allowed });
            let again = |request| mapping.pin(0..mapping.len(), request).err();
            assert_eq!(again(PinRequest::new()), Some(denied(Access::READ, Access::NONE)));
            protect(&mapping, pages, Access::READ).expect("mapped");
            assert_eq!(again(PinRequest::new()), None);
            assert_eq!(again(PinRequest::new().write()), Some(denied(Access::READ_WRITE, Access::READ)));
            let words = mapping.as_slice().chunks_exact(8).enumerate();
            assert!({ words }.all(|(n, word)| word == (!(n as u64)).to_le_bytes()));
            drop(pin);
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    test_ro_pin_on_ro_exclusive,
    #[cfg(target_os = "none")]
    test_rw_pin_then_ro_mapped,
    #[cfg(target_os = "none")]
    test_ro_pin,
    #[cfg(target_os = "none")]
    test_anon_thp_collapse_unshared,
    #[cfg(target_os = "none")]
    collapse_under_a_pin,
    #[cfg(target_os = "none")]
    release_under_a_pin,
    #[cfg(target_os = "none")]
    release_a_part_under_a_pin,
    #[cfg(target_os = "none")]
    unmap_under_a_pin,
    #[cfg(target_os = "none")]
    protect_under_a_pin,
}
