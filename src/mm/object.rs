//! Objects: the memory that regions map.
//!
//! An object is an array of pages, cut into slots. Anonymous memory has one place, at which its page `n` is the page
//! `n` of the address space, so that the slots of an object are those of its addresses; a mapping placed into a slot that
//! an object already uses becomes part of that object, for a slot belongs to one.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

/// What is known of an object beyond its slots. Guarded by the space's lock.
#[derive(Debug, Default)]
pub struct Object {
    regions: AtomicU32,
}

impl Object {
    /// Regions that map it.
    pub fn regions(&self) -> u32 {
        self.regions.load(Ordering::Relaxed)
    }

    pub(super) fn set_regions(&self, regions: u32) {
        self.regions.store(regions, Ordering::Relaxed);
    }
}
