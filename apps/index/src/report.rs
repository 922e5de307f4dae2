//! What the application prints: lines that are the same wherever it runs.

use crate::{Corpus, Index, Occurrences, Query};
use core::fmt::{self, Write};

/// Writes what was read: files, bytes, words.
pub fn summary(out: &mut impl Write, corpus: &Corpus, occurrences: &Occurrences) -> fmt::Result {
    writeln!(
        out,
        "corpus: {} files, {} bytes, {} of them text; {} binary files left out",
        corpus.documents().len(),
        corpus.bytes(),
        occurrences.text_bytes(),
        corpus.binary()
    )?;
    writeln!(out, "index: {} words, {} different", occurrences.len(), occurrences.different())
}

/// Writes the `count` best answers of `index` to `query`: rank, score, number of occurrences, file and line, snippet.
pub fn answers(out: &mut impl Write, index: &Index, query: Query<'_>, count: usize) -> fmt::Result {
    let answers = index.search(query, count);
    let (kind, text) = match query {
        Query::Words(text) => ("query", text),
        Query::Phrase(text) => ("phrase", text),
    };
    writeln!(out, "{kind} \"{text}\": {} files", answers.matching)?;
    for (rank, answer) in (1..).zip(&answers.best) {
        let name = index.documents()[answer.document as usize].name();
        let (line, snippet) = (index.line(answer.place), index.snippet(answer.place));
        let (whole, part) = (answer.score / 1_000_000, answer.score % 1_000_000);
        writeln!(out, "{rank:4}. {whole:3}.{part:06}  {} x  {name}:{line}  {snippet}", answer.occurrences)?;
    }
    Ok(())
}
