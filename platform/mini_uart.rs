//! A Raspberry Pi's mini UART (BCM2711 ARM Peripherals, 2.2), polled.
//!
//! Not by a crate for 16550s, which it resembles: it has no divisor latch, and its modem status says "not clear to send"
//! where no such line is connected.

use super::console::BAUD;
use crate::mm::address::PhysAddr;
use core::ops::Range;
use core::ptr::NonNull;
use safe_mmio::fields::{ReadPure, ReadPureWrite, ReadWrite};
use safe_mmio::{UniqueMmioPointer, field, field_shared};

/// Where the mini UART's own registers begin in the block of the three auxiliary peripherals.
const OFFSET: u64 = 0x40;
const SIZE: u64 = 0x80;

/// `AUX_ENABLES`: the mini UART's registers can be used.
const ENABLE: u32 = 1 << 0;
/// `AUX_MU_LCR_REG`: 8 bits. The manual's bit 0 alone is a misprint (its errata; Linux: `UART_LCR_WLEN8`).
const EIGHT_BITS: u32 = 0b11;
/// `AUX_MU_LSR_REG`.
const DATA_READY: u32 = 1 << 0;
const HAS_ROOM: u32 = 1 << 5;
const IS_IDLE: u32 = 1 << 6;
/// `AUX_MU_CNTL_REG`: sends and receives, without flow control.
const BOTH_WAYS: u32 = 0b11;

/// The registers of the block, of which those of the two SPIs are left out.
#[repr(C)]
pub struct MiniUartRegisters {
    irq: ReadPure<u32>,
    enables: ReadPureWrite<u32>,
    _reserved: [u32; 14],
    io: ReadWrite<u32>,
    ier: ReadPureWrite<u32>,
    iir: ReadPureWrite<u32>,
    lcr: ReadPureWrite<u32>,
    mcr: ReadPureWrite<u32>,
    lsr: ReadPure<u32>,
    msr: ReadPure<u32>,
    scratch: ReadPureWrite<u32>,
    cntl: ReadPureWrite<u32>,
    stat: ReadPure<u32>,
    baud: ReadPureWrite<u32>,
}

/// A mini UART.
pub struct MiniUart(UniqueMmioPointer<'static, MiniUartRegisters>);

// SAFETY: device registers are the same from every core, and whoever has the `MiniUart` has them alone.
unsafe impl Send for MiniUart {}

impl MiniUart {
    /// The registers to map for the mini UART that the device tree has at `base`: the whole block.
    pub fn registers(base: PhysAddr) -> Range<PhysAddr> {
        let start = PhysAddr(base.0.saturating_sub(OFFSET));
        start..start + SIZE
    }

    /// The UART whose block is at `registers`, set to 8N1, and to 115200 baud if the `clock` that feeds it, the VideoCore's, is
    /// known; else its rate stays as the firmware set it. What it has received is kept.
    ///
    /// # Safety
    ///
    /// `registers` points to those of a mini UART's block, mapped as device memory for good, and nobody else uses them.
    pub unsafe fn new(registers: NonNull<MiniUartRegisters>, clock: Option<u32>) -> Self {
        // SAFETY: the caller vouches for the registers.
        let mut port = unsafe { Self::open(registers) };
        let mut registers = port.0.reborrow();
        let enabled = field_shared!(registers, enables).read() | ENABLE;
        field!(registers, enables).write(enabled);
        field!(registers, ier).write(0);
        if let Some(divisor) = clock.and_then(divisor) {
            field!(registers, baud).write(divisor);
        }
        field!(registers, lcr).write(EIGHT_BITS);
        field!(registers, mcr).write(0);
        field!(registers, cntl).write(BOTH_WAYS);
        port
    }

    /// The UART at `registers` as it is.
    ///
    /// # Safety
    ///
    /// As [`Pl011::open`](super::pl011::Pl011::open).
    pub unsafe fn open(registers: NonNull<MiniUartRegisters>) -> Self {
        // SAFETY: the caller vouches for the registers.
        Self(unsafe { UniqueMmioPointer::new(registers) })
    }

    /// Sends `bytes`; returns when the last one is in the FIFO.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut registers = self.0.reborrow();
        for &byte in bytes {
            while field_shared!(registers, lsr).read() & HAS_ROOM == 0 {
                core::hint::spin_loop();
            }
            field!(registers, io).write(byte.into());
        }
    }

    /// Waits until everything was sent.
    pub fn drain(&mut self) {
        while field_shared!(self.0, lsr).read() & IS_IDLE == 0 {
            core::hint::spin_loop();
        }
    }

    /// The next byte received, if there is one.
    pub fn read(&mut self) -> Option<u8> {
        let mut registers = self.0.reborrow();
        (field_shared!(registers, lsr).read() & DATA_READY != 0).then(|| field!(registers, io).read() as u8)
    }
}

/// `AUX_MU_BAUD_REG`: the rate is the clock by eight times this and one.
fn divisor(clock: u32) -> Option<u32> {
    (clock / (8 * BAUD)).checked_sub(1).filter(|divisor| *divisor <= 0xffff)
}
