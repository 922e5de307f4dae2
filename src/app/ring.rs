//! A ring buffer without an end to wrap at.

use crate::arch::aarch64::{gate, memory};
use crate::mm::address::{BLOCK_SIZE, VirtAddr};
use crate::mm::{Destination, MapRequest, MemoryError};
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;

/// Bytes in, bytes out, first in first out, in memory that is mapped twice in a row: what is in it, and what is free of it, is
/// one slice each, wherever it begins. Its memory is in blocks, as all is.
///
/// ```ignore
/// let mut ring = ashlar::memory::Ring::new(2 << 20)?;
/// let read = socket.receive(ring.room())?;
/// ring.fill(read);
/// while let Some(message) = parse(ring.contents()) {
///     ring.consume(message.len());
/// }
/// ```
#[derive(Debug)]
pub struct Ring {
    start: VirtAddr,
    capacity: usize,
    /// Where the contents begin, below the capacity.
    first: usize,
    length: usize,
}

impl Ring {
    /// An empty one for at least `capacity` bytes: whole blocks.
    ///
    /// # Errors
    ///
    /// A capacity of zero, too many addresses or too much memory (both places count against the commit limit).
    pub fn new(capacity: usize) -> Result<Self, MemoryError> {
        let pages = capacity.checked_next_multiple_of(BLOCK_SIZE).and_then(|capacity| capacity.checked_mul(2));
        let address = VirtAddr(0);
        let both = pages.ok_or(MemoryError::OutsideSpace { address, length: capacity })?;
        let Range { start, .. } = gate::call(move || memory::manager().map(MapRequest::new(both)))?;
        // Whatever becomes of the alias, both are unmapped when it is dropped.
        let ring = Ring { start, capacity: both / 2, first: 0, length: 0 };
        let capacity = ring.capacity;
        let to = Destination::Over(start + capacity as u64);
        gate::call(move || memory::manager().alias(start, capacity, to))?;
        Ok(ring)
    }

    /// Bytes that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What it holds, the oldest first.
    pub fn contents(&self) -> &[u8] {
        // SAFETY: readable memory of this ring's own, in which no byte is at two of these addresses: they are no more than its
        // capacity. Nothing is written to it while `self` is borrowed.
        unsafe { core::slice::from_raw_parts(self.pointer(self.first), self.length) }
    }

    /// What is free, to be written to from its start: the next bytes that it will hold ([`fill`](Self::fill)).
    pub fn room(&mut self) -> &mut [u8] {
        let (end, room) = (self.first + self.length, self.capacity - self.length);
        // SAFETY: as in `contents`; writable, `self` is borrowed for nobody else, and the last address is below twice the capacity,
        // for `first` is below it.
        unsafe { core::slice::from_raw_parts_mut(self.pointer(end % self.capacity), room) }
    }

    /// The first `count` bytes of its room are contents by now.
    ///
    /// # Panics
    ///
    /// When there is less room.
    pub fn fill(&mut self, count: usize) {
        assert!(count <= self.capacity - self.length, "{count} bytes of {}", self.capacity - self.length);
        self.length += count;
    }

    /// The first `count` bytes of its contents are not needed any more.
    ///
    /// # Panics
    ///
    /// When it holds less.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.length, "{count} bytes of {}", self.length);
        self.length -= count;
        self.first = (self.first + count) % self.capacity;
    }

    fn pointer(&self, offset: usize) -> *mut u8 {
        with_exposed_provenance_mut(self.start.0 as usize + offset)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let (start, length) = (self.start, 2 * self.capacity);
        gate::call(move || memory::manager().unmap(start, length)).expect("whole slots need no record");
    }
}
