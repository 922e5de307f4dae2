//! Simulated RAM: banks of host memory that never move, zero until written.

use crate::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, PhysAddr};
use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::sync::atomic::{AtomicU64, Ordering};

/// Consecutive frames of RAM.
struct Bank {
    first: Frame,
    frames: usize,
    /// Number of the bank's first frame among all frames of RAM.
    index: usize,
    /// The first byte; congruent to its physical address modulo 2 MiB.
    bytes: *mut u8,
    allocation: *mut u8,
    layout: Layout,
}

/// All of RAM.
pub(super) struct Memory {
    banks: Vec<Bank>,
}

// SAFETY: the banks are owned, never move, and are reached through raw pointers and atomics only; who reads and writes
// bytes at the same time is the callers' matter, as it is on hardware.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// RAM of `banks`: address and bytes of each, multiples of 4 KiB, not overlapping.
    pub(super) fn new(banks: &[(PhysAddr, usize)]) -> Self {
        let mut index = 0;
        let banks = banks.iter().map(|&(start, bytes)| {
            let bank = Bank::new(start, bytes, index);
            index += bank.frames;
            bank
        });
        Self { banks: banks.collect() }
    }

    /// Frames of all banks together.
    pub(super) fn frames(&self) -> usize {
        self.banks.iter().map(|bank| bank.frames).sum()
    }

    fn bank(&self, first: Frame, count: usize) -> Option<&Bank> {
        self.banks
            .iter()
            .find(|bank| first >= bank.first && first.0 - bank.first.0 + count as u64 <= bank.frames as u64)
    }

    /// Number of `frame` among all frames of RAM; `None` when it is not RAM.
    pub(super) fn index(&self, frame: Frame) -> Option<usize> {
        let bank = self.bank(frame, 1)?;
        Some(bank.index + (frame.0 - bank.first.0) as usize)
    }

    /// Whether the `count` frames from `first` are RAM, in one bank.
    pub(super) fn contains(&self, first: Frame, count: usize) -> bool {
        self.bank(first, count).is_some()
    }

    /// Where the host has the `bytes` bytes from `at`; `None` when they are not RAM.
    fn find(&self, at: PhysAddr, bytes: usize) -> Option<*mut u8> {
        let count = (at.0 as usize % PAGE_SIZE + bytes).div_ceil(PAGE_SIZE);
        let bank = self.bank(at.frame(), count)?;
        // SAFETY: `bank` holds `at`'s frame, so the offset stays inside its one allocation.
        Some(unsafe { bank.bytes.add((at - bank.first.start()) as usize) })
    }

    /// Where the host has the byte at `at`, followed by the rest of its bank; `None` when it is not RAM.
    pub(super) fn pointer(&self, at: PhysAddr) -> Option<*mut u8> {
        self.find(at, 1)
    }

    /// As [`Memory::find`].
    ///
    /// # Panics
    ///
    /// When they are not RAM: the kernel computed a wrong address.
    fn span(&self, at: PhysAddr, bytes: usize) -> *mut u8 {
        self.find(at, bytes).unwrap_or_else(|| panic!("{bytes} bytes at {at} are not in RAM"))
    }

    fn entry(&self, at: PhysAddr) -> &AtomicU64 {
        assert!(at.is_aligned(8), "misaligned descriptor at {at}");
        // SAFETY: `span` checked that the bytes are RAM; they are aligned, initialized, live as long as `self`, and
        // descriptors are only ever reached as atomics or under the machine's lock.
        unsafe { AtomicU64::from_ptr(self.span(at, 8).cast()) }
    }

    /// The descriptor at `at`, as memory holds it.
    pub(super) fn read_entry(&self, at: PhysAddr) -> u64 {
        self.entry(at).load(Ordering::Relaxed)
    }

    /// Stores the descriptor at `at`.
    pub(super) fn write_entry(&self, at: PhysAddr, raw: u64) {
        self.entry(at).store(raw, Ordering::Relaxed);
    }

    /// Reads the bytes at `at`.
    pub(super) fn read(&self, at: PhysAddr, to: &mut [u8]) {
        // SAFETY: `span` checked the source; a `&mut` buffer of the caller's is never inside a bank's allocation.
        unsafe { self.span(at, to.len()).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) }
    }

    /// Writes the bytes at `at`.
    pub(super) fn write(&self, at: PhysAddr, from: &[u8]) {
        // SAFETY: `span` checked the destination; a `&` buffer of the caller's is never inside a bank's allocation.
        unsafe { self.span(at, from.len()).copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }

    /// Fills `count` frames with zeros.
    pub(super) fn zero(&self, first: Frame, count: usize) {
        // SAFETY: `span` checked the frames.
        unsafe { self.span(first.start(), count * PAGE_SIZE).write_bytes(0, count * PAGE_SIZE) }
    }

    /// Copies `count` frames.
    pub(super) fn copy(&self, from: Frame, to: Frame, count: usize) {
        assert!(
            from.0.abs_diff(to.0) >= count as u64,
            "copy of {count} frames from {from:?} onto themselves at {to:?}"
        );
        let (from, to) = (self.span(from.start(), count * PAGE_SIZE), self.span(to.start(), count * PAGE_SIZE));
        // SAFETY: `span` checked both, and they are apart.
        unsafe { to.copy_from_nonoverlapping(from, count * PAGE_SIZE) }
    }

    /// Whether every byte of `frame` is zero.
    pub(super) fn is_zero(&self, frame: Frame) -> bool {
        let words = self.span(frame.start(), PAGE_SIZE).cast::<AtomicU64>();
        // SAFETY: `span` checked the frame, which is aligned; its words are atomics for whoever shares them.
        (0..PAGE_SIZE / 8).all(|word| unsafe { &*words.add(word) }.load(Ordering::Relaxed) == 0)
    }
}

impl Bank {
    fn new(start: PhysAddr, bytes: usize, index: usize) -> Self {
        assert!(start.is_aligned(PAGE_SIZE) && bytes.is_multiple_of(PAGE_SIZE), "bank of {bytes} bytes at {start}");
        // Aligned by hand: an allocator asked for more than its usual alignment writes the zeros itself, and a large
        // simulated RAM would cost what it says.
        let layout = Layout::from_size_align(bytes + BLOCK_SIZE, 16).expect("a bank fits the host's address space");
        // SAFETY: the layout's size is not zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        if allocation.is_null() {
            handle_alloc_error(layout);
        }
        let pad = (start.0 as usize).wrapping_sub(allocation.addr()) % BLOCK_SIZE;
        // SAFETY: the pad is less than the 2 MiB that the allocation has beyond `bytes`.
        let first = unsafe { allocation.add(pad) };
        Self { first: start.frame(), frames: bytes / PAGE_SIZE, index, bytes: first, allocation, layout }
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed here only.
        unsafe { dealloc(self.allocation, self.layout) }
    }
}
