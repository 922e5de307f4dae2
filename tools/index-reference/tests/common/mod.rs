//! Files to index, and threads that index them.

use std::thread;

use index::{Corpus, Index, IndexError, Occurrences, Workers};

/// Threads of the host.
pub struct Threads(pub usize);

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, calls: usize, work: &(dyn Fn() + Sync)) {
        thread::scope(|scope| {
            for _ in 1..calls.min(self.0) {
                scope.spawn(work);
            }
            work();
        });
    }
}

/// SplitMix64: a seed gives the same numbers on every machine.
pub struct Random(pub u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// A word: the smaller its number, the more frequent it is.
    fn word(&mut self) -> String {
        let most = 1 + self.below(3000);
        let number = self.below(most);
        format!("{}{number}", self.pick(&["w", "W", "Größe", "блок", "日本", "ὈΔΥΣΣΕΎΣ"]))
    }

    /// So many words, with one of `between` behind each.
    pub fn text(&mut self, words: usize, between: &[&str]) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..words {
            text.extend(self.word().into_bytes());
            text.extend(self.pick(between).as_bytes());
        }
        text
    }
}

/// Names and contents.
pub type Files = Vec<(String, Vec<u8>)>;

/// What is between words of plain text.
pub const PLAIN: [&str; 4] = [" ", "\n", ", ", " … "];
const HTML: [&str; 6] = [" ", "<p>", "&amp;", " <b class=\"x > y\">", "<!-- stone -->", "\n</p>"];

/// Files of all kinds: `count` of up to `words` words each.
pub fn generated(seed: u64, count: usize, words: usize) -> Files {
    let mut random = Random(seed);
    let mut file = |number: usize| {
        let length = random.below(words + 1);
        match random.below(8) {
            0 | 1 => (format!("{number}.html"), random.text(length, &HTML)),
            2 => (format!("{number}.bin"), b"word\0word".to_vec()),
            3 => (format!("{number}.latin1"), b"word gr\xf6\xdfe word".to_vec()),
            4 => (format!("{number}.empty"), Vec::new()),
            _ => (format!("{number}.txt"), random.text(length, &PLAIN)),
        }
    };
    (0..count).map(&mut file).collect()
}

/// The summary and the index that `workers` make of `files`.
pub fn build(files: &Files, workers: &dyn Workers) -> Result<(String, Index), IndexError> {
    let corpus = Corpus::read(files.iter().map(|(name, contents)| (name.as_str(), contents.as_slice())), workers)?;
    let occurrences = Occurrences::scan(&corpus, workers)?;
    let mut lines = String::new();
    index::report::summary(&mut lines, &corpus, &occurrences).expect("a string takes all that is written to it");
    Ok((lines, Index::invert(corpus, occurrences, workers)?))
}
