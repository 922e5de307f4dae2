//! A board's revision code, in the style since the Raspberry Pi 2 (Raspberry Pi documentation, "Raspberry Pi revision codes").
#![forbid(unsafe_code)]

use core::fmt;

/// A revision code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revision(pub u32);

impl Revision {
    fn is_new_style(self) -> bool {
        self.0 >> 23 & 1 == 1
    }

    fn field(self, shift: u32, bits: u32) -> u32 {
        self.0 >> shift & ((1 << bits) - 1)
    }

    /// The board's RAM in bytes; `None` for a code of the old style.
    pub fn ram(self) -> Option<u64> {
        self.is_new_style().then(|| 256 << 20 << self.field(20, 3))
    }

    /// The board's name; `None` if it is none that a BCM2711 is on.
    pub fn model(self) -> Option<&'static str> {
        let model = match self.field(4, 8) {
            0x11 => "Raspberry Pi 4 Model B",
            0x13 => "Raspberry Pi 400",
            0x14 => "Raspberry Pi Compute Module 4",
            0x15 => "Raspberry Pi Compute Module 4S",
            _ => return None,
        };
        self.is_new_style().then_some(model)
    }
}

/// As in `Raspberry Pi 4 Model B 1.4, 8192 MiB, code d03114`.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.model(), self.ram()) {
            (Some(model), Some(ram)) => {
                write!(f, "{model} 1.{}, {} MiB, code {:x}", self.field(0, 4), ram >> 20, self.0)
            }
            _ => write!(f, "board with revision code {:x}", self.0),
        }
    }
}
