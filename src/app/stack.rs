//! The application's stack.
#![forbid(unsafe_code)]

use crate::arch::aarch64::memory;
use crate::mm::address::{PAGE_SIZE, VirtAddr};
use crate::mm::mmu::Access;
use crate::mm::{MapRequest, MemoryError};
use core::ops::Range;

/// Bytes of the stack where there is memory for it: it counts against the commit limit whether it is touched or not.
const LARGEST: usize = 8 << 20;
/// The least.
const SMALLEST: usize = 256 << 10;
/// Bytes below it to which no access is allowed.
const GUARD: usize = 64 << 10;

/// Maps the application's stack, which is backed as it is touched, with its guard pages below it. Called in kernel mode.
///
/// # Errors
///
/// There is no memory for it.
pub(crate) fn map() -> Result<Range<VirtAddr>, MemoryError> {
    let manager = memory::manager();
    let eighth = manager.frames().statistics().total * PAGE_SIZE / 8;
    let length = eighth.clamp(SMALLEST, LARGEST).next_multiple_of(PAGE_SIZE);
    let stack = manager.map(MapRequest::new(length))?;
    manager.protect(stack.start, GUARD, Access::NONE)?;
    Ok(stack.start + GUARD as u64..stack.end)
}
