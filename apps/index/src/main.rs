//! Indexes all text in the input files and answers queries.
//!
//! Boot arguments: `query="two words"` ranks files by the words, `phrase="two words"` by the words one behind another; both
//! any number of times. `top=N` is how many files each answer names (10). `interactive` reads further queries from the
//! console, one a line, until Ctrl-D; one in double quotes is a phrase.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod application;

ashlar::entry!(application::main);
