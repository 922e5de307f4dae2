//! The application around the library.
#![forbid(unsafe_code)]

use crate::team::{Stages, Team};
use alloc::string::String;
use ashlar::println;
use core::fmt;
use core::num::{NonZeroUsize, ParseIntError};
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
                "argument {argument} is unknown: there are query=TEXT, phrase=TEXT, top=NUMBER, threads=NUMBER, scale and interactive"
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
    threads: NonZeroUsize,
    scale: bool,
    interactive: bool,
}

impl Options {
    fn read() -> Result<Self, Error> {
        let threads = ashlar::thread::available_parallelism();
        let mut options = Self { top: 10, threads, scale: false, interactive: false };
        for argument in ashlar::args() {
            match (argument.key, argument.value) {
                ("query" | "phrase", Some(_)) => {}
                ("top", Some(number)) => {
                    let parsed = number.parse().map_err(|error| Error::Argument { argument, error: Some(error) });
                    options.top = parsed?;
                }
                ("threads", Some(number)) => {
                    let parsed = number.parse().map_err(|error| Error::Argument { argument, error: Some(error) });
                    options.threads = parsed?;
                }
                ("scale", None) => options.scale = true,
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

/// Reads the files, indexes them, answers, reports.
pub fn main() -> Result<(), Error> {
    let options = Options::read()?;
    let team = Team::new(options.threads);
    let mut stages = Stages::begin(&team);

    let files = ashlar::input::files()?;
    let mut corpus = Corpus::read(files.iter(), &team)?;
    if corpus.documents().is_empty() && corpus.binary() == 0 {
        return Err(Error::NoInput);
    }
    // From here on the memory that the files came in is free.
    drop(files);
    let read = stages.end();

    if options.scale {
        corpus = scale(corpus, options.threads)?;
        stages.skip();
    }
    let occurrences = Occurrences::scan(&corpus, &team)?;
    let scan = stages.end();
    let mut lines = String::new();
    // Writing to a string does not fail.
    let _ = report::summary(&mut lines, &corpus, &occurrences);
    let index = Index::invert(corpus, occurrences, &team)?;
    let invert = stages.end();

    for query in Options::queries() {
        let _ = report::answers(&mut lines, &index, query, options.top);
    }
    let answer = stages.end();
    ashlar::print!("{lines}");
    if Options::queries().next().is_none() && !options.interactive {
        println!("most frequent words:");
        for (word, count) in index.most_frequent(options.top) {
            println!("{count:10}  {word}");
        }
        println!("ask with query=\"two words\" or phrase=\"two words\", or type questions with interactive");
    }
    println!("time: read {read} ms, scan {scan} ms, invert {invert} ms, answer {answer} ms");
    if options.threads.get() > 1 {
        println!("threads: {}; at work on average: read {read:#}, scan {scan:#}, invert {invert:#}", options.threads);
    }
    if options.interactive {
        converse(&index, options.top);
    }
    println!("{}", ashlar::memory::report());
    Ok(())
}

/// Indexes `corpus` with one thread, two, four and so on up to `most`, and says how long each took.
fn scale(mut corpus: Corpus, most: NonZeroUsize) -> Result<Corpus, Error> {
    println!("threads  scan ms  invert ms  speed-up");
    let (mut threads, mut first) = (NonZeroUsize::MIN, None);
    loop {
        let team = Team::new(threads);
        let mut stages = Stages::begin(&team);
        let occurrences = Occurrences::scan(&corpus, &team)?;
        let scan = stages.end();
        let index = Index::invert(corpus, occurrences, &team)?;
        let invert = stages.end();
        corpus = index.into_corpus();

        let both = (scan.elapsed + invert.elapsed).as_micros().max(1);
        let speed_up = *first.get_or_insert(both) * 100 / both;
        println!("{threads:7}  {scan:7}  {invert:9}  {:5}.{:02}", speed_up / 100, speed_up % 100);
        if threads == most {
            return Ok(corpus);
        }
        threads = threads.saturating_mul(NonZeroUsize::MIN.saturating_add(1)).min(most);
    }
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
