//! Marks phases for the TLB model (`tlb=`), by hints that are NOPs anywhere else.

use core::arch::asm;

/// Up to 8 letters in a register, the first in the lowest byte.
const fn word(name: &str) -> u64 {
    let (bytes, mut word, mut index) = (name.as_bytes(), 0, 0);
    assert!(bytes.len() <= 8);
    while index < bytes.len() {
        word |= (bytes[index] as u64) << (8 * index);
        index += 1;
    }
    word
}

/// Counts `work`, and reports it as `name`.
pub fn phase(name: &str, work: impl FnOnce()) {
    let name = word(name);
    // SAFETY: hints that nothing is assigned to have no effect. They stay where they are to memory.
    unsafe { asm!("hint #0x70", in("x0") name, options(nostack, preserves_flags)) };
    work();
    // SAFETY: as above.
    unsafe { asm!("hint #0x71", in("x0") name, options(nostack, preserves_flags)) };
}
