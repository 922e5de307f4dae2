//! What the user types, as it is typed.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::guest;

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// What came from the keyboard.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Keys for the guest.
    Bytes(Vec<u8>),
    /// Ctrl-C at a terminal.
    Interrupt,
}

/// Standard input; a terminal passes each key on and shows none, as the guest does that, until this is dropped.
pub struct Keyboard {
    before: Option<Termios>,
}

impl Keyboard {
    /// Prepares the terminal, if there is one.
    pub fn new() -> Self {
        let before = io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten();
        if let Some(before) = &before {
            let mut settings = before.clone();
            // Without signals Ctrl-C is a byte, and the terminal is put back before this process ends by it.
            settings.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &settings);
        }
        Self { before }
    }

    /// Whether a person types: what a file or a pipe holds is there before the guest is.
    pub fn is_terminal(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Reads `input` to its end, from another thread, and gives it to `take` until that wants no more.
pub fn listen(input: impl Read + Send + 'static, is_terminal: bool, take: impl Fn(Typed) -> bool + Send + 'static) {
    guest::read(input, move |bytes| {
        take(match bytes.contains(&INTERRUPT) && is_terminal {
            true => Typed::Interrupt,
            false => Typed::Bytes(bytes),
        })
    });
}
