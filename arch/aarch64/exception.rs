//! What happens after `exception.s` has saved the registers.

use super::syndrome::{Exception, memory_fault};
use super::{interrupts, memory, report};
use crate::mm::address::{LOWER_END, VirtAddr};
use core::arch::global_asm;
use core::mem::offset_of;

global_asm!(include_str!("exception.s"));

/// The registers of what was interrupted, as `exception.s` lays them out.
#[repr(C, align(16))]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// The application's stack pointer.
    pub sp_el0: u64,
    /// Where it was interrupted.
    pub elr: u64,
    /// Its processor state.
    pub spsr: u64,
    /// FPSR and FPCR.
    pub fp_state: [u64; 2],
    /// x29 and ELR as a frame record.
    record: [u64; 2],
    /// Kernel mode's stack pointer, when that was interrupted.
    pub sp_el1: u64,
    unused: u64,
    /// V0 to V31.
    pub v: [u128; 32],
}

// `exception.s` has these as numbers.
const _: () = assert!(
    offset_of!(Frame, x) + 30 * 8 == 240
        && offset_of!(Frame, sp_el0) == 248
        && offset_of!(Frame, fp_state) == 272
        && offset_of!(Frame, record) == 288
        && offset_of!(Frame, sp_el1) == 304
        && offset_of!(Frame, v) == 320
        && size_of::<Frame>() == 832
);

/// A synchronous exception in application mode. Returning resumes the application.
#[unsafe(no_mangle)]
extern "C" fn application_exception(frame: &mut Frame, esr: u64, far: u64) {
    let refused = match memory_fault(esr) {
        Some(access) if far < LOWER_END => match memory::fault(VirtAddr(far), access) {
            Ok(()) => return,
            Err(refused) => Some(refused),
        },
        _ => None,
    };
    report::application_crash(frame, Exception::decode(esr, far), refused)
}

/// An interrupt in application mode. Returning resumes the application: perhaps much later, after other threads have run, and
/// on another core.
#[unsafe(no_mangle)]
extern "C" fn application_interrupt() {
    interrupts::handle();
}

/// A fast interrupt or SError in application mode: none is enabled.
#[unsafe(no_mangle)]
extern "C" fn application_unexpected_exception(frame: &mut Frame, esr: u64, _far: u64, kind: u64) -> ! {
    report::unexpected(frame, esr, kind, frame.sp_el0)
}

/// Any exception in kernel mode: a kernel bug.
#[unsafe(no_mangle)]
extern "C" fn kernel_exception(frame: &mut Frame, esr: u64, far: u64, kind: u64) -> ! {
    match kind {
        0 => report::kernel_crash(frame, Exception::decode(esr, far)),
        _ => report::unexpected(frame, esr, kind, frame.sp_el1),
    }
}
