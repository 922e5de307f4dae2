//! The memory manager.

pub mod address;
pub mod bits;
pub mod mmu;
