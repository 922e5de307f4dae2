//! The console's device: one of the UARTs that are known.

use super::machine::{Uart, UartKind};
use super::mini_uart::MiniUart;
pub use super::pl011::{KNOWN_BASES, Pl011, REGISTERS_SIZE};
use crate::mm::address::PhysAddr;
use core::ops::Range;
use core::ptr::NonNull;

/// Bits in a second, on any UART.
pub(super) const BAUD: u32 = 115_200;

/// A UART, set to 115200 8N1, polled.
pub enum Port {
    /// A PL011.
    Pl011(Pl011),
    /// A Raspberry Pi's mini UART.
    Mini(MiniUart),
}

/// The registers of `uart`, to be mapped as device memory.
pub fn registers(uart: &Uart) -> Range<PhysAddr> {
    match uart.kind {
        UartKind::Pl011 => uart.base..uart.base + REGISTERS_SIZE as u64,
        UartKind::Mini => MiniUart::registers(uart.base),
    }
}

impl Port {
    /// The UART whose [`registers`] are at `registers`, set up and enabled. `clock` is the clock in Hz that feeds it, if known.
    ///
    /// # Safety
    ///
    /// `registers` points to registers of that kind, mapped as device memory for good, and nobody else uses them.
    pub unsafe fn new(kind: UartKind, registers: NonNull<u8>, clock: Option<u32>) -> Self {
        match kind {
            // SAFETY: the caller vouches for the registers.
            UartKind::Pl011 => Port::Pl011(unsafe { Pl011::new(registers.cast(), clock) }),
            // SAFETY: as above.
            UartKind::Mini => Port::Mini(unsafe { MiniUart::new(registers.cast(), clock) }),
        }
    }

    /// The UART at `registers` as it is.
    ///
    /// # Safety
    ///
    /// As [`Pl011::open`].
    pub unsafe fn open(kind: UartKind, registers: NonNull<u8>) -> Self {
        match kind {
            // SAFETY: the caller vouches for the registers.
            UartKind::Pl011 => Port::Pl011(unsafe { Pl011::open(registers.cast()) }),
            // SAFETY: as above.
            UartKind::Mini => Port::Mini(unsafe { MiniUart::open(registers.cast()) }),
        }
    }

    /// Sends `bytes`; returns when the last one is in the FIFO.
    pub fn write(&mut self, bytes: &[u8]) {
        match self {
            Port::Pl011(port) => port.write(bytes),
            Port::Mini(port) => port.write(bytes),
        }
    }

    /// Waits until everything was sent: before the machine is turned off.
    pub fn drain(&mut self) {
        match self {
            Port::Pl011(port) => port.drain(),
            Port::Mini(port) => port.drain(),
        }
    }

    /// The next byte received, if there is one.
    pub fn read(&mut self) -> Option<u8> {
        match self {
            Port::Pl011(port) => port.read(),
            Port::Mini(port) => port.read(),
        }
    }
}
