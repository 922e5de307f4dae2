//! The way from application mode to kernel mode and back, on the thread's kernel stack.
//!
//! Whatever takes a ranked lock runs in kernel mode, on a stack that never faults. The application's stack is
//! demand-paged, so nothing of a call lies on it: arguments and results travel in registers.

use super::percore;
use crate::mm::address::VirtAddr;
use core::arch::asm;
use core::mem::{ManuallyDrop, MaybeUninit};

/// Registers that carry a closure in and a result out.
const WORDS: usize = 8;
type Words = [MaybeUninit<u64>; WORDS];

/// Runs `f` in kernel mode; at once, when this is kernel mode already.
///
/// `f` and its result are moved through registers: they hold at most 64 bytes, and (being `'static`) nothing that lies on the
/// application's stack.
#[inline]
pub fn call<F, R>(f: F) -> R
where
    F: FnOnce() -> R + 'static,
    R: 'static,
{
    const { assert!(size_of::<F>() <= size_of::<Words>() && align_of::<F>() <= 16, "captures too much for registers") };
    const { assert!(size_of::<R>() <= size_of::<Words>() && align_of::<R>() <= 16, "result too large for registers") };
    if percore::in_kernel_mode() {
        return f();
    }
    let f = ManuallyDrop::new(f);
    let mut words: Words = [MaybeUninit::uninit(); WORDS];
    // SAFETY: `f` fits, as asserted, and is not used again.
    unsafe { words.as_mut_ptr().cast::<F>().write_unaligned(core::ptr::read(&*f)) };
    let run: extern "C" fn(&mut Aligned) = run::<F, R>;
    let [w0, w1, w2, w3, w4, w5, w6, w7] = &mut words;
    // SAFETY: in application mode SP_EL1 is the thread's kernel stack, with nothing live below it. The callee keeps to the
    // procedure call standard, so that SP and x29 are as before; SPSel is put back.
    unsafe {
        asm!(
            // Kernel mode is not preempted.
            "msr daifset, #2",
            "msr spsel, #1",
            "stp x0, x1, [sp, #-64]!",
            "stp x2, x3, [sp, #16]",
            "stp x4, x5, [sp, #32]",
            "stp x6, x7, [sp, #48]",
            "mov x0, sp",
            "blr x8",
            "ldp x2, x3, [sp, #16]",
            "ldp x4, x5, [sp, #32]",
            "ldp x6, x7, [sp, #48]",
            "ldp x0, x1, [sp], #64",
            "msr spsel, #0",
            "msr daifclr, #2",
            inout("x0") *w0, inout("x1") *w1, inout("x2") *w2, inout("x3") *w3,
            inout("x4") *w4, inout("x5") *w5, inout("x6") *w6, inout("x7") *w7,
            inout("x8") run => _,
            clobber_abi("C"),
        );
        words.as_ptr().cast::<R>().read_unaligned()
    }
}

/// The words as they lie on the kernel stack.
#[repr(C, align(16))]
struct Aligned(Words);

/// Takes the closure from `words`, runs it and puts its result there.
extern "C" fn run<F: FnOnce() -> R, R>(words: &mut Aligned) {
    let words = words.0.as_mut_ptr();
    // SAFETY: `call` put an `F` there, which is used this once; size and alignment are asserted there for both.
    unsafe {
        let f = words.cast::<F>().read();
        words.cast::<R>().write(f());
    }
}

/// Runs `entry` with `argument` in application mode on the stack that ends at `stack_top`, a multiple of 16, and returns what
/// it returns. Interrupts are open meanwhile, and errors that the system bus reports.
///
/// # Safety
///
/// This is kernel mode. What is below `stack_top` is the application's: memory, or addresses whose faults become memory.
pub unsafe fn enter_application(entry: extern "C" fn(usize) -> i32, argument: usize, stack_top: VirtAddr) -> i32 {
    assert!(percore::in_kernel_mode() && stack_top.is_aligned(16));
    let status: u64;
    // SAFETY: the caller vouches for the stack. The frame pointer is zero at the application's first call, so that backtraces
    // end there; it is kept on the kernel stack, on which gates and exceptions build from where it stands now.
    unsafe {
        asm!(
            "stp x29, xzr, [sp, #-16]!",
            "mov x29, xzr",
            "msr sp_el0, {top}",
            "msr spsel, #0",
            "msr daifclr, #6",
            "blr {entry}",
            "msr daifset, #2",
            "msr spsel, #1",
            "ldp x29, xzr, [sp], #16",
            top = in(reg) stack_top.0,
            entry = in(reg) entry,
            inlateout("x0") argument as u64 => status,
            clobber_abi("C"),
        );
    }
    status as i32
}
