//! `mremap_dontunmap`: memory moves and its old addresses stay mapped, to be zero; over pages, groups and blocks. No region is
//! cut for it where there was one before.
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
        UNITS, assert_filled, assert_filled_but, assert_filled_from, fill, filled, huge, is_filled, is_zero, readable,
        region, remap,
    };
    use ashlar::memory::{Access, Destination, MapRequest, Mapping, MemoryError, RemapRequest, usage};
    use ashlar::mm::address::{PAGE_SIZE, PAGES_PER_SLOT};

    /// That many units are moved.
    const UNITS_MOVED: usize = 5;

    /// How many blocks `units` units are.
    fn blocks_of(unit: usize, units: usize) -> usize {
        unit / PAGES_PER_SLOT * units
    }

    /// All of `mapping` is in one region.
    #[track_caller]
    fn assert_one_region(mapping: &Mapping) {
        let (range, access) = region(mapping.start()).expect("it is mapped");
        assert!(range.start <= mapping.start() && mapping.start() + mapping.len() as u64 <= range.end, "{range:?}");
        assert_eq!(access, mapping.access());
    }

    /// Nothing of `mapping` is present, all of it is zero, and it can be used as ever.
    #[track_caller]
    fn assert_left(mapping: &mut Mapping) {
        let start = mapping.start();
        let at = |offset: usize| core::ptr::with_exposed_provenance((start + offset as u64).0 as usize);
        assert!((0..mapping.len()).step_by(PAGE_SIZE).all(|offset| readable(at(offset)).is_none()));
        assert!(is_zero(mapping.as_slice()));
        let pages = mapping.len() / PAGE_SIZE;
        fill(mapping, 0..pages);
        assert_filled(mapping);
    }

    pub fn kernel_support_for_mremap_dontunmap() {
        for unit in UNITS {
            let request = MapRequest::new(unit * PAGE_SIZE).access(Access::NONE);
            let mut source = Mapping::new(request).expect("there are addresses");
            let committed = usage().committed_pages;
            let taken = source.take(Destination::Anywhere).expect("there are addresses");
            assert_ne!(taken.start(), source.start());
            assert_eq!(usage().committed_pages, committed, "it costs nothing");
            [&source, &taken].into_iter().for_each(assert_one_region);
        }
    }

    pub fn mremap_dontunmap_simple() {
        for unit in UNITS {
            let pages = UNITS_MOVED * unit;
            let mut source = filled(pages);
            let (before, start) = (usage(), source.start());
            let taken = source.take(Destination::Anywhere).expect("RAM has room");
            let after = usage();
            assert_eq!((source.start(), source.len(), taken.len()), (start, pages * PAGE_SIZE, pages * PAGE_SIZE));
            assert_eq!(after.mapped_bytes(), before.mapped_bytes(), "what is there is there once");
            assert_eq!(after.committed_pages, before.committed_pages + pages as u64);
            assert!(after.regions <= before.regions + 1, "one more, unless they are neighbours");
            [&source, &taken].into_iter().for_each(assert_one_region);
            assert_eq!((huge(&source), huge(&taken)), (0, blocks_of(unit, UNITS_MOVED)));
            assert_left(&mut source);
            assert_filled(&taken);
        }
    }

    pub fn mremap_dontunmap_simple_fixed() {
        for unit in UNITS {
            let pages = UNITS_MOVED * unit;
            let length = pages * PAGE_SIZE;
            let mut place = filled(pages);
            place.as_mut_slice().fill(b'X');
            let mut source = filled(pages);
            let before = usage();
            let refused = source.take(Destination::At(place.start())).err();
            assert!(matches!(refused, Some(MemoryError::Overlap { .. })), "{refused:?}");
            assert!(place.as_slice().iter().all(|&byte| byte == b'X'));
            let there = remap(source.start(), length, RemapRequest::new(length).over(place.start()).keep());
            assert_eq!(there, Ok(place.start()..place.start() + length as u64));
            let after = usage();
            assert_eq!(after.mapped_bytes(), before.mapped_bytes() - length, "what was there is free");
            assert_eq!((after.regions, after.committed_pages), (before.regions, before.committed_pages));
            assert_eq!((huge(&source), huge(&place)), (0, blocks_of(unit, UNITS_MOVED)));
            assert_left(&mut source);
            assert_filled(&place);
        }
    }

    pub fn mremap_dontunmap_partial_mapping() {
        for unit in UNITS {
            let half = UNITS_MOVED * unit;
            let mut source = filled(2 * half);
            let (whole, regions) = (source.start()..source.start() + source.len() as u64, usage().regions);
            let mut end = source.split_off(half * PAGE_SIZE);
            let taken = end.take(Destination::Anywhere).expect("RAM has room");
            let (range, _) = region(whole.start).expect("it is mapped");
            assert!(range.start <= whole.start && whole.end <= range.end, "it was not cut");
            assert!(usage().regions <= regions + 1);
            let blocks = blocks_of(unit, UNITS_MOVED);
            assert_eq!((huge(&source), huge(&end), huge(&taken)), (blocks, 0, blocks));
            assert_filled_from(&taken, half);
            assert_filled(&source);
            source.append(end).expect("it begins there");
            assert_filled_but(&source, |page| page >= half);
        }
    }

    pub fn mremap_dontunmap_partial_mapping_overwrite() {
        for unit in UNITS {
            let pages = UNITS_MOVED * unit;
            let length = pages * PAGE_SIZE;
            let mut source = filled(pages);
            let place = filled(2 * pages);
            let regions = usage().regions;
            // The first half of it: then the whole is one region again.
            let there = remap(source.start(), length, RemapRequest::new(length).over(place.start()).keep());
            assert_eq!(there, Ok(place.start()..place.start() + length as u64));
            assert_eq!(usage().regions, regions);
            assert_one_region(&place);
            let blocks = blocks_of(unit, UNITS_MOVED);
            assert_eq!((huge(&source), huge(&place)), (0, 2 * blocks));
            assert_filled(&place);
            assert_left(&mut source);
            // The last half: then each page is there twice.
            let end = place.start() + length as u64;
            assert_eq!(
                remap(source.start(), length, RemapRequest::new(length).over(end).keep()),
                Ok(end..end + length as u64)
            );
            let mut found = place.as_slice().chunks_exact(PAGE_SIZE).enumerate();
            assert!(found.all(|(page, bytes)| is_filled(bytes, page % pages)));
            assert_eq!(usage().regions, regions);
            assert_left(&mut source);
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    kernel_support_for_mremap_dontunmap,
    #[cfg(target_os = "none")]
    mremap_dontunmap_simple,
    #[cfg(target_os = "none")]
    mremap_dontunmap_simple_fixed,
    #[cfg(target_os = "none")]
    mremap_dontunmap_partial_mapping,
    #[cfg(target_os = "none")]
    mremap_dontunmap_partial_mapping_overwrite,
}
