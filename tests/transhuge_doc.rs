//! docs/transhuge.md names modules and tests: all of them exist, and every case under a peer's name is in it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
mod document {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    const DOCUMENT: &str = "docs/transhuge.md";
    /// Where what the document may name lies.
    const TREES: [&str; 5] = ["src/", "arch/", "platform/", "tests/", "tools/"];
    /// Tests that have their names from peers.
    const PEERS: [&str; 21] = [
        "ltp_madvise",
        "thp_test",
        "ltp_thp",
        "madv_populate",
        "ltp_munmap",
        "ltp_mprotect",
        "ltp_mremap",
        "gvisor_madvise",
        "gvisor_mremap",
        "mremap_test",
        "mremap_dontunmap",
        "transhuge_stress",
        "folio_split_race_test",
        "split_huge_page_test",
        "khugepaged",
        "compaction_test",
        "thpchallenge",
        "cow",
        "soft_dirty",
        "gup_longterm",
        "migration",
    ];

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn read(path: &str) -> Result<String, String> {
        std::fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))
    }

    /// A place that the document names, in backticks: a path, and after a colon perhaps names that are there.
    struct Mention {
        line: usize,
        path: String,
        names: Vec<String>,
    }

    /// Everything in backticks that begins like a path. Whatever else is in backticks is Linux's, or code.
    fn mentions(text: &str) -> Vec<Mention> {
        let spans = text.lines().enumerate().flat_map(|(index, line)| {
            let parts: Vec<_> = line.split('`').collect();
            assert!(parts.len() % 2 == 1, "{DOCUMENT}:{}: a backtick has no other", index + 1);
            parts.into_iter().skip(1).step_by(2).map(move |span| (index + 1, span))
        });
        let paths = spans.filter(|(_, span)| TREES.iter().any(|tree| span.starts_with(tree)));
        paths
            .map(|(line, span)| {
                let (path, names) = span.split_once(':').unwrap_or((span, ""));
                let names = names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
                Mention { line, path: path.to_owned(), names: names.collect() }
            })
            .collect()
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|character: char| character != '_' && !character.is_alphanumeric()).filter(|word| !word.is_empty())
    }

    /// The functions that a test file runs.
    fn tests(source: &str) -> BTreeSet<&str> {
        let list = source.split_once("ashlar_test::tests!").map_or("", |(_, list)| list);
        words(list).filter(|word| !["cfg", "not", "target_os", "none"].contains(word)).collect()
    }

    /// Whether something is called `name` where it is defined.
    fn defines(source: &str, name: &str) -> bool {
        let words: Vec<_> = words(source).collect();
        let kinds = ["fn", "struct", "enum", "trait", "const", "static", "mod", "type"];
        words.windows(2).any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
    }

    fn fault(mention: &Mention) -> Option<String> {
        let Mention { line, path, names } = mention;
        if names.is_empty() {
            return (!root().join(path).exists()).then(|| format!("{DOCUMENT}:{line}: there is no {path}"));
        }
        let source = match read(path) {
            Ok(source) => source,
            Err(error) => return Some(format!("{DOCUMENT}:{line}: {error}")),
        };
        let is_there = |name: &String| match path.starts_with("tests/") {
            true => tests(&source).contains(name.as_str()) && defines(&source, name),
            false => defines(&source, name),
        };
        let missing: Vec<_> = names.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
        (!missing.is_empty()).then(|| format!("{DOCUMENT}:{line}: {path} has no {}", missing.join(", ")))
    }

    pub fn everything_named_exists() {
        let text = read(DOCUMENT).unwrap_or_else(|error| panic!("{error}"));
        let mentions = mentions(&text);
        let tests =
            mentions.iter().filter(|mention| mention.path.starts_with("tests/")).map(|mention| mention.names.len());
        assert!(tests.sum::<usize>() > 50, "the document names tests");
        let faults: Vec<_> = mentions.iter().filter_map(fault).collect();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    pub fn every_case_of_a_peer_is_named() {
        let text = read(DOCUMENT).unwrap_or_else(|error| panic!("{error}"));
        let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for mention in mentions(&text) {
            named.entry(mention.path).or_default().extend(mention.names);
        }
        for peer in PEERS {
            let path = format!("tests/{peer}.rs");
            let source = read(&path).unwrap_or_else(|error| panic!("{error}"));
            let cases = tests(&source);
            assert!(!cases.is_empty(), "{path} has no test");
            let missing: Vec<_> =
                cases.into_iter().filter(|&case| !named.get(&path).is_some_and(|names| names.contains(case))).collect();
            assert!(missing.is_empty(), "{DOCUMENT} does not name {} of {path}", missing.join(", "));
        }
    }

    /// The test can fail: a path, a test, and a definition that do not exist are found.
    pub fn what_does_not_exist_is_found() {
        let text = "| `madvise` | `src/mm/no_such.rs`, `src/mm/space.rs: MapRequest, no_such` | `tests/memory.rs: fill, no_such` |";
        let faults: Vec<_> = mentions(text).iter().filter_map(fault).collect();
        let expected = [
            "docs/transhuge.md:1: there is no src/mm/no_such.rs",
            "docs/transhuge.md:1: src/mm/space.rs has no no_such",
            "docs/transhuge.md:1: tests/memory.rs has no fill, no_such",
        ];
        assert_eq!(faults, expected);
    }
}
#[cfg(not(target_os = "none"))]
use document::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    everything_named_exists,
    #[cfg(not(target_os = "none"))]
    every_case_of_a_peer_is_named,
    #[cfg(not(target_os = "none"))]
    what_does_not_exist_is_found,
}
