//! Armv8-A at EL1, with a Cortex-A72 as the least of what is expected.
//!
//! `descriptor`, `features` and `syndrome` are pure and exist on the host as well.
//!
//! | file | what |
//! | --- | --- |
//! | `boot.s`, `boot.rs` | from the boot loader to the application |
//! | `layout.rs` | the kernel's half of the address space |
//! | `fixed_map.rs`, `linear_map.rs`, `stacks.rs` | what is mapped there |
//! | `exception.s`, `exception.rs`, `syndrome.rs` | exceptions |
//! | `gate.rs`, `percore.rs` | application mode and kernel mode |
//! | `threads.rs`, `switch.s` | threads: their records, their stacks, the switch |
//! | `secondary.rs`, `interrupts.rs`, `timer.rs` | the other cores; what interrupts them |
//! | `allocator.rs`, `atomics.rs`, `features.rs` | the global allocator; atomic operations beyond exclusives, where a core has them |
//! | `cache.rs` | what caches there are, and memory past them |
//! | `background.rs` | the thread that works for huge pages |
//! | `memory.rs`, `mmu.rs`, `descriptor.rs` | the memory manager, its machine |
//! | `report.rs`, `walk.rs` | crash reports |

pub mod descriptor;
pub mod features;
pub mod syndrome;

#[cfg(target_os = "none")]
pub mod allocator;
#[cfg(target_os = "none")]
pub mod atomics;
#[cfg(target_os = "none")]
pub(crate) mod background;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod cache;
#[cfg(target_os = "none")]
pub mod exception;
#[cfg(target_os = "none")]
pub mod fixed_map;
#[cfg(target_os = "none")]
pub mod gate;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
pub mod layout;
#[cfg(target_os = "none")]
pub mod linear_map;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod percore;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod secondary;
#[cfg(target_os = "none")]
mod stacks;
#[cfg(target_os = "none")]
pub mod threads;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod walk;
