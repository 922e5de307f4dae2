//! What is kept of a pin.
#![forbid(unsafe_code)]

use crate::mm::address::Frame;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Extents in a record.
const EXTENTS: usize = 13;
/// Bits of an extent that say how many frames it has.
const COUNT_BITS: u32 = 28;

/// What is kept of a pin, and of what did not fit into its first record. Written by who makes it, before anyone has it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PinRecord {
    /// First page of the range.
    page: AtomicU64,
    /// Pages of the range; 0 of one that is being made, and of a record that goes on with another's extents.
    pages: AtomicU32,
    /// The record that goes on, by its handle; 0 for none.
    pub(super) next: AtomicU32,
    used: AtomicU32,
    long: AtomicBool,
    /// Frame and count.
    extents: [AtomicU64; EXTENTS],
}

const _: () = assert!(size_of::<PinRecord>() == 128);

impl PinRecord {
    /// Makes it one without extents.
    pub(super) fn clear(&self, long: bool) {
        self.pages.store(0, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        self.long.store(long, Ordering::Relaxed);
        self.used.store(0, Ordering::Release);
    }

    /// Says which pages the pin is of: all of them are pinned.
    pub(super) fn complete(&self, page: u64, pages: u32) {
        self.page.store(page, Ordering::Relaxed);
        self.pages.store(pages, Ordering::Release);
    }

    /// The first page and how many, of a pin that is complete.
    pub(super) fn pages(&self) -> Option<(u64, u32)> {
        let pages = self.pages.load(Ordering::Acquire);
        (pages > 0).then(|| (self.page.load(Ordering::Relaxed), pages))
    }

    /// Whether the pin is one for long.
    pub(super) fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed)
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Acquire) as usize
    }

    /// Adds `count` frames from `first` on: to the last extent, if they follow it. False where there is no room.
    #[inline]
    pub(super) fn add(&self, first: Frame, count: usize) -> bool {
        let used = self.used();
        if let Some(last) = used.checked_sub(1).map(|last| &self.extents[last]) {
            let before = last.load(Ordering::Relaxed);
            let (begin, counted) = unpack(before);
            if begin + counted as u64 == first && counted + count < 1 << COUNT_BITS {
                last.store(before + count as u64, Ordering::Relaxed);
                return true;
            }
        }
        let Some(extent) = self.extents.get(used) else { return false };
        extent.store(first.0 << COUNT_BITS | count as u64, Ordering::Relaxed);
        self.used.store(used as u32 + 1, Ordering::Release);
        true
    }

    /// Its extents: first frame, and how many.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Frame, usize)> + '_ {
        self.extents[..self.used()].iter().map(|extent| unpack(extent.load(Ordering::Relaxed)))
    }
}

fn unpack(extent: u64) -> (Frame, usize) {
    (Frame(extent >> COUNT_BITS), (extent & ((1 << COUNT_BITS) - 1)) as usize)
}
