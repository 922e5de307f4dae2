//! The clock that knows the date: a PL031 (Arm DDI 0224), of which one register is read.

use core::ptr::NonNull;
use safe_mmio::UniqueMmioPointer;
use safe_mmio::fields::ReadPure;
use spin::Mutex;

/// Bytes of a PL031's registers.
pub const REGISTERS_SIZE: usize = 0x1000;

/// RTCDR, the first register: seconds since 1970 began, as firmware or host set it.
static SECONDS: Mutex<Option<UniqueMmioPointer<'static, ReadPure<u32>>>> = Mutex::new(None);

/// Makes the PL031 at `registers` the clock.
///
/// # Safety
///
/// `registers` points to the registers of a PL031, mapped as device memory for good, and nobody else uses them.
pub unsafe fn install(registers: NonNull<u32>) {
    // SAFETY: the caller vouches for the registers, of which the first can be read without effect.
    *SECONDS.lock() = Some(unsafe { UniqueMmioPointer::new(registers.cast()) });
}

/// Seconds since 1970 began, in UTC; `None` without a clock.
pub fn read() -> Option<u64> {
    SECONDS.lock().as_ref().map(|register| register.read().into())
}
