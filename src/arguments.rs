//! Boot arguments: `key=value` words of the device tree's `/chosen/bootargs`.
//!
//! Words are separated by blanks; double quotes around a word or around its value keep blanks (`query="two words"`,
//! `"query=two words"`). There is no escape for a double quote. The kernel's own keys are in [`KEYS`], and
//! the [knobs](KNOBS) of the policy for huge pages are keys as well; of a key given twice the last counts.
//! Every other word is the application's. A boot loader may put words of its own before ours, as the Raspberry Pi's
//! firmware does: with the word [`MARK`] in the text, nothing before it is read.
#![forbid(unsafe_code)]

use crate::mm::address::PAGE_SIZE;
use crate::mm::huge::{KNOBS, PolicyError, Settings};
use crate::platform::machine::LINEAR_REACH;
use arrayvec::ArrayVec;
use core::fmt;
use log::LevelFilter;

/// The word that ours begin after, if it is there.
pub const MARK: &str = "--";

/// A key that the kernel knows.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The values it takes, for people.
    pub allowed: &'static str,
    /// Stores `value`; whether it is one of the allowed ones.
    set: for<'a> fn(arguments: &mut Arguments<'a>, value: &'a str) -> bool,
}

/// The kernel's keys.
pub const KEYS: &[Key] = &[
    Key {
        name: "log",
        allowed: "off, error, warn, info, debug, trace",
        set: |arguments, value| store(&mut arguments.log, value.parse().ok()),
    },
    Key {
        name: "semihosting",
        allowed: "on, off",
        set: |arguments, value| store(&mut arguments.semihosting, switch(value)),
    },
    Key {
        name: "overcommit",
        allowed: "on, off",
        set: |arguments, value| store(&mut arguments.overcommit, switch(value)),
    },
    Key {
        name: "console",
        allowed: "a UART's alias or path in the device tree",
        // Whether there is such a one is for who reads the tree.
        set: |_, value| !value.is_empty(),
    },
    Key {
        name: "at_exit",
        allowed: "off, reset",
        set: |arguments, value| store(&mut arguments.reset, one_of(value, ["off", "reset"]).map(|at| at == 1)),
    },
    Key { name: "maxcpus", allowed: "1 to 512", set: |arguments, value| store(&mut arguments.maxcpus, count(value)) },
    Key {
        name: "begin",
        allowed: "a word of the host's",
        set: |arguments, value| store(&mut arguments.begin, (!value.is_empty()).then_some(Some(value))),
    },
    Key { name: "mem", allowed: "4K to 384G", set: |arguments, value| store(&mut arguments.mem, size(value)) },
    Key {
        name: "out",
        allowed: "a directory of the host",
        set: |arguments, value| store(&mut arguments.out, (!value.is_empty()).then_some(Some(value))),
    },
];

/// The boot arguments, read.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    text: &'a str,
    /// What is logged: this level and the graver ones. `log=`, default `warn`.
    pub log: LevelFilter,
    /// Whether there is a host that answers semihosting calls. `semihosting=`, default off: without one the
    /// instruction is undefined.
    pub semihosting: bool,
    /// The global policy for huge pages: its knobs are keys.
    pub policy: Settings,
    /// Whether more memory may be mapped than there is RAM. `overcommit=`, default off.
    pub overcommit: bool,
    /// Whether the machine starts anew in the end. `at_exit=`, default off.
    pub reset: bool,
    /// How many cores run at most, the one that boots included. `maxcpus=`, default all there are.
    pub maxcpus: usize,
    /// What the first line says, `ashlar: begin …`: by it the host knows this boot from an earlier one. `begin=`, default
    /// none, and no such line.
    pub begin: Option<&'a str>,
    /// How much RAM is used at most, in bytes. `mem=`, default all there is.
    pub mem: u64,
    /// Directory of the host for output files. `out=`.
    pub out: Option<&'a str>,
    /// What could not be understood; past the first 8 they are dropped.
    pub warnings: ArrayVec<ArgumentWarning<'a>, 8>,
}

/// A boot argument that could not be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgumentWarning<'a> {
    /// A known key with a value that it does not take; its default is kept.
    Value {
        /// The argument.
        argument: Argument<'a>,
        /// The values that the key takes.
        allowed: &'static str,
    },
    /// A double quote without its partner: it reaches to the end of the line.
    Quote {
        /// The text from the quote on.
        text: &'a str,
    },
}

impl fmt::Display for ArgumentWarning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { argument, allowed } => {
                write!(f, "boot argument {argument} is ignored: {} takes {allowed}", argument.key)
            }
            Self::Quote { text } => write!(f, "boot arguments: no closing quote after {text}"),
        }
    }
}

/// One word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument<'a> {
    /// What is before the first `=`, or the whole word.
    pub key: &'a str,
    /// What is after the first `=`, without quotes.
    pub value: Option<&'a str>,
}

