//! The functions of the pins (BCM2711 ARM Peripherals, 5.2 and 5.3): the console's UART on the header, whatever else the firmware had on
//! its pins or the UART elsewhere.

use crate::mm::address::PhysAddr;
use crate::platform::machine::UartKind;
use core::ptr::NonNull;
use safe_mmio::fields::ReadPureWrite;
use safe_mmio::{UniqueMmioPointer, field};

/// The registers.
#[repr(C)]
pub struct PinRegisters {
    /// `GPFSEL0` to `GPFSEL5`: ten pins each, of three bits.
    functions: [ReadPureWrite<u32>; 6],
    _others: [u32; 51],
    /// `GPIO_PUP_PDN_CNTRL_REG0` to `3`: sixteen pins each, of two bits.
    pulls: [ReadPureWrite<u32>; 4],
}

/// Function codes.
const INPUT: u32 = 0b000;
const ALTERNATE_0: u32 = 0b100;
const ALTERNATE_5: u32 = 0b010;
/// Pull codes.
const NONE: u32 = 0b00;
const UP: u32 = 0b01;

/// GPIO 14 and 15: pins 8 and 10 of the header. UART 0 is there as alternate 0, the mini UART as alternate 5.
const HEADER: [u32; 2] = [14, 15];
/// GPIO 32 and 33, on which UART 0 talks to Bluetooth otherwise.
const BLUETOOTH: [u32; 2] = [32, 33];

/// Where UART 0 is; the other PL011s have other pins.
pub const UART_0: PhysAddr = PhysAddr(0xfe20_1000);

/// Puts a UART on the header: UART 0, or the mini UART.
///
/// # Safety
///
/// `registers` points to those of a BCM2711's pins, mapped as device memory for good, and nobody else uses them.
pub unsafe fn put_on_header(registers: NonNull<PinRegisters>, uart: UartKind) {
    // SAFETY: the caller vouches for the registers.
    let mut pins = Pins(unsafe { UniqueMmioPointer::new(registers) });
    let function = match uart {
        UartKind::Pl011 => {
            // Else the receiver would hear two lines.
            BLUETOOTH.iter().for_each(|&pin| pins.set_function(pin, INPUT));
            ALTERNATE_0
        }
        UartKind::Mini => ALTERNATE_5,
    };
    let [sends, receives] = HEADER;
    pins.set_pull(sends, NONE);
    // A line that nothing is connected to is idle, not a stream of breaks.
    pins.set_pull(receives, UP);
    HEADER.iter().for_each(|&pin| pins.set_function(pin, function));
}

struct Pins(UniqueMmioPointer<'static, PinRegisters>);

impl Pins {
    fn set_function(&mut self, pin: u32, function: u32) {
        let mut registers = field!(self.0, functions);
        let Some(mut register) = registers.get(pin as usize / 10) else { return };
        let shift = pin % 10 * 3;
        register.modify(|all| all & !(0b111 << shift) | function << shift);
    }

    fn set_pull(&mut self, pin: u32, pull: u32) {
        let mut registers = field!(self.0, pulls);
        let Some(mut register) = registers.get(pin as usize / 16) else { return };
        let shift = pin % 16 * 2;
        register.modify(|all| all & !(0b11 << shift) | pull << shift);
    }
}
