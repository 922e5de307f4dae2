//! The memory manager.

pub mod address;
pub mod bits;
pub mod frame;
pub mod mmu;
pub mod region_map;
pub mod slab;
