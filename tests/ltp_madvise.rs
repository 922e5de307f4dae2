//! LTP's `madvise` cases: advice that is taken and does no harm, advice that is refused, memory that is given back at once, and
//! memory that is given back when there is none left.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run memory=64M", "run memory=64M fault=eager", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{
        UNITS, assert_filled, blocks, fill, filled, gap, hoard, huge, is_filled, is_zero, parts, word,
    };
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{Access, HugePolicy, Mapping, MemoryError, PinRequest, VirtAddr, counter, map, usage};
    use ashlar::mm::address::{BLOCK_SIZE, LOWER_END, PAGE_SIZE, PAGES_PER_SLOT};

    /// Advice on a range as it is given.
    type Advice = fn(VirtAddr, usize) -> Result<(), MemoryError>;

    /// What may be said, each by Linux's name.
    const ADVICE: [(&str, Advice); 5] = [
        ("MADV_HUGEPAGE", |start, length| gate::call(move || manager().advise(start, length, HugePolicy::Always))),
        ("MADV_NOHUGEPAGE", |start, length| gate::call(move || manager().advise(start, length, HugePolicy::Never))),
        ("MADV_FREE", |start, length| gate::call(move || manager().mark_free(start, length))),
        ("MADV_COLD", |start, length| gate::call(move || manager().mark_cold(start, length))),
        ("MADV_DONTNEED", |start, length| gate::call(move || manager().release(start, length))),
    ];

    /// Advice is taken, of memory in use and of memory that nobody touched, again and again; and no byte is another for it.
    pub fn madvise01() {
        for unit in UNITS {
            let mut mapping = filled(unit);
            let (length, untouched) = (unit * PAGE_SIZE, map(unit * PAGE_SIZE).expect("RAM has room"));
            for _ in 0..2 {
                for (name, advice) in &ADVICE[..4] {
                    assert_eq!(advice(mapping.start(), length), Ok(()), "{name}");
                    assert_eq!(advice(untouched.start(), length), Ok(()), "{name}");
                    assert_filled(&mapping);
                }
                assert_eq!(mapping.populate_for(0..length, Access::READ_WRITE), Ok(()), "MADV_WILLNEED");
                mapping.advise(0..length, HugePolicy::Default).expect("records");
                assert_filled(&mapping);
            }
            assert_eq!(huge(&mapping), unit / PAGES_PER_SLOT, "a block as a whole stays one");
            fill(&mut mapping, 0..unit);
            assert_filled(&mapping);
            assert!(is_zero(untouched.as_slice()));
        }
    }

    /// What is refused is refused as a whole, and the error says where it begins.
    pub fn madvise02() {
        let [low, hole, high] = parts(blocks(3));
        let (start, hole_start) = (low.start(), hole.start());
        drop(hole);
        let (before, freed) = (usage(), counter("pglazyfree"));
        for (name, advice) in ADVICE {
            let misaligned = MemoryError::Misaligned { address: start + 100 };
            assert_eq!(advice(start + 100, BLOCK_SIZE), Err(misaligned), "{name}");
            assert_eq!(advice(start, 0), Err(MemoryError::Empty), "{name}");
            // The last page is not mapped; some in the middle are not; none is.
            let not_mapped = Err(MemoryError::NotMapped { address: hole_start });
            assert_eq!(advice(start, BLOCK_SIZE + PAGE_SIZE), not_mapped, "{name}");
            assert_eq!(advice(start, 3 * BLOCK_SIZE), not_mapped, "{name}");
            assert_eq!(advice(hole_start, PAGE_SIZE), not_mapped, "{name}");
            let nowhere = gap(1);
            assert_eq!(advice(nowhere, PAGE_SIZE), Err(MemoryError::NotMapped { address: nowhere }), "{name}");
            for address in [VirtAddr(0), VirtAddr(LOWER_END)] {
                let outside = MemoryError::OutsideSpace { address, length: PAGE_SIZE };
                assert_eq!(advice(address, PAGE_SIZE), Err(outside), "{name}");
            }
        }
        assert_eq!((usage(), counter("pglazyfree")), (before, freed), "nothing was done");
        assert_filled(&low);
        assert!(
            (0..PAGES_PER_SLOT).all(|page| is_filled(&high.as_slice()[page * PAGE_SIZE..][..PAGE_SIZE], 1024 + page))
        );
        assert_eq!((huge(&low), huge(&high)), (1, 1));
    }

    /// Pages that may not go (Linux: locked ones) are no error, and are passed over; nor is memory that may not be reached.
    pub fn madvise02_locked() {
        let mut mapping = blocks(1);
        let freed = || counter("pglazyfree").expect("it is counted");
        let before = freed();
        let pin = mapping.pin(0..PAGE_SIZE, PinRequest::new().write()).expect("present");
        assert_eq!(mapping.mark_free(0..BLOCK_SIZE), Ok(()));
        assert_eq!(freed() - before, PAGES_PER_SLOT as u64 - 1);
        drop(pin);
        mapping.protect(Access::NONE).expect("records");
        for (name, advice) in &ADVICE[..4] {
            assert_eq!(advice(mapping.start(), BLOCK_SIZE), Ok(()), "{name}");
        }
        mapping.protect(Access::READ_WRITE).expect("records");
        assert_filled(&mapping);
    }

    /// What was given back reads as zero, and is memory again.
    pub fn madvise03() {
        for unit in UNITS {
            let mut mapping = filled(unit);
            for _ in 0..2 {
                let before = usage().mapped_bytes();
                mapping.release(0..unit * PAGE_SIZE).expect("whole pages");
                assert_eq!(usage().mapped_bytes(), before - unit * PAGE_SIZE);
                assert!(is_zero(mapping.as_slice()));
                fill(&mut mapping, 0..unit);
                assert_filled(&mapping);
            }
        }
    }

    /// Pages that were said to be free stay until memory is short; then they go, but for those that were written to before.
    pub fn madvise09() {
        const PAGES: usize = 128;
        const WRITTEN: [usize; 2] = [0, 10];
        for wish in [HugePolicy::Never, HugePolicy::Always] {
            let mut mapping = map(BLOCK_SIZE).expect("RAM has room");
            mapping.advise(0..BLOCK_SIZE, wish).expect("records");
            fill(&mut mapping, 0..PAGES_PER_SLOT);
            assert_eq!(huge(&mapping), usize::from(wish == HugePolicy::Always));
            mapping.mark_free(0..PAGES * PAGE_SIZE).expect("whole pages");
            assert_filled(&mapping);
            for page in WRITTEN {
                mapping.as_mut_slice()[page * PAGE_SIZE] = b'b';
            }
            let mut hungry = map(2 * BLOCK_SIZE).expect("RAM has room");
            let (hoard, before) = (hoard(), counter("pglazyfreed"));
            // The zero block, which nobody uses by now, may go first.
            let goes = hungry.as_mut_slice().chunks_exact_mut(PAGE_SIZE).any(|page| {
                page[0] = 1;
                counter("pglazyfreed") > before
            });
            assert!(goes, "memory was short");
            drop(hoard);
            let freed = (0..PAGES_PER_SLOT).filter(|&page| is_gone(&mapping, page, WRITTEN.contains(&page)));
            let freed = freed.inspect(|&page| assert!(page < PAGES, "page {page} was not said to be free")).count();
            assert_eq!(freed, PAGES - 16, "all but the group that was written to");
        }
    }

    /// Whether a page is all zeros. If not, it is as it was filled, but for its first byte if it was written to.
    fn is_gone(mapping: &Mapping, page: usize, written: bool) -> bool {
        let bytes = &mapping.as_slice()[page * PAGE_SIZE..][..PAGE_SIZE];
        if !written {
            assert!(is_zero(bytes) || is_filled(bytes, page), "page {page} is in between");
            return is_zero(bytes);
        }
        assert_eq!(bytes[0], b'b', "page {page} was written to");
        assert_eq!(bytes[1..8], word(page, 0).to_le_bytes()[1..], "page {page}");
        assert!(bytes[8..].chunks_exact(8).zip(1..).all(|(found, n)| found == word(page, n).to_le_bytes()), "{page}");
        false
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    madvise01,
    #[cfg(target_os = "none")]
    madvise02,
    #[cfg(target_os = "none")]
    madvise02_locked,
    #[cfg(target_os = "none")]
    madvise03,
    #[cfg(target_os = "none")]
    madvise09,
}
