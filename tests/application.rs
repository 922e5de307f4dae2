//! What an application sees: arguments, heap, mappings, time, no input, no place for output.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run word key=\"two words\" memory=128M log=warn",
    "run word key=\"two words\" memory=128M fault=eager",
    "run word key=\"two words\" memory=4G el=2",
    "output test result: ok"
);

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use ashlar::memory::{self, Access, Destination, HugePolicy, MapRequest, Mapping, MemoryError, Ring, is_huge};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
    use ashlar::output::{File, FileError};
    use ashlar::{input, time};
    use core::alloc::Layout;
    use core::hint::black_box;
    use core::time::Duration;

    /// A linear congruential generator (Knuth's MMIX): the high bits are good enough.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % bound
        }
    }

    pub fn arguments_are_the_applications() {
        let arguments: Vec<_> = ashlar::args().map(|argument| (argument.key, argument.value)).collect();
        assert_eq!(arguments, [("word", None), ("key", Some("two words"))]);
    }

    pub fn allocations_keep_their_contents() {
        let mut random = Random(1);
        let mut live: Vec<(Vec<u8>, u8)> = Vec::new();
        for step in 0..3000 {
            let size = match random.below(100) {
                0 => random.below(4 << 20),
                1..10 => random.below(100_000),
                _ => random.below(300),
            };
            match random.below(5) {
                0 | 1 => {
                    let value = step as u8;
                    live.push((alloc::vec![value; size], value));
                }
                2 if !live.is_empty() => {
                    let index = random.below(live.len());
                    let (vector, value) = &mut live[index];
                    vector.resize(size, *value);
                    vector.shrink_to_fit();
                }
                _ if !live.is_empty() => {
                    let index = random.below(live.len());
                    let (vector, value) = live.swap_remove(index);
                    assert!(vector.iter().all(|byte| *byte == value), "step {step}: {} bytes of {value}", vector.len());
                }
                _ => {}
            }
        }
        assert!(live.iter().all(|(vector, value)| vector.iter().all(|byte| byte == value)));
    }

    pub fn allocations_are_aligned() {
        for shift in 0..23 {
            let layout = Layout::from_size_align(3, 1 << shift).unwrap();
            // SAFETY: the layout is not of size 0.
            let at = unsafe { alloc::alloc::alloc(layout) };
            assert!(!at.is_null() && at.addr().is_multiple_of(1 << shift), "{at:?} for alignment {}", 1 << shift);
            // SAFETY: just allocated with this layout.
            unsafe { alloc::alloc::dealloc(at, layout) };
        }
        assert_eq!(Box::new([7u128; 9])[8], 7);
    }

    pub fn the_heap_is_in_blocks() {
        let vector = alloc::vec![1u8; 16 << 20];
        let blocks = vector.chunks(BLOCK_SIZE).filter(|chunk| is_huge(chunk.as_ptr())).count();
        assert!(blocks >= 7, "{blocks} of 8 pieces begin in blocks");
    }

    pub fn a_refused_reservation_is_an_error() {
        let mut vector: Vec<u8> = Vec::new();
        assert!(vector.try_reserve(1 << 40).is_err());
        assert!(vector.try_reserve(isize::MAX as usize).is_err());
        let fill = || {
            let (mut all, mut bytes) = (Vec::new(), 0usize);
            loop {
                let mut next: Vec<u8> = Vec::new();
                if next.try_reserve_exact(64 << 20).is_err() {
                    return bytes;
                }
                bytes += next.capacity();
                all.push(next);
            }
        };
        let first = fill();
        assert!(first >= 64 << 20, "{first} bytes before the first refusal");
        assert_eq!(fill(), first, "as much can be had again");
    }

    pub fn large_freed_memory_is_unmapped() {
        let pages = || memory::usage().region_pages;
        let vector = black_box(alloc::vec![1u8; 64 << 20]);
        let during = pages();
        drop(vector);
        // Some of it is kept for the next allocation.
        let unmapped = (during - pages()) as usize * PAGE_SIZE;
        assert!(unmapped >= 32 << 20, "only {unmapped} bytes were unmapped");
    }

    pub fn a_mapping_is_zero_writable_and_unmapped_at_its_end() {
        let regions = memory::usage();
        let mut mapping = memory::map(5 << 20).unwrap();
        assert_eq!(mapping.len(), 5 << 20);
        assert!(mapping.start().is_aligned(BLOCK_SIZE));
        assert!(mapping.as_slice().iter().all(|&byte| byte == 0));
        mapping.as_mut_slice().fill(0xa5);
        assert!(mapping.as_slice().iter().all(|&byte| byte == 0xa5));
        let (start, end) = (mapping.as_slice().as_ptr(), mapping.as_slice()[mapping.len() - 1..].as_ptr());
        assert!(is_huge(start) && !is_huge(end), "two slots are full, the last is half full");
        drop(mapping);
        assert!(!is_huge(start));
        assert_eq!(memory::usage().region_pages, regions.region_pages);
    }

    pub fn released_memory_reads_as_zero() {
        let mut mapping = memory::map(2 * BLOCK_SIZE).unwrap();
        mapping.as_mut_slice().fill(9);
        let split = memory::counter("thp_split_pmd_release").unwrap();
        mapping.release(PAGE_SIZE..2 * PAGE_SIZE).unwrap();
        assert_eq!(memory::counter("thp_split_pmd_release"), Some(split + 1));
        assert!(!is_huge(mapping.as_slice().as_ptr()), "the rest of the slot is in pages");
        for (index, byte) in mapping.as_slice().iter().enumerate() {
            let expected = if index / PAGE_SIZE == 1 { 0 } else { 9 };
            assert_eq!(*byte, expected, "byte {index:#x}");
        }
        let address = mapping.start() + 100;
        assert_eq!(mapping.release(100..PAGE_SIZE), Err(MemoryError::Misaligned { address }));
    }

    pub fn parts_are_treated_apart() {
        let mut mapping = memory::map(3 * BLOCK_SIZE).unwrap();
        mapping.as_mut_slice().fill(1);
        let mut middle = mapping.split_off(BLOCK_SIZE);
        let last = middle.split_off(BLOCK_SIZE);
        middle.protect(Access::READ).unwrap();
        assert!(is_huge(middle.as_slice().as_ptr()), "a whole slot stays a block");
        assert_eq!(middle.access(), Access::READ);
        let (mut mapping, middle) = (mapping, middle);
        let mut middle = mapping.append(middle).expect_err("it allows something else");
        middle.protect(Access::READ_WRITE).unwrap();
        mapping.append(middle).unwrap();
        mapping.append(last).unwrap();
        assert_eq!(mapping.len(), 3 * BLOCK_SIZE);
        assert!(mapping.as_slice().iter().all(|&byte| byte == 1));
        let mut tail = mapping.split_off(3 * BLOCK_SIZE);
        assert!(tail.is_empty() && tail.as_mut_slice().is_empty());
    }

    pub fn policy_and_population() {
        let mut pages = memory::map(BLOCK_SIZE).unwrap();
        pages.advise(0..BLOCK_SIZE, HugePolicy::Never).unwrap();
        pages.as_mut_slice().fill(1);
        assert!(!is_huge(pages.as_slice().as_ptr()));
        let mut block = memory::map(BLOCK_SIZE).unwrap();
        block.populate(0..BLOCK_SIZE).unwrap();
        let faults = memory::counter("pgfault").unwrap();
        block.as_mut_slice().fill(1);
        assert_eq!(memory::counter("pgfault"), Some(faults), "no page was left to fault");
        assert!(is_huge(block.as_slice().as_ptr()));
    }

    pub fn impossible_mappings_are_refused() {
        assert_eq!(memory::map(0).err(), Some(MemoryError::Empty));
        assert!(matches!(memory::map(1 << 38).err(), Some(MemoryError::CommitLimit { .. })));
        let mapping = memory::map(PAGE_SIZE).unwrap();
        let again = Mapping::new(MapRequest::new(PAGE_SIZE).at(mapping.start()));
        assert!(matches!(again.err(), Some(MemoryError::Overlap { .. })));
        let null = Mapping::new(MapRequest::new(PAGE_SIZE).at(VirtAddr(0)));
        assert!(matches!(null.err(), Some(MemoryError::OutsideSpace { .. })));
    }

    pub fn time_goes_on() {
        let start = time::now();
        let mut last = start;
        for _ in 0..10_000 {
            let now = time::now();
            assert!(now >= last);
            last = now;
        }
        assert!(last > start && start.elapsed() > Duration::ZERO && time::since_start() > start.elapsed());
        assert_eq!(start - last, Duration::ZERO);
    }

    pub fn a_ring_has_no_end() {
        let mut ring = Ring::new(1).expect("room");
        assert_eq!((ring.capacity(), ring.len(), ring.is_empty()), (BLOCK_SIZE, 0, true));
        for round in 0..9 {
            let piece = BLOCK_SIZE / 4 + 13;
            ring.room()[..piece].fill(round);
            ring.fill(piece);
            assert!(ring.contents().len() == piece && ring.contents().iter().all(|&byte| byte == round));
            assert_eq!(ring.room().len(), BLOCK_SIZE - piece);
            ring.consume(piece);
        }
        assert!(is_huge(ring.room().as_ptr()));
        assert!(matches!(Ring::new(usize::MAX).err(), Some(MemoryError::OutsideSpace { .. })));
    }

    pub fn memory_has_two_places() {
        let mut mapping = memory::map(BLOCK_SIZE).expect("room");
        let alias = mapping.alias(Destination::Anywhere).expect("room");
        assert_eq!((alias.len(), alias.is_empty()), (BLOCK_SIZE, false));
        mapping.as_mut_slice()[5] = 55;
        // SAFETY: the alias's memory, to which there is no reference.
        let seen = unsafe {
            alias.as_ptr().add(6).write(66);
            alias.as_ptr().add(5).read()
        };
        assert_eq!((seen, mapping.as_slice()[6]), (55, 66));
        let refused = mapping.protect(Access::READ);
        assert_eq!(refused, Err(MemoryError::Shared { address: mapping.start() }));
        drop(alias);
        mapping.protect(Access::READ).expect("it is at one place");
        assert_eq!(mapping.as_slice()[6], 66);
    }

    pub fn a_snapshot_outlives_its_mapping() {
        let mut mapping = memory::map(BLOCK_SIZE + 3 * PAGE_SIZE).expect("room");
        mapping.as_mut_slice().fill(1);
        let instant = mapping.snapshot().expect("room");
        assert_eq!(mapping.changed_since(&instant), Ok(Vec::new()));
        mapping.as_mut_slice()[BLOCK_SIZE - 1..BLOCK_SIZE + 1].fill(2);
        let changed = core::iter::once(BLOCK_SIZE - PAGE_SIZE..BLOCK_SIZE + PAGE_SIZE).collect();
        assert_eq!(mapping.changed_since(&instant), Ok(changed), "a run over the end of a slot");
        assert_eq!(mapping.snapshot().err(), Some(MemoryError::Shared { address: mapping.start() }));
        drop(mapping);
        let reader = ashlar::thread::spawn(move || instant.iter().all(|&byte| byte == 1));
        assert!(reader.join().expect("it reads"));
    }

    pub fn without_input_there_are_no_files() {
        assert_eq!(input::files().expect("an empty set").iter().count(), 0);
    }

    pub fn without_a_directory_there_is_no_output() {
        assert!(matches!(File::create("answers.txt").err(), Some(FileError::NoDirectory)));
    }

    pub fn the_report_adds_up() {
        let report = memory::report();
        let text = alloc::format!("{report}");
        for line in ["memory: ", "faults: ", "fallbacks: ", "splits: ", "RAM: ", "time: "] {
            assert!(text.lines().any(|found| found.starts_with(line)), "no line {line:?} in {text}");
        }
        assert!(report.frames[0] >= report.frames[1] + report.frames[2] + report.frames[3]);
        assert!(report.usage.mapped_bytes() as u64 <= report.usage.region_pages * PAGE_SIZE as u64);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    arguments_are_the_applications,
    #[cfg(target_os = "none")]
    allocations_keep_their_contents,
    #[cfg(target_os = "none")]
    allocations_are_aligned,
    #[cfg(target_os = "none")]
    the_heap_is_in_blocks,
    #[cfg(target_os = "none")]
    a_refused_reservation_is_an_error,
    #[cfg(target_os = "none")]
    large_freed_memory_is_unmapped,
    #[cfg(target_os = "none")]
    a_mapping_is_zero_writable_and_unmapped_at_its_end,
    #[cfg(target_os = "none")]
    released_memory_reads_as_zero,
    #[cfg(target_os = "none")]
    parts_are_treated_apart,
    #[cfg(target_os = "none")]
    policy_and_population,
    #[cfg(target_os = "none")]
    impossible_mappings_are_refused,
    #[cfg(target_os = "none")]
    time_goes_on,
    #[cfg(target_os = "none")]
    a_ring_has_no_end,
    #[cfg(target_os = "none")]
    memory_has_two_places,
    #[cfg(target_os = "none")]
    a_snapshot_outlives_its_mapping,
    #[cfg(target_os = "none")]
    without_input_there_are_no_files,
    #[cfg(target_os = "none")]
    without_a_directory_there_is_no_output,
    #[cfg(target_os = "none")]
    the_report_adds_up,
}
