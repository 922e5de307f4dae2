//! Cores, started by the firmware: PSCI `CPU_ON` (Arm DEN0022, 5.6).

use super::machine::Conduit;
use super::power;
use crate::mm::address::PhysAddr;
use aarch64_cpu::asm::barrier;
use core::fmt;
use smccc::psci::cpu_on as call;
pub use smccc::psci::error::Error as Answer;
use smccc::{Hvc, Smc};

/// Why a core was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// There is no firmware to ask: the device tree has no PSCI.
    NoFirmware {
        /// The core's affinity.
        mpidr: u64,
    },
    /// The firmware refused.
    Refused {
        /// The core's affinity.
        mpidr: u64,
        /// What it said.
        answer: Answer,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFirmware { mpidr } => {
                write!(f, "the core with MPIDR {mpidr:#x} was not started: no PSCI in the device tree")
            }
            Self::Refused { mpidr, answer } => write!(f, "the core with MPIDR {mpidr:#x} was not started: {answer}"),
        }
    }
}

impl core::error::Error for StartError {}

/// Starts the core with affinity `mpidr` at `entry`, with `context` in x0, the MMU and caches off, and all exceptions masked,
/// at the exception level that the image was entered at. Returns when the firmware has taken the order, not when the core
/// is there.
///
/// # Errors
///
/// [`StartError`]; [`Answer::AlreadyOn`] and [`Answer::OnPending`] say that the core runs, or is about to.
///
/// # Safety
///
/// At `entry` is code that can be entered so, and what it reads is in memory, not only in a cache: the core's are off.
pub unsafe fn cpu_on(mpidr: u64, entry: PhysAddr, context: u64) -> Result<(), StartError> {
    // What the core will read has been stored, and cleaned from the caches, when it starts.
    barrier::dsb(barrier::SY);
    let answer = match power::conduit() {
        Some(Conduit::Hvc) => call::<Hvc>(mpidr, entry.0, context),
        Some(Conduit::Smc) => call::<Smc>(mpidr, entry.0, context),
        None => return Err(StartError::NoFirmware { mpidr }),
    };
    answer.map_err(|answer| StartError::Refused { mpidr, answer: signed(answer) })
}

/// The answer is 32 bits wide and has a sign, which not all firmware extends to the register's 64 bits.
fn signed(answer: Answer) -> Answer {
    match answer {
        Answer::Unknown(value) => Answer::from(value as i32),
        known => known,
    }
}
