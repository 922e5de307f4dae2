//! The machine around the processor: QEMU `virt` and Raspberry Pi 4, found through the flattened device tree.
//!
//! | file | what |
//! | --- | --- |
//! | `tree.rs` | checks the tree, so that the `fdt` crate cannot panic on it |
//! | `machine.rs` | what a tree says, as plain data |
//! | `discover.rs`, `properties.rs` | read a tree into that |
//! | `console.rs` | the UART below [`crate::console`]: one of `pl011.rs`, `mini_uart.rs` |
//! | `interrupts.rs` | the interrupt controller: GICv2, v3 or v4 |
//! | `cores.rs` | starts cores by PSCI |
//! | `rtc.rs` | the PL031, which knows the date |
//! | `power.rs` | the end of the machine: semihosting, PSCI, or a watchdog |
//! | `raspberry/` | what only a Raspberry Pi 4 has |
//! | `files.rs` | output files on the host, by semihosting |

pub mod console;
#[cfg(target_os = "none")]
pub mod cores;
pub mod discover;
#[cfg(target_os = "none")]
pub mod files;
#[cfg(target_os = "none")]
pub mod interrupts;
pub mod machine;
pub mod mini_uart;
pub mod pl011;
#[cfg(target_os = "none")]
pub mod power;
mod properties;
pub mod raspberry;
#[cfg(target_os = "none")]
pub mod rtc;
pub mod tree;

use crate::arguments::Arguments;
use machine::Machine;
use tree::{HEADER_SIZE, TreeError};

/// Logs what was odd in the tree and in the boot arguments.
pub fn log_warnings(machine: &Machine<'_>, arguments: &Arguments<'_>) {
    for warning in machine.warnings.iter() {
        log::warn!("device tree: {warning}");
    }
    if machine.warnings.dropped() != 0 {
        log::warn!("device tree: {} more warnings", machine.warnings.dropped());
    }
    for warning in &arguments.warnings {
        log::warn!("{warning}");
    }
}

/// The bytes of the device tree at `start`, of which the header says how many there are.
///
/// # Errors
///
/// What the header alone shows, as [`tree::total_size`]; [`TreeError::Absent`] for a null pointer and
/// [`TreeError::Truncated`] if the tree is longer than `mapped` bytes.
///
/// # Safety
///
/// Unless null, `start` is valid for reads and writes of `mapped` bytes for `'t`, and nothing else uses those bytes that
/// turn out to be the tree's.
pub unsafe fn tree_at<'t>(start: *mut u8, mapped: usize) -> Result<&'t mut [u8], TreeError> {
    if start.is_null() {
        return Err(TreeError::Absent);
    }
    // SAFETY: the caller vouches for `mapped` bytes, and this is not more; the borrow ends before the next one begins.
    let header = unsafe { core::slice::from_raw_parts(start, HEADER_SIZE.min(mapped)) };
    let needed = tree::total_size(header)?;
    if needed > mapped {
        return Err(TreeError::Truncated { needed, available: mapped });
    }
    // SAFETY: the caller vouches for `mapped` bytes, for `'t`, and for their being nobody else's.
    Ok(unsafe { core::slice::from_raw_parts_mut(start, needed) })
}
