//! The text of HTML, by rules short enough to state; no tree is built.

use crate::{IndexError, reserve};
use alloc::string::String;
use alloc::vec::Vec;

/// What memory is asked for.
const PURPOSE: &str = "the text of an HTML file";

/// Text cut out of a source, and where in the source its pieces stood.
#[derive(Default)]
pub struct Stripped {
    /// The text.
    pub text: String,
    /// Pieces of the text in ascending order: (offset in `text`, offset in the source) of each one's first byte.
    pieces: Vec<(u32, u32)>,
}

impl Stripped {
    /// Where in the source the byte of the text at each of the offsets, which must ascend, came from.
    pub fn places(&self) -> Places<'_> {
        Places { pieces: &self.pieces, next: 0 }
    }

    fn push(&mut self, piece: &str, source: usize) -> Result<(), IndexError> {
        if !piece.is_empty() {
            reserve(&mut self.pieces, 1, PURPOSE)?;
            self.pieces.push((self.text.len() as u32, source as u32));
            self.text.push_str(piece);
        }
        Ok(())
    }
}

/// Goes along with a reader of a [`Stripped`] text; see [`Stripped::places`].
pub struct Places<'a> {
    pieces: &'a [(u32, u32)],
    next: usize,
}

impl Places<'_> {
    /// Where in the source the byte at `offset` of the text came from. `offset` is not less than the last one asked.
    #[inline]
    pub fn source(&mut self, offset: usize) -> u32 {
        while self.pieces.get(self.next).is_some_and(|&(text, _)| text as usize <= offset) {
            self.next += 1;
        }
        match self.next.checked_sub(1) {
            Some(current) => self.pieces[current].1 + (offset as u32 - self.pieces[current].0),
            None => offset as u32,
        }
    }
}

/// Puts the text of the HTML document `source`, shorter than 4 GiB, into `stripped`, whose allocations it reuses.
///
/// Each of these becomes a blank; what is not closed goes on to the end of the document:
///
/// - a comment, `<!--` to `-->`;
/// - a `script` or `style` element, its contents included;
/// - any other tag: `<` and a letter, `/`, `!` or `?`, to the next `>` outside single or double quotes. Any other `<` is
///   text;
/// - a named character reference (`&`, ASCII alphanumerics, `;`), except `&amp;`, `&lt;`, `&gt;`, `&quot;` and `&apos;`,
///   which stand for their characters, as numeric ones do (`&#8212;`, `&#x2014;`). Any other `&` is text.
///
/// # Errors
///
/// There is no memory for the text; `stripped` holds a part of it.
pub fn strip(source: &str, stripped: &mut Stripped) -> Result<(), IndexError> {
    stripped.text.clear();
    stripped.pieces.clear();
    // Nothing is replaced by something longer.
    let refused = |_| IndexError::OutOfMemory { purpose: PURPOSE, bytes: source.len() };
    stripped.text.try_reserve(source.len()).map_err(refused)?;
    let bytes = source.as_bytes();
    let (mut at, mut plain) = (0, 0);
    while at < bytes.len() {
        let (replacement, end) = match bytes[at] {
            b'<' => match tag_end(bytes, at) {
                Some(end) => (' ', end),
                None => {
                    at += 1;
                    continue;
                }
            },
            b'&' => match reference(source, at) {
                Some(found) => found,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        stripped.push(&source[plain..at], plain)?;
        // One blank is enough between two tags.
        if replacement != ' ' || !stripped.text.ends_with(' ') {
            stripped.push(replacement.encode_utf8(&mut [0; 4]), at)?;
        }
        (at, plain) = (end, end);
    }
    stripped.push(&source[plain..], plain)
}

/// The end of the comment, element or tag that begins at `start`, where a `<` stands; `None` if it is text.
fn tag_end(bytes: &[u8], start: usize) -> Option<usize> {
    let rest = &bytes[start..];
    match rest.get(1)? {
        b'!' if rest.starts_with(b"<!--") => Some(find(bytes, start + 4, b"-->")),
        b's' | b'S' => {
            let element: &[u8] = if named(rest, b"<script") {
                b"</script"
            } else if named(rest, b"<style") {
                b"</style"
            } else {
                return Some(close(bytes, start + 1));
            };
            let mut at = close(bytes, start + 1);
            while at < bytes.len() && !named(&bytes[at..], element) {
                at += 1;
            }
            Some(close(bytes, at))
        }
        b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!' | b'?' => Some(close(bytes, start + 1)),
        _ => None,
    }
}

/// Whether `bytes` begins with `tag` (lower case), in any case, and no longer name.
fn named(bytes: &[u8], tag: &[u8]) -> bool {
    bytes.len() >= tag.len()
        && bytes[..tag.len()].eq_ignore_ascii_case(tag)
        && !bytes.get(tag.len()).is_some_and(u8::is_ascii_alphanumeric)
}

/// Past the next `>` outside quotes, from `at` on.
fn close(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'>' => return at + 1,
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Past the next `pattern`, from `at` on.
fn find(bytes: &[u8], at: usize, pattern: &[u8]) -> usize {
    let found = bytes.get(at..).and_then(|rest| rest.windows(pattern.len()).position(|window| window == pattern));
    found.map_or(bytes.len(), |offset| at + offset + pattern.len())
}

/// The character that the reference at `start`, where an `&` stands, reads as, and the reference's end.
fn reference(source: &str, start: usize) -> Option<(char, usize)> {
    let rest = &source[start + 1..];
    let length = rest.bytes().take_while(|&byte| byte.is_ascii_alphanumeric() || byte == b'#').count();
    let (name, after) = rest.split_at(length);
    if name.is_empty() || !after.starts_with(';') {
        return None;
    }
    let character = match (name, name.strip_prefix('#')) {
        ("amp", _) => '&',
        ("lt", _) => '<',
        ("gt", _) => '>',
        ("quot", _) => '"',
        ("apos", _) => '\'',
        (_, Some(number)) => {
            let value = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            value.ok().and_then(char::from_u32)?
        }
        _ if name.contains('#') => return None,
        _ => ' ',
    };
    Some((character, start + 1 + length + 1))
}
