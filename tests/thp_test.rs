//! Nanos's `thp` cases, in anonymous memory: a window of 2 MiB is a block where it can be, works where it cannot, and comes apart
//! where a part of it goes. How much of it can be read without a fault tells the one from the other.
#![cfg_attr(target_os = "none", no_std, no_main)]

// One core: others would zero blocks in their idle time, and a first touch would get one of them.
ashlar_test::expect!("run memory=64M khugepaged=off cores=1", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{
        assert_filled, assert_filled_but, assert_filled_from, assert_gone, blocks, fill, gap, huge, is_zero, pointer,
        protect, readable,
    };
    use ashlar::memory::{Access, Collapsed, HugePolicy, MapRequest, Mapping, map, set_policy, usage};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT};

    /// How faults may go about blocks.
    const FAULTS: [&str; 2] = ["adaptive", "eager"];

    /// Runs `case` in each manner, with the number of pages that a first touch brings where a block can be.
    fn with_faults(case: impl Fn(usize)) {
        for (fault, pages) in FAULTS.into_iter().zip([PAGES_PER_GROUP, PAGES_PER_SLOT]) {
            set_policy("fault", fault).expect("it is one of two");
            case(pages);
        }
        set_policy("fault", FAULTS[0]).expect("it is the default");
    }

    /// Pages of slot `slot` of `mapping` that can be read without a fault.
    fn resident(mapping: &Mapping, slot: usize) -> usize {
        let at = |page: usize| slot * BLOCK_SIZE + page * PAGE_SIZE;
        (0..PAGES_PER_SLOT)
            .map(at)
            .take_while(|&offset| offset < mapping.len())
            .filter(|&offset| readable(pointer(mapping, offset)).is_some())
            .count()
    }

    fn put(mapping: &mut Mapping, page: usize, value: u8) {
        mapping.as_mut_slice()[page * PAGE_SIZE] = value;
    }

    fn get(mapping: &Mapping, page: usize) -> u8 {
        mapping.as_slice()[page * PAGE_SIZE]
    }

    /// `pages` pages that begin one page behind a slot's start.
    fn unaligned(pages: usize) -> Mapping {
        let place = gap(2 * PAGES_PER_SLOT);
        let slot = place.align_up(BLOCK_SIZE).expect("the gap is long");
        Mapping::new(MapRequest::new(pages * PAGE_SIZE).at(slot + PAGE_SIZE as u64)).expect("nothing is there")
    }

    /// Nothing is shared here; a window that is used is a block all the same.
    pub fn test_shared_mapping_is_huge() {
        with_faults(|first| {
            let mut mapping = map(2 * BLOCK_SIZE).expect("RAM has room");
            for slot in 0..2 {
                assert_eq!(resident(&mapping, slot), 0, "the windows are apart");
                put(&mut mapping, slot * PAGES_PER_SLOT, 0x5A);
                assert_eq!(resident(&mapping, slot), first);
                for group in (0..PAGES_PER_SLOT).step_by(PAGES_PER_GROUP) {
                    put(&mut mapping, slot * PAGES_PER_SLOT + group, 0x5A);
                }
                assert_eq!((resident(&mapping, slot), huge(&mapping)), (PAGES_PER_SLOT, slot + 1));
                let window = &mapping.as_slice()[slot * BLOCK_SIZE..][..BLOCK_SIZE];
                for (page, bytes) in window.chunks_exact(PAGE_SIZE).enumerate() {
                    assert_eq!(bytes[0], if page % PAGES_PER_GROUP == 0 { 0x5A } else { 0 }, "page {page}");
                    assert!(is_zero(&bytes[1..]), "page {page}");
                }
            }
        });
    }

    /// A window of which the mapping has but a part cannot be a block.
    pub fn test_unaligned_offset_falls_back() {
        with_faults(|_| {
            let mut mapping = unaligned(PAGES_PER_SLOT);
            put(&mut mapping, 0, 0x11);
            // Of its group the first page is not in the mapping.
            assert_eq!((resident(&mapping, 0), huge(&mapping)), (1, 0));
            fill(&mut mapping, 0..PAGES_PER_SLOT);
            assert_eq!(usage().blocks, 0, "not even when it is full");
            assert_filled(&mapping);
        });
    }

    /// Memory that wants pages gets pages.
    pub fn test_private_mapping_stays_small() {
        with_faults(|_| {
            let request = MapRequest::new(BLOCK_SIZE).policy(HugePolicy::Never);
            let mut mapping = Mapping::new(request).expect("RAM has room");
            for page in [0, 1, 300] {
                let before = resident(&mapping, 0);
                put(&mut mapping, page, 0x22);
                assert_eq!(resident(&mapping, 0), before + 1);
            }
            fill(&mut mapping, 0..PAGES_PER_SLOT);
            assert_eq!((resident(&mapping, 0), huge(&mapping)), (PAGES_PER_SLOT, 0));
            assert_filled(&mapping);
        });
    }

    /// What is given back inside a block reads as zero and can be used again; nothing beside it is touched.
    pub fn test_punch_inside_huge_window() {
        with_faults(|_| {
            let mut mapping = blocks(1);
            let hole = PAGES_PER_SLOT / 2;
            mapping.release(hole * PAGE_SIZE..(hole + 1) * PAGE_SIZE).expect("a whole page");
            assert_eq!((resident(&mapping, 0), huge(&mapping)), (PAGES_PER_SLOT - 1, 0));
            assert_filled_but(&mapping, |page| page == hole);
            put(&mut mapping, hole, 0x66);
            assert_eq!(get(&mapping, hole), 0x66);
            assert!(is_zero(&mapping.as_slice()[hole * PAGE_SIZE + 1..(hole + 1) * PAGE_SIZE]));
            fill(&mut mapping, hole..hole + 1);
            assert_filled(&mapping);
            assert_eq!(huge(&mapping), 1, "full again, it is a block");
        });
    }

    /// A part of a block is unmapped: at its end, at its start, in the middle.
    pub fn test_partial_unmap_of_huge_window() {
        with_faults(|_| {
            let half = PAGES_PER_SLOT / 2;
            for (start, end) in [(half, PAGES_PER_SLOT), (0, half), (half / 2, half + half / 2)] {
                let mut first = blocks(1);
                let mut gone = first.split_off(start * PAGE_SIZE);
                let last = gone.split_off((end - start) * PAGE_SIZE);
                let (place, length) = (gone.start(), gone.len());
                drop(gone);
                assert_gone(place, length);
                let left = [first, last].into_iter().zip([0, end]).filter(|(part, _)| !part.is_empty());
                for (mut part, from) in left {
                    assert_eq!((resident(&part, 0), huge(&part)), (part.len() / PAGE_SIZE, 0));
                    assert_filled_from(&part, from);
                    let pages = part.len() / PAGE_SIZE;
                    fill(&mut part, 0..pages);
                    assert_filled(&part);
                }
            }
        });
    }

    /// A part of a block is taken away from the application, and given back.
    pub fn test_partial_protect_of_huge_window() {
        with_faults(|_| {
            let mapping = blocks(1);
            protect(&mapping, 100..200, Access::NONE).expect("mapped");
            assert_eq!((resident(&mapping, 0), huge(&mapping)), (PAGES_PER_SLOT - 100, 0));
            protect(&mapping, 100..200, Access::READ_WRITE).expect("mapped");
            assert_eq!((resident(&mapping, 0), huge(&mapping)), (PAGES_PER_SLOT, 1));
            assert_filled(&mapping);
        });
    }

    /// A window that has pages already keeps them; it becomes a block when that is asked for.
    pub fn test_populated_window_falls_back() {
        with_faults(|_| {
            let request = MapRequest::new(BLOCK_SIZE).policy(HugePolicy::Never);
            let mut mapping = Mapping::new(request).expect("RAM has room");
            put(&mut mapping, 1, 0x99);
            mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records");
            put(&mut mapping, 0, 0x88);
            assert!(resident(&mapping, 0) < PAGES_PER_SLOT);
            assert_eq!((get(&mapping, 0), get(&mapping, 1)), (0x88, 0x99));
            let pages = resident(&mapping, 0);
            let report = mapping.collapse(0..BLOCK_SIZE, None).expect("memory for the report");
            let copied = Collapsed::Copied { pages, filled: PAGES_PER_SLOT - pages };
            assert_eq!(report.slots.iter().map(|slot| slot.1).next(), Some(Ok(copied)));
            assert_eq!((get(&mapping, 0), get(&mapping, 1)), (0x88, 0x99));
            assert!(is_zero(&mapping.as_slice()[2 * PAGE_SIZE..]));
        });
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    test_shared_mapping_is_huge,
    #[cfg(target_os = "none")]
    test_unaligned_offset_falls_back,
    #[cfg(target_os = "none")]
    test_private_mapping_stays_small,
    #[cfg(target_os = "none")]
    test_punch_inside_huge_window,
    #[cfg(target_os = "none")]
    test_partial_unmap_of_huge_window,
    #[cfg(target_os = "none")]
    test_partial_protect_of_huge_window,
    #[cfg(target_os = "none")]
    test_populated_window_falls_back,
}
