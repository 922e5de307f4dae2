//! What a test kernel says about itself in its section `.ashlar.expect`: how to boot it, and what must come of it.
//!
//! A line is one of `run WORD…` (one boot with these words; none at all: one boot with the defaults), `status N`
//! (what every boot ends with; 0 if not said), `output TEXT` (occurs in the output, in the order of the lines),
//! `silent TEXT` (does not occur after the texts of the `output` lines before it), `absent TEXT` (occurs nowhere) and `until TEXT`
//! (the guest stays on for good once it has said that, and is ended).
//!
//! Words from the command line override those of `run` lines, so that all of a file's boots can be had on a board. A boot
//! is skipped, with the reason, where the board lacks what its line asks for, and where the line is about one machine (it
//! has `machine=`, `dtb=` or `image=elf`) and the command line has another. What holds on one core alone says `cores=1`: a board has more.
#![forbid(unsafe_code)]

use thiserror::Error;

use crate::words::{self, WordError};

/// The section's name.
pub const SECTION: &str = ".ashlar.expect";

/// The expectations of one test kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectations {
    /// The words of each boot.
    pub runs: Vec<Vec<String>>,
    status: u8,
    output: Vec<String>,
    /// What must not follow, and after how many of `output`.
    silent: Vec<(usize, String)>,
    absent: Vec<String>,
    until: Option<String>,
}

/// A section that is not made of such lines.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ExpectError {
    /// The bytes are no text.
    #[error("{SECTION}: not UTF-8")]
    NotText,
    /// A line of another kind.
    #[error(
        "{SECTION}: `{0}`: want `run WORD…`, `status N`, `output TEXT`, `silent TEXT`, `absent TEXT` or `until TEXT`"
    )]
    Line(String),
    /// Words that can't be taken apart.
    #[error("{SECTION}: {0}")]
    Words(#[from] WordError),
}

/// One thing that came out otherwise.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    /// Another exit status.
    #[error("ended with status {found}, not with {wanted}")]
    Status {
        /// As the section has it.
        wanted: u8,
        /// As the guest has it.
        found: u8,
    },
    /// A text that does not occur after those before it.
    #[error("`{0}` is not in the output, or not where it belongs")]
    Missing(String),
    /// A text that must not follow.
    #[error("`{0}` is in the output after what it must not follow")]
    Followed(String),
    /// A text that must not occur.
    #[error("`{0}` is in the output")]
    Present(String),
}

impl Expectations {
    /// Reads the section's bytes. Several pieces may have been laid together with zero bytes between them.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(section: &[u8]) -> Result<Self, ExpectError> {
        let text = str::from_utf8(section).map_err(|_| ExpectError::NotText)?;
        let mut expectations = Self {
            runs: Vec::new(),
            status: 0,
            output: Vec::new(),
            silent: Vec::new(),
            absent: Vec::new(),
            until: None,
        };
        for line in text.split(['\n', '\0']).map(str::trim).filter(|line| !line.is_empty()) {
            let wrong = || ExpectError::Line(line.into());
            let (key, text) = line.split_once(' ').unwrap_or((line, ""));
            let text = text.trim();
            match key {
                "run" => expectations.runs.push(words::split(text)?),
                "status" => expectations.status = text.parse().map_err(|_| wrong())?,
                _ if text.is_empty() => return Err(wrong()),
                "output" => expectations.output.push(text.into()),
                "silent" => expectations.silent.push((expectations.output.len(), text.into())),
                "absent" => expectations.absent.push(text.into()),
                "until" => expectations.until = Some(text.into()),
                _ => return Err(wrong()),
            }
        }
        if expectations.runs.is_empty() {
            expectations.runs.push(Vec::new());
        }
        Ok(expectations)
    }

    /// What the guest says last, if it does not end by itself.
    pub fn until(&self) -> Option<&str> {
        self.until.as_deref()
    }

    /// All in which a boot that ended with `status`, or was ended, after `output` differs.
    pub fn mismatches(&self, status: Option<u8>, output: &str) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        match (status, &self.until) {
            (Some(found), None) if found != self.status => {
                mismatches.push(Mismatch::Status { wanted: self.status, found });
            }
            (Some(_), Some(text)) => mismatches.push(Mismatch::Missing(text.clone())),
            _ => {}
        }
        let mut rest = output;
        let mut rests = vec![rest];
        for text in &self.output {
            match rest.find(text) {
                Some(start) => rest = &rest[start + text.len()..],
                None => mismatches.push(Mismatch::Missing(text.clone())),
            }
            rests.push(rest);
        }
        let followed = self.silent.iter().filter(|(after, text)| rests[*after].contains(text));
        mismatches.extend(followed.map(|(_, text)| Mismatch::Followed(text.clone())));
        let present = self.absent.iter().filter(|text| output.contains(*text));
        mismatches.extend(present.cloned().map(Mismatch::Present));
        mismatches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_one_boot_that_ends_well() {
        let expectations = Expectations::parse(b"").unwrap();
        assert_eq!(expectations.runs, [Vec::<String>::new()]);
        assert_eq!(expectations.mismatches(Some(0), "whatever"), []);
        assert_eq!(expectations.mismatches(Some(3), ""), [Mismatch::Status { wanted: 0, found: 3 }]);
    }

    #[test]
    fn pieces_add_up() {
        let section = b"run el=1 memory=64M\nrun el=2 say=\"a b\"\0\0status 102\n\0 output pc 0x \n";
        let expectations = Expectations::parse(section).unwrap();
        assert_eq!(expectations.runs, [vec!["el=1", "memory=64M"], vec!["el=2", "say=a b"]]);
        assert_eq!(expectations.mismatches(Some(102), "at pc 0xffff"), []);
    }

    #[test]
    fn order_and_absence_count() {
        let expectations = Expectations::parse(b"output first\noutput second\nabsent test result").unwrap();
        assert_eq!(expectations.mismatches(Some(0), "first second"), []);
        assert_eq!(expectations.mismatches(Some(0), "second first"), [Mismatch::Missing("second".into())]);
        let output = "first second test result: ok";
        assert_eq!(expectations.mismatches(Some(0), output), [Mismatch::Present("test result".into())]);
    }

    #[test]
    fn silence_counts_from_its_place() {
        let expectations = Expectations::parse(b"output begin\nsilent noise\noutput end").unwrap();
        assert_eq!(expectations.mismatches(Some(0), "noise begin end"), []);
        assert_eq!(expectations.mismatches(Some(0), "begin noise end"), [Mismatch::Followed("noise".into())]);
        assert_eq!(expectations.mismatches(Some(0), "begin end noise"), [Mismatch::Followed("noise".into())]);
    }

    #[test]
    fn a_guest_that_stays_on_is_ended_by_what_it_says() {
        let expectations = Expectations::parse(b"until no further\noutput first").unwrap();
        assert_eq!(expectations.until(), Some("no further"));
        assert_eq!(expectations.mismatches(None, "first, and no further"), []);
        assert_eq!(expectations.mismatches(Some(0), "first"), [Mismatch::Missing("no further".into())]);
    }

    #[test]
    fn wrong_lines_are_named() {
        for line in ["status many", "status 256", "expect", "output", "silent", "absent", "until", "boot el=1"] {
            assert_eq!(Expectations::parse(line.as_bytes()), Err(ExpectError::Line(line.into())));
        }
        assert_eq!(Expectations::parse(b"\xff"), Err(ExpectError::NotText));
        assert!(matches!(Expectations::parse(b"run \"a"), Err(ExpectError::Words(_))));
    }
}
