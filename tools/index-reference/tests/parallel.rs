//! The index is the same however many threads make it.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{Files, PLAIN, Random, Threads, build, generated};
use index::{Alone, Index, Occurrences, Posting, Query, Workers};

/// Promises `count` threads, and has `calls` of them.
struct Unreliable {
    count: usize,
    calls: usize,
}

impl Workers for Unreliable {
    fn count(&self) -> usize {
        self.count
    }

    fn run(&self, _calls: usize, work: &(dyn Fn() + Sync)) {
        thread::scope(|scope| (0..self.calls).for_each(|_| drop(scope.spawn(work))));
    }
}

/// The calling thread, told as `.0` threads; notes how many calls are asked for at most.
struct Counting(usize, AtomicUsize);

impl Workers for Counting {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, calls: usize, work: &(dyn Fn() + Sync)) {
        self.1.fetch_max(calls, Ordering::Relaxed);
        work();
    }
}

/// The best answers to queries of all words that the text generator likes.
fn answers(lines: &mut String, index: &Index) {
    for text in ["w0 größe1", "w1", "блок2 日本3 w4", "nowhere", "w0 w0", "Größe0 w1"] {
        for query in [Query::Words(text), Query::Phrase(text)] {
            index::report::answers(lines, index, query, 20).expect("a string takes all that is written to it");
        }
    }
}

#[track_caller]
fn same(files: &Files, expected: &(String, Index), workers: &dyn Workers) {
    let count = workers.count();
    let (mut summary, index) = build(files, workers).unwrap();
    assert_eq!(summary, expected.0, "the summary, {count} threads");
    assert!(index.words().eq(expected.1.words()), "the words or their order, {count} threads");
    let names = |index: &Index| index.documents().iter().map(|file| file.name().to_string()).collect::<Vec<_>>();
    assert_eq!(names(&index), names(&expected.1), "the files, {count} threads");
    for word in index.words() {
        assert_eq!(index.postings(word), expected.1.postings(word), "postings of {word}, {count} threads");
    }
    assert_eq!(index.len(), expected.1.len());
    assert_eq!(index.most_frequent(usize::MAX), expected.1.most_frequent(usize::MAX));
    let mut expected_answers = expected.0.clone();
    answers(&mut expected_answers, &expected.1);
    answers(&mut summary, &index);
    assert_eq!(summary, expected_answers, "{count} threads");
}

#[track_caller]
fn same_with_any_threads(files: &Files) {
    let expected = build(files, &Alone).unwrap();
    for threads in [1, 2, 3, 7, 64] {
        same(files, &expected, &Threads(threads));
    }
}

#[test]
fn generated_files() {
    for (seed, count, words) in [(1, 200, 300), (2, 1000, 20), (3, 40, 3000)] {
        same_with_any_threads(&generated(seed, count, words));
    }
}

/// One thread's index is what a plain count of the words says: order of first occurrence, files, positions.
#[test]
fn words_in_the_order_of_the_text() {
    let files = generated(4, 100, 200);
    let (_, index) = build(&files, &Threads(7)).unwrap();
    let (mut order, mut places) = (Vec::new(), HashMap::<String, Vec<(u32, u32)>>::new());
    let texts = files.iter().filter(|(_, contents)| !contents.contains(&0));
    for (document, (name, contents)) in (0..).zip(texts) {
        let text = String::from_utf8_lossy(contents);
        let mut stripped = index::html::Stripped::default();
        index::html::strip(&text, &mut stripped).unwrap();
        let text = if name.ends_with(".html") { &stripped.text } else { &*text };
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        for (position, word) in (0..).zip(words) {
            let word: String = word.chars().flat_map(char::to_lowercase).collect();
            let places = places.entry(word.clone()).or_default();
            if places.is_empty() {
                order.push(word);
            }
            places.push((document, position));
        }
    }
    assert!(order.len() > 1000, "{} words only", order.len());
    assert!(index.words().eq(order.iter().map(String::as_str)), "the words are not in the order of the text");
    for word in &order {
        let found = index.postings(word).iter().map(|&Posting { document, position, .. }| (document, position));
        assert!(found.eq(places[word].iter().copied()), "postings of {word}");
    }
}

#[test]
fn no_files_few_files_and_one_large_one() {
    let file = |name: &str, contents: &[u8]| (name.to_string(), contents.to_vec());
    same_with_any_threads(&Vec::new());
    same_with_any_threads(&vec![file("binary", b"\0")]);
    same_with_any_threads(&vec![file("empty", b"")]);
    same_with_any_threads(&vec![file("a", b"w0 w1 w0"), file("b", b"w1 w2")]);
    for (before, after) in [(0, 0), (30, 0), (0, 30), (30, 30)] {
        let mut files = generated(5, before, 5);
        files.push(("large".to_string(), Random(6).text(50_000, &PLAIN)));
        files.extend(generated(7, after, 5));
        same_with_any_threads(&files);
    }
}

/// The work is done with fewer threads than promised, with none but the calling one, and with more.
#[test]
fn other_threads_than_promised() {
    let files = generated(8, 100, 100);
    let expected = build(&files, &Alone).unwrap();
    for (count, calls) in [(7, 1), (7, 2), (7, 0), (2, 30), (0, 0), (usize::MAX, 3)] {
        same(&files, &expected, &Unreliable { count, calls });
    }
}

/// Who is alone is not asked to share, and few files are not work for many.
#[test]
fn no_more_calls_than_there_are_jobs() {
    let calls = |files: usize, count: usize| {
        let workers = Counting(count, AtomicUsize::new(0));
        build(&vec![("a".to_string(), b"one two three".to_vec()); files], &workers).unwrap();
        workers.1.into_inner()
    };
    assert_eq!(calls(100, 1), 0);
    assert_eq!(calls(1, 1), 0);
    assert_eq!(calls(5, 64), 5);
    assert!(calls(100, 4) >= 4);
}

#[test]
fn the_corpus_comes_back() {
    let files = generated(9, 50, 100);
    let (summary, index) = build(&files, &Threads(3)).unwrap();
    let corpus = index.into_corpus();
    let occurrences = Occurrences::scan(&corpus, &Threads(2)).unwrap();
    let mut again = String::new();
    index::report::summary(&mut again, &corpus, &occurrences).unwrap();
    assert_eq!(again, summary);
    same(&files, &(summary, Index::invert(corpus, occurrences, &Threads(3)).unwrap()), &Alone);
}
