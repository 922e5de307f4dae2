//! What is listened for on the line: where this boot begins, and where it ends.
//!
//! The line carries more than this boot: what an earlier one still sent, the firmware's chatter, bytes made up as the power
//! comes. So each boot is given a word of its own (`begin=`), its first line says it, and nothing before that line counts. The
//! end is a line that is exactly `ashlar: exit N`: it has no check sum, so a line that lost or won a byte says nothing, and
//! one whose digit was changed into another digit says the wrong thing.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::guest::{EXIT, said_status};

/// What a byte completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The first line of this boot.
    Begin,
    /// The last one, and the status it says.
    Exit(u8),
}

/// Takes the line's bytes one by one.
#[derive(Debug)]
pub struct Listener {
    /// This boot's word.
    word: String,
    /// Its first line.
    first: String,
    begun: bool,
    line: Vec<u8>,
    /// The last line that ended and was not blank.
    last: Vec<u8>,
}

impl Listener {
    /// A listener for a boot with a word of its own.
    pub fn new() -> Self {
        // The keys that a map is given against chosen collisions are drawn at random by the system.
        Self::of(&format!("{:016x}", RandomState::new().build_hasher().finish()))
    }

    /// A listener for the boot with this word.
    pub(super) fn of(word: &str) -> Self {
        let first = format!("ashlar: begin {word}");
        Self { word: word.into(), first, begun: false, line: Vec::new(), last: Vec::new() }
    }

    /// The boot argument that makes the kernel say its first line.
    pub fn argument(&self) -> String {
        format!("begin={}", self.word)
    }

    /// This boot's first line.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Whether it came.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes a byte.
    pub fn hear(&mut self, byte: u8) -> Option<Heard> {
        if byte != b'\n' {
            self.line.push(byte);
            return None;
        }
        while self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let line = std::mem::take(&mut self.line);
        let heard = self.meaning(&line);
        if !line.iter().all(u8::is_ascii_whitespace) {
            self.last = line;
        }
        heard
    }

    fn meaning(&mut self, line: &[u8]) -> Option<Heard> {
        // What the firmware left unfinished, or the UART made up while it was set up, may stand before it.
        if line.ends_with(self.first.as_bytes()) {
            self.begun = true;
            return Some(Heard::Begin);
        }
        let status = str::from_utf8(line).ok().and_then(said_status)?;
        self.begun.then_some(Heard::Exit(status))
    }

    /// The line that came last, if it looks as if it was the exit line before it was damaged, or that of another boot.
    pub fn looks_like_exit(&self) -> Option<String> {
        let is_blank = self.line.iter().all(u8::is_ascii_whitespace);
        let line = String::from_utf8_lossy(if is_blank { &self.last } else { &self.line });
        line.contains(EXIT).then(|| line.trim_end().escape_debug().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &mut Listener, bytes: &[u8]) -> Vec<Heard> {
        bytes.iter().filter_map(|&byte| listener.hear(byte)).collect()
    }

    #[test]
    fn each_boot_has_its_word() {
        let (one, other) = (Listener::new(), Listener::new());
        assert_ne!(one.word, other.word);
        assert_eq!(one.argument(), format!("begin={}", one.word));
        assert_eq!(one.word.len(), 16);
    }

    #[test]
    fn nothing_counts_before_the_first_line() {
        let mut listener = Listener::of("5f");
        let before = b"ashlar: exit 3\r\n\xff\0ashlar: begin 4e\nashlar: exit 4\nbegin=5f\nashlar: begin 5f3c\nchatter";
        assert_eq!(heard(&mut listener, before), []);
        assert_eq!(heard(&mut listener, b"\xfeashlar: begin 5f\r\n"), [Heard::Begin]);
        assert_eq!(heard(&mut listener, b"ashlar: ex"), []);
        assert_eq!(heard(&mut listener, b"it 10"), []);
        assert_eq!(heard(&mut listener, b"4\r"), []);
        assert_eq!(heard(&mut listener, b"\n"), [Heard::Exit(104)]);
    }

    #[test]
    fn a_damaged_exit_line_is_no_status() {
        for line in ["ashlar: exit 0\x07", "ashlar: exit \u{fffd}", "x ashlar: exit 0", "ashlar: exit 300"] {
            let mut listener = Listener::of("5f");
            heard(&mut listener, b"ashlar: begin 5f\n");
            assert_eq!(listener.looks_like_exit(), None);
            assert_eq!(heard(&mut listener, format!("{line}\n\n").as_bytes()), [], "{line}");
            assert_eq!(listener.looks_like_exit(), Some(line.escape_debug().to_string()));
            heard(&mut listener, b"more\n");
            assert_eq!(listener.looks_like_exit(), None);
        }
        let mut listener = Listener::of("5f");
        assert_eq!(heard(&mut listener, b"ashlar: begin 5f\nashlar: exit 0"), [Heard::Begin]);
        assert_eq!(listener.looks_like_exit().as_deref(), Some("ashlar: exit 0"));
    }
}
