//! `mremap_test`: memory goes from addresses of one alignment to those of another. Slots that stay slots stay blocks, nothing is
//! copied, and no byte changes, of what moves and of what is beside it.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=128M khugepaged=off overcommit=on",
    "run memory=128M khugepaged=off overcommit=on fault=eager",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{
        UNITS, assert_filled, assert_filled_but, assert_filled_from, assert_gone, fill, filled, gap, huge, is_filled,
        is_zero, parts, pointer, protect, readable, region, remap,
    };
    use alloc::vec::Vec;
    use ashlar::memory::{Access, Destination, HugePolicy, MapRequest, Mapping, MemoryError, RemapRequest, usage};
    use ashlar::mm::address::{BLOCK_SIZE, GROUP_SIZE, PAGE_SIZE, PAGES_PER_SLOT, PhysAddr, VirtAddr};

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    /// What a table, and a table of tables, has descriptors for.
    const PMD: usize = BLOCK_SIZE;
    const PUD: usize = 1 << 30;
    /// Of what is longer, as much is filled.
    const FILLED: usize = 8 * MIB;

    /// Nothing is mapped for gigabytes after these. With an alignment added they are multiples of that, and of no other.
    const FROM: VirtAddr = VirtAddr(8 << 30);
    const TO: VirtAddr = VirtAddr(16 << 30);

    /// `length` bytes at `start`, with their first pages filled.
    fn filled_at(start: VirtAddr, length: usize) -> Mapping {
        let request = MapRequest::new(length).at(start).policy(HugePolicy::Always);
        let mut mapping = Mapping::new(request).expect("nothing is there");
        fill(&mut mapping, 0..length.min(FILLED) / PAGE_SIZE);
        mapping
    }

    fn assert_start_filled(mapping: &Mapping) {
        let bytes = &mapping.as_slice()[..mapping.len().min(FILLED)];
        for (page, bytes) in bytes.chunks_exact(PAGE_SIZE).enumerate() {
            assert!(is_filled(bytes, page), "page {page} is not as it was left");
        }
    }

    /// Where each filled page lies.
    fn places(mapping: &Mapping) -> impl Iterator<Item = Option<PhysAddr>> {
        (0..mapping.len().min(FILLED)).step_by(PAGE_SIZE).map(|offset| readable(pointer(mapping, offset)))
    }

    /// How many slots lie in the filled part of `mapping`.
    fn slots(mapping: &Mapping) -> usize {
        let end = (mapping.start() + mapping.len().min(FILLED) as u64).align_down(BLOCK_SIZE);
        let first = mapping.start().align_up(BLOCK_SIZE).expect("it is far from the end");
        end.0.saturating_sub(first.0) as usize / BLOCK_SIZE
    }

    /// Moves `length` bytes from an address of alignment `from` to one of alignment `to`.
    fn move_region(length: usize, from: usize, to: usize) {
        let mut mapping = filled_at(FROM + from as u64, length);
        assert_eq!(huge(&mapping), slots(&mapping));
        let (old, blocks, there) = (mapping.start(), huge(&mapping), TO + to as u64);
        let frames: Vec<_> = places(&mapping).collect();
        let before = usage();
        mapping.remap(length, Destination::At(there)).expect("nothing is there");
        assert_eq!((mapping.start(), mapping.len()), (there, length));
        assert_gone(old, length);
        let stay = (there.0 - old.0).is_multiple_of(BLOCK_SIZE as u64);
        assert_eq!(huge(&mapping), if stay { blocks } else { 0 });
        assert!(places(&mapping).eq(frames), "nothing was copied");
        assert_start_filled(&mapping);
        let after = usage();
        assert_eq!((after.regions, after.region_pages), (before.regions, before.region_pages));
        assert_eq!((after.committed_pages, after.mapped_bytes()), (before.committed_pages, before.mapped_bytes()));
        // Wherever it lies, its slots can be blocks.
        mapping.collapse(0..length.min(FILLED), None).expect("a sound range");
        assert_eq!(huge(&mapping), slots(&mapping));
        assert_start_filled(&mapping);
    }

    pub fn source_and_destination_regions_overlapping() {
        for unit in UNITS.map(|unit| unit * PAGE_SIZE) {
            let mut mapping = filled(2 * unit / PAGE_SIZE);
            let (start, before) = (mapping.start(), usage());
            for address in [start, start + unit as u64, start + (2 * unit - PAGE_SIZE) as u64] {
                assert_eq!(mapping.remap(2 * unit, Destination::At(address)), Err(MemoryError::IntoItself { address }));
                for request in [RemapRequest::new(unit), RemapRequest::new(2 * unit).keep()] {
                    assert_eq!(remap(start, 2 * unit, request.over(address)), Err(MemoryError::IntoItself { address }));
                }
            }
            assert_eq!(usage(), before, "nothing was changed");
            assert_filled(&mapping);
        }
    }

    pub fn destination_address_misaligned_1kb_aligned() {
        let mut mapping = filled(PAGES_PER_SLOT);
        let address = gap(2 * PAGES_PER_SLOT) + KIB as u64;
        let before = usage();
        assert_eq!(mapping.remap(BLOCK_SIZE, Destination::At(address)), Err(MemoryError::Misaligned { address }));
        assert_eq!((usage(), huge(&mapping)), (before, 1));
        assert_filled(&mapping);
    }

    pub fn source_address_misaligned_1kb_aligned() {
        let mapping = filled(PAGES_PER_SLOT);
        let (address, there, before) = (mapping.start() + KIB as u64, gap(2 * PAGES_PER_SLOT), usage());
        let request = RemapRequest::new(PAGE_SIZE);
        for request in [request, request.at(there), request.over(there), request.anywhere().keep()] {
            assert_eq!(remap(address, PAGE_SIZE, request), Err(MemoryError::Misaligned { address }));
        }
        assert_eq!((usage(), huge(&mapping)), (before, 1));
        assert_filled(&mapping);
    }

    pub fn move_8kb_pte_to_pte() {
        move_region(8 * KIB, PAGE_SIZE, PAGE_SIZE);
        move_region(8 * KIB, PAGE_SIZE, GROUP_SIZE);
        move_region(8 * KIB, GROUP_SIZE, PAGE_SIZE);
    }

    pub fn move_2mb_1mb_to_pte() {
        move_region(2 * MIB, MIB, PAGE_SIZE);
        move_region(2 * MIB, MIB, GROUP_SIZE);
    }

    pub fn move_2mb_1mb_to_1mb() {
        move_region(2 * MIB, MIB, MIB);
    }

    pub fn move_4mb_pmd_to_pte() {
        move_region(4 * MIB, PMD, PAGE_SIZE);
        move_region(4 * MIB, PMD, GROUP_SIZE);
    }

    pub fn move_4mb_pmd_to_1mb() {
        move_region(4 * MIB, PMD, MIB);
    }

    pub fn move_4mb_pmd_to_pmd() {
        move_region(4 * MIB, PMD, PMD);
    }

    pub fn move_2gb_pud_to_pte() {
        move_region(2 * PUD, PUD, PAGE_SIZE);
    }

    pub fn move_2gb_pud_to_1mb() {
        move_region(2 * PUD, PUD, MIB);
    }

    pub fn move_2gb_pud_to_pmd() {
        move_region(2 * PUD, PUD, PMD);
    }

    pub fn move_2gb_pud_to_pud() {
        move_region(2 * PUD, PUD, PUD);
    }

    pub fn move_5mb_1mb_to_1mb() {
        move_region(5 * MIB, MIB, MIB);
    }

    pub fn move_5mb_1mb_to_1mb_with_40mb_preamble() {
        let there = TO + (41 * MIB) as u64;
        let request = MapRequest::new(40 * MIB).at(TO + MIB as u64).policy(HugePolicy::Always);
        let mut preamble = Mapping::new(request).expect("nothing is there");
        fill(&mut preamble, 0..40 * MIB / PAGE_SIZE);
        let blocks = huge(&preamble);
        let mut mapping = filled_at(FROM + MIB as u64, 5 * MIB);
        mapping.remap(5 * MIB, Destination::At(there)).expect("nothing is there");
        assert_eq!((huge(&preamble), huge(&mapping)), (blocks, 2));
        assert_filled(&preamble);
        assert_filled(&mapping);
        let (range, _) = region(there).expect("it is mapped");
        assert_eq!(range, preamble.start()..there + (5 * MIB) as u64, "equal neighbours are one");
    }

    pub fn mremap_expand_merge() {
        for unit in UNITS {
            let [mut first, second, third] = parts(filled(3 * unit));
            let (hole, regions) = (second.start(), usage().regions);
            let blocks = huge(&first) + huge(&third);
            drop(second);
            assert_eq!(usage().regions, regions + 1);
            first.remap(2 * unit * PAGE_SIZE, Destination::Here).expect("nothing is there");
            assert_eq!((first.start() + (unit * PAGE_SIZE) as u64, usage().regions), (hole, regions), "they are one");
            first.append(third).expect("it begins there");
            assert_eq!(huge(&first), blocks);
            assert_filled_but(&first, |page| (unit..2 * unit).contains(&page));
            fill(&mut first, unit..2 * unit);
            assert_filled(&first);
        }
    }

    pub fn mremap_expand_merge_offset() {
        for unit in UNITS {
            let [mut first, mut second, third] = parts(filled(3 * unit));
            let regions = usage().regions;
            drop(third);
            second.remap(2 * unit * PAGE_SIZE, Destination::Here).expect("nothing is there");
            assert_eq!(usage().regions, regions, "it is as it was");
            first.append(second).expect("it begins there");
            assert_filled_but(&first, |page| page >= 2 * unit);
            fill(&mut first, 2 * unit..3 * unit);
            assert_filled(&first);
        }
    }

    pub fn mremap_move_within_range() {
        const HALF: usize = PAGES_PER_SLOT / 2;
        let mut mapping = filled(20 * MIB / PAGE_SIZE);
        let start = mapping.start();
        let mut source = mapping.split_off(7 * MIB);
        let mut tail = source.split_off(MIB);
        let between = mapping.split_off(6 * MIB);
        let place = mapping.split_off(5 * MIB);
        source.move_onto(place).expect("it makes room");
        assert_eq!(source.start(), start + (5 * MIB) as u64);
        assert_gone(start + (7 * MIB) as u64, MIB);
        assert_filled(&mapping);
        assert_filled_from(&source, 7 * HALF);
        assert_filled_from(&between, 6 * HALF);
        assert_filled_from(&tail, 8 * HALF);
        assert_eq!(huge(&mapping) + huge(&tail), 8, "the other blocks stay");
        tail.as_mut_slice().fill(0);
        mapping.append(source).expect("it begins there");
        mapping.append(between).expect("it begins there");
        assert!((0..7 * HALF).all(|page| {
            let bytes = &mapping.as_slice()[page * PAGE_SIZE..][..PAGE_SIZE];
            is_filled(bytes, if (5 * HALF..6 * HALF).contains(&page) { page + 2 * HALF } else { page })
        }));
    }

    pub fn mremap_move_1mb_from_start() {
        const PART: usize = MIB / PAGE_SIZE;
        let offset = (MIB + 256 * KIB) as u64;
        let mut first = filled_at(FROM + offset, 6 * MIB);
        let mut source = first.split_off(MIB);
        let last = source.split_off(MIB);
        let mut before = filled_at(TO + offset, 6 * MIB);
        let mut place = before.split_off(MIB);
        let rest = place.split_off(MIB);
        let start = before.start();
        drop(before);
        source.move_onto(place).expect("it makes room");
        assert_gone(start, MIB);
        assert_gone(FROM + offset + MIB as u64, MIB);
        assert_eq!(source.start(), start + MIB as u64);
        assert_filled(&first);
        assert_filled_from(&source, PART);
        assert_filled_from(&last, 2 * PART);
        assert_filled_from(&rest, 2 * PART);
    }

    /// Refused: what moves or shrinks is of one region. Each by itself shrinks, or goes away.
    pub fn mremap_shrink_multiple_vmas() {
        for unit in UNITS {
            let length = unit * PAGE_SIZE;
            let [first, second, third, fourth] = parts(filled(4 * unit));
            let (start, hole) = (first.start(), second.start());
            drop(second);
            let before = usage();
            for request in [RemapRequest::new(length), RemapRequest::new(length).at(gap(unit))] {
                let refused = remap(start, 4 * length, request);
                assert_eq!(refused, Err(MemoryError::NotMapped { address: hole }));
            }
            protect(&fourth, 0..unit, Access::READ).expect("mapped");
            let refused = remap(third.start(), 2 * length, RemapRequest::new(length));
            assert_eq!(refused, Err(MemoryError::Divided { address: fourth.start() }));
            assert_eq!(usage().region_pages, before.region_pages, "nothing was changed");
            for (part, page) in [(&first, 0), (&third, 2 * unit), (&fourth, 3 * unit)] {
                assert_filled_from(part, page);
            }
        }
    }

    /// Every second part of eleven, the fifth and sixth as one; and where they begin from the start of all.
    fn scattered(unit: usize) -> (VirtAddr, Vec<(usize, Mapping)>) {
        let all = parts::<11>(filled(11 * unit));
        let start = all[0].start();
        let mut kept: Vec<(usize, Mapping)> = Vec::new();
        for (number, part) in all.into_iter().enumerate().filter(|(number, _)| number % 2 == 0 || *number == 5) {
            match kept.last_mut() {
                Some((_, before)) if number == 5 => before.append(part).expect("it begins there"),
                _ => kept.push((number * unit, part)),
            }
        }
        (start, kept)
    }

    fn assert_scattered(start: VirtAddr, kept: &[(usize, Mapping)]) {
        for (page, part) in kept {
            assert_eq!(part.start(), start + (page * PAGE_SIZE) as u64);
            assert_filled_from(part, *page);
        }
    }

    /// Refused as a whole; by themselves, all go. With `keep`, their old addresses stay mapped.
    fn move_multiple(keep: bool) {
        for unit in UNITS {
            let length = 11 * unit * PAGE_SIZE;
            let (start, mut kept) = scattered(unit);
            let there = gap(22 * unit);
            let (before, hole) = (usage(), start + (unit * PAGE_SIZE) as u64);
            for request in [RemapRequest::new(length).at(there), RemapRequest::new(length).over(there).keep()] {
                assert_eq!(remap(start, length, request), Err(MemoryError::NotMapped { address: hole }));
            }
            assert_eq!(usage(), before, "nothing was changed");
            assert_scattered(start, &kept);
            let blocks = |kept: &[(usize, Mapping)]| kept.iter().map(|(_, part)| huge(part)).sum::<usize>();
            let whole = blocks(&kept);
            // There, next to that, and back, where nothing can be reached.
            let mut old = Vec::new();
            for target in [there, there + length as u64] {
                for (page, part) in &mut kept {
                    let to = Destination::At(target + (*page * PAGE_SIZE) as u64);
                    if keep {
                        let taken = part.take(to).expect("nothing is there");
                        old.push(core::mem::replace(part, taken));
                    } else {
                        let from = part.start();
                        part.remap(part.len(), to).expect("nothing is there");
                        assert_gone(from, part.len());
                    }
                }
                assert_scattered(target, &kept);
                assert_eq!(blocks(&kept), whole);
            }
            assert!(old.iter().all(|part| is_zero(part.as_slice())));
            drop(old);
            let request = MapRequest::new(length).at(there).access(Access::NONE);
            let mut rest = Mapping::new(request).expect("nothing is there");
            for (page, part) in kept.iter_mut().rev() {
                let mut place = rest.split_off(*page * PAGE_SIZE);
                drop(place.split_off(part.len()));
                part.move_onto(place).expect("it makes room");
            }
            assert_scattered(there, &kept);
            assert_eq!(blocks(&kept), whole);
        }
    }

    pub fn mremap_move_multiple_vmas() {
        move_multiple(false);
        move_multiple(true);
    }

    /// From the middle of one region to the middle of another: refused as a whole; a part of each goes.
    pub fn mremap_move_multiple_vmas_split() {
        for (unit, keep) in UNITS.into_iter().flat_map(|unit| [(unit, false), (unit, true)]) {
            let length = |parts: usize| parts * unit * PAGE_SIZE;
            let mut first = filled(10 * unit);
            let (start, there) = (first.start(), gap(10 * unit));
            let mut last = first.split_off(length(5)).split_off(length(1));
            let at = |start: VirtAddr, parts: usize| start + length(parts) as u64;
            let request = RemapRequest { keep, ..RemapRequest::new(length(7)).at(there) };
            assert_eq!(remap(at(start, 2), length(7), request), Err(MemoryError::NotMapped { address: at(start, 5) }));
            assert_filled(&first);
            assert_filled_from(&last, 6 * unit);
            let mut end = first.split_off(length(2));
            let rest = last.split_off(length(3));
            for (part, number) in [(&mut end, 2), (&mut last, 6)] {
                let (from, target) = (part.start(), Destination::At(at(there, number - 2)));
                if keep {
                    let taken = part.take(target).expect("nothing is there");
                    assert!(is_zero(core::mem::replace(part, taken).as_slice()));
                } else {
                    part.remap(part.len(), target).expect("nothing is there");
                }
                assert_gone(from, part.len());
                assert_filled_from(part, number * unit);
            }
            assert_filled(&first);
            assert_filled_from(&rest, 9 * unit);
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    source_and_destination_regions_overlapping,
    #[cfg(target_os = "none")]
    destination_address_misaligned_1kb_aligned,
    #[cfg(target_os = "none")]
    source_address_misaligned_1kb_aligned,
    #[cfg(target_os = "none")]
    move_8kb_pte_to_pte,
    #[cfg(target_os = "none")]
    move_2mb_1mb_to_pte,
    #[cfg(target_os = "none")]
    move_2mb_1mb_to_1mb,
    #[cfg(target_os = "none")]
    move_4mb_pmd_to_pte,
    #[cfg(target_os = "none")]
    move_4mb_pmd_to_1mb,
    #[cfg(target_os = "none")]
    move_4mb_pmd_to_pmd,
    #[cfg(target_os = "none")]
    move_2gb_pud_to_pte,
    #[cfg(target_os = "none")]
    move_2gb_pud_to_1mb,
    #[cfg(target_os = "none")]
    move_2gb_pud_to_pmd,
    #[cfg(target_os = "none")]
    move_2gb_pud_to_pud,
    #[cfg(target_os = "none")]
    move_5mb_1mb_to_1mb,
    #[cfg(target_os = "none")]
    move_5mb_1mb_to_1mb_with_40mb_preamble,
    #[cfg(target_os = "none")]
    mremap_expand_merge,
    #[cfg(target_os = "none")]
    mremap_expand_merge_offset,
    #[cfg(target_os = "none")]
    mremap_move_within_range,
    #[cfg(target_os = "none")]
    mremap_move_1mb_from_start,
    #[cfg(target_os = "none")]
    mremap_shrink_multiple_vmas,
    #[cfg(target_os = "none")]
    mremap_move_multiple_vmas,
    #[cfg(target_os = "none")]
    mremap_move_multiple_vmas_split,
}
