//! `cow`, with a snapshot in the place of the child: it never sees what is written later, by the application or by a device; and
//! what a pin holds is what the application sees, whichever of them writes, and whatever is done to the mapping meanwhile.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=64M khugepaged=off",
    "run memory=64M cores=2 khugepaged=off fault=eager",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{
        assert_filled, assert_filled_but, blocks, fill, frames, gap, huge, is_zero, pinned, pointer, protect,
    };
    use super::backing::{fault, is_filled, parts, readable, set_pinned, word};
    use alloc::vec::Vec;
    use ashlar::memory::{self, Access, Collapsed, FaultError, HugePolicy, Mapping, PinError, PinRequest, Refusal};
    use ashlar::memory::{Destination, Pin, Snapshot, counter};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
    use ashlar::thread;
    use core::ops::Range;
    use core::sync::atomic::{AtomicBool, Ordering};

    /// A page by itself.
    fn base_page() -> Mapping {
        let mut mapping = memory::map(PAGE_SIZE).expect("RAM has room");
        mapping.advise(0..PAGE_SIZE, HugePolicy::Never).expect("records are at hand");
        fill(&mut mapping, 0..1);
        mapping
    }

    /// A block, mapped as one.
    fn thp() -> Mapping {
        blocks(1)
    }

    /// A block in pages.
    fn pte_mapped_thp() -> Mapping {
        let mut mapping = blocks(1);
        // Where pages are wished for, nothing heals by itself.
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        for access in [Access::READ, Access::READ_WRITE] {
            protect(&mapping, 1..2, access).expect("mapped");
        }
        assert_eq!(huge(&mapping), 0);
        mapping
    }

    /// All that is left of a block.
    fn single_pte_of_thp() -> Mapping {
        let mut mapping = blocks(1);
        drop(mapping.split_off(PAGE_SIZE));
        mapping
    }

    /// Half of a block: the other half was unmapped.
    fn partial_thp() -> Mapping {
        let mut mapping = blocks(1);
        drop(mapping.split_off(BLOCK_SIZE / 2));
        mapping
    }

    /// A block of which one page was in a snapshot that is gone.
    fn partial_shared_thp() -> Mapping {
        let mut mapping = blocks(1);
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        let rest = mapping.split_off(PAGE_SIZE);
        drop(snapshot(&mapping));
        mapping.append(rest).expect("it was its own");
        mapping
    }

    const SETUPS: [fn() -> Mapping; 6] =
        [base_page, thp, pte_mapped_thp, single_pte_of_thp, partial_thp, partial_shared_thp];

    /// The halves of a block, the second of which has moved elsewhere.
    fn partial_mremap_thp() -> [Mapping; 2] {
        let mut halves = parts(blocks(1));
        halves[1].remap(BLOCK_SIZE / 2, Destination::At(gap(PAGES_PER_SLOT))).expect("nothing is there");
        fill(&mut halves[1], 0..PAGES_PER_SLOT / 2);
        halves
    }

    /// Tries memory of each kind, and each half of a block beside the other, which stays as it is.
    fn with_each(test: impl Fn(Mapping)) {
        SETUPS.iter().for_each(|setup| test(setup()));
        for tested in [0, 1] {
            let [mut half, mut other] = partial_mremap_thp();
            if tested == 1 {
                core::mem::swap(&mut half, &mut other);
            }
            test(half);
            assert_filled(&other);
        }
    }

    fn snapshot(mapping: &Mapping) -> Snapshot {
        mapping.snapshot().expect("memory is free")
    }

    /// Looks at every byte: a snapshot holds what [`fill`] put into page `first` and those after it.
    #[track_caller]
    fn assert_seen(bytes: &[u8], first: usize) {
        for (page, bytes) in (first..).zip(bytes.chunks_exact(PAGE_SIZE)) {
            assert!(is_filled(bytes, page), "a snapshot sees what became of page {page}");
        }
    }

    /// Writes to all of `mapping`, while another thread looks at `snapshot` of its pages from `first` on, before and after.
    fn write_under(mapping: &mut Mapping, snapshot: &[u8], first: usize) {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut last = false;
                while !last {
                    last = done.load(Ordering::Acquire);
                    assert_seen(snapshot, first);
                    thread::yield_now();
                }
            });
            thread::yield_now();
            mapping.as_mut_slice().fill(0xff);
            done.store(true, Ordering::Release);
        });
        assert!(mapping.as_slice().iter().all(|&byte| byte == 0xff));
    }

    fn read_only_and_back(mapping: &Mapping) {
        for access in [Access::READ, Access::READ_WRITE] {
            protect(mapping, 0..mapping.len() / PAGE_SIZE, access).expect("mapped");
        }
    }

    /// Writes each word of the mapping anew, and looks at it by way of the pin; then the other way round.
    fn assert_shared(mapping: &mut Mapping, pin: &memory::Pin) {
        assert_eq!((pin.len(), pinned(pin).count()), (mapping.len(), mapping.len() / 8));
        for round in 1..3_u64 {
            for (n, word) in mapping.as_mut_slice().chunks_exact_mut(8).enumerate() {
                word.copy_from_slice(&(round << 32 | n as u64).to_le_bytes());
            }
            assert!(
                pinned(pin).enumerate().all(|(n, word)| word == round << 32 | n as u64),
                "what was written is seen"
            );
            set_pinned(pin, |n| round << 48 | n as u64);
            let words = mapping.as_slice().chunks_exact(8).enumerate();
            assert!(
                { words }.all(|(n, word)| word == (round << 48 | n as u64).to_le_bytes()),
                "what a device wrote, too"
            );
        }
        fill(mapping, 0..mapping.len() / PAGE_SIZE);
    }

    /// What was pinned to be read, before or after it was read-only for a while, goes on to be what the application writes.
    pub fn test_ro_pin_on_ro_exclusive() {
        for request in [PinRequest::new(), PinRequest::new().long()] {
            with_each(|mut mapping| {
                read_only_and_back(&mapping);
                let pin = mapping.pin(0..mapping.len(), request).expect("it may be read");
                assert_filled(&mapping);
                assert_shared(&mut mapping, &pin);
                drop(pin);
                assert_filled(&mapping);
            });
        }
    }

    /// As Linux's `test_iouring_ro`: the pin is for writing and long, and the pages are read-only for a while under it.
    pub fn test_rw_pin_then_ro_mapped() {
        with_each(|mut mapping| {
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write().long()).expect("it may be written");
            read_only_and_back(&mapping);
            assert_filled(&mapping);
            assert_shared(&mut mapping, &pin);
            drop(pin);
            assert_filled(&mapping);
        });
    }

    fn cow_in_parent(between: fn(&Mapping)) {
        for read_first in [false, true] {
            with_each(|mut mapping| {
                let snapshot = snapshot(&mapping);
                if read_first {
                    assert_seen(&snapshot, 0);
                }
                between(&mapping);
                assert_filled(&mapping);
                write_under(&mut mapping, &snapshot, 0);
                // A child might write as well; a snapshot is for reading.
                let (address, wanted) = (snapshot.start(), Access::READ_WRITE);
                assert_eq!(fault(address, wanted), Err(FaultError::Denied { address, wanted, allowed: Access::READ }));
                drop(snapshot);
                assert!(mapping.as_slice().iter().all(|&byte| byte == 0xff));
            });
        }
    }

    /// What is written after a snapshot was made is not in it.
    pub fn test_cow_in_parent() {
        cow_in_parent(|_| ());
    }

    /// … where the pages were read-only for a while between.
    pub fn test_cow_in_parent_mprotect() {
        cow_in_parent(read_only_and_back);
    }

    /// What a pin holds is as [`fill`] left it.
    #[track_caller]
    fn assert_pinned_filled(pin: &Pin) {
        let words = (0..pin.len() / PAGE_SIZE).flat_map(|page| (0..PAGE_SIZE / 8).map(move |n| word(page, n)));
        assert!(pinned(pin).eq(words), "a device sees what was written later");
    }

    fn pin_in_child(between: fn(&Mapping)) {
        for request in [PinRequest::new(), PinRequest::new().long()] {
            with_each(|mut mapping| {
                let before = frames().orphans;
                let snapshot = snapshot(&mapping);
                let pin = memory::pin(&raw const *snapshot, request).expect("it may be read");
                drop(snapshot);
                between(&mapping);
                mapping.as_mut_slice().fill(0xff);
                assert_pinned_filled(&pin);
                assert!(mapping.as_slice().iter().all(|&byte| byte == 0xff));
                drop(pin);
                assert_eq!(frames().orphans, before);
            });
        }
    }

    /// CVE-2020-29374, with a pin for the pipe: a snapshot is pinned and ends, and the application's writes stay its own.
    pub fn test_vmsplice_in_child() {
        pin_in_child(|_| ());
    }

    /// … where the pages were read-only for a while between.
    pub fn test_vmsplice_in_child_mprotect() {
        pin_in_child(read_only_and_back);
    }

    /// What is pinned, before or after a snapshot is made, and unmapped: device and snapshot have it both, and apart.
    fn unmap_in_parent(before: bool) {
        for request in [PinRequest::new(), PinRequest::new().write().long()] {
            with_each(|mapping| {
                let pin = || mapping.pin(0..mapping.len(), request).expect("it is readable and writable");
                let early = before.then(pin);
                let snapshot = snapshot(&mapping);
                let pin = early.unwrap_or_else(pin);
                drop(mapping);
                // Whoever is next to have memory has other frames.
                let mut others = blocks(2);
                assert_pinned_filled(&pin);
                assert_seen(&snapshot, 0);
                others.as_mut_slice().fill(1);
                set_pinned(&pin, |_| !0);
                assert_seen(&snapshot, 0);
                drop(snapshot);
                assert!(pinned(&pin).all(|word| word == !0));
                drop(pin);
                assert!(others.as_slice().iter().all(|&byte| byte == 1));
            });
        }
    }

    pub fn test_vmsplice_before_fork() {
        unmap_in_parent(true);
    }

    pub fn test_vmsplice_after_fork() {
        unmap_in_parent(false);
    }

    /// What is pinned when a snapshot is made stays the application's page and the device's, whoever writes; the snapshot has
    /// another. Linux pins it to be written.
    pub fn test_iouring_fork() {
        for request in [PinRequest::new().write().long(), PinRequest::new()] {
            with_each(|mut mapping| {
                let place = |mapping: &Mapping| readable(pointer(mapping, 0));
                let pin = mapping.pin(0..mapping.len(), request).expect("it is readable and writable");
                let before = place(&mapping);
                let snapshot = snapshot(&mapping);
                assert_shared(&mut mapping, &pin);
                set_pinned(&pin, |n| n as u64);
                assert_seen(&snapshot, 0);
                assert_eq!(place(&mapping), before, "the live page stays");
                drop(pin);
                write_under(&mut mapping, &snapshot, 0);
            });
        }
    }

    /// Only what is pinned is copied at once.
    pub fn a_part_is_pinned_before_a_snapshot() {
        let mut mapping = blocks(1);
        let part = 40 * PAGE_SIZE..60 * PAGE_SIZE;
        let pin = mapping.pin(part.clone(), PinRequest::new().write()).expect("it may be written");
        let copied = counter("snapshot_pages_copied").expect("it is counted");
        let snapshot = snapshot(&mapping);
        assert_eq!(counter("snapshot_pages_copied"), Some(copied + 20));
        assert_eq!(mapping.changed_since(&snapshot), Ok(Vec::from([part])), "a device may write to it any time");
        set_pinned(&pin, |n| n as u64);
        mapping.as_mut_slice()[39 * PAGE_SIZE..40 * PAGE_SIZE].fill(1);
        mapping.as_mut_slice()[60 * PAGE_SIZE..61 * PAGE_SIZE].fill(1);
        assert_eq!(counter("snapshot_pages_copied"), Some(copied + 22));
        assert!(pinned(&pin).enumerate().all(|(n, word)| word == n as u64));
        write_under(&mut mapping, &snapshot, 0);
        assert_eq!(counter("snapshot_pages_copied"), Some(copied + PAGES_PER_SLOT as u64));
        assert!(pinned(&pin).all(|word| word == !0), "the device has the application's page");
    }

    /// A pin is what the application writes, whether a snapshot shows the pages when they are pinned, or did before.
    fn pin_on_shared(previously: bool) {
        for request in [PinRequest::new().long(), PinRequest::new().write()] {
            with_each(|mut mapping| {
                let mut snapshot = Some(snapshot(&mapping));
                if previously {
                    snapshot = None;
                }
                let pin = mapping.pin(0..mapping.len(), request).expect("it is readable and writable");
                assert_pinned_filled(&pin);
                assert_shared(&mut mapping, &pin);
                set_pinned(&pin, |_| 7);
                if let Some(snapshot) = &snapshot {
                    assert_seen(snapshot, 0);
                }
                drop(snapshot);
                mapping.as_mut_slice().fill(0xff);
                assert!(pinned(&pin).all(|word| word == !0));
            });
        }
    }

    pub fn test_ro_pin_on_shared() {
        pin_on_shared(false);
    }

    pub fn test_ro_pin_on_ro_previously_shared() {
        pin_on_shared(true);
    }

    /// What was read is zeros that others read, too: a write is nobody else's.
    pub fn test_cow() {
        for (length, policy) in [(PAGE_SIZE, HugePolicy::Never), (BLOCK_SIZE, HugePolicy::Always)] {
            let [mut mapping, other] = [(); 2].map(|()| {
                let mut mapping = memory::map(length).expect("RAM has room");
                mapping.advise(0..length, policy).expect("records are at hand");
                assert!(is_zero(mapping.as_slice()));
                mapping
            });
            let snapshot = snapshot(&mapping);
            mapping.as_mut_slice().fill(0xff);
            assert!(is_zero(other.as_slice()) && is_zero(&snapshot));
            assert!(mapping.as_slice().iter().all(|&byte| byte == 0xff));
        }
    }

    /// Memory that was never written: no page of zeros is shared, so a pin to read holds what is written later.
    pub fn test_ro_pin() {
        for (length, policy) in [(PAGE_SIZE, HugePolicy::Never), (BLOCK_SIZE, HugePolicy::Always)] {
            for read in [false, true] {
                let mut mapping = memory::map(length).expect("RAM has room");
                mapping.advise(0..length, policy).expect("records are at hand");
                if read {
                    assert!(is_zero(mapping.as_slice()));
                }
                let pin = mapping.pin(0..length, PinRequest::new().long()).expect("it may be read");
                assert!(pinned(&pin).all(|word| word == 0));
                assert_shared(&mut mapping, &pin);
            }
        }
    }

    /// Asks for the block that `mapping`, which is in pages, was before.
    fn collapse_thp(mapping: &mut Mapping) -> Result<Collapsed, Refusal> {
        assert_eq!(huge(mapping), 0);
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records are at hand");
        let report = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
        assert_eq!(huge(mapping), 1);
        assert_filled(mapping);
        report.slots[0].1
    }

    /// A block in pages becomes one again before a snapshot is made, and is written and given up without a byte lost.
    pub fn test_anon_thp_collapse_unshared() {
        let mut mapping = pte_mapped_thp();
        assert_eq!(collapse_thp(&mut mapping), Ok(Collapsed::Promoted));
        let snapshot = snapshot(&mapping);
        assert_eq!(huge(&mapping), 1);
        write_under(&mut mapping, &snapshot, 0);
    }

    /// A snapshot shows pages `part` of a block in pages, which becomes a block under it: the snapshot gets copies, the block
    /// stays where it is.
    fn collapse_shared(part: Range<usize>) {
        let mut mapping = pte_mapped_thp();
        let before = readable(pointer(&mapping, 0));
        let mut shared = mapping.split_off(part.start * PAGE_SIZE);
        let rest = shared.split_off(part.len() * PAGE_SIZE);
        let snapshot = snapshot(&shared);
        shared.append(rest).expect("it was its own");
        mapping.append(shared).expect("it was its own");
        let copied = counter("snapshot_pages_copied").expect("it is counted");
        assert_eq!(collapse_thp(&mut mapping), Ok(Collapsed::Promoted));
        assert_eq!(readable(pointer(&mapping, 0)), before);
        assert_eq!(counter("snapshot_pages_copied"), Some(copied + part.len() as u64));
        write_under(&mut mapping, &snapshot, part.start);
        assert_eq!(huge(&mapping), 1, "it is the application's alone");
    }

    pub fn test_anon_thp_collapse_fully_shared() {
        collapse_shared(0..PAGES_PER_SLOT);
    }

    pub fn test_anon_thp_collapse_lower_shared() {
        collapse_shared(0..PAGES_PER_SLOT / 2);
    }

    pub fn test_anon_thp_collapse_upper_shared() {
        collapse_shared(PAGES_PER_SLOT / 2..PAGES_PER_SLOT);
    }

    /// Pinned pages that are at home stay there when the slot collapses; those that would have to move refuse it.
    pub fn collapse_under_a_pin() {
        let mut mapping = pte_mapped_thp();
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records are at hand");
        mapping.release(100 * PAGE_SIZE..200 * PAGE_SIZE).expect("whole pages");
        let part = 40 * PAGE_SIZE..60 * PAGE_SIZE;
        let pin = mapping.pin(part.clone(), PinRequest::new().write()).expect("it may be written");
        let collapsed = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
        assert_eq!(collapsed.slots[0].1, Ok(Collapsed::Copied { pages: 0, filled: 100 }));
        assert_eq!(huge(&mapping), 1);
        set_pinned(&pin, |n| n as u64);
        let words = mapping.as_slice()[part].chunks_exact(8).enumerate();
        assert!({ words }.all(|(n, word)| word == (n as u64).to_le_bytes()), "the device has the same frames");
        fill(&mut mapping, 40..60);
        assert_filled_but(&mapping, |page| (100..200).contains(&page));
        drop(pin);

        let mut mapping = memory::map(BLOCK_SIZE).expect("RAM has room");
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        (0..PAGES_PER_SLOT).rev().for_each(|page| fill(&mut mapping, page..page + 1));
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records are at hand");
        let ends = [0..PAGE_SIZE, BLOCK_SIZE - PAGE_SIZE..BLOCK_SIZE];
        let pins = ends.map(|page| mapping.pin(page, PinRequest::new()).expect("it may be read"));
        let refused = mapping.collapse(0..BLOCK_SIZE, None).expect("a slot");
        assert_eq!((refused.slots[0].1, huge(&mapping)), (Err(Refusal::Pinned), 0));
        assert_filled(&mapping);
        drop(pins);
        assert!(mapping.collapse(0..BLOCK_SIZE, None).expect("a slot").is_complete());
        assert_eq!(huge(&mapping), 1);
        assert_filled(&mapping);
    }

    /// A device goes on writing to what the application has released: nobody else gets to see it, the same page neither.
    pub fn release_under_a_pin() {
        for setup in SETUPS {
            let mut mapping = setup();
            let pages = mapping.len() / PAGE_SIZE;
            let before = frames().orphans;
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write()).expect("it may be written");
            let place = readable(pointer(&mapping, 0));
            mapping.release(0..mapping.len()).expect("whole pages");
            assert_eq!(frames().orphans, before + pages);
            assert!(is_zero(mapping.as_slice()));
            assert_ne!(readable(pointer(&mapping, 0)), place);
            set_pinned(&pin, |_| !0);
            assert!(is_zero(mapping.as_slice()));
            fill(&mut mapping, 0..pages);
            assert!(pinned(&pin).all(|word| word == !0));
            drop(pin);
            assert_eq!(frames().orphans, before);
            assert_filled(&mapping);
        }
    }

    /// As above, of a part of a block, which stays the slot's: all other pages go back to where they were.
    pub fn release_a_part_under_a_pin() {
        let mut mapping = blocks(1);
        let (released, part) = (30..70, 40..60);
        let bytes = |pages: &Range<usize>| pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        let places =
            |mapping: &Mapping| released.clone().map(|page| readable(pointer(mapping, page * PAGE_SIZE))).collect();
        let before: Vec<_> = places(&mapping);
        let pin = mapping.pin(bytes(&part), PinRequest::new().write()).expect("it may be written");
        mapping.release(bytes(&released)).expect("whole pages");
        set_pinned(&pin, |_| !0);
        assert_filled_but(&mapping, |page| released.contains(&page));
        set_pinned(&pin, |n| n as u64);
        fill(&mut mapping, released.clone());
        assert_filled(&mapping);
        assert!(pinned(&pin).enumerate().all(|(n, word)| word == n as u64));
        let after: Vec<_> = places(&mapping);
        for (page, (before, after)) in released.clone().zip(before.iter().zip(&after)) {
            assert_eq!(before == after, !part.contains(&page), "page {page}");
        }
        assert_eq!(huge(&mapping), 0, "a device has a part of its block");
        drop(pin);
        assert!(mapping.collapse(0..BLOCK_SIZE, None).expect("a slot").is_complete());
        assert_eq!(places(&mapping), before);
        assert_filled(&mapping);
    }

    /// The pin outlives the mapping, and whoever maps there next.
    pub fn unmap_under_a_pin() {
        for setup in SETUPS {
            let mapping = setup();
            let (pages, before) = (mapping.len() / PAGE_SIZE, frames().orphans);
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write()).expect("it may be written");
            drop(mapping);
            assert_eq!(frames().orphans, before + pages);
            let mut others = blocks(4);
            set_pinned(&pin, |n| n as u64);
            assert_filled(&others);
            others.as_mut_slice().fill(1);
            assert!(pinned(&pin).enumerate().all(|(n, word)| word == n as u64));
            drop(pin);
            assert_eq!(frames().orphans, before);
        }
    }

    /// A device is not the application: it has what it was given when it was pinned, and cannot be given what is forbidden.
    pub fn protect_under_a_pin() {
        for setup in SETUPS {
            let mapping = setup();
            let pages = 0..mapping.len() / PAGE_SIZE;
            let pin = mapping.pin(0..mapping.len(), PinRequest::new().write()).expect("it may be written");
            protect(&mapping, pages.clone(), Access::NONE).expect("mapped");
            set_pinned(&pin, |n| !(n as u64));
            let denied =
                |wanted, allowed| PinError::Fault(FaultError::Denied { address: mapping.start(), wanted, allowed });
            let again = |request| mapping.pin(0..mapping.len(), request).err();
            assert_eq!(again(PinRequest::new()), Some(denied(Access::READ, Access::NONE)));
            protect(&mapping, pages, Access::READ).expect("mapped");
            assert_eq!(again(PinRequest::new()), None);
            assert_eq!(again(PinRequest::new().write()), Some(denied(Access::READ_WRITE, Access::READ)));
            let words = mapping.as_slice().chunks_exact(8).enumerate();
            assert!({ words }.all(|(n, word)| word == (!(n as u64)).to_le_bytes()));
            drop(pin);
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    test_cow_in_parent,
    #[cfg(target_os = "none")]
    test_cow_in_parent_mprotect,
    #[cfg(target_os = "none")]
    test_vmsplice_in_child,
    #[cfg(target_os = "none")]
    test_vmsplice_in_child_mprotect,
    #[cfg(target_os = "none")]
    test_vmsplice_before_fork,
    #[cfg(target_os = "none")]
    test_vmsplice_after_fork,
    #[cfg(target_os = "none")]
    test_iouring_fork,
    #[cfg(target_os = "none")]
    a_part_is_pinned_before_a_snapshot,
    #[cfg(target_os = "none")]
    test_ro_pin_on_shared,
    #[cfg(target_os = "none")]
    test_ro_pin_on_ro_previously_shared,
    #[cfg(target_os = "none")]
    test_cow,
    #[cfg(target_os = "none")]
    test_ro_pin_on_ro_exclusive,
    #[cfg(target_os = "none")]
    test_rw_pin_then_ro_mapped,
    #[cfg(target_os = "none")]
    test_ro_pin,
    #[cfg(target_os = "none")]
    test_anon_thp_collapse_unshared,
    #[cfg(target_os = "none")]
    test_anon_thp_collapse_fully_shared,
    #[cfg(target_os = "none")]
    test_anon_thp_collapse_lower_shared,
    #[cfg(target_os = "none")]
    test_anon_thp_collapse_upper_shared,
    #[cfg(target_os = "none")]
    collapse_under_a_pin,
    #[cfg(target_os = "none")]
    release_under_a_pin,
    #[cfg(target_os = "none")]
    release_a_part_under_a_pin,
    #[cfg(target_os = "none")]
    unmap_under_a_pin,
    #[cfg(target_os = "none")]
    protect_under_a_pin,
}
