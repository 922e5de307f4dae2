//! `khugepaged`, both halves of each case: what is in pages becomes blocks when it is asked for (`MADV_COLLAPSE`), whatever the global
//! policy says and however few pages there are; and in the background, with Linux's settings. Every byte is as it was, and what was
//! absent is zero.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=256M khugepaged=off",
    "run memory=256M khugepaged=off fault=eager",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{assert_filled, assert_filled_but, blocks, fill, frames, huge, pointer, protect, readable};
    use super::backing::{hoard, is_filled, is_zero};
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{self, Access, Collapsed, HugePolicy, Mapping, Refusal, Snapshot};
    use ashlar::memory::{counter, is_huge, set_policy, usage};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT, PhysAddr};
    use ashlar::mm::huge::{Enabled, FaultMode};
    use ashlar::thread;
    use core::time::Duration;

    /// `slots` slots that nobody has touched, and whose touches get pages.
    fn area(slots: usize) -> Mapping {
        let mut mapping = memory::map(slots * BLOCK_SIZE).expect("RAM has room");
        mapping.advise(0..slots * BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        mapping
    }

    /// Makes blocks of all of `mapping`, of which none is one, while nothing else may make any.
    fn collapse(mapping: &mut Mapping) -> Vec<Result<Collapsed, Refusal>> {
        assert_eq!(huge(mapping), 0);
        collapse_again(mapping)
    }

    fn collapse_again(mapping: &mut Mapping) -> Vec<Result<Collapsed, Refusal>> {
        let (start, length) = (mapping.start(), mapping.len());
        mapping.advise(0..length, HugePolicy::Default).expect("records are at hand");
        manager().policy().set_enabled(Enabled::Never);
        let report = mapping.collapse(0..length, None).expect("a sound range");
        manager().policy().set_enabled(Enabled::Always);
        let at = (0..length).step_by(BLOCK_SIZE).map(|offset| start + offset as u64);
        assert!(report.slots.iter().map(|&(at, _)| at).eq(at), "{report}");
        report.slots.into_iter().map(|(_, result)| result).collect()
    }

    /// Where the pages of the first slot lie.
    fn places(mapping: &Mapping) -> Vec<PhysAddr> {
        (0..PAGES_PER_SLOT).filter_map(|page| readable(pointer(mapping, page * PAGE_SIZE))).collect()
    }

    pub fn alloc_at_fault() {
        let mut mapping = memory::map(BLOCK_SIZE).expect("RAM has room");
        mapping.as_mut_slice()[0] = 1;
        let eager = manager().policy().fault_mode() == FaultMode::Eager;
        assert_eq!(huge(&mapping), usize::from(eager), "the first touch gets a block, or the first group of one");
        fill(&mut mapping, 0..PAGES_PER_SLOT);
        assert_eq!(huge(&mapping), 1);
        mapping.release(0..PAGE_SIZE).expect("a whole page");
        assert_eq!(huge(&mapping), 0);
        assert_filled_but(&mapping, |page| page == 0);
    }

    pub fn collapse_full() {
        const SLOTS: usize = 4;
        let mut mapping = area(SLOTS);
        // Backwards, so that no frame is where its page would be in a block.
        (0..SLOTS * PAGES_PER_SLOT).rev().for_each(|page| fill(&mut mapping, page..page + 1));
        let moved = counter("migrate_pages").expect("it is counted");
        let (homes, collapsed) = (frames().homes, counter("collapse"));
        let mut copied = 0;
        for result in collapse(&mut mapping) {
            let Ok(Collapsed::Copied { pages, filled: 0 }) = result else { panic!("{result:?}") };
            copied += pages;
        }
        assert_eq!(huge(&mapping), SLOTS);
        assert_filled(&mapping);
        assert!(copied > SLOTS * PAGES_PER_SLOT / 2 && counter("migrate_pages") >= Some(moved + copied as u64));
        assert_eq!(frames().homes, homes + SLOTS);
        assert_eq!(counter("collapse"), collapsed.map(|collapsed| collapsed + SLOTS as u64));
    }

    pub fn collapse_empty() {
        let mut mapping = area(2);
        let before = usage().mapped_bytes();
        assert_eq!(collapse(&mut mapping), [Err(Refusal::Empty); 2]);
        // As empty as before its first touch.
        fill(&mut mapping, 0..1);
        mapping.release(0..BLOCK_SIZE).expect("a whole slot");
        assert_eq!(collapse(&mut mapping), [Err(Refusal::Empty); 2]);
        assert_eq!((huge(&mapping), usage().mapped_bytes()), (0, before));
    }

    pub fn collapse_single_pte_entry() {
        let mut mapping = area(1);
        fill(&mut mapping, 0..1);
        let results = collapse(&mut mapping);
        assert!(matches!(results[..], [Ok(Collapsed::Copied { pages: 0..=1, filled: 511 })]), "{results:?}");
        assert_eq!(huge(&mapping), 1);
        assert_filled_but(&mapping, |page| page > 0);
    }

    /// Linux allows half of the pages to be absent here. An explicit collapse does not ask.
    pub fn collapse_max_ptes_none() {
        for present in [PAGES_PER_SLOT / 2 - 1, PAGES_PER_SLOT / 2] {
            let mut mapping = area(1);
            fill(&mut mapping, 0..present);
            let results = collapse(&mut mapping);
            let filled = PAGES_PER_SLOT - present;
            assert!(matches!(results[..], [Ok(Collapsed::Copied { filled: n, .. })] if n == filled), "{results:?}");
            assert_eq!(huge(&mapping), 1);
            assert_filled_but(&mapping, |page| page >= present);
        }
        // What was released is absent as well, and may be filled when it is asked for.
        let mut mapping = area(1);
        fill(&mut mapping, 0..PAGES_PER_SLOT);
        mapping.release(0..300 * PAGE_SIZE).expect("whole pages");
        assert!(collapse(&mut mapping)[0].is_ok());
        assert_eq!(huge(&mapping), 1);
        assert_filled_but(&mapping, |page| page < 300);
    }

    pub fn collapse_single_pte_entry_compound() {
        let mut mapping = blocks(1);
        let place = readable(pointer(&mapping, 0));
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        mapping.release(PAGE_SIZE..BLOCK_SIZE).expect("whole pages");
        let filled = PAGES_PER_SLOT - 1;
        assert_eq!(collapse(&mut mapping), [Ok(Collapsed::Copied { pages: 0, filled })]);
        assert_eq!((huge(&mapping), readable(pointer(&mapping, 0))), (1, place), "the page is where it was");
        assert_filled_but(&mapping, |page| page > 0);
    }

    pub fn collapse_full_of_compound() {
        let mut mapping = blocks(1);
        let before = places(&mapping);
        // Where pages are wished for, nothing heals by itself.
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        for access in [Access::READ, Access::READ_WRITE] {
            protect(&mapping, 1..2, access).expect("mapped");
        }
        let moved = counter("migrate_pages");
        assert_eq!(collapse(&mut mapping), [Ok(Collapsed::Promoted)]);
        assert_eq!((huge(&mapping), counter("migrate_pages")), (1, moved));
        assert_eq!(places(&mapping), before, "nothing was copied");
        assert_filled(&mapping);
    }

    /// Each page in another block than the one before, as many blocks as there are: before each touch one frame is free.
    pub fn collapse_compound_extreme() {
        let mut mapping = area(1);
        fill(&mut mapping, 0..1);
        let blocks = frames().free_blocks;
        let taken = hoard();
        for page in 1..PAGES_PER_SLOT {
            taken.give_one();
            fill(&mut mapping, page..page + 1);
        }
        drop(taken);
        let used: BTreeSet<_> = places(&mapping).into_iter().map(|place| place.0 / BLOCK_SIZE as u64).collect();
        assert!(used.len() >= blocks, "pages in {} blocks of {blocks}", used.len());
        assert_filled(&mapping);
        let before = frames().free_blocks;
        let results = collapse(&mut mapping);
        assert!(matches!(results[..], [Ok(Collapsed::Copied { pages: 256.., filled: 0 })]), "{results:?}");
        assert_eq!(huge(&mapping), 1);
        assert_filled(&mapping);
        let after = frames();
        assert!(before < 10 && after.free_blocks + after.cached + 3 > blocks, "the blocks that it was in are free");
    }

    pub fn madvise_collapse_existing_thps() {
        let mut mapping = area(2);
        (0..PAGES_PER_SLOT).rev().for_each(|page| fill(&mut mapping, page..page + 1));
        let results = collapse(&mut mapping);
        assert!(matches!(results[..], [Ok(Collapsed::Copied { .. }), Err(Refusal::Empty)]), "{results:?}");
        let before = places(&mapping);
        assert_eq!(collapse_again(&mut mapping), [Ok(Collapsed::AlreadyBlock), Err(Refusal::Empty)]);
        assert_eq!(places(&mapping), before);
        let (first, second) = mapping.as_slice().split_at(BLOCK_SIZE);
        assert!(first.chunks(PAGE_SIZE).enumerate().all(|(page, bytes)| is_filled(bytes, page)) && is_zero(second));
    }

    /// One page, which a snapshot shows, and a second one that it does not.
    fn fork_with_a_page() -> (Mapping, Snapshot) {
        let mut mapping = area(1);
        fill(&mut mapping, 0..1);
        let snapshot = mapping.snapshot().expect("memory is free");
        fill(&mut mapping, 1..2);
        (mapping, snapshot)
    }

    /// After the collapse the snapshot has its page, by itself.
    fn assert_apart(mut mapping: Mapping, snapshot: &Snapshot) {
        assert_eq!((huge(&mapping), is_huge(snapshot.as_ptr())), (1, false));
        assert_filled_but(&mapping, |page| page > 1);
        let (first, rest) = snapshot.split_at(PAGE_SIZE);
        assert!(is_filled(first, 0) && is_zero(rest));
        mapping.as_mut_slice().fill(1);
        assert!(is_filled(first, 0) && is_zero(rest));
    }

    pub fn collapse_fork() {
        let (mut mapping, snapshot) = fork_with_a_page();
        let results = collapse(&mut mapping);
        assert!(matches!(results[..], [Ok(Collapsed::Copied { pages: 0..=2, filled: 510 })]), "{results:?}");
        assert_apart(mapping, &snapshot);
    }

    /// A block that a snapshot shows, and of which pages from the first on, `written`, are written to: it is in pages then.
    fn fork_with_a_block(written: usize) -> (Mapping, Snapshot) {
        let mut mapping = blocks(1);
        let snapshot = mapping.snapshot().expect("memory is free");
        assert!(is_filled(&snapshot[..PAGE_SIZE], 0));
        assert_eq!((huge(&mapping), is_huge(snapshot.as_ptr())), (1, true), "it is shared as a block");
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        mapping.as_mut_slice()[..written * PAGE_SIZE].fill(0xff);
        assert_eq!(huge(&mapping), 0);
        (mapping, snapshot)
    }

    /// `mapping` was written to up to page `written`, the snapshot was not.
    fn assert_whole(mapping: &Mapping, snapshot: &Snapshot, written: usize) {
        let (new, old) = mapping.as_slice().split_at(written * PAGE_SIZE);
        assert!(new.iter().all(|&byte| byte == 0xff));
        assert!((written..).zip(old.chunks_exact(PAGE_SIZE)).all(|(page, bytes)| is_filled(bytes, page)));
        assert!(snapshot.chunks_exact(PAGE_SIZE).enumerate().all(|(page, bytes)| is_filled(bytes, page)));
    }

    /// Here it is the snapshot that has pages in the end, and the application that keeps the block, in its place.
    pub fn collapse_fork_compound() {
        let (mut mapping, snapshot) = fork_with_a_block(1);
        let before = places(&mapping);
        assert_eq!(collapse(&mut mapping), [Ok(Collapsed::Promoted)]);
        assert_eq!((places(&mapping), is_huge(snapshot.as_ptr())), (before, false));
        assert_whole(&mapping, &snapshot, 1);
    }

    /// Linux allows half of the pages to be shared. An explicit collapse does not ask.
    pub fn collapse_max_ptes_shared() {
        for written in [PAGES_PER_SLOT / 2 - 1, PAGES_PER_SLOT / 2] {
            let (mut mapping, snapshot) = fork_with_a_block(written);
            let copied = counter("snapshot_pages_copied").expect("it is counted");
            assert_eq!(collapse(&mut mapping), [Ok(Collapsed::Promoted)]);
            assert_eq!(huge(&mapping), 1);
            assert_eq!(counter("snapshot_pages_copied"), Some(copied + (PAGES_PER_SLOT - written) as u64));
            assert_whole(&mapping, &snapshot, written);
        }
    }

    /// How many slots of `mapping`, of which none is a block, the background makes blocks of, if it may fill `max_ptes_none` pages.
    /// It works as long as there is something to do.
    fn in_background(mapping: &mut Mapping, max_ptes_none: &str) -> usize {
        assert_eq!(huge(mapping), 0);
        let length = mapping.len();
        set_policy("max_ptes_none", max_ptes_none).expect("Linux's values are allowed");
        mapping.advise(0..length, HugePolicy::Default).expect("records are at hand");
        set_policy("khugepaged", "on").expect("it can be switched on");
        while gate::call(|| manager().candidates()) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        set_policy("khugepaged", "off").expect("it can be switched off");
        mapping.advise(0..length, HugePolicy::Never).expect("records are at hand");
        huge(mapping)
    }

    pub fn khugepaged_collapse_full() {
        let mut mapping = area(4);
        (0..4 * PAGES_PER_SLOT).rev().for_each(|page| fill(&mut mapping, page..page + 1));
        let collapsed = counter("khugepaged_collapsed");
        assert_eq!(in_background(&mut mapping, "511"), 4);
        assert!(counter("khugepaged_collapsed") >= collapsed.map(|collapsed| collapsed + 4));
        assert_filled(&mapping);
    }

    pub fn khugepaged_collapse_empty() {
        let mut mapping = area(2);
        let before = usage().mapped_bytes();
        assert_eq!(in_background(&mut mapping, "511"), 0);
        assert_eq!(usage().mapped_bytes(), before);
    }

    pub fn khugepaged_collapse_single_pte_entry() {
        let mut mapping = area(1);
        fill(&mut mapping, 0..1);
        assert_eq!(in_background(&mut mapping, "511"), 1);
        assert_filled_but(&mapping, |page| page > 0);
    }

    pub fn khugepaged_collapse_max_ptes_none() {
        for (present, huge) in [(PAGES_PER_SLOT / 2 - 1, 0), (PAGES_PER_SLOT / 2, 1)] {
            let mut mapping = area(1);
            fill(&mut mapping, 0..present);
            let before = usage().mapped_bytes();
            assert_eq!(in_background(&mut mapping, "256"), huge, "{present} pages are present");
            assert_eq!(usage().mapped_bytes(), before + huge * (PAGES_PER_SLOT - present) * PAGE_SIZE);
            assert_filled_but(&mapping, |page| page >= present);
        }
    }

    /// Linux fills what was released. Here that is for the application to ask.
    pub fn khugepaged_collapse_single_pte_entry_compound() {
        let mut mapping = blocks(1);
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        mapping.release(PAGE_SIZE..BLOCK_SIZE).expect("whole pages");
        let before = usage().mapped_bytes();
        assert_eq!((in_background(&mut mapping, "511"), usage().mapped_bytes()), (0, before));
        assert_filled_but(&mapping, |page| page > 0);
        assert!(collapse(&mut mapping)[0].is_ok());
    }

    pub fn khugepaged_collapse_full_of_compound() {
        let mut mapping = blocks(1);
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        for access in [Access::READ, Access::READ_WRITE] {
            protect(&mapping, 1..2, access).expect("mapped");
        }
        let (before, moved) = (places(&mapping), counter("migrate_pages"));
        assert_eq!(in_background(&mut mapping, "0"), 1);
        assert_eq!((places(&mapping), counter("migrate_pages")), (before, moved), "nothing was copied");
        assert_filled(&mapping);
    }

    pub fn khugepaged_collapse_compound_extreme() {
        let mut mapping = area(1);
        fill(&mut mapping, 0..1);
        let taken = hoard();
        for page in 1..PAGES_PER_SLOT {
            taken.give_one();
            fill(&mut mapping, page..page + 1);
        }
        drop(taken);
        assert_eq!(in_background(&mut mapping, "511"), 1);
        assert_filled(&mapping);
    }

    pub fn khugepaged_collapse_fork() {
        let (mut mapping, snapshot) = fork_with_a_page();
        assert_eq!(in_background(&mut mapping, "511"), 1);
        assert_apart(mapping, &snapshot);
    }

    pub fn khugepaged_collapse_fork_compound() {
        let (mut mapping, snapshot) = fork_with_a_block(1);
        set_policy("max_ptes_shared", "511").expect("Linux's values are allowed");
        assert_eq!(in_background(&mut mapping, "511"), 1);
        set_policy("max_ptes_shared", "256").expect("Linux's values are allowed");
        assert!(!is_huge(snapshot.as_ptr()));
        assert_whole(&mapping, &snapshot, 1);
    }

    pub fn khugepaged_collapse_max_ptes_shared() {
        let limit = memory::policy().to_string();
        assert!(limit.contains("max_ptes_shared=256"), "{limit}");
        for (written, huge) in [(PAGES_PER_SLOT / 2 - 1, 0), (PAGES_PER_SLOT / 2, 1)] {
            let (mut mapping, snapshot) = fork_with_a_block(written);
            let refused = counter("thp_scan_exceed_share_pte");
            assert_eq!(in_background(&mut mapping, "511"), huge, "{written} pages are the application's alone");
            assert_eq!(counter("thp_scan_exceed_share_pte") > refused, huge == 0);
            assert_whole(&mapping, &snapshot, written);
        }
        // One write more to what was refused.
        let (mut mapping, snapshot) = fork_with_a_block(PAGES_PER_SLOT / 2 - 1);
        assert_eq!(in_background(&mut mapping, "511"), 0);
        mapping.as_mut_slice()[..BLOCK_SIZE / 2].fill(0xff);
        assert_eq!(in_background(&mut mapping, "511"), 1);
        assert_whole(&mapping, &snapshot, PAGES_PER_SLOT / 2);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    alloc_at_fault,
    #[cfg(target_os = "none")]
    collapse_full,
    #[cfg(target_os = "none")]
    collapse_empty,
    #[cfg(target_os = "none")]
    collapse_single_pte_entry,
    #[cfg(target_os = "none")]
    collapse_max_ptes_none,
    #[cfg(target_os = "none")]
    collapse_single_pte_entry_compound,
    #[cfg(target_os = "none")]
    collapse_full_of_compound,
    #[cfg(target_os = "none")]
    collapse_compound_extreme,
    #[cfg(target_os = "none")]
    collapse_fork,
    #[cfg(target_os = "none")]
    collapse_fork_compound,
    #[cfg(target_os = "none")]
    collapse_max_ptes_shared,
    #[cfg(target_os = "none")]
    madvise_collapse_existing_thps,
    #[cfg(target_os = "none")]
    khugepaged_collapse_full,
    #[cfg(target_os = "none")]
    khugepaged_collapse_empty,
    #[cfg(target_os = "none")]
    khugepaged_collapse_single_pte_entry,
    #[cfg(target_os = "none")]
    khugepaged_collapse_max_ptes_none,
    #[cfg(target_os = "none")]
    khugepaged_collapse_single_pte_entry_compound,
    #[cfg(target_os = "none")]
    khugepaged_collapse_full_of_compound,
    #[cfg(target_os = "none")]
    khugepaged_collapse_compound_extreme,
    #[cfg(target_os = "none")]
    khugepaged_collapse_fork,
    #[cfg(target_os = "none")]
    khugepaged_collapse_fork_compound,
    #[cfg(target_os = "none")]
    khugepaged_collapse_max_ptes_shared,
}
