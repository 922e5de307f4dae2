//! What an application sees.
//!
//! An application is a crate of its own, `#![no_std]` and `#![no_main]`, that depends on this one and hands its `main` to
//! [`entry!`](crate::entry). Together they are one bootable image.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! ashlar::entry!(main);
//!
//! fn main() -> Result<(), ashlar::input::InputError> {
//!     for (name, contents) in ashlar::input::files()?.iter() {
//!         ashlar::println!("{name}: {} bytes", contents.len());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! | what | where |
//! | --- | --- |
//! | `alloc`: vectors, strings, … | the heap grows by slots of 2 MiB; `try_reserve` fails when there is no memory |
//! | [`print!`](crate::print), [`println!`](crate::println), [`read_line`](crate::console::read_line) | the console |
//! | [`args`] | boot arguments that are not the kernel's |
//! | `input` | files that the boot loader put beside the kernel |
//! | `output` | files on the host |
//! | `thread` | threads on all cores, as `std::thread` has them |
//! | `time` | monotonic time, the date |
//! | `memory` | mappings, snapshots of them, rings, blocks on demand, pins for devices, the policy, what is in blocks, memory pressure, counts, reports |
//! | [`sync`](crate::sync) | mutexes, condition variables, channels, values made once: as in `std::sync` |
//!
//! `main` runs in application mode, on a stack of up to 8 MiB with a guard page below it. The machine ends with `main`'s
//! status ([`Termination`]); with 101 after a panic, 102 after a wild access or a stack overflow, 103 without memory.

pub mod archive;
pub mod clock;
mod termination;

#[cfg(target_os = "none")]
mod alias;
#[cfg(target_os = "none")]
mod collapse;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod input;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod output;
#[cfg(target_os = "none")]
mod pin;
#[cfg(target_os = "none")]
mod pressure;
#[cfg(target_os = "none")]
pub mod report;
#[cfg(target_os = "none")]
mod ring;
#[cfg(target_os = "none")]
mod snapshot;
#[cfg(target_os = "none")]
pub(crate) mod stack;
#[cfg(target_os = "none")]
pub mod thread;
#[cfg(target_os = "none")]
pub mod time;

pub use termination::Termination;

use crate::arguments::{self, Argument};

/// The boot arguments that are the application's, in their order; those that the kernel knows are left out.
pub fn args() -> impl Iterator<Item = Argument<'static>> {
    arguments::boot().into_iter().flat_map(|arguments| arguments.application())
}

/// Makes a function the application's `main`. It takes nothing and returns a [`Termination`]: nothing, a status, or a result.
///
/// On the host, where an application cannot run, it makes a program that says so, and does not look at the function.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "C" fn ashlar_application() -> i32 {
            ::core::convert::From::from($crate::app::Termination::report($main()))
        }

        #[cfg(not(target_os = "none"))]
        fn main() -> ::std::process::ExitCode {
            ::std::eprintln!("this is an application for Ashlar: cargo run --target aarch64-unknown-none");
            ::std::process::ExitCode::FAILURE
        }
    };
}
