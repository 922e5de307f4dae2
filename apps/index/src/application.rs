//! The application around the library.
#![forbid(unsafe_code)]

use alloc::string::String;
use ashlar::println;
use ashlar::time::{self, Instant};
use core::fmt;
use core::num::ParseIntError;
use core::time::Duration;
use index::{Corpus, Index, IndexError, Occurrences, Query, report};

/// Bytes of the longest query that can be typed.
const LINE: usize = 256;

/// Why there are no answers.
pub enum Error {
    Input(ashlar::input::InputError),
    NoInput,
    Index(IndexError),
    Argument { argument: ashlar::arguments::Argument<'static>, error: Option<ParseIntError> },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::NoInput => f.write_str("no input files: input=PATH names a file or a directory"),
            Self::Index(error) => error.fmt(f),
            Self::Argument { argument, error: Some(error) } => write!(f, "argument {argument}: {error}"),
            Self::Argument { argument, error: None } => write!(
                f,
                "argument {argument} is unknown: there are query=TEXT, phrase=TEXT, top=NUMBER and interactive"
            ),
        }
    }
}

impl From<ashlar::input::InputError> for Error {
    fn from(error: ashlar::input::InputError) -> Self {
        Self::Input(error)
    }
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// What the boot arguments say.
struct Options {
    top: usize,
    interactive: bool,
}

impl Options {
    fn read() -> Result<Self, Error> {
        let mut options = Self { top: 10, interactive: false };
        for argument in ashlar::args() {
            match (argument.key, argument.value) {
                ("query" | "phrase", Some(_)) => {}
                ("top", Some(number)) => {
                    let parsed = number.parse().map_err(|error| Error::Argument { argument, error: Some(error) });
                    options.top = parsed?;
                }
                ("interactive", None) => options.interactive = true,
                _ => return Err(Error::Argument { argument, error: None }),
            }
        }
        Ok(options)
    }

    fn queries() -> impl Iterator<Item = Query<'static>> {
        ashlar::args().filter_map(|argument| match (argument.key, argument.value?) {
            ("query", text) => Some(Query::Words(text)),
            ("phrase", text) => Some(Query::Phrase(text)),
            _ => None,
        })
    }
}

/// The time since `last`, which becomes now.
fn lap(last: &mut Instant) -> Duration {
    let now = time::now();
    now - core::mem::replace(last, now)
}

/// Reads the files, indexes them, answers, reports.
pub fn main() -> Result<(), Error> {
    let options = Options::read()?;
    let mut last = time::now();

    let files = ashlar::input::files()?;
    let mut corpus = Corpus::with_capacity(files.archive_bytes())?;
    for (name, contents) in files.iter() {
        corpus.add(name, contents)?;
    }
    if corpus.documents().is_empty() && corpus.binary() == 0 {
        return Err(Error::NoInput);
    }
    // From here on the memory that the files came in is free.
    drop(files);
    let read = lap(&mut last);

    let occurrences = Occurrences::scan(&corpus)?;
    let scan = lap(&mut last);
    let mut lines = String::new();
    // Writing to a string does not fail.
    let _ = report::summary(&mut lines, &corpus, &occurrences);
    let index = Index::invert(corpus, occurrences)?;
    let invert = lap(&mut last);

    for query in Options::queries() {
        let _ = report::answers(&mut lines, &index, query, options.top);
    }
    let answer = lap(&mut last);
    ashlar::print!("{lines}");
    if Options::queries().next().is_none() && !options.interactive {
        println!("most frequent words:");
        for (word, count) in index.most_frequent(options.top) {
            println!("{count:10}  {word}");
        }
        println!("ask with query=\"two words\" or phrase=\"two words\", or type questions with interactive");
    }
    println!(
        "time: read {} ms, scan {} ms, invert {} ms, answer {} ms",
        read.as_millis(),
        scan.as_millis(),
        invert.as_millis(),
        answer.as_millis()
    );
    if options.interactive {
        converse(&index, options.top);
    }
    println!("{}", ashlar::memory::report());
    Ok(())
}

/// Answers what is typed.
fn converse(index: &Index, top: usize) {
    let mut buffer = [0; LINE];
    loop {
        ashlar::print!("> ");
        let Some(length) = ashlar::console::read_line(&mut buffer) else { return println!() };
        let line = String::from_utf8_lossy(&buffer[..length]);
        let line = line.trim();
        let query = match line.strip_prefix('"').and_then(|line| line.strip_suffix('"')) {
            Some(phrase) => Query::Phrase(phrase),
            None => Query::Words(line),
        };
        let mut lines = String::new();
        let _ = report::answers(&mut lines, index, query, top);
        ashlar::print!("{lines}");
    }
}
