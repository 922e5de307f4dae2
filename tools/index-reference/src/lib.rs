//! What `apps/index` must answer, worked out in the plainest way: one hash map from words to places, regular
//! expressions for HTML, no thought of memory or speed. It shares no code with the application; the rules are those in
//! the application's documentation.
#![forbid(unsafe_code)]

mod input;
mod text;

pub use input::{InputError, Source, files};

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use text::Letter;

/// What is looked for: `query=` and `phrase=` of the application.
#[derive(Clone, Debug)]
pub enum Query {
    /// Files with any of the words.
    Words(String),
    /// Files with the words one behind another.
    Phrase(String),
}

/// An indexed set of files.
pub struct Reference {
    names: Vec<String>,
    texts: Vec<Vec<Letter>>,
    /// For each file, its words and where in its text each begins.
    words: Vec<Vec<(String, usize)>>,
    /// For each word, the files it is in and its positions there.
    places: HashMap<String, BTreeMap<usize, Vec<usize>>>,
    bytes: usize,
    binary: usize,
}

impl Reference {
    /// Indexes `files`, in this order.
    pub fn new(files: &[Source]) -> Self {
        let mut index = Self {
            names: Vec::new(),
            texts: Vec::new(),
            words: Vec::new(),
            places: HashMap::new(),
            bytes: 0,
            binary: 0,
        };
        for file in files {
            if file.contents.iter().take(8192).any(|&byte| byte == 0) {
                index.binary += 1;
                continue;
            }
            let source = String::from_utf8_lossy(&file.contents);
            let lower = file.name.to_lowercase();
            let text = if lower.ends_with(".html") || lower.ends_with(".htm") {
                text::of_html(&source)
            } else {
                text::plain(&source)
            };
            let words = text::words(&text);
            for (position, (word, _)) in words.iter().enumerate() {
                let files = index.places.entry(word.clone()).or_default();
                files.entry(index.names.len()).or_default().push(position);
            }
            index.bytes += source.len();
            index.names.push(file.name.clone());
            index.texts.push(text);
            index.words.push(words);
        }
        index
    }

    /// The lines in which the application says what it has read and found, timings apart.
    pub fn summary(&self) -> String {
        let text: usize = self.texts.iter().flatten().map(|letter| letter.character.len_utf8()).sum();
        let words: usize = self.words.iter().map(Vec::len).sum();
        format!(
            "corpus: {} files, {} bytes, {text} of them text; {} binary files left out\nindex: {words} words, {} different\n",
            self.names.len(),
            self.bytes,
            self.binary,
            self.places.len(),
        )
    }

    /// The lines in which the application answers `query`, at most `count` files.
    pub fn answer(&self, query: &Query, count: usize) -> String {
        let (kind, text) = match query {
            Query::Words(text) => ("query", text),
            Query::Phrase(text) => ("phrase", text),
        };
        let wanted: Vec<String> = text::words(&text::plain(text)).into_iter().map(|(word, _)| word).collect();
        // Each term: in which files it occurs, and where.
        let mut terms: Vec<BTreeMap<usize, Vec<usize>>> = Vec::new();
        match query {
            Query::Phrase(_) => terms.push(self.phrase(&wanted)),
            Query::Words(_) => {
                for (number, word) in wanted.iter().enumerate() {
                    if !wanted[..number].contains(word) {
                        terms.push(self.places.get(word).cloned().unwrap_or_default());
                    }
                }
            }
        }
        let mut found = Vec::new();
        for file in 0..self.names.len() {
            let here: Vec<_> = terms.iter().filter(|term| term.contains_key(&file)).collect();
            // `min_by_key` takes the first of the rarest terms.
            let Some(rarest) = here.iter().min_by_key(|term| term.len()) else { continue };
            let score: f64 = here.iter().map(|term| self.bm25(term.len(), term[&file].len(), file)).sum();
            let occurrences: usize = here.iter().map(|term| term[&file].len()).sum();
            found.push(((score * 1e6).round() as u64, file, occurrences, rarest[&file][0]));
        }
        found.sort_by_key(|&(score, file, ..)| (std::cmp::Reverse(score), file));
        let mut lines = format!("{kind} \"{text}\": {} files\n", found.len());
        for (rank, &(score, file, occurrences, position)) in found.iter().take(count).enumerate() {
            let (name, line) = (&self.names[file], self.texts[file][self.words[file][position].1].line);
            let (rank, whole, part) = (rank + 1, score / 1_000_000, score % 1_000_000);
            let snippet = self.snippet(file, position);
            writeln!(lines, "{rank:4}. {whole:3}.{part:06}  {occurrences} x  {name}:{line}  {snippet}")
                .expect("a string takes all that is written to it");
        }
        lines
    }

    fn phrase(&self, wanted: &[String]) -> BTreeMap<usize, Vec<usize>> {
        let mut found = BTreeMap::new();
        for (file, words) in self.words.iter().enumerate() {
            let positions: Vec<usize> = words
                .windows(wanted.len().max(1))
                .enumerate()
                .filter(|(_, window)| !wanted.is_empty() && window.iter().map(|(word, _)| word).eq(wanted))
                .map(|(position, _)| position)
                .collect();
            if !positions.is_empty() {
                found.insert(file, positions);
            }
        }
        found
    }

    fn bm25(&self, files: usize, frequency: usize, file: usize) -> f64 {
        let (all, files, frequency) = (self.names.len() as f64, files as f64, frequency as f64);
        let average = self.words.iter().map(Vec::len).sum::<usize>() as f64 / all;
        let idf = ((all - files + 0.5) / (files + 0.5) + 1.0).ln();
        idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * self.words[file].len() as f64 / average))
    }

    fn snippet(&self, file: usize, position: usize) -> String {
        let (words, text) = (&self.words[file], &self.texts[file]);
        let start = words[position.saturating_sub(5)].1;
        let last = words[(position + 8).min(words.len() - 1)].1;
        let end = (last..text.len()).find(|&at| !text[at].character.is_alphanumeric()).unwrap_or(text.len());
        let around: String = text[start..end].iter().map(|letter| letter.character).collect();
        around.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect()
    }
}

/// Those lines of the application's output that [`Reference::summary`] and [`Reference::answer`] give.
pub fn answer_lines(output: &str) -> String {
    let is_rank = |line: &str| {
        line.trim_start().split_once(". ").is_some_and(|(rank, _)| line.starts_with(' ') && rank.parse::<u32>().is_ok())
    };
    let kept = ["corpus: ", "index: ", "query \"", "phrase \""];
    output
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| kept.iter().any(|start| line.starts_with(start)) || is_rank(line))
        .map(|line| format!("{line}\n"))
        .collect()
}
