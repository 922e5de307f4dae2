//! A key-value store that saves itself while it serves.
//!
//! Its table is one mapping. Every so often it makes a snapshot of that, which another thread checks and writes to
//! `out=DIR`, if there is one, while requests go on; the pause is that of the snapshot. At the end it prints how long the
//! requests took while it saved, and otherwise.
//!
//! `records=N` (200,000) are put into it first, then come `requests=N` (1,000,000), of which every other one writes, with
//! `saves=N` (4) in between.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod application;
#[cfg(target_os = "none")]
mod latency;
#[cfg(target_os = "none")]
mod table;

ashlar::entry!(application::main);
