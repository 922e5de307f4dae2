//! Memory that behaves like a device's registers that remember.

use alloc::boxed::Box;
use core::ptr::NonNull;

/// Registers of 32 bits, 4 KiB of them, by their offsets in bytes.
pub struct Registers(NonNull<u32>);

const WORDS: usize = 1024;

impl Registers {
    /// All are zero. They are never given back.
    pub fn new() -> Self {
        Self(NonNull::from(Box::leak(Box::new([0u32; WORDS]))).cast())
    }

    pub fn get(&self, offset: usize) -> u32 {
        assert!(offset / 4 < WORDS);
        // SAFETY: the leaked memory has that many words, and is accessed through pointers alone.
        unsafe { self.0.add(offset / 4).read_volatile() }
    }

    pub fn set(&self, offset: usize, value: u32) {
        assert!(offset / 4 < WORDS);
        // SAFETY: as in `get`.
        unsafe { self.0.add(offset / 4).write_volatile(value) }
    }

    /// Where a driver finds them.
    pub fn place<T>(&self) -> NonNull<T> {
        self.0.cast()
    }
}
