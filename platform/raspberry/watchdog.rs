//! The power manager's watchdog: the way to a reset, and to switching off. No manual describes it; the registers are those of Linux's
//! `drivers/watchdog/bcm2835_wdt.c`.

use core::ptr::NonNull;
use safe_mmio::fields::ReadPureWrite;
use safe_mmio::{UniqueMmioPointer, field, field_shared};

/// The registers.
#[repr(C)]
pub struct WatchdogRegisters {
    _others: [u32; 7],
    /// `PM_RSTC`: what happens when the time is up.
    control: ReadPureWrite<u32>,
    /// `PM_RSTS`: what the firmware is told of the reset.
    status: ReadPureWrite<u32>,
    /// `PM_WDOG`: the time left, in 1/65536 seconds.
    time: ReadPureWrite<u32>,
}

/// What each write needs in its upper byte.
const PASSWORD: u32 = 0x5a00_0000;
const FULL_RESET: u32 = 0x20;
const CONFIGURATION: u32 = 0x30;
/// The partition that the firmware boots next, in every second bit. 63 is none: it halts, and switches off what it can.
const PARTITION: u32 = 0x555;
const TIME: u32 = 10;

/// The watchdog.
pub struct Watchdog(UniqueMmioPointer<'static, WatchdogRegisters>);

impl Watchdog {
    /// The watchdog at `registers`.
    ///
    /// # Safety
    ///
    /// `registers` points to those of a BCM2711's power manager, mapped as device memory for good.
    pub unsafe fn new(registers: NonNull<WatchdogRegisters>) -> Self {
        // SAFETY: the caller vouches for the registers.
        Self(unsafe { UniqueMmioPointer::new(registers) })
    }

    /// Has the board reset within a moment; with `off`, the firmware switches off then what it can, and boots nothing.
    pub fn reset(&mut self, off: bool) {
        let mut registers = self.0.reborrow();
        let partition = if off { PARTITION } else { 0 };
        let status = field_shared!(registers, status).read() & !PARTITION;
        field!(registers, status).write(PASSWORD | status | partition);
        field!(registers, time).write(PASSWORD | TIME);
        let control = field_shared!(registers, control).read() & !CONFIGURATION;
        field!(registers, control).write(PASSWORD | control | FULL_RESET);
    }
}
