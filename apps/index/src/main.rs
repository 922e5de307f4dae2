//! Indexes all text in the input files and answers queries.
//!
//! Boot arguments: `query="two words"` ranks files by the words, `phrase="two words"` by the words one behind another; both
//! any number of times. `top=N` is how many files each answer names (10). `interactive` reads further queries from the
//! console, one a line, until Ctrl-D; one in double quotes is a phrase.
//!
//! `threads=N` is how many threads read and index the files (one for each core); the answers are the same with any number.
//! How many of them were at work on average is printed for each step: their time from the first job to the last, added up,
//! divided by the time that passed. What one of them does alone and what they wait for each other make it less than N; with
//! more threads than cores, a thread that waits for a core counts as one at work. `scale` first indexes the files with one
//! thread, two, four and so on up to N, and prints a table of the times.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod application;
#[cfg(target_os = "none")]
mod team;

ashlar::entry!(application::main);
