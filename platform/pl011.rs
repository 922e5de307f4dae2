//! A PL011 UART (Arm DDI 0183), polled.

use super::console::BAUD;
use super::raspberry::pins::UART_0;
use crate::mm::address::PhysAddr;
use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, UniqueMmioPointer};
use arrayvec::ArrayVec;
use core::ptr::NonNull;

/// Bytes of a PL011's registers.
pub const REGISTERS_SIZE: usize = size_of::<PL011Registers>();

/// Where a PL011 may be when the device tree cannot be read: QEMU `virt`, then Raspberry Pi 4. See [`Pl011::probe`].
pub const KNOWN_BASES: [PhysAddr; 2] = [PhysAddr(0x0900_0000), UART_0];

/// The UART's clock on a Raspberry Pi, which no tree gives: `init_uart_clock` of its firmware, by default.
const FIRMWARE_CLOCK: u32 = 48_000_000;
/// Polls of a sending UART before it is set up anew: enough for a full FIFO at the slowest rate in use.
const DRAIN_POLLS: usize = 1_000_000;

/// Bytes of the deepest receive FIFO there is.
const FIFO: usize = 32;

/// A PL011, polled.
pub struct Pl011 {
    uart: arm_pl011_uart::Uart<'static>,
    /// What was received before the UART was set up, which empties its FIFO: input from a pipe is there at once.
    early: ArrayVec<u8, FIFO>,
}

// SAFETY: device registers are the same from every core, and whoever has the `Pl011` has them alone.
unsafe impl Send for Pl011 {}

impl Pl011 {
    /// The UART at `registers`, set to 115200 8N1 and enabled. `clock` is its clock in Hz, if known
    /// ([`Uart::clock`](super::machine::Uart::clock)).
    ///
    /// # Safety
    ///
    /// `registers` points to the registers of a PL011, mapped as device memory for good, and nobody else uses them.
    pub unsafe fn new(registers: NonNull<PL011Registers>, clock: Option<u32>) -> Self {
        // SAFETY: the caller vouches for the registers.
        let mut port = unsafe { Self::open(registers) };
        for _ in 0..DRAIN_POLLS {
            if !port.uart.is_busy() {
                break;
            }
        }
        while let Some(byte) = port.receive() {
            if port.early.try_push(byte).is_err() {
                break;
            }
        }
        port.early.reverse();
        let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // A clock too slow or too fast for the rate leaves the UART as the firmware set it up.
        let _ = port.uart.enable(line, BAUD, clock.unwrap_or(FIRMWARE_CLOCK));
        port
    }

    /// The UART at `registers`, if one of [`KNOWN_BASES`] is mapped there and a PL011 says that it is one.
    ///
    /// For the one line that tells why the tree cannot be read. What is assumed: the machine is one of the two that
    /// Ashlar runs on, and the bases are tried in their order. On QEMU `virt` the first is the UART. On a Raspberry Pi 4
    /// it is RAM, of which this only reads, and which does not hold a PL011's identification; then the second is the
    /// UART. On any other machine reading may abort, where without it there would be silence.
    ///
    /// # Safety
    ///
    /// `registers` is the address of [`REGISTERS_SIZE`] bytes mapped as device memory for good, and nobody else uses them.
    pub unsafe fn probe(registers: NonNull<PL011Registers>) -> Option<Self> {
        // SAFETY: the caller vouches for the mapping; it is a PL011 when it is set up.
        unsafe { Self::is_at(registers).then(|| Self::new(registers, None)) }
    }

    /// Whether a PL011 says that it is one at `registers`. Only identification registers are read.
    ///
    /// # Safety
    ///
    /// As [`Pl011::probe`].
    pub unsafe fn is_at(registers: NonNull<PL011Registers>) -> bool {
        // SAFETY: the caller vouches for the mapping.
        unsafe { Self::open(registers) }.uart.read_identification().is_valid()
    }

    /// The UART at `registers` as it is.
    ///
    /// # Safety
    ///
    /// As [`Pl011::new`]. A crash report opens registers that another `Pl011` still uses, whose owner may never give it
    /// back: an access is a single load or store of a register, so what can happen is that bytes of both mix.
    pub unsafe fn open(registers: NonNull<PL011Registers>) -> Self {
        // SAFETY: the caller vouches for the registers.
        let uart = arm_pl011_uart::Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        Self { uart, early: ArrayVec::new() }
    }

    /// Sends `bytes`; returns when the last one is in the FIFO.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            while self.uart.is_tx_fifo_full() {
                core::hint::spin_loop();
            }
            self.uart.write_word(byte);
        }
    }

    /// Waits until everything was sent: before the machine is turned off.
    pub fn drain(&mut self) {
        while self.uart.is_busy() {
            core::hint::spin_loop();
        }
    }

    /// The next byte received, if there is one. A byte that arrived damaged is left out.
    pub fn read(&mut self) -> Option<u8> {
        self.early.pop().or_else(|| self.receive())
    }

    fn receive(&mut self) -> Option<u8> {
        loop {
            if let Ok(byte) = self.uart.read_word() {
                return byte;
            }
        }
    }
}
