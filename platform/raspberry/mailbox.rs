//! The mailbox to the VideoCore's firmware, and its property interface (Raspberry Pi firmware wiki, "Mailboxes" and "Mailbox property
//! interface"): a message of tags, which the firmware fills in.

use super::revision::Revision;
use crate::mm::address::PhysAddr;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use safe_mmio::fields::{ReadOnly, ReadPure, ReadPureWrite, WriteOnly};
use safe_mmio::{UniqueMmioPointer, field, field_shared};

/// The registers of both directions.
#[repr(C)]
pub struct MailboxRegisters {
    /// Takes a word out.
    read: ReadOnly<u32>,
    _others: [u32; 5],
    read_status: ReadPure<u32>,
    _configuration: ReadPureWrite<u32>,
    /// Puts a word in.
    write: WriteOnly<u32>,
    _more: [u32; 5],
    write_status: ReadPure<u32>,
}

const FULL: u32 = 1 << 31;
const EMPTY: u32 = 1 << 30;
/// Polls before the firmware is given up: more than a second.
const PATIENCE: usize = 10_000_000;
/// The channel of the property interface, in the four bits that a message's alignment leaves.
const PROPERTIES: u32 = 8;
/// Where the VideoCore's bus has the first GiB of RAM without its cache (the device tree's `dma-ranges`).
const BUS: u32 = 0xc000_0000;
/// What the VideoCore reaches.
const REACH: PhysAddr = PhysAddr(1 << 30);

const REQUEST: u32 = 0;
const SUCCESS: u32 = 0x8000_0000;
/// In the word before a tag's value: the firmware has answered; the rest of the word is the answer's length.
const ANSWERED: u32 = 0x8000_0000;

/// What is asked, in this order: the tag, the bytes of its value, and the first word of it.
const QUESTIONS: [(u32, u32, u32); 8] = [
    (0x0000_0001, 4, 0), // the firmware's revision
    (0x0001_0002, 4, 0), // the board's
    (0x0001_0005, 8, 0), // the cores' memory
    (0x0001_0006, 8, 0), // the VideoCore's
    (0x0003_0002, 8, 3), // rate of the cores' clock
    (0x0003_0002, 8, 4), // the VideoCore's
    (0x0003_0002, 8, 2), // the UART's
    (0x0003_0006, 8, 0), // temperature
];
const WORDS: usize = 48;

/// A message in memory that the firmware writes to: a cache line is its own.
#[repr(C, align(64))]
pub struct Message([u32; WORDS]);

/// What the firmware says of the board; `None` for what it does not know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Board {
    /// The revision of the firmware: on a board when it was built, in seconds since 1970.
    pub firmware: Option<u32>,
    /// The board's revision.
    pub revision: Option<Revision>,
    /// The cores' share of the first GiB.
    pub memory: Option<Range<u32>>,
    /// The VideoCore's.
    pub videocore: Option<Range<u32>>,
    /// Rates of the cores' clock, of the VideoCore's and the UART's, in Hz.
    pub clocks: [Option<u32>; 3],
    /// Thousandths of a degree Celsius.
    pub temperature: Option<u32>,
}

impl Board {
    /// The rate of the clock that feeds UART 0, in Hz.
    pub fn uart_clock(&self) -> Option<u32> {
        self.clocks[2]
    }

    /// The rate of the clock that feeds the mini UART, in Hz.
    pub fn core_clock(&self) -> Option<u32> {
        self.clocks[1]
    }
}

impl Message {
    /// A message without content.
    pub const fn new() -> Self {
        Self([0; WORDS])
    }

    /// Asks for all that a [`Board`] has.
    pub fn ask(&mut self) {
        self.0 = [0; WORDS];
        let mut at = 2;
        for (tag, bytes, first) in QUESTIONS {
            self.0[at..at + 4].copy_from_slice(&[tag, bytes, REQUEST, first]);
            at += 3 + bytes as usize / 4;
        }
        // The tag 0 ends the message.
        self.0[0] = (at as u32 + 1) * 4;
        self.0[1] = REQUEST;
    }

    /// What the firmware answered; `None` if it did not.
    pub fn answer(&self) -> Option<Board> {
        if self.0[1] != SUCCESS {
            return None;
        }
        let mut at = 2;
        let answers = QUESTIONS.map(|(_, bytes, _)| {
            let start = at + 3;
            at = start + bytes as usize / 4;
            let is_answered = self.0[start - 1] == ANSWERED | bytes;
            is_answered.then(|| (self.0[start], self.0[at - 1]))
        });
        // Of what the firmware does not know it says 0.
        let number = |question: usize| answers[question].map(|(_, last)| last).filter(|last| *last != 0);
        let memory = |question: usize| {
            let (start, size) = answers[question]?;
            Some(start..start.checked_add(size)?).filter(|range| !range.is_empty())
        };
        Some(Board {
            firmware: number(0),
            revision: number(1).map(Revision),
            memory: memory(2),
            videocore: memory(3),
            clocks: [4, 5, 6].map(number),
            temperature: number(7),
        })
    }

    /// Changes the message as the firmware would: for tests.
    pub fn words(&mut self) -> &mut [u32] {
        &mut self.0
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

/// One line, as the banner has it.
impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision {
            Some(revision) => revision.fmt(f)?,
            None => f.write_str("board of an unknown revision")?,
        }
        if let Some(built) = self.firmware {
            write!(f, "; firmware {built}")?;
        }
        for (name, range) in [("cores", &self.memory), ("VideoCore", &self.videocore)] {
            if let Some(range) = range {
                write!(f, "; {name}: {} MiB from {:#x}", (range.end - range.start) >> 20, range.start)?;
            }
        }
        for (name, clock) in ["cores", "VideoCore", "UART"].into_iter().zip(self.clocks) {
            if let Some(hertz) = clock {
                write!(f, "; {name} at {} MHz", hertz / 1_000_000)?;
            }
        }
        match self.temperature {
            Some(thousandths) => write!(f, "; {}.{} °C", thousandths / 1000, thousandths % 1000 / 100),
            None => Ok(()),
        }
    }
}

/// The mailbox.
pub struct Mailbox(UniqueMmioPointer<'static, MailboxRegisters>);

impl Mailbox {
    /// The mailbox at `registers`.
    ///
    /// # Safety
    ///
    /// `registers` points to those of a BCM2711's mailbox, mapped as device memory for good, and nobody else uses them.
    pub unsafe fn new(registers: NonNull<MailboxRegisters>) -> Self {
        // SAFETY: the caller vouches for the registers.
        Self(unsafe { UniqueMmioPointer::new(registers) })
    }

    /// Sends the message at `at`, whose bytes are in memory and in no cache, and waits until the firmware has changed it. Whether it
    /// did; not if the VideoCore cannot reach the message.
    pub fn call(&mut self, at: PhysAddr) -> bool {
        if !at.is_aligned(16) || at >= REACH {
            return false;
        }
        let word = at.0 as u32 | BUS | PROPERTIES;
        let mut registers = self.0.reborrow();
        let is_sent = (0..PATIENCE).any(|_| {
            let is_full = field_shared!(registers, write_status).read() & FULL != 0;
            if !is_full {
                field!(registers, write).write(word);
            }
            !is_full
        });
        // What others asked for before is nobody's any more.
        is_sent
            && (0..PATIENCE).any(|_| {
                let is_empty = field_shared!(registers, read_status).read() & EMPTY != 0;
                !is_empty && field!(registers, read).read() == word
            })
    }
}
