//! Ashlar: a unikernel for aarch64 that hosts one application and keeps its memory in 2 MiB blocks.
//!
//! One address space, one application, everything at EL1. Who writes an application begins at [`app`]; who works on
//! the kernel, here. This crate is the kernel; an application's crate depends on it, and the two are one image.
//!
//! | module | what is in it | looks at |
//! | --- | --- | --- |
//! | [`app`] | what an application sees: entry point, heap, files, time, its memory | `mm`, `arch` through the gate |
//! | [`mm`] | the memory manager; start at its own page | the machine, through [`mm::mmu::Mmu`] alone |
//! | [`arch`] | `aarch64`: boot, exceptions, tables, crash reports; `sim`: the machine that tests run on | `mm`, `platform` |
//! | [`platform`] | what the device tree says, the console's UART, the machine's end, files on the host | nothing of the kernel's but its units |
//! | [`arguments`], [`console`], [`report`] | boot arguments, console and log, reports | |
//! | [`task`] | threads: which one runs where, and how they wait; start at its own page | the machine, through [`task::Port`] alone |
//! | [`sync`] | the application's locks and channels, the kernel's ranked locks | the scheduler, through [`sync::parking`] alone |
//!
//! Five rules hold everywhere:
//!
//! - `mm` never names `arch` or `platform`. On the host the hardware modules do not exist, so a wrong import does not
//!   compile, and every test of the memory manager runs against the simulated machine as well.
//! - The fault path stands on the upper half of the address space alone, where nothing is converted at run time.
//! - SPSel is the mode bit: application code runs on SP_EL0, the kernel on SP_EL1. What takes a ranked lock is entered
//!   through the gate (`arch::aarch64::gate`).
//! - Kernel mode is never interrupted: it masks interrupts, looks for pending ones where it may be left, and leaves its core
//!   only there and where it waits. So who spins for a lock waits for a short section, never for a turn.
//! - One function writes live descriptors, by break-before-make: [`mm::table`].
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
pub mod task;

pub use app::args;
#[cfg(target_os = "none")]
pub use app::{input, memory, output, thread, time};
