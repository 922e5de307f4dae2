//! What only a Raspberry Pi has, on registers that are memory, and with a firmware that is a function.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "common/registers.rs"]
mod registers;

use alloc::string::ToString;
use ashlar::mm::address::PhysAddr;
use ashlar::platform::console::{Port, registers};
use ashlar::platform::machine::{Uart, UartKind};
use ashlar::platform::raspberry::mailbox::{Board, Mailbox, Message};
use ashlar::platform::raspberry::pins;
use ashlar::platform::raspberry::revision::Revision;
use ashlar::platform::raspberry::watchdog::Watchdog;
use registers::Registers;

/// Examples of the documentation's.
fn revisions_say_board_and_memory() {
    for (code, text, gibibytes) in [
        (0xa0_3111, "Raspberry Pi 4 Model B 1.1, 1024 MiB, code a03111", 1),
        (0xb0_3114, "Raspberry Pi 4 Model B 1.4, 2048 MiB, code b03114", 2),
        (0xc0_3112, "Raspberry Pi 4 Model B 1.2, 4096 MiB, code c03112", 4),
        (0xd0_3115, "Raspberry Pi 4 Model B 1.5, 8192 MiB, code d03115", 8),
        (0xc0_3130, "Raspberry Pi 400 1.0, 4096 MiB, code c03130", 4),
    ] {
        assert_eq!(Revision(code).to_string(), text);
        assert_eq!(Revision(code).ram(), Some(gibibytes << 30));
    }
    for code in [0x15, 0x90_0092, 0] {
        assert_eq!(Revision(code).to_string(), alloc::format!("board with revision code {code:x}"));
        assert_eq!(Revision(code).model(), None);
    }
    assert_eq!(Revision(0x15).ram(), None);
}

/// Fills in all answers, but those to `unknown`.
fn answer(message: &mut Message, unknown: &[u32]) {
    let words = message.words();
    assert_eq!(words[1], 0);
    let end = words[0] as usize / 4;
    assert_eq!(words[end - 1], 0, "the tag 0 ends it");
    let mut at = 2;
    while words[at] != 0 {
        let (tag, bytes, first) = (words[at], words[at + 1], words[at + 3]);
        let values = match (tag, first) {
            (0x0000_0001, _) => [1_700_000_000, 0],
            (0x0001_0002, _) => [0xd0_3115, 0],
            (0x0001_0005, _) => [0, 0x3b40_0000],
            (0x0001_0006, _) => [0x3b40_0000, 0x04c0_0000],
            (0x0003_0002, 2) => [2, 48_000_000],
            (0x0003_0002, 3) => [3, 1_800_000_000],
            (0x0003_0002, 4) => [4, 500_000_000],
            (0x0003_0006, 0) => [0, 46_251],
            other => panic!("{other:x?} is not asked"),
        };
        let length = bytes as usize / 4;
        if !unknown.contains(&tag) {
            words[at + 3..at + 3 + length].copy_from_slice(&values[..length]);
            words[at + 2] = 0x8000_0000 | bytes;
        }
        at += 3 + length;
    }
    assert_eq!(at + 1, end);
    words[1] = 0x8000_0000;
}

fn the_firmware_is_asked() {
    let mut message = Message::new();
    message.ask();
    assert_eq!(message.answer(), None, "it has not answered yet");
    answer(&mut message, &[]);
    let board = message.answer().expect("an answer");
    assert_eq!((board.uart_clock(), board.core_clock()), (Some(48_000_000), Some(500_000_000)));
    assert_eq!(board.memory, Some(0..0x3b40_0000));
    assert_eq!(
        board.to_string(),
        "Raspberry Pi 4 Model B 1.5, 8192 MiB, code d03115; firmware 1700000000; cores: 948 MiB from 0x0; VideoCore: 76 MiB \
         from 0x3b400000; cores at 1800 MHz; VideoCore at 500 MHz; UART at 48 MHz; 46.2 °C"
    );
}

fn what_the_firmware_does_not_know_is_left_out() {
    let mut message = Message::new();
    message.ask();
    answer(&mut message, &[0x0001_0002, 0x0003_0002, 0x0001_0006]);
    let board = message.answer().expect("an answer");
    assert_eq!(board.clocks, [None; 3]);
    assert_eq!(
        board.to_string(),
        "board of an unknown revision; firmware 1700000000; cores: 948 MiB from 0x0; 46.2 °C"
    );
    let words = message.words();
    // A range that wraps is no range.
    let place = words.iter().position(|&word| word == 0x0001_0005).expect("asked");
    words[place + 3..place + 5].copy_from_slice(&[u32::MAX, 2]);
    assert_eq!(message.answer().expect("an answer").memory, None);
    message.words()[1] = 0x8000_0001;
    assert_eq!(message.answer(), None, "the firmware did not understand it");
    assert_eq!(Board::default().to_string(), "board of an unknown revision");
}

