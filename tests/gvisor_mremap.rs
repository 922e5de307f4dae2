//! gVisor's cases of `mremap`, over pages, groups and blocks: what is mapped afterwards and what is not, and every byte.
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
    use ashlar::memory::{Access, Destination, MapRequest, Mapping, MemoryError, RemapRequest, usage};
    use ashlar::mm::address::{PAGE_SIZE, PAGES_PER_SLOT, VirtAddr};

    /// Runs a case with each unit, in pages and in bytes.
    fn with_units(case: impl Fn(usize, usize)) {
        UNITS.into_iter().for_each(|unit| case(unit, unit * PAGE_SIZE));
    }

    /// It is where it should be, filled from page `first` on, and its slots are blocks.
    #[track_caller]
    fn assert_at(mapping: &Mapping, start: VirtAddr, pages: usize, first: usize) {
        assert_eq!((mapping.start(), mapping.len()), (start, pages * PAGE_SIZE));
        assert_eq!(huge(mapping), pages / PAGES_PER_SLOT);
        assert_filled_from(mapping, first);
    }

    pub fn noop() {
        with_units(|unit, length| {
            let mut mapping = filled(unit);
            let (start, before) = (mapping.start(), usage());
            for to in [Destination::Here, Destination::Anywhere] {
                mapping.remap(length, to).expect("it is that long");
            }
            assert_eq!(usage(), before);
            assert_at(&mapping, start, unit, 0);
            let mut nothing = Mapping::new(MapRequest::new(length).access(Access::NONE)).expect("there are addresses");
            let start = nothing.start();
            nothing.remap(length, Destination::Here).expect("it is that long");
            assert_eq!((nothing.start(), region(start).map(|(_, access)| access)), (start, Some(Access::NONE)));
        });
    }

    pub fn in_place_shrinking_whole_vma() {
        with_units(|unit, length| {
            let mut mapping = filled(2 * unit);
            let (start, before) = (mapping.start(), usage());
            mapping.remap(length, Destination::Here).expect("mapped");
            assert_gone(start + length as u64, length);
            assert_eq!(usage().mapped_bytes(), before.mapped_bytes() - length);
            assert_eq!(usage().committed_pages, before.committed_pages - unit as u64);
            assert_at(&mapping, start, unit, 0);
        });
    }

    pub fn in_place_shrinking_partial_vma() {
        with_units(|unit, length| {
            let mut mapping = filled(3 * unit);
            let (start, third) = (mapping.start(), mapping.split_off(2 * length));
            mapping.remap(length, Destination::Here).expect("mapped");
            assert_gone(start + length as u64, length);
            assert_at(&mapping, start, unit, 0);
            assert_at(&third, start + 2 * length as u64, unit, 2 * unit);
        });
    }

    /// Linux shrinks from the middle of a region back over another: here that is refused, and the region shrinks by itself.
    pub fn in_place_shrinking_across_vmas() {
        with_units(|unit, length| {
            let mut first = filled(3 * unit);
            let mut rest = first.split_off(length);
            protect(&first, 0..unit, Access::NONE).expect("mapped");
            let before = usage();
            let refused = remap(first.start(), 3 * length, RemapRequest::new(2 * length));
            assert_eq!(refused, Err(MemoryError::Divided { address: rest.start() }));
            assert_eq!(usage(), before, "nothing was changed");
            let (start, second) = (first.start(), rest.start());
            rest.remap(length, Destination::Here).expect("mapped");
            assert_gone(second + length as u64, length);
            assert_eq!(region(start), Some((start..second, Access::NONE)));
            protect(&first, 0..unit, Access::READ_WRITE).expect("mapped");
            assert_at(&first, start, unit, 0);
            assert_at(&rest, second, unit, unit);
        });
    }

    pub fn in_place_expansion_success() {
        with_units(|unit, length| {
            let [mut mapping, second] = parts(filled(2 * unit));
            let (start, committed) = (mapping.start(), usage().committed_pages);
            drop(second);
            mapping.remap(2 * length, Destination::Here).expect("nothing is there");
            assert_eq!((mapping.start(), mapping.len()), (start, 2 * length));
            assert_eq!(usage().committed_pages, committed);
            assert_eq!(huge(&mapping), unit / PAGES_PER_SLOT);
            assert_filled_but(&mapping, |page| page >= unit);
        });
    }

    pub fn in_place_expansion_failure() {
        with_units(|unit, length| {
            let [mut mapping, second, third] = parts(filled(3 * unit));
            let start = mapping.start();
            drop(second);
            let before = usage();
            let refused = mapping.remap(3 * length, Destination::Here);
            assert!(
                matches!(refused, Err(MemoryError::Overlap { start: at, .. }) if at == third.start()),
                "{refused:?}"
            );
            assert_eq!(usage(), before, "nothing was changed");
            assert_gone(start + length as u64, length);
            assert_at(&mapping, start, unit, 0);
            assert_at(&third, start + 2 * length as u64, unit, 2 * unit);
        });
    }

    pub fn may_move_expansion() {
        with_units(|unit, length| {
            let [mut mapping, second, third] = parts(filled(3 * unit));
            let start = mapping.start();
            drop(second);
            mapping.remap(3 * length, Destination::Anywhere).expect("RAM has room");
            assert_ne!(mapping.start(), start);
            assert_gone(start, 2 * length);
            assert_at(&third, start + 2 * length as u64, unit, 2 * unit);
            assert_eq!((mapping.len(), huge(&mapping)), (3 * length, unit / PAGES_PER_SLOT));
            assert_filled_but(&mapping, |page| page >= unit);
        });
    }

    pub fn fixed_source_and_destination_cannot_overlap() {
        with_units(|unit, length| {
            let mapping = filled(unit);
            let (address, before) = (mapping.start(), usage());
            for request in [RemapRequest::new(length), RemapRequest::new(length).keep()] {
                for request in [request.at(address), request.over(address)] {
                    assert_eq!(remap(address, length, request), Err(MemoryError::IntoItself { address }));
                }
            }
            assert_eq!(usage(), before, "nothing was changed");
            assert_at(&mapping, address, unit, 0);
        });
    }

    pub fn fixed_same_size() {
        with_units(|unit, length| {
            let mut mapping = filled(unit);
            let (start, there) = (mapping.start(), gap(unit));
            mapping.remap(length, Destination::At(there)).expect("nothing is there");
            assert_gone(start, length);
            assert_at(&mapping, there, unit, 0);
        });
    }

    pub fn fixed_same_size_unmapping() {
        with_units(|unit, length| {
            let mut mapping = filled(unit);
            let mut place = filled(unit);
            place.as_mut_slice().fill(1);
            let (start, there) = (mapping.start(), place.start());
            mapping.move_onto(place).expect("it makes room");
            assert_gone(start, length);
            assert_at(&mapping, there, unit, 0);
            // What cannot be reached makes room as well.
            let place = Mapping::new(MapRequest::new(length).access(Access::NONE)).expect("there are addresses");
            let (start, there) = (mapping.start(), place.start());
            mapping.move_onto(place).expect("it makes room");
            assert_gone(start, length);
            assert_at(&mapping, there, unit, 0);
        });
    }

    pub fn fixed_shrinking_whole_vma() {
        with_units(|unit, length| {
            let mut mapping = filled(2 * unit);
            let (start, there) = (mapping.start(), gap(2 * unit));
            mapping.remap(length, Destination::At(there)).expect("nothing is there");
            assert_gone(start, 2 * length);
            assert_gone(there + length as u64, length);
            assert_at(&mapping, there, unit, 0);
        });
    }

    pub fn fixed_shrinking_partial_vma() {
        with_units(|unit, length| {
            let mut mapping = filled(3 * unit);
            let (start, there) = (mapping.start(), gap(2 * unit));
            let third = mapping.split_off(2 * length);
            mapping.remap(length, Destination::At(there)).expect("nothing is there");
            assert_gone(start, 2 * length);
            assert_gone(there + length as u64, length);
            assert_at(&mapping, there, unit, 0);
            assert_at(&third, start + 2 * length as u64, unit, 2 * unit);
        });
    }

    /// Refused by Linux too, which has unmapped the end and the destination by then. Here nothing is changed.
    pub fn fixed_shrinking_across_vmas() {
        with_units(|unit, length| {
            let mut first = filled(3 * unit);
            let rest = first.split_off(length);
            protect(&first, 0..unit, Access::NONE).expect("mapped");
            let place = filled(2 * unit);
            let before = usage();
            let refused = remap(first.start(), 3 * length, RemapRequest::new(2 * length).over(place.start()));
            assert_eq!(refused, Err(MemoryError::Divided { address: rest.start() }));
            assert_eq!(usage(), before);
            assert_at(&rest, first.start() + length as u64, 2 * unit, unit);
            assert_at(&place, place.start(), 2 * unit, 0);
            protect(&first, 0..unit, Access::READ_WRITE).expect("mapped");
            assert_at(&first, first.start(), unit, 0);
        });
    }

    pub fn fixed_expansion() {
        with_units(|unit, length| {
            let mut mapping = filled(unit);
            let (start, there) = (mapping.start(), gap(2 * unit));
            mapping.remap(2 * length, Destination::At(there)).expect("nothing is there");
            assert_gone(start, length);
            assert_eq!((mapping.start(), mapping.len()), (there, 2 * length));
            assert_filled_but(&mapping, |page| page >= unit);
            // The same over what is there.
            let mut place = filled(3 * unit);
            place.as_mut_slice().fill(1);
            let (start, there) = (mapping.start(), place.start());
            mapping.move_onto(place).expect("it makes room");
            assert_gone(start, 2 * length);
            assert_eq!((mapping.start(), mapping.len()), (there, 3 * length));
            assert_filled_but(&mapping, |page| page >= unit);
        });
    }

    /// An old length of zero asks for a second mapping of shared memory. There is none.
    fn copy(to: impl Fn(RemapRequest, VirtAddr) -> RemapRequest) {
        with_units(|unit, length| {
            let (mapping, place) = (filled(unit), filled(unit));
            let before = usage();
            let request = to(RemapRequest::new(length), place.start());
            assert_eq!(remap(mapping.start(), 0, request), Err(MemoryError::Empty));
            assert_eq!(usage(), before);
            assert_filled(&mapping);
            assert_filled(&place);
        });
    }

    pub fn in_place_copy() {
        copy(|request, _| request);
    }

    pub fn may_move_copy() {
        copy(|request, _| request.anywhere());
    }

    pub fn must_move_copy() {
        copy(|request, place| request.over(place));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    noop,
    #[cfg(target_os = "none")]
    in_place_shrinking_whole_vma,
    #[cfg(target_os = "none")]
    in_place_shrinking_partial_vma,
    #[cfg(target_os = "none")]
    in_place_shrinking_across_vmas,
    #[cfg(target_os = "none")]
    in_place_expansion_success,
    #[cfg(target_os = "none")]
    in_place_expansion_failure,
    #[cfg(target_os = "none")]
    may_move_expansion,
    #[cfg(target_os = "none")]
    fixed_source_and_destination_cannot_overlap,
    #[cfg(target_os = "none")]
    fixed_same_size,
    #[cfg(target_os = "none")]
    fixed_same_size_unmapping,
    #[cfg(target_os = "none")]
    fixed_shrinking_whole_vma,
    #[cfg(target_os = "none")]
    fixed_shrinking_partial_vma,
    #[cfg(target_os = "none")]
    fixed_shrinking_across_vmas,
    #[cfg(target_os = "none")]
    fixed_expansion,
    #[cfg(target_os = "none")]
    in_place_copy,
    #[cfg(target_os = "none")]
    may_move_copy,
    #[cfg(target_os = "none")]
    must_move_copy,
}
