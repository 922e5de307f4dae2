//! A mapping's memory at other addresses, too.

use super::memory::Mapping;
use crate::arch::aarch64::{gate, memory};
use crate::mm::address::VirtAddr;
use crate::mm::{Destination, MemoryError};
use core::ptr::with_exposed_provenance_mut;

/// Another place of a mapping's memory: what is written at one is read at the other. Each may go before the other; dropping it
/// unmaps this place.
#[derive(Debug)]
pub struct Alias {
    start: VirtAddr,
    length: usize,
}

impl Alias {
    /// Where it begins, a multiple of 2 MiB. It is for the caller to see to it that nobody has a reference to what is written
    /// through it, at either place.
    pub fn as_ptr(&self) -> *mut u8 {
        with_exposed_provenance_mut(self.start.0 as usize)
    }

    /// Its length in bytes, whole blocks.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: an empty mapping has no other place.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Mapping {
    /// Maps its memory at other addresses as well, with the same access: whole blocks, at four places at most. As long as
    /// there are several, none of them can be protected, moved or unmapped in part. ([`Ring`](super::memory::Ring) is made of
    /// this.)
    ///
    /// # Errors
    ///
    /// What [`MemoryManager::alias`](crate::mm::MemoryManager::alias) refuses: not of whole blocks, a snapshot of it, addresses in
    /// use, the commit limit (each place counts).
    ///
    /// # Panics
    ///
    /// With [`Destination::Over`]: what is there belongs to somebody.
    pub fn alias(&self, to: Destination) -> Result<Alias, MemoryError> {
        assert!(!matches!(to, Destination::Over(_)), "memory at {to:?} is somebody's");
        let (start, length) = (self.start(), self.len());
        let range = gate::call(move || memory::manager().alias(start, length, to))?;
        Ok(Alias { start: range.start, length })
    }
}

impl Drop for Alias {
    fn drop(&mut self) {
        let (start, length) = (self.start, self.length);
        gate::call(move || memory::manager().unmap(start, length)).expect("whole slots need no record");
    }
}