/// The word that goes through the mailbox; the answer is the same word.
fn a_message_goes_through_the_mailbox() {
    let registers = Registers::new();
    registers.set(0x00, 0xc012_3408);
    // SAFETY: memory behaves like registers that remember.
    let mut mailbox = unsafe { Mailbox::new(registers.place()) };
    assert!(mailbox.call(PhysAddr(0x12_3400)));
    assert_eq!(registers.get(0x20), 0xc012_3408);
    registers.set(0x20, 0);
    for unreachable in [0x12_3404, 1 << 30, 0x1_0012_3400] {
        assert!(!mailbox.call(PhysAddr(unreachable)));
    }
    assert_eq!(registers.get(0x20), 0, "nothing was sent");
}

/// A firmware that takes nothing, one that answers nothing, and one that answers others.
fn a_silent_firmware_is_given_up() {
    for (offset, status) in [(0x38, 1 << 31), (0x18, 1 << 30), (0x00, 0xc012_3401)] {
        let registers = Registers::new();
        registers.set(0x00, 0xc012_3408);
        registers.set(offset, status);
        // SAFETY: as above.
        assert!(!unsafe { Mailbox::new(registers.place()) }.call(PhysAddr(0x12_3400)));
    }
}

/// What the manual has of pins 14 and 15 (5.2, table 94): UART 0 is alternate 0, UART 1 alternate 5.
fn a_uart_is_put_on_the_header() {
    for (kind, function) in [(UartKind::Pl011, 0b100), (UartKind::Mini, 0b010)] {
        let registers = Registers::new();
        (0..6).for_each(|word| registers.set(word * 4, 0x3fff_ffff));
        registers.set(0xe4, u32::MAX);
        // SAFETY: as above.
        unsafe { pins::put_on_header(registers.place(), kind) };
        let others = 0x3fff_ffff & !(0o77 << 12);
        assert_eq!(registers.get(0x04), others | function << 12 | function << 15);
        let bluetooth = if kind == UartKind::Pl011 { 0x3fff_ffff & !(0o77 << 6) } else { 0x3fff_ffff };
        assert_eq!(registers.get(0x0c), bluetooth);
        assert_eq!(registers.get(0xe4), 0x4fff_ffff, "15 is pulled up, 14 is not pulled");
        assert!([0x00, 0x08, 0x10, 0x14].iter().all(|&others| registers.get(others) == 0x3fff_ffff));
    }
}

fn the_watchdog_resets_or_switches_off() {
    for (off, status) in [(false, 0x5a00_1000), (true, 0x5a00_1555)] {
        let registers = Registers::new();
        registers.set(0x1c, 0x112);
        registers.set(0x20, 0x1001);
        // SAFETY: as above.
        unsafe { Watchdog::new(registers.place()) }.reset(off);
        assert_eq!(registers.get(0x20), status);
        assert_eq!((registers.get(0x24), registers.get(0x1c)), (0x5a00_000a, 0x5a00_0122));
    }
}

/// Of the manual's 2.2.2, from the block's begin.
fn the_mini_uart_is_set_up() {
    let uart = Uart { kind: UartKind::Mini, base: PhysAddr(0xfe21_5040), clock: None };
    assert_eq!(registers(&uart).start, PhysAddr(0xfe21_5000));
    for (clock, rate) in [(Some(500_000_000), 541), (Some(1), 77), (None, 77)] {
        let registers = Registers::new();
        registers.set(0x68, 77);
        registers.set(0x04, 0b110);
        // SAFETY: as above.
        let mut port = unsafe { Port::new(UartKind::Mini, registers.place(), clock) };
        assert_eq!(registers.get(0x68), rate);
        assert_eq!((registers.get(0x04), registers.get(0x4c), registers.get(0x60)), (0b111, 0b11, 0b11));
        registers.set(0x54, 1 << 5 | 1 << 6);
        port.write(b"ashlar");
        port.drain();
        assert_eq!(registers.get(0x40), u32::from(b'r'));
        assert_eq!(port.read(), None);
        registers.set(0x40, 0x178);
        registers.set(0x54, 1);
        assert_eq!(port.read(), Some(b'x'));
    }
}

/// What is in the FIFO is not sent yet.
#[cfg(not(target_os = "none"))]
fn the_mini_uart_is_drained_when_it_is_idle() {
    let registers = Registers::new();
    registers.set(0x54, 1 << 5);
    // SAFETY: as above.
    let mut port = unsafe { Port::open(UartKind::Mini, registers.place()) };
    std::thread::scope(|scope| {
        let drains = scope.spawn(move || port.drain());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!drains.is_finished());
        registers.set(0x54, 1 << 5 | 1 << 6);
    });
}

ashlar_test::tests! {
    revisions_say_board_and_memory,
    the_firmware_is_asked,
    what_the_firmware_does_not_know_is_left_out,
    a_message_goes_through_the_mailbox,
    a_silent_firmware_is_given_up,
    a_uart_is_put_on_the_header,
    the_watchdog_resets_or_switches_off,
    the_mini_uart_is_set_up,
    #[cfg(not(target_os = "none"))]
    the_mini_uart_is_drained_when_it_is_idle,
}
