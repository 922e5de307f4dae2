//! The application itself, booted, against the reference: what it prints, line by line.

use std::path::{Path, PathBuf};
use std::process::Command;

use index_reference::{Query, Reference, answer_lines, files};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Boots the application with `words` besides the input, and returns what it prints.
fn boot(input: &str, words: &[String]) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["run", "--quiet", "--release", "--package", "index", "--target", "aarch64-unknown-none", "--"]);
    let output = cargo.arg(format!("input={input}")).args(words).current_dir(root()).output().expect("cargo runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{printed}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    printed
}

fn compare(input: &str, queries: &[Query], words: &[&str]) {
    let mut arguments: Vec<String> = words.iter().map(|word| word.to_string()).collect();
    arguments.extend(queries.iter().map(|query| match query {
        Query::Words(text) => format!("query={text}"),
        Query::Phrase(text) => format!("phrase={text}"),
    }));
    let printed = boot(input, &arguments);
    let reference = Reference::new(&files(&root().join(input)).expect("the input is part of the sources"));
    let mut expected = reference.summary();
    queries.iter().for_each(|query| expected.push_str(&reference.answer(query, 10)));
    assert_eq!(answer_lines(&printed), expected, "in\n{printed}");
    assert!(printed.lines().any(|line| line.starts_with("memory: ")), "no memory report in\n{printed}");
}

#[test]
fn answers_on_the_small_corpus() {
    let mut queries: Vec<Query> =
        ["ashlar blocks", "stone", "STONE wall stone", "größe блок οδος", "nowhere", "block of stone"]
            .map(|text| Query::Words(text.to_string()))
            .into();
    queries.extend(
        ["stone stone", "dry stone", "блок и блок", "stone nowhere"].map(|text| Query::Phrase(text.to_string())),
    );
    compare("apps/index/tests/data", &queries, &[]);
    compare("apps/index/tests/data", &queries, &["memory=32M", "thp=never"]);
}

/// Enough text for blocks: the kernel's and the tools' own sources.
#[test]
fn answers_on_sources() {
    let queries = [
        Query::Words("block descriptor".into()),
        Query::Words("memory".into()),
        Query::Phrase("the application".into()),
        Query::Phrase("unsafe impl".into()),
    ];
    compare("src", &queries, &["fault=eager"]);
    compare("src", &queries, &["cores=4"]);
    compare("src", &queries, &["cores=2", "threads=7", "scale"]);
}
