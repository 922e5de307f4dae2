//! The list of mistakes, and how one is made in a file's text.
#![forbid(unsafe_code)]

use serde::Deserialize;
use thiserror::Error;

/// The whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// In the order of the file.
    #[serde(rename = "mutation")]
    pub mutations: Vec<Mutation>,
}

/// One mistake.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// What is broken.
    pub name: String,
    /// The file, from the root of the tree.
    pub file: String,
    /// One or more lines, or a part of one.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
    /// Arguments of `cargo test`.
    #[serde(default)]
    pub test: Vec<String>,
}

/// A mistake that can't be made: the code has changed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MutationError {
    /// The text is gone.
    #[error("its text is no longer in {0}")]
    Gone(String),
    /// The text is there more than once.
    #[error("its text occurs {count} times in {file}")]
    Ambiguous {
        /// Where.
        file: String,
        /// How often.
        count: usize,
    },
    /// What it would put there is there already.
    #[error("it changes nothing in {0}")]
    Nothing(String),
}

impl Mutation {
    /// `source` with the mistake in it.
    ///
    /// # Errors
    /// The text to find is not there exactly once.
    pub fn apply(&self, source: &str) -> Result<String, MutationError> {
        let places = places(source, &self.find);
        match places[..] {
            [] => Err(MutationError::Gone(self.file.clone())),
            [(start, end)] => {
                let mutated = [&source[..start], self.replace.trim(), &source[end..]].concat();
                if mutated == source { Err(MutationError::Nothing(self.file.clone())) } else { Ok(mutated) }
            }
            _ => Err(MutationError::Ambiguous { file: self.file.clone(), count: places.len() }),
        }
    }
}

/// Where `text` stands in `source`: its first line at the end of one, its last at the start of one, those between
/// whole, blanks around them apart.
fn places(source: &str, text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
    let Some((first, rest)) = lines.split_first() else { return Vec::new() };
    let starts = source.match_indices(first).map(|(start, _)| start);
    starts.filter_map(|start| Some((start, continues(source, start + first.len(), rest)?))).collect()
}

/// Where `lines` end that follow each other from `position` on, which is the end of a line.
fn continues(source: &str, mut position: usize, lines: &[&str]) -> Option<usize> {
    for line in lines {
        let after = &source[position..];
        let next = after.trim_start_matches([' ', '\t', '\r']).strip_prefix('\n')?.trim_start_matches([' ', '\t']);
        position = source.len() - next.strip_prefix(line)?.len();
    }
    Some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(find: &str, replace: &str) -> Mutation {
        Mutation { name: "n".into(), file: "f.rs".into(), find: find.into(), replace: replace.into(), test: Vec::new() }
    }

    #[test]
    fn a_part_of_a_line_is_replaced() {
        assert_eq!(mutation("b < c", "b <= c").apply("a\n  if b < c {\n").unwrap(), "a\n  if b <= c {\n");
        assert_eq!(mutation("  flush();\n", "").apply("a\n  flush();\nb").unwrap(), "a\n  \nb");
    }

    #[test]
    fn lines_are_found_whatever_their_indentation() {
        let source = "{\n    one();\n        two();\n    three();\n}\n";
        assert_eq!(mutation("one();\ntwo();", "four();").apply(source).unwrap(), "{\n    four();\n    three();\n}\n");
        assert_eq!(mutation("one();\nthree();", "").apply(source), Err(MutationError::Gone("f.rs".into())));
    }

    #[test]
    fn a_text_must_be_there_once() {
        let file = "f.rs".to_string();
        assert_eq!(mutation("x", "y").apply("a"), Err(MutationError::Gone(file.clone())));
        assert_eq!(mutation("", "y").apply("a"), Err(MutationError::Gone(file.clone())));
        assert_eq!(mutation("a", "y").apply("a a"), Err(MutationError::Ambiguous { file: file.clone(), count: 2 }));
        assert_eq!(mutation("a", "a").apply("a"), Err(MutationError::Nothing(file)));
    }

    #[test]
    fn the_list_of_this_tree_is_well_formed_and_up_to_date() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let list: List = toml::from_str(include_str!("../mutations.toml")).unwrap();
        for mutation in &list.mutations {
            let source = std::fs::read_to_string(format!("{root}/{}", mutation.file)).unwrap();
            assert_eq!(mutation.apply(&source).err(), None, "{}", mutation.name);
            assert_eq!(list.mutations.iter().filter(|other| other.name == mutation.name).count(), 1);
        }
    }
}
