//! What caches there are, and memory that others read or write past them.

use aarch64_cpu::asm::barrier;
use core::arch::asm;

/// What CTR_EL0 says of the caches.
pub(super) struct CacheType {
    /// Bytes of the smallest data cache line.
    pub(super) data_line: usize,
    /// Bytes of the smallest instruction cache line.
    pub(super) instruction_line: usize,
    /// Instruction caches are physically indexed and tagged.
    pub(super) physically_indexed: bool,
    /// IDC: fetches see what the data cache holds.
    pub(super) data_coherent: bool,
    /// DIC: instruction caches need no invalidation.
    pub(super) instruction_coherent: bool,
}

impl CacheType {
    pub(super) fn read() -> Self {
        let id: u64;
        // SAFETY: reads an identification register.
        unsafe { asm!("mrs {}, ctr_el0", out(reg) id, options(pure, nomem, nostack, preserves_flags)) };
        CacheType {
            data_line: 4 << (id >> 16 & 0xf),
            instruction_line: 4 << (id & 0xf),
            physically_indexed: id >> 14 & 0b11 == 0b11,
            data_coherent: id & 1 << 28 != 0,
            instruction_coherent: id & 1 << 29 != 0,
        }
    }
}

/// Writes the lines of `bytes` bytes from `at` on back to memory and drops them, to the point of coherency (Arm ARM D7.5.9): what
/// others write afterwards is what is read, once this was called again.
///
/// # Safety
///
/// The bytes are mapped, as normal memory. To the compiler this changes them.
pub(super) unsafe fn clean_and_invalidate(at: *mut u8, bytes: usize) {
    let line = CacheType::read().data_line;
    let first = at.addr() & !(line - 1);
    for line in (first..at.addr() + bytes).step_by(line) {
        // SAFETY: the line is mapped; what it holds goes to memory.
        unsafe { asm!("dc civac, {}", in(reg) at.with_addr(line), options(nostack, preserves_flags)) };
    }
    barrier::dsb(barrier::SY);
}
