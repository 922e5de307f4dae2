//! `index-reference input=PATH [query=TEXT…] [phrase=TEXT…] [top=N] [guest=FILE]`: prints the answers; with `guest`, the
//! output of the application with the same words, compares them with it instead.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use index_reference::{Query, Reference, answer_lines, files};

const USAGE: &str = "usage: index-reference input=PATH [query=TEXT…] [phrase=TEXT…] [top=N] [guest=FILE]";

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(message) => {
            eprintln!("index-reference: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let (mut input, mut queries, mut top, mut guest) = (None, Vec::new(), 10, None);
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            Some(("input", path)) => input = Some(PathBuf::from(path)),
            Some(("query", text)) => queries.push(Query::Words(text.to_string())),
            Some(("phrase", text)) => queries.push(Query::Phrase(text.to_string())),
            Some(("top", number)) => top = number.parse().map_err(|error| format!("{word}: {error}"))?,
            Some(("guest", path)) => guest = Some(PathBuf::from(path)),
            _ => return Err(format!("what is `{word}`? {USAGE}")),
        }
    }
    let named = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let sources = files(&input.ok_or(USAGE)?).map_err(|(path, error)| named(&path, error))?;
    let reference = Reference::new(&sources);
    let mut expected = reference.summary();
    queries.iter().for_each(|query| expected.push_str(&reference.answer(query, top)));
    let Some(guest) = guest else {
        print!("{expected}");
        return Ok(ExitCode::SUCCESS);
    };
    let output = std::fs::read(&guest).map_err(|error| named(&guest, error))?;
    let answered = answer_lines(&String::from_utf8_lossy(&output));
    let mut pairs = expected.lines().zip(answered.lines());
    match pairs.find(|(expected, answered)| expected != answered) {
        Some((expected, answered)) => println!("expected: {expected}\nanswered: {answered}"),
        None if expected.lines().count() == answered.lines().count() => {
            println!("{} lines, all equal", expected.lines().count());
            return Ok(ExitCode::SUCCESS);
        }
        None => println!("expected {} lines, {} answered", expected.lines().count(), answered.lines().count()),
    }
    Ok(ExitCode::FAILURE)
}
