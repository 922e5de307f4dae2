//! Ashlar: a unikernel for aarch64 that hosts one application and keeps its memory in 2 MiB blocks.
#![cfg_attr(target_os = "none", no_std)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

extern crate alloc;

pub mod app;
#[path = "../arch/mod.rs"]
pub mod arch;
pub mod arguments;
pub mod console;
pub mod mm;
#[path = "../platform/mod.rs"]
pub mod platform;
pub mod report;
pub mod sync;

pub use app::args;
#[cfg(target_os = "none")]
pub use app::{input, memory, output, time};
