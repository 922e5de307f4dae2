//! Text and its words, character by character.

use std::sync::LazyLock;

use regex::Regex;

/// A character of a text and the line of the file that it comes from, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    /// The character.
    pub character: char,
    /// The line.
    pub line: usize,
}

struct Markup {
    comment: Regex,
    /// A tag, to the `>` outside quotes, or to the end of the document.
    tag: Regex,
    /// The beginning of an element whose contents are no text.
    element: Regex,
    script_end: Regex,
    style_end: Regex,
    reference: Regex,
}

static MARKUP: LazyLock<Markup> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("the pattern is right");
    Markup {
        comment: regex(r"\A<!--(?:[\s\S]*?-->|[\s\S]*\z)"),
        tag: regex(r#"\A<[A-Za-z/!?](?:[^>"']|"[^"]*(?:"|\z)|'[^']*(?:'|\z))*(?:>|\z)"#),
        element: regex(r"\A<(?i:(script)|style)(?:[^0-9A-Za-z]|\z)"),
        script_end: regex(r"</(?i:script)(?:[^0-9A-Za-z]|\z)"),
        style_end: regex(r"</(?i:style)(?:[^0-9A-Za-z]|\z)"),
        reference: regex(r"\A&(#[xX][0-9A-Fa-f]+|#[0-9]+|[0-9A-Za-z]+);"),
    }
});

/// The text of a file that is nothing but text.
pub fn plain(source: &str) -> Vec<Letter> {
    let mut line = 1;
    let mut letters = Vec::new();
    for character in source.chars() {
        letters.push(Letter { character, line });
        line += usize::from(character == '\n');
    }
    letters
}

/// The text of an HTML document.
pub fn of_html(source: &str) -> Vec<Letter> {
    let (mut line, mut letters, mut at) = (1, Vec::<Letter>::new(), 0);
    while let Some(character) = source[at..].chars().next() {
        let rest = &source[at..];
        let (read, length) = match character {
            '<' => (markup(rest).map(|_| ' '), markup(rest)),
            '&' => match reference(rest) {
                Some((character, length)) => (Some(character), Some(length)),
                None => (None, None),
            },
            _ => (None, None),
        };
        match (read, length) {
            (Some(' '), _) if letters.last().is_some_and(|last| last.character == ' ') => {}
            (read, _) => letters.push(Letter { character: read.unwrap_or(character), line }),
        }
        let length = length.unwrap_or(character.len_utf8());
        line += rest[..length].matches('\n').count();
        at += length;
    }
    letters
}

/// The length of the comment, element or tag that `rest`, which begins with `<`, begins with.
fn markup(rest: &str) -> Option<usize> {
    if let Some(comment) = MARKUP.comment.find(rest) {
        return Some(comment.len());
    }
    let tag = MARKUP.tag.find(rest)?.len();
    let Some(element) = MARKUP.element.captures(rest) else { return Some(tag) };
    let end = if element.get(1).is_some() { &MARKUP.script_end } else { &MARKUP.style_end };
    match end.find_at(rest, tag) {
        Some(end) => Some(end.start() + MARKUP.tag.find(&rest[end.start()..])?.len()),
        None => Some(rest.len()),
    }
}

/// The character that the reference at the beginning of `rest` reads as, and the reference's length.
fn reference(rest: &str) -> Option<(char, usize)> {
    let found = MARKUP.reference.captures(rest)?;
    let character = match &found[1] {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        number if number.starts_with("#x") || number.starts_with("#X") => {
            char::from_u32(u32::from_str_radix(&number[2..], 16).ok()?)?
        }
        number if number.starts_with('#') => char::from_u32(number[1..].parse().ok()?)?,
        _ => ' ',
    };
    Some((character, found[0].len()))
}

/// The words of `text`, lower-cased, and the index of each one's first letter.
pub fn words(text: &[Letter]) -> Vec<(String, usize)> {
    let mut words = Vec::new();
    let mut at = 0;
    for part in text.split(|letter| !letter.character.is_alphanumeric()) {
        if !part.is_empty() {
            words.push((part.iter().flat_map(|letter| letter.character.to_lowercase()).collect(), at));
        }
        at += part.len() + 1;
    }
    words
}
