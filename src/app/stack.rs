//! Stacks in application mode: mapped memory, backed as it is touched, with guard pages below it.
#![forbid(unsafe_code)]

use crate::arch::aarch64::memory;
use crate::mm::address::{PAGE_SIZE, VirtAddr};
use crate::mm::huge::HugePolicy;
use crate::mm::mmu::Access;
use crate::mm::{MapRequest, MemoryError};
use core::ops::Range;

/// Bytes of the main thread's stack where there is memory for it: it counts against the commit limit whether it is touched
/// or not.
const LARGEST: usize = 8 << 20;
/// The least.
const SMALLEST: usize = 256 << 10;
/// Bytes below a stack to which no access is allowed.
pub(crate) const GUARD: usize = 64 << 10;
/// From here on a stack is likely to be used for its blocks; smaller ones are touched at their ends and no further.
const HUGE: usize = 4 << 20;

/// Bytes of the main thread's stack.
pub(crate) fn main_size() -> usize {
    let eighth = memory::manager().frames().statistics().total * PAGE_SIZE / 8;
    eighth.clamp(SMALLEST, LARGEST)
}

/// Maps a stack of `bytes` bytes, rounded up to whole pages, and its guard. Called in kernel mode.
///
/// # Errors
///
/// There is no memory for it.
pub(crate) fn map(bytes: usize) -> Result<Range<VirtAddr>, MemoryError> {
    let manager = memory::manager();
    let policy = if bytes < HUGE { HugePolicy::Never } else { HugePolicy::Default };
    let whole = manager.map(MapRequest::new(bytes.saturating_add(GUARD)).policy(policy))?;
    if let Err(error) = manager.protect(whole.start, GUARD, Access::NONE) {
        // A whole region: nothing has to be cut.
        let _ = manager.unmap(whole.start, (whole.end - whole.start) as usize);
        return Err(error);
    }
    Ok(whole.start + GUARD as u64..whole.end)
}

/// Unmaps a stack from [`map`], with its guard. Called in kernel mode.
pub(crate) fn unmap(stack: Range<VirtAddr>) {
    let length = (stack.end - stack.start) as usize + GUARD;
    let start = VirtAddr(stack.start.0 - GUARD as u64);
    if let Err(error) = memory::manager().unmap(start, length) {
        // Regions may have merged with it, and cutting them takes memory. What is not unmapped is lost, not misused.
        log::warn!("a stack of {length} bytes at {start} stays mapped: {error}");
    }
}
