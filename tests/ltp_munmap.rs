//! LTP's `munmap` cases, over blocks: what is unmapped cannot be reached, bad arguments are refused, and where no record of a
//! region can be had nothing changes.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run memory=64M khugepaged=off", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{
        assert_filled, assert_filled_but, blocks, fault, hoard, huge, is_zero, pointer, readable, region, unmap,
        writable,
    };
    use ashlar::memory::{Access, FaultError, HugePolicy, MapRequest, Mapping, MemoryError, usage};
    use ashlar::mm::address::{BLOCK_SIZE, LOWER_END, PAGE_SIZE, PAGES_PER_SLOT, VirtAddr};
    use core::ops::Range;

    const HALF: usize = PAGES_PER_SLOT / 2;

    /// Unmaps `pages` of `slots` blocks: what is gone cannot be reached, the rest keeps its bytes and `whole` of its blocks, and
    /// what is mapped there anew is zero.
    fn unmap_part(slots: usize, pages: Range<usize>, whole: usize) {
        let mut mapping = blocks(slots);
        let mut part = mapping.split_off(pages.start * PAGE_SIZE);
        let rest = part.split_off(pages.len() * PAGE_SIZE);
        let (start, length) = (part.start(), part.len());
        let ends = [0, length - 1].map(|offset| pointer(&part, offset).cast_const());
        assert!(ends.into_iter().all(|at| readable(at).is_some() && writable(at).is_some()));
        drop(part);
        for at in ends {
            assert_eq!((readable(at), writable(at)), (None, None), "{at:?} is gone");
            let address = VirtAddr(at.addr() as u64);
            for access in [Access::READ, Access::READ_WRITE] {
                assert_eq!(fault(address, access), Err(FaultError::NoRegion { address }));
            }
        }
        assert_eq!(huge(&mapping) + huge(&rest), whole, "blocks that the range does not cut stay");
        let request = MapRequest::new(length).at(start).policy(HugePolicy::Always);
        let mut hole = Mapping::new(request).expect("nothing is there");
        assert!(is_zero(hole.as_slice()), "pages {pages:?} come back as zeros");
        hole.populate(0..length).expect("memory");
        mapping.append(hole).expect("it begins there");
        mapping.append(rest).expect("it begins there");
        assert_filled_but(&mapping, |page| pages.contains(&page));
        assert_eq!(huge(&mapping), slots, "all of it was touched again");
    }

    pub fn munmap01() {
        unmap_part(1, 1..2, 0);
        unmap_part(1, 0..1, 0);
        unmap_part(1, HALF..PAGES_PER_SLOT, 0);
        unmap_part(3, PAGES_PER_SLOT..2 * PAGES_PER_SLOT, 2);
        unmap_part(3, HALF..2 * PAGES_PER_SLOT + HALF, 0);
        unmap_part(3, PAGES_PER_SLOT + 7..2 * PAGES_PER_SLOT, 2);
    }

    pub fn munmap03() {
        let mapping = blocks(2);
        let (before, start) = (usage(), mapping.start());
        let outside = |address: VirtAddr, length| {
            assert_eq!(unmap(address, length), Err(MemoryError::OutsideSpace { address, length }));
        };
        outside(VirtAddr(LOWER_END), PAGE_SIZE);
        outside(VirtAddr(LOWER_END - PAGE_SIZE as u64), 2 * PAGE_SIZE);
        outside(VirtAddr(0xFFFF_FFC0_0000_0000), BLOCK_SIZE);
        outside(VirtAddr(0x1234_5678_9abc_d000), PAGE_SIZE);
        outside(VirtAddr(0), PAGE_SIZE);
        outside(start, usize::MAX);
        outside(start, usize::MAX - PAGE_SIZE / 2 - start.0 as usize);
        assert_eq!(unmap(start, 0), Err(MemoryError::Empty));
        for address in [start + 1, start + (PAGE_SIZE - 1) as u64, start + (BLOCK_SIZE + 8) as u64] {
            assert_eq!(unmap(address, PAGE_SIZE), Err(MemoryError::Misaligned { address }));
        }
        assert_eq!(usage(), before, "nothing was changed");
        assert_eq!(huge(&mapping), 2);
        assert_filled(&mapping);
    }

    fn region_count() -> usize {
        usage().regions as usize
    }

    /// Each page that is unmapped between others makes one region more, until there is no frame for their records. There is no limit
    /// of their number beside that. A region that is unmapped as a whole needs no record.
    pub fn munmap04() {
        const PAGES: usize = 1 << 20;
        let (mapping, mut other) = (blocks(2), blocks(1));
        // A region of its own.
        other.protect(Access::READ).expect("memory");
        let end = pointer(&other, BLOCK_SIZE - 1);
        let nothing = Mapping::new(MapRequest::new(PAGES * PAGE_SIZE).access(Access::NONE)).expect("it costs nothing");
        let page = |number: usize| nothing.start() + (number * PAGE_SIZE) as u64;
        let regions = region_count();
        // Nothing in here may need memory.
        let frames = hoard();
        let (cut, error) = (1..PAGES)
            .step_by(2)
            .enumerate()
            .find_map(|(cut, number)| {
                let refused = unmap(page(number), PAGE_SIZE).err();
                frames.take_more();
                refused.map(|error| (cut, error))
            })
            .expect("memory for records ends");
        let number = 2 * cut + 1;
        assert_eq!(error, MemoryError::NoMemory, "after {cut} regions");
        assert_eq!(region_count(), regions + cut);
        assert_eq!(region(page(number)), Some((page(number - 1)..page(PAGES), Access::NONE)), "nothing was changed");
        assert_eq!(huge(&mapping), 2);
        assert_filled(&mapping);
        // A page in the middle of a block: there is room for one region more among those around it.
        let inside = mapping.start() + (HALF * PAGE_SIZE) as u64;
        assert_eq!(unmap(inside, PAGE_SIZE), Ok(()));
        assert_eq!((region(inside), region_count()), (None, regions + cut + 1));
        assert_eq!(huge(&mapping), 1, "one block was cut");
        drop(other);
        assert_eq!((readable(end), region_count()), (None, regions + cut), "a whole region needs no record");
        drop(frames);
        assert_eq!(unmap(page(number), PAGE_SIZE), Ok(()));
        assert_eq!((region(page(number)), region_count()), (None, regions + cut + 1));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    munmap01,
    #[cfg(target_os = "none")]
    munmap03,
    #[cfg(target_os = "none")]
    munmap04,
}
