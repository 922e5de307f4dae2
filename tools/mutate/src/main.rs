//! `mutate [NAME…]`: makes each listed mistake, or those whose name contains one of the words, in a copy of the
//! tree, runs the tests there, and says which test noticed it. Ends with 1 if a mistake survived, could not be made
//! or did not compile.
#![forbid(unsafe_code)]

mod list;
mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;

use crate::list::{List, Mutation};
use crate::tree::{Tree, Verdict};

/// Time for one `cargo test`, once built. A mistake may well end in a loop.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Error)]
enum Failure {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    List { path: PathBuf, error: toml::de::Error },
    #[error("the tests don't pass without a mistake either (cargo test {arguments}): {verdict}")]
    Baseline { arguments: String, verdict: String },
    #[error("no mistake has one of these words in its name")]
    NoneNamed,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("mutate: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("tools/mutate/mutations.toml");
    let text = fs::read_to_string(&path).map_err(|error| Failure::Io { path: path.clone(), error })?;
    let list: List = toml::from_str(&text).map_err(|error| Failure::List { path, error })?;
    let named = |mutation: &&Mutation| words.is_empty() || words.iter().any(|word| mutation.name.contains(word));
    let chosen: Vec<&Mutation> = list.mutations.iter().filter(named).collect();
    if chosen.is_empty() {
        return Err(Failure::NoneNamed);
    }
    let copy = root.join("target/mutate");
    let failed = |error| Failure::Io { path: copy.clone(), error };
    let tree = Tree::copy(&root, &copy, LIMIT).map_err(failed)?;
    check_baseline(&tree, &chosen, &copy)?;
    let width = chosen.iter().map(|mutation| mutation.name.chars().count()).max().unwrap_or_default();
    let mut survived = 0;
    for mutation in &chosen {
        let (noticed, verdict) = judge(&tree, mutation).map_err(failed)?;
        survived += usize::from(!noticed);
        println!("{:width$}  {verdict}", mutation.name);
    }
    println!("{} of {} mistakes noticed", chosen.len() - survived, chosen.len());
    Ok(survived == 0)
}

/// Makes sure that it is the mistake which the tests notice.
fn check_baseline(tree: &Tree, chosen: &[&Mutation], copy: &Path) -> Result<(), Failure> {
    let mut arguments: Vec<_> = chosen.iter().map(|mutation| &mutation.test).collect();
    arguments.sort();
    arguments.dedup();
    for arguments in arguments {
        let verdict = tree.test(arguments).map_err(|error| Failure::Io { path: copy.into(), error })?;
        if verdict != Verdict::Passed {
            return Err(Failure::Baseline { arguments: arguments.join(" "), verdict: describe(&verdict) });
        }
    }
    Ok(())
}

/// Whether a test notices `mutation`, and in words. The copy is as before afterwards.
fn judge(tree: &Tree, mutation: &Mutation) -> io::Result<(bool, String)> {
    let source = tree.read(&mutation.file)?;
    let mutated = match mutation.apply(&source) {
        Ok(mutated) => mutated,
        Err(error) => return Ok((false, format!("NOT MADE: {error}"))),
    };
    tree.write(&mutation.file, &mutated)?;
    let verdict = tree.test(&mutation.test);
    tree.write(&mutation.file, &source)?;
    let verdict = verdict?;
    Ok((matches!(verdict, Verdict::Failed(_) | Verdict::Hung(_)), describe(&verdict)))
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed => "SURVIVED".into(),
        Verdict::Failed(test) => format!("noticed by {test}"),
        Verdict::Hung(limit) => format!("noticed: the tests ran past {} s", limit.as_secs()),
        Verdict::NotCompiled(message) => format!("DOES NOT COMPILE\n{message}"),
    }
}
