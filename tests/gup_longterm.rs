//! `gup_longterm`, of anonymous memory: a long pin of a part of a block moves that part out of the application's blocks, one of
//! all of a block leaves it where it is, and afterwards everything can be given up and comes back.
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
    extern crate alloc;

    use super::backing::{
        assert_filled, assert_filled_but, blocks, dissolve, fill, frames, huge, is_unmovable, is_zero, pinned,
    };
    use super::backing::{pointer, protect, readable, set_pinned, word};
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use ashlar::memory::{self, Access, FaultError, HugePolicy, Mapping, Pin, PinError, PinRequest, Refusal, counter};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, PhysAddr};
    use core::ops::Range;

    const LONG: PinRequest = PinRequest::new().long();

    fn bytes(pages: &Range<usize>) -> Range<usize> {
        pages.start * PAGE_SIZE..pages.end * PAGE_SIZE
    }

    /// The blocks that a pin has frames of.
    fn blocks_of(pin: &Pin) -> BTreeSet<u64> {
        let frames = pin.extents().flat_map(|extent| (extent.start.0..extent.end.0).step_by(PAGE_SIZE));
        frames.map(|frame| frame / BLOCK_SIZE as u64).collect()
    }

    fn block_at(mapping: &Mapping, page: usize) -> u64 {
        readable(pointer(mapping, page * PAGE_SIZE)).expect("it is present").0 / BLOCK_SIZE as u64
    }

    /// What a pin holds are the pages as [`fill`] left them, where the processor finds them, too.
    fn assert_pinned(mapping: &Mapping, pages: &Range<usize>, pin: &Pin) {
        let words = pages.clone().flat_map(|page| (0..PAGE_SIZE / 8).map(move |n| word(page, n)));
        assert!(pinned(pin).eq(words), "pages {pages:?}");
        let places = pin.extents().flat_map(|extent| (extent.start.0..extent.end.0).step_by(PAGE_SIZE));
        let found = pages.clone().map(|page| readable(pointer(mapping, page * PAGE_SIZE)));
        assert!(places.map(|at| Some(PhysAddr(at))).eq(found), "pages {pages:?}");
    }

    /// A part of a block, pinned for long: it leaves the block, which may be given up at any time. With the pin gone, the slot
    /// becomes a block again.
    fn pin_part(request: PinRequest, pages: Range<usize>) {
        let mut mapping = blocks(1);
        let (home, moved) = (block_at(&mapping, 0), counter("migrate_pages").expect("it is counted"));
        let pin = mapping.pin(bytes(&pages), request).expect("there are frames to move to");
        assert_eq!(counter("migrate_pages"), Some(moved + pages.len() as u64));
        assert!(!blocks_of(&pin).contains(&home), "what is pinned left its block");
        assert!(pin.extents().all(|extent| is_unmovable(extent.start)), "for one that is not the application's first");
        assert_pinned(&mapping, &pages, &pin);
        assert_filled(&mapping);
        let refused = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
        assert_eq!((refused.slots[0].1, huge(&mapping)), (Err(Refusal::Pinned), 0), "it cannot come home");
        // A device and the application.
        if request.write {
            set_pinned(&pin, |n| !(n as u64));
            let words = mapping.as_slice()[bytes(&pages)].chunks_exact(8).enumerate();
            assert!({ words }.all(|(n, word)| word == (!(n as u64)).to_le_bytes()));
            fill(&mut mapping, pages.clone());
        }
        // The block is given up under the pin: its frames that no page is in are free.
        assert_eq!(dissolve(mapping.start()), Ok(pages.len()));
        assert_pinned(&mapping, &pages, &pin);
        assert_filled(&mapping);
        drop(pin);
        assert!(mapping.collapse(0..BLOCK_SIZE, None).expect("a slot").is_complete());
        assert_eq!(huge(&mapping), 1);
        assert_filled(&mapping);
    }

    /// A whole block, pinned for long, stays one, and cannot be given up.
    fn pin_block(request: PinRequest) {
        const SLOTS: usize = 2;
        let all = 0..SLOTS * PAGES_PER_SLOT;
        let mut mapping = blocks(SLOTS);
        let before = [0, PAGES_PER_SLOT].map(|page| block_at(&mapping, page));
        let moved = counter("migrate_pages");
        let pin = mapping.pin(0..mapping.len(), request).expect("nothing has to move");
        assert_eq!((huge(&mapping), counter("migrate_pages")), (SLOTS, moved));
        assert!(blocks_of(&pin).into_iter().eq(BTreeSet::from(before)));
        assert_pinned(&mapping, &all, &pin);
        let refused = counter("thp_split_page_failed");
        for slot in [0, BLOCK_SIZE] {
            assert_eq!(dissolve(mapping.start() + slot as u64), Err(Refusal::Pinned));
        }
        assert_eq!((huge(&mapping), counter("thp_split_page_failed")), (SLOTS, refused.map(|refused| refused + 2)));
        // Its mapping may be split: nothing moves.
        protect(&mapping, 5..6, Access::READ).expect("mapped");
        assert_eq!(huge(&mapping), SLOTS - 1);
        assert_pinned(&mapping, &all, &pin);
        assert_eq!(dissolve(mapping.start()), Err(Refusal::Pinned));
        protect(&mapping, 5..6, Access::READ_WRITE).expect("mapped");
        assert_eq!(huge(&mapping), SLOTS, "nor on the way back");
        assert_pinned(&mapping, &all, &pin);
        fill(&mut mapping, all.clone());
        assert_pinned(&mapping, &all, &pin);
        drop(pin);
        assert_eq!(dissolve(mapping.start()), Ok(0));
        assert_filled(&mapping);
    }

    fn pin_parts(request: PinRequest) {
        let middle = PAGES_PER_SLOT / 2;
        for pages in [0..1, middle..middle + PAGES_PER_GROUP, 100..350, 1..PAGES_PER_SLOT] {
            pin_part(request, pages);
        }
    }

    pub fn test_private_rw_pin() {
        pin_parts(LONG.write());
        pin_block(LONG.write());
    }

    pub fn test_private_ro_pin() {
        pin_parts(LONG);
        pin_block(LONG);
        // As Linux's: the memory is read-only when it is pinned. It cannot be pinned to be written then.
        for pages in [0..1, 0..PAGES_PER_SLOT] {
            let mapping = blocks(1);
            protect(&mapping, 0..PAGES_PER_SLOT, Access::READ).expect("mapped");
            let (address, wanted) = (mapping.start(), Access::READ_WRITE);
            let denied = PinError::Fault(FaultError::Denied { address, wanted, allowed: Access::READ });
            assert_eq!(mapping.pin(bytes(&pages), LONG.write()).err(), Some(denied));
            assert_eq!(huge(&mapping), 1, "nothing was moved");
            let pin = mapping.pin(bytes(&pages), LONG).expect("it may be read");
            assert_pinned(&mapping, &pages, &pin);
            assert_filled(&mapping);
        }
    }

    /// Pages of eight blocks, pinned one by one: they end up together, and in the way of no block but their own.
    pub fn long_pins_lie_together() {
        const SLOTS: usize = 8;
        let mut mapping = blocks(SLOTS);
        let page = |slot: usize| slot * PAGES_PER_SLOT + 60 * slot;
        let pins: Vec<_> = (0..SLOTS)
            .map(|slot| mapping.pin(bytes(&(page(slot)..page(slot) + 1)), LONG.write()).expect("a frame is free"))
            .collect();
        let used: BTreeSet<_> = pins.iter().flat_map(blocks_of).collect();
        assert!(used.len() <= 2, "in blocks {used:?}");
        let free = frames().free_blocks;
        for (slot, pin) in pins.iter().enumerate() {
            assert_pinned(&mapping, &(page(slot)..page(slot) + 1), pin);
            let rest = [slot * PAGES_PER_SLOT..page(slot), page(slot) + 1..(slot + 1) * PAGES_PER_SLOT];
            rest.iter().for_each(|rest| mapping.release(bytes(rest)).expect("whole pages"));
        }
        assert_eq!(frames().free_blocks, free + SLOTS, "their blocks are free, though they are pinned");
        assert_filled_but(&mapping, |found| (0..SLOTS).all(|slot| found != page(slot)));
        drop(pins);
        fill(&mut mapping, 0..SLOTS * PAGES_PER_SLOT);
        assert!(mapping.collapse(0..SLOTS * BLOCK_SIZE, None).expect("slots").is_complete());
        assert_eq!(huge(&mapping), SLOTS);
        assert_filled(&mapping);
    }

    /// A pin over several slots, of which some are blocks, some in pages, and some were never touched, and one that fails on the way.
    pub fn long_pins_cross_slots() {
        let mut mapping = memory::map(3 * BLOCK_SIZE).expect("RAM has room");
        mapping.advise(BLOCK_SIZE..2 * BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        fill(&mut mapping, 0..PAGES_PER_SLOT + 100);
        let pages = 10..3 * PAGES_PER_SLOT - 10;
        let pin = mapping.pin(bytes(&pages), LONG.write()).expect("there are frames to move to");
        assert_filled_but(&mapping, |page| page >= PAGES_PER_SLOT + 100);
        fill(&mut mapping, 0..3 * PAGES_PER_SLOT);
        assert_pinned(&mapping, &pages, &pin);
        drop(pin);
        let before = counter("pin_frames").zip(counter("unpin_frames"));
        let (middle, end) = (mapping.start() + BLOCK_SIZE as u64, mapping.start() + 2 * BLOCK_SIZE as u64);
        protect(&mapping, 2 * PAGES_PER_SLOT..3 * PAGES_PER_SLOT, Access::NONE).expect("mapped");
        let denied = FaultError::Denied { address: end, wanted: Access::READ, allowed: Access::NONE };
        assert_eq!(mapping.pin(0..3 * BLOCK_SIZE, LONG).err(), Some(PinError::Fault(denied)));
        let after = counter("pin_frames").zip(counter("unpin_frames"));
        let (pins, unpins) = before.zip(after).map(|(a, b)| (b.0 - a.0, b.1 - a.1)).expect("they are counted");
        assert_eq!((pins, unpins), (2 * PAGES_PER_SLOT as u64, 2 * PAGES_PER_SLOT as u64), "nothing stays pinned");
        assert_ne!(dissolve(middle), Err(Refusal::Pinned));
        protect(&mapping, 2 * PAGES_PER_SLOT..3 * PAGES_PER_SLOT, Access::READ).expect("mapped");
        assert_filled(&mapping);
        assert!(!is_zero(mapping.as_slice()));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    test_private_rw_pin,
    #[cfg(target_os = "none")]
    test_private_ro_pin,
    #[cfg(target_os = "none")]
    long_pins_lie_together,
    #[cfg(target_os = "none")]
    long_pins_cross_slots,
}
