//! Cutting text into words.

use alloc::string::String;

/// Calls `each` with every word of `text`, lower-cased, and the offset in bytes of its first character in `text`.
/// `buffer` is where words are put together; it is cleared first, and passed in so that one serves many texts.
pub fn words<E>(text: &str, buffer: &mut String, mut each: impl FnMut(&str, usize) -> Result<(), E>) -> Result<(), E> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        // Nearly all words are ASCII: they are found by bytes, and lower-cased as a whole.
        let start = at;
        while at < bytes.len() && bytes[at].is_ascii_alphanumeric() {
            at += 1;
        }
        let ascii = at == bytes.len() || bytes[at].is_ascii();
        if ascii && at == start {
            at += 1;
            continue;
        }
        buffer.clear();
        buffer.push_str(&text[start..at]);
        buffer.make_ascii_lowercase();
        if !ascii {
            // A word that goes on with, or begins with, another character; or one such that is no part of a word.
            let rest = &text[at..];
            let length = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            buffer.extend(rest[..length].chars().flat_map(char::to_lowercase));
            at += length;
            if at == start {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            }
        }
        each(buffer, start)?;
    }
    Ok(())
}
