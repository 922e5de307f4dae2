//! The laboratory's workloads ([`workloads`]) as a Linux's only program, `/init`: no library stands between them and the kernel.
//!
//! It is compiled for the same target, with the same options and the same `memcpy` as on Ashlar; `tools/laboratory` says how it is linked.
//! The kernel hands words of its command line over as environment variables. Besides those of a plan:
//!
//! | word | is |
//! | --- | --- |
//! | `thp=always` | or `madvise` (all memory is advised then) or `never`: who gets huge pages; as the kernel has it unless given |
//! | `use_zero_page=0` | huge pages that are read first are memory of their own at once, not the page of zeros that all share |
//! | `mthp=64` | folios of 64 KiB, too |
//! | `settle=10` | seconds that the system is left alone first |
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod program;
#[cfg(target_os = "none")]
mod system;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("this is /init for a Linux on aarch64: just bench-linux");
    std::process::ExitCode::FAILURE
}
