//! Snapshots of parts of the window, which show what was there until they end; and slots of the window that are mapped elsewhere,
//! too, for a while.

use crate::Run;
use crate::memory::{WINDOW, address, bytes};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ashlar::mm::address::VirtAddr;
use ashlar::mm::mmu::Access;
use ashlar::mm::{Destination, FaultError, MapRequest, MemoryError, RemapRequest};
use core::ops::Range;

/// Snapshots at once.
const SNAPSHOTS: usize = 3;
/// Where slots are mapped as well.
const ELSEWHERE: u64 = WINDOW.end + (1 << 20);

/// A snapshot.
pub struct Seen {
    /// Its first page.
    pub start: u64,
    /// The pages that it is of, when it was made.
    live: Range<u64>,
    /// The words that it shows, by the addresses that they had.
    words: BTreeMap<u64, u64>,
}

impl Run {
    /// Makes a snapshot, or ends one.
    pub fn snapshot(&mut self) {
        if self.seen.len() == SNAPSHOTS || !self.seen.is_empty() && self.random.below(4) == 0 {
            return self.end_snapshot();
        }
        let range = self.range();
        if self.model.hole(&range).is_some() {
            let result = self.world.mm.snapshot(address(range.start), bytes(&range));
            let is_refused = matches!(result, Err(MemoryError::NotMapped { .. } | MemoryError::Divided { .. }));
            return assert!(is_refused, "{range:?}: {result:?}");
        }
        // Snapshots go where there is room: not into the window.
        let holes: Vec<u64> = WINDOW.filter(|&page| self.model.page(page).is_none()).collect();
        let hold = |page: &u64| {
            let request = MapRequest::new(4096).at(address(*page)).access(Access::NONE);
            self.world.mm.map(request).is_ok()
        };
        if !holes.iter().all(hold) {
            holes.iter().for_each(|&page| _ = self.world.mm.unmap(address(page), 4096));
            return;
        }
        let one = range.clone().find(|&page| !self.is_like(range.start, page));
        let result = self.world.mm.snapshot(address(range.start), bytes(&range));
        for page in holes {
            self.world.mm.unmap(address(page), 4096).expect("a region of its own, or a cut that there is room for");
        }
        match result {
            Ok(seen) => {
                assert_eq!(one, None, "{range:?} is of several regions");
                // What it needed may have been theirs.
                self.settle_freed(range.clone());
                let words = self.model.words.range(address(range.start).0..address(range.end).0);
                let words = words.map(|(&at, &word)| (at, word)).collect();
                range.clone().for_each(|page| _ = self.model.freed.remove(&page));
                self.seen.push(Seen { start: seen.start.page().0, live: range, words });
                self.happened("snapshot");
            }
            Err(MemoryError::Shared { .. }) => {
                assert!(!self.seen.is_empty(), "{range:?} is not shared");
                self.happened("snapshot_shared");
            }
            Err(MemoryError::NoMemory) => assert!(self.short, "{range:?}: memory is free"),
            Err(error) => {
                let address = address(one.expect("it is of one region"));
                assert_eq!(error, MemoryError::Divided { address }, "{range:?}");
            }
        }
    }

    fn is_like(&self, page: u64, other: u64) -> bool {
        self.model.page(page).is_some() && self.model.page(page) == self.model.page(other)
    }

    fn end_snapshot(&mut self) {
        let seen = self.seen.swap_remove(self.random.index(self.seen.len()));
        self.compare_seen(&seen, seen.live.clone());
        self.world.mm.end_snapshot(address(seen.start)).expect("it is one");
        self.happened("snapshot_ended");
    }

    pub fn end_snapshots(&mut self) {
        while !self.seen.is_empty() {
            self.end_snapshot();
        }
    }

    /// Looks at some pages of a snapshot.
    pub fn look_at_snapshot(&mut self) {
        if self.seen.is_empty() {
            return;
        }
        let seen = self.seen.swap_remove(self.random.index(self.seen.len()));
        let start = seen.live.start + self.random.below(seen.live.end - seen.live.start);
        let pages = self.random.pick(&[1, 4, 40]);
        self.compare_seen(&seen, start..seen.live.end.min(start + pages));
        self.seen.push(seen);
    }

    /// What the snapshot shows of `pages` is what they held.
    fn compare_seen(&mut self, seen: &Seen, pages: Range<u64>) {
        for page in pages {
            let there = address(seen.start + (page - seen.live.start));
            let mut expected = alloc::vec![0; 4096];
            for (at, word) in seen.words.range(address(page).0..address(page + 1).0) {
                expected[*at as usize % 4096..][..8].copy_from_slice(&word.to_le_bytes());
            }
            match self.world.load(there, 4096) {
                Ok(found) => assert_eq!(found, expected, "page {page:#x} as it was"),
                Err(error) => {
                    assert!(matches!(error, FaultError::OutOfMemory { .. }), "{there}: {error}");
                    self.oom += 1;
                }
            }
        }
    }

