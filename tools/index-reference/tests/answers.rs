//! The application's library against the reference, line by line.

use std::path::Path;

use index::{Alone, Corpus, Index, Occurrences};
use index_reference::{Query, Reference, Source, answer_lines, files};

fn small_corpus() -> Vec<Source> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../apps/index/tests/data");
    files(&directory).expect("the corpus is part of the sources")
}

fn application(files: &[Source], queries: &[Query], count: usize) -> String {
    let read = files.iter().map(|file| (file.name.as_str(), file.contents.as_slice()));
    let corpus = Corpus::read(read, &Alone).unwrap();
    let occurrences = Occurrences::scan(&corpus, &Alone).unwrap();
    let mut lines = String::new();
    index::report::summary(&mut lines, &corpus, &occurrences).unwrap();
    let index = Index::invert(corpus, occurrences, &Alone).unwrap();
    for query in queries {
        let query = match query {
            Query::Words(text) => index::Query::Words(text),
            Query::Phrase(text) => index::Query::Phrase(text),
        };
        index::report::answers(&mut lines, &index, query, count).unwrap();
    }
    lines
}

fn reference(files: &[Source], queries: &[Query], count: usize) -> String {
    let reference = Reference::new(files);
    let answers = queries.iter().map(|query| reference.answer(query, count));
    std::iter::once(reference.summary()).chain(answers).collect()
}

#[track_caller]
fn agree(files: &[Source], queries: &[Query], count: usize) -> String {
    let (answered, expected) = (application(files, queries, count), reference(files, queries, count));
    for (answered, expected) in answered.lines().zip(expected.lines()) {
        assert_eq!(answered, expected);
    }
    assert_eq!(answered, expected);
    answered
}

/// Every word of the small corpus as a query of its own, and every two neighbours as a phrase and as a query.
#[test]
fn every_word_and_every_pair() {
    let files = small_corpus();
    let text: Vec<String> = files.iter().map(|file| String::from_utf8_lossy(&file.contents).into_owned()).collect();
    let words: Vec<&str> = text.iter().flat_map(|text| text.split_whitespace()).collect();
    let mut queries: Vec<Query> = words.iter().map(|word| Query::Words(word.to_string())).collect();
    for pair in words.windows(2) {
        queries.push(Query::Words(pair.join(" ")));
        queries.push(Query::Phrase(pair.join(" ")));
    }
    let answered = agree(&files, &queries, 20);
    assert!(answered.starts_with("corpus: 10 files, "), "{answered}");
    assert!(answered.lines().count() > 2000, "nearly nothing was found");
}

#[test]
fn queries_of_odd_shape() {
    let words = [
        "",
        " ",
        "...",
        "stone stone",
        "STONE Block stone",
        "nowhere",
        "block nowhere",
        "ΟΔΟΣ größe блок 日本語の文章",
    ];
    let phrases = [
        "",
        "stone",
        "stone stone stone",
        "block of stone",
        "stone nowhere",
        "of",
        "Dry Stone\nWalls",
        "dry stone walls",
    ];
    let mut queries: Vec<Query> = words.map(|text| Query::Words(text.to_string())).into();
    queries.extend(phrases.map(|text| Query::Phrase(text.to_string())));
    for count in [0, 1, 100] {
        agree(&small_corpus(), &queries, count);
    }
}

#[test]
fn known_answers() {
    let answered = agree(&small_corpus(), &[Query::Phrase("stone stone".into()), Query::Words("coping".into())], 1);
    assert!(answered.contains("phrase \"stone stone\": 1 files\n"), "{answered}");
    assert!(
        answered.contains("fields/walls.md:9  hearting. Stone walls, stone by stone: stone, stone, stone\n"),
        "{answered}"
    );
    assert!(answered.contains("fields/walls.md:6  course of flat stones, the coping, ends the wall."), "{answered}");
}

#[test]
fn no_files_and_no_words() {
    let queries = [Query::Words("stone".into()), Query::Phrase("stone".into())];
    agree(&[], &queries, 10);
    agree(&[Source { name: "dots".into(), contents: b"... --- ...".to_vec() }], &queries, 10);
}

/// Documents made of fragments that HTML's rules are about, in every order of three.
#[test]
fn html_fragments_in_every_order() {
    let fragments = [
        "<", ">", "\"", "'", "&", ";", "a", "é", " ", "\n", "<a ", "</", "<!--", "-->", "<script", "</script",
        "<style>", "</style>", "&amp", "&lt;", "&#65;", "&#x", "&nbsp;", "/", "!", "b=\"",
    ];
    let mut files = Vec::new();
    for a in fragments {
        for b in fragments {
            let document: String = fragments.iter().flat_map(|c| [a, b, c, "w"]).collect();
            files.push(Source { name: format!("{}.html", files.len()), contents: document.into_bytes() });
            for c in fragments {
                let document = format!("x{a}y{b}z{c}{a}{c}w");
                files.push(Source { name: format!("{}.html", files.len()), contents: document.into_bytes() });
            }
        }
    }
    let queries = ["w", "za", "script"].map(|word| Query::Words(word.into()));
    agree(&files, &queries, usize::MAX);
}

#[test]
fn answer_lines_are_told_from_others() {
    let output =
        "INFO: up\ncorpus: 1 files\r\ntime: 3 s\nquery \"a\": 1 files\n   1.   0.287682  1 x  f:1  a\n  12 pages\n";
    assert_eq!(answer_lines(output), "corpus: 1 files\nquery \"a\": 1 files\n   1.   0.287682  1 x  f:1  a\n");
}
