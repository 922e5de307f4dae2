//! LTP's `thp` cases: memory in blocks moves from and to addresses of either alignment; and no race makes the zero block anything
//! but zeros.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=128M cores=2",
    "run memory=128M cores=2 fault=eager",
    "run memory=128M cores=1",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{assert_gone, blocks, fault, filled, huge, is_filled, is_zero, pointer, remap, unmap};
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{Access, MapRequest, Mapping, PinRequest, RemapRequest, VirtAddr, counter, map, pin};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
    use core::sync::atomic::{AtomicBool, Ordering};

    const SLOTS: usize = 4;
    const PAGES: usize = SLOTS * PAGES_PER_SLOT;
    const ROUNDS: usize = 200;

    /// From a block's start or a page further on, to the same: four ways.
    pub fn thp02() {
        for way in 0..4 {
            let (from, to) = (way % 2, way / 2);
            let mapping = blocks(SLOTS);
            let target = filled(PAGES);
            let (source, place) = (mapping.start(), target.start());
            let length = (PAGES - 1) * PAGE_SIZE;
            let at = |start: VirtAddr, pages: usize| start + (pages * PAGE_SIZE) as u64;
            let moved = remap(at(source, from), length, RemapRequest::new(length).over(at(place, to)));
            assert_eq!(moved.map(|range| range.start), Ok(at(place, to)));
            assert_gone(at(source, from), length);
            for page in 0..PAGES - 1 {
                let bytes = &target.as_slice()[(to + page) * PAGE_SIZE..][..PAGE_SIZE];
                assert!(is_filled(bytes, from + page), "way {way}: page {page}");
            }
            let whole = if from == to { SLOTS - 1 } else { 0 };
            assert!(huge(&target) >= whole, "way {way}: slots that stay slots are blocks");
            // What is left of the source.
            let _ = core::mem::ManuallyDrop::new(mapping);
            unmap(source, PAGES * PAGE_SIZE).expect("whole pages");
        }
    }

    /// One thread releases what another reads, pins and asks to write to, all of the time: other memory of zeros stays zero.
    pub fn thp04() {
        let witness = map(BLOCK_SIZE).expect("room");
        assert!(is_zero(witness.as_slice()));
        let victim = Mapping::new(MapRequest::new(BLOCK_SIZE).access(Access::READ)).expect("room");
        let mut written = map(BLOCK_SIZE).expect("room");
        let (start, own) = (victim.start(), written.start());
        let done = AtomicBool::new(false);
        ashlar::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for at in [start, own] {
                        gate::call(move || manager().release(at, BLOCK_SIZE)).expect("mapped");
                    }
                    ashlar::thread::yield_now();
                }
            });
            for round in 0..ROUNDS {
                let page = round % PAGES_PER_SLOT;
                assert_eq!(fault(start + (page * PAGE_SIZE) as u64, Access::READ), Ok(()));
                assert!(fault(start, Access::READ_WRITE).is_err(), "nobody may write there");
                let request = PinRequest::new();
                let pinned = pin(core::ptr::slice_from_raw_parts(pointer(&victim, page * PAGE_SIZE), 1), request);
                let zeros = manager().zero_block();
                for extent in pinned.expect("there is memory").extents() {
                    assert_ne!(Some(extent.start.frame().block()), zeros, "a device gets memory of its own");
                }
                // SAFETY: the byte is in `written`, which is writable and borrowed by nobody.
                unsafe { pointer(&written, page * PAGE_SIZE).write_volatile(1) };
                ashlar::thread::yield_now();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(counter("thp_zero_page_fault") > Some(0), "the zero block was in use");
        assert!(is_zero(witness.as_slice()), "the zero block was written to");
        written.release(0..BLOCK_SIZE).expect("whole pages");
        assert!(is_zero(written.as_slice()));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    thp02,
    #[cfg(target_os = "none")]
    thp04,
}