    /// A slot of the window is mapped elsewhere, too, for some steps; then one of the two places goes.
    pub fn alias(&mut self) {
        let slot = self.slots();
        let slot = slot.start..slot.start + 512;
        let there = ELSEWHERE + self.random.below(4) * 512;
        let start = address(slot.start);
        let one = slot.clone().find(|&page| !self.is_like(slot.start, page));
        match self.world.mm.alias(start, bytes(&slot), Destination::At(address(there))) {
            Ok(range) => assert_eq!((range.start, one), (address(there), None)),
            Err(MemoryError::Shared { .. }) => return assert!(!self.seen.is_empty(), "{slot:?} is not shared"),
            Err(MemoryError::NoMemory) => return assert!(self.short, "{slot:?}: memory is free"),
            Err(error) => {
                let is_divided = matches!(error, MemoryError::Divided { .. } | MemoryError::NotMapped { .. });
                return assert!(is_divided && one.is_some(), "{slot:?}: {error}");
            }
        }
        self.happened("alias");
        for _ in 0..self.random.below(24) {
            self.step_with_alias(&slot, there);
            self.world.check();
            self.settle_freed(WINDOW);
        }
        let protected = self.world.mm.protect(start, bytes(&slot), Access::READ);
        assert_eq!(protected, Err(MemoryError::Shared { address: start }));
        let gone = if self.random.below(2) == 0 { there } else { slot.start };
        self.world.mm.unmap(address(gone), bytes(&slot)).expect("a whole slot");
        if gone == slot.start {
            self.world.check();
            self.come_back(&slot, there);
        }
    }

    /// What was mapped elsewhere, and is only there, comes back.
    fn come_back(&mut self, slot: &Range<u64>, there: u64) {
        let request = RemapRequest::new(bytes(slot)).at(address(slot.start));
        match self.world.mm.remap(address(there), bytes(slot), request) {
            Ok(range) => {
                assert_eq!(range.start, address(slot.start));
                self.happened("alias_moved_back");
            }
            Err(error) => {
                assert!(self.short && error == MemoryError::NoMemory, "{slot:?}: {error}");
                self.world.mm.unmap(address(there), bytes(slot)).expect("a whole slot");
                self.model.forget(slot);
                self.model.change(slot.clone(), |_| None);
            }
        }
    }

    fn step_with_alias(&mut self, slot: &Range<u64>, there: u64) {
        let page = slot.start + self.random.below(512);
        match self.random.below(12) {
            0..3 => self.access_elsewhere(page, there + (page - slot.start)),
            3..5 => {
                (page..slot.end.min(page + 40)).for_each(|page| self.store_at(page, 8));
                self.access_elsewhere(page, there + (page - slot.start));
            }
            5 => {
                let part = page..slot.end.min(page + self.random.pick(&[1, 16, 200]));
                let first = address(there + (page - slot.start));
                self.world.mm.release(first, bytes(&part)).expect("mapped");
                self.model.forget(&part);
            }
            6 => self.migrate(),
            7 => self.collapse(),
            8 => self.idle(),
            9 => self.background(),
            10 => self.pin(),
            _ => self.dissolve(),
        }
        self.released.clear();
    }

    /// Reads and writes a word of `page` at the other place, `there`.
    fn access_elsewhere(&mut self, page: u64, there: u64) {
        let offset = self.random.below(512) * 8;
        let (here, at) = (address(page) + offset, address(there) + offset);
        self.settle_freed(page..page + 1);
        self.access_word(page, here, at, None);
        let word = self.random.next();
        self.access_word(page, here, at, Some(word));
        self.access_word(page, here, at, None);
    }

    fn access_word(&mut self, page: u64, here: VirtAddr, at: VirtAddr, word: Option<u64>) {
        let wanted = if word.is_some() { Access::READ_WRITE } else { Access::READ };
        let result = match word {
            Some(word) => self.world.store(at, &word.to_le_bytes()).map(|()| word),
            None => self.world.load(at, 8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes"))),
        };
        match self.model.refuses(page, at, wanted) {
            Some(error) => assert_eq!(result, Err(error)),
            None if result == Err(FaultError::OutOfMemory { address: at }) => self.oom += 1,
            None => {
                if let Some(word) = word {
                    self.model.words.insert(here.0, word);
                    self.model.freed.remove(&page);
                }
                assert_eq!(result, Ok(self.model.word(here)), "at {at}");
            }
        }
    }
}