impl fmt::Display for Argument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(self.key),
        }
    }
}

static BOOT: spin::Once<Arguments<'static>> = spin::Once::new();

/// The arguments that this machine was booted with; `None` before [`Arguments::install`].
pub fn boot() -> Option<&'static Arguments<'static>> {
    BOOT.get()
}

impl Arguments<'static> {
    /// Makes these what [`boot`] gives; only the first ones count.
    pub fn install(self) -> &'static Self {
        BOOT.call_once(|| self)
    }
}

impl<'a> Arguments<'a> {
    /// Reads `text`. What cannot be understood becomes a warning, never an error.
    pub fn parse(text: &'a str) -> Self {
        let text = after_mark(text);
        let mut arguments = Self {
            text,
            log: LevelFilter::Warn,
            semihosting: false,
            policy: Settings::DEFAULT,
            overcommit: false,
            reset: false,
            maxcpus: usize::MAX,
            begin: None,
            mem: u64::MAX,
            out: None,
            warnings: ArrayVec::new(),
        };
        for argument in words(text) {
            // A key without a value has a value that nothing takes.
            let value = argument.value.unwrap_or_default();
            let allowed = match (known(argument.key), arguments.policy.set(argument.key, value)) {
                (Some(key), _) if argument.value.is_none() || !(key.set)(&mut arguments, value) => key.allowed,
                (None, Err(PolicyError::Value { allowed, .. })) => allowed,
                _ => continue,
            };
            arguments.warn(ArgumentWarning::Value { argument, allowed });
        }
        if let Some(text) = unclosed_quote(text) {
            arguments.warn(ArgumentWarning::Quote { text });
        }
        arguments
    }

    /// The words that are the application's, in their order.
    pub fn application(&self) -> impl Iterator<Item = Argument<'a>> + use<'a> {
        words(self.text).filter(|argument| known(argument.key).is_none() && !is_knob(argument.key))
    }

    fn warn(&mut self, warning: ArgumentWarning<'a>) {
        let _ = self.warnings.try_push(warning);
    }
}

/// The value of `key` in `text`: of the last one, if there are several.
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    words(after_mark(text)).filter(|argument| argument.key == key).last()?.value
}

fn known(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn is_knob(name: &str) -> bool {
    KNOBS.iter().any(|knob| knob.name == name)
}

fn store<T>(field: &mut T, value: Option<T>) -> bool {
    let is_allowed = value.is_some();
    if let Some(value) = value {
        *field = value;
    }
    is_allowed
}

fn switch(value: &str) -> Option<bool> {
    one_of(value, ["off", "on"]).map(|at| at == 1)
}

fn one_of<const N: usize>(value: &str, allowed: [&str; N]) -> Option<usize> {
    allowed.iter().position(|allowed| *allowed == value)
}

fn count(value: &str) -> Option<usize> {
    Some(number(value)? as usize).filter(|count| (1..=512).contains(count))
}

/// Digits, and no sign before them.
fn number(value: &str) -> Option<u64> {
    value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Bytes, or with `K`, `M` or `G` after them as many KiB, MiB or GiB.
fn size(value: &str) -> Option<u64> {
    let digits = value.trim_end_matches(['K', 'k', 'M', 'm', 'G', 'g']);
    let shift = match &value[digits.len()..] {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return None,
    };
    let bytes = number(digits)?.checked_mul(1 << shift)?;
    Some(bytes).filter(|bytes| (PAGE_SIZE as u64..=LINEAR_REACH.0).contains(bytes))
}

/// The words of `text`.
fn words<'a>(text: &'a str) -> impl Iterator<Item = Argument<'a>> + use<'a> {
    raw_words(text).map(|word| {
        let word = unquote(word);
        match word.split_once('=') {
            Some((key, value)) => Argument { key, value: Some(unquote(value)) },
            None => Argument { key: word, value: None },
        }
    })
}

/// The words of `text` with their quotes.
fn raw_words<'a>(text: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
    let mut is_quoted = false;
    let is_end = move |c: char| {
        is_quoted ^= c == '"';
        !is_quoted && c.is_ascii_whitespace()
    };
    text.split(is_end).filter(|word| !word.is_empty())
}

/// `text` from behind the first [`MARK`] on, or all of it.
fn after_mark(text: &str) -> &str {
    let mark = raw_words(text).find(|word| *word == MARK);
    mark.map_or(text, |mark| &text[mark.as_ptr().addr() - text.as_ptr().addr() + MARK.len()..])
}

fn unquote(word: &str) -> &str {
    match word.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
        None => word,
    }
}

/// The text from the last quote on, if it has no partner.
fn unclosed_quote(text: &str) -> Option<&str> {
    let is_unclosed = text.matches('"').count() % 2 == 1;
    text.rfind('"').filter(|_| is_unclosed).map(|start| &text[start..])
}
