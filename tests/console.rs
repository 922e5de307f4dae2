//! The PL011 below the console, on registers that are memory: what is written to which register.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "common/registers.rs"]
mod registers;

use ashlar::platform::console::{Pl011, REGISTERS_SIZE};
use registers::Registers;

/// Offsets of registers (PL011 TRM, DDI 0183, table 3-1).
const DR: usize = 0;
const FR: usize = 0x18;
const IBRD: usize = 0x24;
const FBRD: usize = 0x28;
const LCR_H: usize = 0x2c;
const CR: usize = 0x30;
const PERIPH_ID: usize = 0xfe0;

const RECEIVE_EMPTY: u32 = 1 << 4;

/// A PL011 that has received nothing.
fn silent() -> Registers {
    let registers = Registers::new();
    registers.set(FR, RECEIVE_EMPTY);
    registers
}

fn identified(part: u32) -> Registers {
    let registers = silent();
    for (index, byte) in [part, 0x10, 0x14, 0x00].into_iter().enumerate() {
        registers.set(PERIPH_ID + 4 * index, byte);
    }
    registers
}

fn start(registers: &Registers, clock: Option<u32>) -> Pl011 {
    // SAFETY: memory behaves like registers that remember.
    unsafe { Pl011::new(registers.place(), clock) }
}

/// 24 MHz / (16 * 115200) = 13 + 1.33 / 64; 48 MHz, which is assumed, is twice that.
fn the_line_is_set_up() {
    for (clock, divisor, fraction) in [(Some(24_000_000), 13, 1), (None, 26, 3)] {
        let registers = silent();
        start(&registers, clock);
        assert_eq!((registers.get(IBRD), registers.get(FBRD)), (divisor, fraction));
        assert_eq!(registers.get(LCR_H), 0b111 << 4, "8 bits, FIFOs");
        assert_eq!(registers.get(CR), 1 << 9 | 1 << 8 | 1, "receive, transmit, enable");
    }
}

fn a_strange_clock_changes_nothing() {
    let registers = silent();
    registers.set(CR, 0x301);
    start(&registers, Some(1));
    assert_eq!((registers.get(IBRD), registers.get(CR)), (0, 0x301));
}

fn bytes_go_out_and_come_in() {
    let registers = silent();
    let mut port = start(&registers, None);
    port.write(b"ashlar");
    assert_eq!(registers.get(DR), u32::from(b'r'));
    assert_eq!(port.read(), None);
    registers.set(FR, 0);
    registers.set(DR, u32::from(b'x'));
    assert_eq!(port.read(), Some(b'x'));
}

/// What was received before the UART is set up is not lost with its FIFO.
fn early_input_is_kept() {
    let registers = silent();
    registers.set(FR, 0);
    registers.set(DR, u32::from(b'e'));
    let mut port = start(&registers, None);
    registers.set(FR, RECEIVE_EMPTY);
    assert_eq!(port.read(), Some(b'e'));
}

/// Memory that is no PL011 is left as it is.
fn only_a_pl011_is_written_to() {
    // What says nothing, and Arm's PL031.
    for registers in [silent(), identified(0x31)] {
        let before: alloc::vec::Vec<_> = (0..REGISTERS_SIZE).step_by(4).map(|offset| registers.get(offset)).collect();
        // SAFETY: memory behaves like registers that remember.
        assert!(unsafe { Pl011::probe(registers.place()) }.is_none());
        assert!((0..REGISTERS_SIZE).step_by(4).map(|offset| registers.get(offset)).eq(before));
    }
    let registers = identified(0x11);
    // SAFETY: as above.
    assert!(unsafe { Pl011::probe(registers.place()) }.is_some());
    assert_ne!(registers.get(CR), 0);
}

ashlar_test::tests! {
    the_line_is_set_up,
    a_strange_clock_changes_nothing,
    bytes_go_out_and_come_in,
    early_input_is_kept,
    only_a_pl011_is_written_to,
}
