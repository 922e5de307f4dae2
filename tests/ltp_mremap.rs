//! LTP's `mremap` cases, over pages, groups and blocks: bad arguments are refused and change nothing, and what moves keeps its bytes.
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
    use super::backing::{
        UNITS, assert_filled, assert_filled_but, assert_filled_from, assert_gone, filled, gap, huge, parts, protect,
        region, remap,
    };
    use ashlar::memory::{Access, Destination, MemoryError, RemapRequest, usage};
    use ashlar::mm::address::{BLOCK_SIZE, LOWER_END, PAGE_SIZE, PAGES_PER_SLOT, VirtAddr};

    /// Linux's case grows a mapped file.
    pub fn mremap01() {
        for unit in UNITS.map(|unit| unit * PAGE_SIZE) {
            let mut mapping = filled(unit / PAGE_SIZE);
            let blocks = huge(&mapping);
            mapping.remap(2 * unit, Destination::Anywhere).expect("RAM has room");
            assert_eq!((mapping.len(), huge(&mapping)), (2 * unit, blocks));
            assert_filled_but(&mapping, |page| page >= unit / PAGE_SIZE);
            mapping.as_mut_slice().fill(7);
            assert!(mapping.as_slice().iter().all(|&byte| byte == 7), "all of it can be written");
        }
    }

    pub fn mremap02() {
        let mapping = filled(2 * PAGES_PER_SLOT);
        let (before, start) = (usage(), mapping.start());
        let request = RemapRequest::new(2 * PAGE_SIZE);
        for request in [request, request.anywhere(), request.at(gap(2)), request.over(gap(2))] {
            for address in [start + 1, start + (PAGE_SIZE - 1) as u64, start + (BLOCK_SIZE + 8) as u64] {
                assert_eq!(remap(address, PAGE_SIZE, request), Err(MemoryError::Misaligned { address }));
            }
            assert_eq!(remap(start, 0, request), Err(MemoryError::Empty));
            assert_eq!(remap(start, PAGE_SIZE, RemapRequest { length: 0, ..request }), Err(MemoryError::Empty));
        }
        assert_eq!((usage(), huge(&mapping)), (before, 2), "nothing was changed");
        assert_filled(&mapping);
    }

    pub fn mremap03() {
        let length = 1000 * PAGE_SIZE;
        let mapping = filled(1000);
        let (before, address) = (usage(), gap(2000));
        let request = RemapRequest::new(2 * length).anywhere();
        assert_eq!(remap(address, length, request), Err(MemoryError::NotMapped { address }));
        for address in [VirtAddr(LOWER_END), VirtAddr(0), VirtAddr(0xFFFF_FFC0_0000_0000)] {
            assert_eq!(remap(address, length, request), Err(MemoryError::OutsideSpace { address, length }));
        }
        // The first page is mapped, another is not.
        let mut first = mapping;
        let third = first.split_off(500 * PAGE_SIZE).split_off(PAGE_SIZE);
        let address = first.start() + first.len() as u64;
        for request in [request, RemapRequest::new(PAGE_SIZE), RemapRequest::new(length).at(gap(1000))] {
            assert_eq!(remap(first.start(), length, request), Err(MemoryError::NotMapped { address }));
        }
        assert_eq!(usage().region_pages, before.region_pages - 1, "nothing was changed");
        assert_filled(&first);
        assert_filled_from(&third, 501);
    }

    pub fn mremap04() {
        for unit in UNITS {
            let length = unit * PAGE_SIZE;
            let mapping = filled(2 * unit);
            let (before, start) = (usage(), mapping.start());
            let refused = remap(start, length, RemapRequest::new(2 * length));
            assert!(matches!(refused, Err(MemoryError::Overlap { .. })), "what grows runs into itself: {refused:?}");
            let [mut first, second, third] = parts(filled(3 * unit));
            drop(second);
            let (there, _) = region(third.start()).expect("it is mapped");
            let overlap = MemoryError::Overlap { start: there.start, end: there.end };
            for length in [3 * length, 2 * length + 1] {
                assert_eq!(first.remap(length, Destination::Here), Err(overlap));
            }
            assert_eq!(usage().region_pages, before.region_pages + 2 * unit as u64, "nothing was changed");
            assert_filled(&mapping);
            assert_filled(&first);
            assert_filled_from(&third, 2 * unit);
        }
    }

    /// There is no flag to say that what is to go to an address may move.
    pub fn mremap05() {
        for unit in UNITS {
            let length = unit * PAGE_SIZE;
            let mut mapping = filled(2 * unit);
            let (start, blocks) = (mapping.start(), huge(&mapping));
            let address = gap(2 * unit) + 1;
            assert_eq!(mapping.remap(length, Destination::At(address)), Err(MemoryError::Misaligned { address }));
            for address in [start, start + length as u64] {
                for request in [RemapRequest::new(length).at(address), RemapRequest::new(length).over(address)] {
                    assert_eq!(remap(start, 2 * length, request), Err(MemoryError::IntoItself { address }));
                }
            }
            assert_filled(&mapping);
            // To where nothing is.
            let there = gap(2 * unit);
            mapping.remap(2 * length, Destination::At(there)).expect("nothing is there");
            assert_eq!((mapping.start(), mapping.len(), huge(&mapping)), (there, 2 * length, blocks));
            assert_filled(&mapping);
            assert_gone(start, 2 * length);
            // To where something is.
            let mut place = filled(2 * unit);
            place.as_mut_slice().fill(2);
            let (there, committed) = (place.start(), usage().committed_pages);
            let refused = mapping.remap(2 * length, Destination::At(there));
            assert!(matches!(refused, Err(MemoryError::Overlap { .. })), "{refused:?}");
            assert!(place.as_slice().iter().all(|&byte| byte == 2));
            let from = mapping.start();
            mapping.move_onto(place).expect("it makes room");
            assert_eq!((mapping.start(), mapping.len(), huge(&mapping)), (there, 2 * length, blocks));
            assert_eq!(usage().committed_pages, committed - 2 * unit as u64);
            assert_filled(&mapping);
            assert_gone(from, 2 * length);
        }
    }

    /// The second of three parts goes away, and comes back between two that it is one region with, or one of which has another access
    /// meanwhile.
    pub fn mremap06() {
        for unit in UNITS {
            let length = (unit * PAGE_SIZE) as u64;
            for apart in [None, Some(2), Some(0)] {
                let [mut mapping, mut second, third, last] = parts(filled(4 * unit));
                let (start, hole) = (mapping.start(), second.start());
                second.move_onto(last).expect("it makes room");
                assert_gone(hole, unit * PAGE_SIZE);
                match apart {
                    None => Ok(()),
                    Some(0) => protect(&mapping, 0..unit, Access::READ),
                    Some(_) => protect(&third, 0..unit, Access::READ),
                }
                .expect("mapped");
                second.remap(unit * PAGE_SIZE, Destination::At(hole)).expect("nothing is there");
                mapping.append(second).expect("it begins there");
                mapping.append(third).expect("it begins there");
                assert_filled(&mapping);
                assert!(unit < PAGES_PER_SLOT || huge(&mapping) == 3);
                let range = |part: u64| region(start + part * length).expect("it is mapped").0;
                assert_eq!(range(0) == range(1), apart != Some(0));
                assert_eq!(range(1) == range(2), apart != Some(2));
                assert_eq!((range(0).start, range(2).end), (start, start + 3 * length));
            }
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    mremap01,
    #[cfg(target_os = "none")]
    mremap02,
    #[cfg(target_os = "none")]
    mremap03,
    #[cfg(target_os = "none")]
    mremap04,
    #[cfg(target_os = "none")]
    mremap05,
    #[cfg(target_os = "none")]
    mremap06,
}
