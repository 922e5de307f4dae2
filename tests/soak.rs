//! Four cores fault, split, unmap, protect, release, collapse, move, pin and dissolve one region at random, while RAM is fragmented,
//! again and again short, and the background at work; every byte that is read is checked. For a minute of the guest's time, or
//! `seconds=N`.
//!
//! In slots with an even number each page belongs to one thread, neighbours to different ones: what a thread does to its
//! pages splits, breaks and promotes what the others are using. Slots with an odd number belong to one thread as a whole.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run cores=4 memory=128M defrag=defer", "output test result: ok");

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::vec;
    use alloc::vec::Vec;
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{Access, HugePolicy, MapRequest, Mapping, MemoryError, counter, map, pressure};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT, PhysAddr, VirtAddr};
    use ashlar::mm::huge::Unit;
    use ashlar::mm::mmu::Mmu;
    use ashlar::mm::pin::PinRequest;
    use ashlar::sync::Mutex;
    use ashlar::{println, thread, time};
    use core::ops::Range;
    use core::sync::atomic::{AtomicU64, Ordering};
    use core::time::Duration;

    const THREADS: usize = 4;
    const SLOTS: usize = 16;
    const PAGES: usize = SLOTS * PAGES_PER_SLOT;
    const WORDS: usize = PAGE_SIZE / 8;

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % bound
        }
    }

    /// What a thread knows of its pages: 0 for zeros, else what the page was filled with.
    struct Owner {
        base: VirtAddr,
        number: usize,
        random: Random,
        stamps: Vec<u32>,
        next: u32,
        checked: u64,
    }

    fn owner_of(page: usize) -> usize {
        let slot = page / PAGES_PER_SLOT;
        if slot.is_multiple_of(2) { page % THREADS } else { slot / 2 % THREADS }
    }

    fn word(page: usize, stamp: u32, word: usize) -> u64 {
        if stamp == 0 { 0 } else { (page as u64) << 44 | u64::from(stamp) << 12 | word as u64 }
    }

    impl Owner {
        fn at(&self, page: usize) -> *mut u64 {
            core::ptr::with_exposed_provenance_mut((self.base + (page * PAGE_SIZE) as u64).0 as usize)
        }

        fn fill(&mut self, page: usize) {
            self.next += 1;
            let (at, stamp) = (self.at(page), self.next);
            // SAFETY: the page is mapped, writable, and this thread's own.
            (0..WORDS).for_each(|n| unsafe { at.add(n).write_volatile(word(page, stamp, n)) });
            self.stamps[page] = stamp;
        }

        fn check(&mut self, page: usize) {
            let (at, stamp) = (self.at(page), self.stamps[page]);
            for n in 0..WORDS {
                // SAFETY: the page is mapped, readable, and this thread's own.
                let found = unsafe { at.add(n).read_volatile() };
                let wanted = word(page, stamp, n);
                assert!(
                    found == wanted,
                    "page {page} of thread {}, word {n}: {found:#x}, not {wanted:#x}",
                    self.number
                );
            }
            self.checked += PAGE_SIZE as u64;
        }

        /// Some pages of this thread's that lie together: one, or (in a slot that is all its own) up to all of it.
        fn pages(&mut self) -> Range<usize> {
            let slot = self.random.below(SLOTS);
            let first = slot * PAGES_PER_SLOT;
            if owner_of(first) != self.number || slot.is_multiple_of(2) {
                let slot = slot & !1;
                let page = slot * PAGES_PER_SLOT + self.random.below(PAGES_PER_SLOT / THREADS) * THREADS + self.number;
                return page..page + 1;
            }
            match self.random.below(8) {
                0 => first..first + PAGES_PER_SLOT,
                1 => first + self.random.below(32) * 16..first + PAGES_PER_SLOT,
                _ => {
                    let start = self.random.below(PAGES_PER_SLOT);
                    first + start..first + (start + 1 + self.random.below(24)).min(PAGES_PER_SLOT)
                }
            }
        }

        fn operate<R: 'static>(&self, pages: &Range<usize>, act: impl FnOnce(VirtAddr, usize) -> R + 'static) -> R {
            let (start, length) = (self.base + (pages.start * PAGE_SIZE) as u64, pages.len() * PAGE_SIZE);
            gate::call(move || act(start, length))
        }

        fn step(&mut self) {
            let pages = self.pages();
            match self.random.below(600) {
                0 => return self.press(),
                1 => return self.fragment(),
                _ => {}
            }
            match self.random.below(13) {
                0..=3 => pages.for_each(|page| self.fill(page)),
                4 | 5 => pages.for_each(|page| self.check(page)),
                6 => {
                    let released = self.operate(&pages, |start, length| manager().release(start, length));
                    released.expect("the pages are mapped");
                    self.stamps[pages].fill(0);
                }
                7 => {
                    let again = self.operate(&pages, |start, length| {
                        manager().unmap(start, length)?;
                        manager().map(MapRequest::new(length).at(start)).map(|_| ())
                    });
                    again.unwrap_or_else(|error: MemoryError| panic!("mapped again: {error}"));
                    self.stamps[pages].fill(0);
                }
                8 => self.move_something(pages),
                9 => self.pin(pages),
                _ => {
                    let protect = |access| move |start, length| manager().protect(start, length, access);
                    self.operate(&pages, protect(Access::READ)).expect("the pages are mapped");
                    pages.clone().for_each(|page| self.check(page));
                    self.operate(&pages, protect(Access::READ_WRITE)).expect("the pages are mapped");
                }
            }
        }
    }

    /// RAM is fragmented, or was brought to be short, by one thread at a time.
    static PRESSED: Mutex<()> = Mutex::new(());

    impl Owner {
        /// Takes what is free until memory is low, and a little more; then gives it back.
        fn press(&mut self) {
            let Ok(_alone) = PRESSED.try_lock() else { return };
            let request = MapRequest::new(96 << 20).policy(HugePolicy::Never);
            let Ok(mut hold) = Mapping::new(request) else { return };
            let (low, _) = gate::call(|| manager().frames().watermarks());
            let floor = low / 2 + self.random.below(low);
            for page in hold.as_mut_slice().chunks_mut(PAGE_SIZE) {
                if gate::call(|| manager().frames().spare()) < floor {
                    break;
                }
                page[0] = 1;
            }
            thread::yield_now();
        }

        /// Leaves no free block, for a moment: half of what is free is held, a page here and there.
        fn fragment(&mut self) {
            let Ok(_alone) = PRESSED.try_lock() else { return };
            let request = MapRequest::new(96 << 20).policy(HugePolicy::Never);
            let Ok(mut hold) = Mapping::new(request) else { return };
            let (_, high) = gate::call(|| manager().frames().watermarks());
            let mut end = 0;
            while end < hold.len() && gate::call(|| manager().frames().spare()) > 2 * high {
                hold.as_mut_slice()[end] = 1;
                end += PAGE_SIZE;
            }
            for start in (0..end).step_by(2 * PAGE_SIZE) {
                hold.release(start..start + PAGE_SIZE).expect("a whole page");
            }
            // Touched for the first time now, and in the background's hands then.
            let mut memory = map(2 * BLOCK_SIZE).expect("the limit is lifted");
            memory
                .as_mut_slice()
                .chunks_mut(8)
                .zip(1_u64..)
                .for_each(|(word, n)| word.copy_from_slice(&n.to_le_bytes()));
            thread::sleep(Duration::from_millis(50 + self.random.below(100) as u64));
            assert!(memory.as_slice().chunks(8).zip(1_u64..).all(|(word, n)| word == n.to_le_bytes()));
            self.checked += memory.len() as u64;
        }

        /// Makes a block of the slot, or gives one up, or moves a page or a group: others' pages as well.
        fn move_something(&mut self, pages: Range<usize>) {
            let slot = pages.start - pages.start % PAGES_PER_SLOT;
            match self.random.below(4) {
                0 | 1 => {
                    let collapse = |start, length| manager().collapse(start, length, || false, |_, _| ());
                    self.operate(&(slot..slot + PAGES_PER_SLOT), collapse).expect("a sound range");
                }
                // Refused or not, nothing is to be seen of it.
                2 => _ = self.operate(&pages, |start, _| manager().dissolve(start)),
                _ => {
                    let unit = if self.random.below(2) == 0 { Unit::Page } else { Unit::Group };
                    _ = self.operate(&pages, move |start, _| manager().migrate(start, unit));
                }
            }
        }

        /// Looks at pages as a device would, by their physical addresses, and writes to them so.
        fn pin(&mut self, pages: Range<usize>) {
            let request = PinRequest { write: true, long: self.random.below(4) == 0, below: None };
            // A page that must move may be in a group that others have pinned.
            let Ok(pin) = self.operate(&pages, move |start, length| manager().pin(start, length, request)) else {
                return;
            };
            let frames = manager().extents(&pin).flat_map(|extent| (extent.start.0..extent.end.0).step_by(PAGE_SIZE));
            let frames: Vec<_> = frames.map(PhysAddr).collect();
            assert_eq!(frames.len(), pages.len());
            self.next += 1;
            for (page, frame) in pages.zip(frames) {
                let (at, stamp) = (manager().machine().linear(frame).cast::<u64>(), self.next);
                for n in 0..WORDS {
                    // SAFETY: the frame is RAM, which the linear map shows, and it is pinned: the page's, and so this thread's.
                    let found = unsafe { at.add(n).read_volatile() };
                    assert_eq!(found, word(page, self.stamps[page], n), "page {page}, word {n}, by {frame}");
                    // SAFETY: as above.
                    unsafe { at.add(n).write_volatile(word(page, stamp, n)) };
                }
                self.stamps[page] = stamp;
            }
            gate::call(move || manager().unpin(pin));
        }
    }

    fn seconds() -> u64 {
        let argument = ashlar::args().find(|argument| argument.key == "seconds").and_then(|argument| argument.value);
        argument.map_or(60, |value| value.parse().expect("seconds=N"))
    }

    pub fn every_byte_is_as_it_was_left() {
        gate::call(|| manager().set_overcommit(true));
        let mapping = map(SLOTS * BLOCK_SIZE).expect("RAM has room");
        let base = mapping.start();
        let until = time::now() + Duration::from_secs(seconds());
        let (steps, checked) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (steps, checked) = (&steps, &checked);
                scope.spawn(move || {
                    let random = Random(number as u64 + 1);
                    let mut owner = Owner { base, number, random, stamps: vec![0; PAGES], next: 0, checked: 0 };
                    while time::now() < until {
                        (0..64).for_each(|_| owner.step());
                        steps.fetch_add(64, Ordering::Relaxed);
                    }
                    (0..PAGES).filter(|&page| owner_of(page) == number).for_each(|page| owner.check(page));
                    checked.fetch_add(owner.checked, Ordering::Relaxed);
                });
            }
        });
        let (steps, checked) = (steps.into_inner(), checked.into_inner() >> 20);
        println!("soak: {steps} steps, {checked} MiB checked, 0 wrong bytes");
        println!("  {}", pressure());
        const COUNTS: [&str; 15] = [
            "pgfault",
            "spurious_fault",
            "thp_split_pmd",
            "promote",
            "collapse",
            "collapse_adopt",
            "migrate_pages",
            "pin_frames",
            "khugepaged_collapsed",
            "compact_blocks",
            "kswapd_steal",
            "thp_fault_fallback",
            "access_flag_fault",
            "tlb_flush_page",
            "tlb_flush_all",
        ];
        COUNTS.iter().for_each(|name| println!("  {name} {}", counter(name).expect("it is counted")));
        assert!(COUNTS[2..12].iter().all(|name| counter(name) > Some(0)), "something never happened");
        drop(mapping);
    }
}
#[cfg(target_os = "none")]
use guest::every_byte_is_as_it_was_left;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    every_byte_is_as_it_was_left,
}
