//! The interrupt controller: GICv2 (Arm IHI 0048), or GICv3 and v4 (IHI 0069).
//!
//! Two interrupts are enabled on each core: the virtual timer's, and a kick, by which one core makes another look up. All
//! are of the one group that non-secure EL1 is told of by IRQ, and of one priority, so that none interrupts another.
//!
//! Nothing is locked: what a core touches after [`install`] is its own. A GICv2's CPU interface and the distributor's
//! registers for INTIDs 0 to 31 are banked: one address is another register on each core (IHI 0048, register banking). A
//! GICv3 has system registers and a redistributor for each core. What is left is GICD_SGIR, a GICv2's register for
//! sending kicks, which every core writes: each store is a whole command.

mod v2;
mod v3;

use super::machine::{Gic, MAX_CPUS};
use crate::mm::address::{PhysAddr, VirtAddr};
use aarch64_cpu::asm::barrier;
use arm_gic::IntId;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use spin::Once;
use v2::V2;
use v3::V3;

/// The kick.
const KICK: IntId = IntId::sgi(0);
/// The mask that lets every priority through but the lowest.
const OPEN_MASK: u8 = 0xff;
/// INTIDs that say that there is no interrupt, or none for EL1 (IHI 0048 3.2.5, IHI 0069 2.2.1).
const SPECIAL: Range<u32> = 1020..1024;

static CONTROLLER: Once<Controller> = Once::new();

/// What interrupts a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// The virtual timer's. Its line stays up until the timer is disarmed or set anew.
    Timer,
    /// Another core's [`kick`], or this one's own.
    Kick,
    /// Another, by its INTID. None is enabled here.
    Other(u32),
}

/// Why an interrupt controller cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InterruptError {
    /// No room to map registers.
    NoRoom {
        /// Where they are.
        registers: Range<PhysAddr>,
    },
    /// Fewer registers than the controller has to have, or at an address that is not theirs to have.
    Misfit {
        /// Where they are.
        registers: Range<PhysAddr>,
        /// Bytes there have to be.
        needed: usize,
    },
    /// No redistributor belongs to a core.
    NoRedistributor {
        /// The core's affinity.
        mpidr: u64,
    },
    /// A core whose Aff0 is above 15: kicks don't reach it.
    OutOfReach {
        /// The core's affinity.
        mpidr: u64,
    },
    /// A GICv3 whose system registers this core does not have, or may not use at EL1.
    NoSystemRegisters,
    /// A timer whose interrupt is no PPI: there is one timer to a core.
    TimerNotPrivate {
        /// Its INTID.
        intid: u32,
    },
    /// More cores than [`MAX_CPUS`].
    TooManyCores {
        /// How many.
        cores: usize,
    },
}

impl fmt::Display for InterruptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupt controller: ")?;
        match self {
            Self::NoRoom { registers: Range { start, end } } => {
                write!(f, "no room left to map its registers at {start} to {end}")
            }
            Self::Misfit { registers: Range { start, end }, needed } => {
                write!(f, "its registers at {start} to {end} are not {needed:#x} aligned bytes")
            }
            Self::NoRedistributor { mpidr } => write!(f, "no redistributor for the core with MPIDR {mpidr:#x}"),
            Self::OutOfReach { mpidr } => write!(f, "cannot kick the core with MPIDR {mpidr:#x}: Aff0 is above 15"),
            Self::NoSystemRegisters => f.write_str("GICv3, but EL1 has no system registers for it"),
            Self::TimerNotPrivate { intid } => write!(f, "the timer's INTID {intid} is no PPI's: not in 16 to 31"),
            Self::TooManyCores { cores } => write!(f, "{cores} cores, but no more than {MAX_CPUS} are supported"),
        }
    }
}

impl core::error::Error for InterruptError {}

/// Sets up what all cores share; no interrupt is enabled by it. Called on the core that boots, which, as every other, calls
/// [`start_core`] then. `timer` is the INTID of the virtual timer; `map` maps registers as device memory, for good; `cores`
/// are the cores' affinities as in `MPIDR_EL1`, by the numbers that [`start_core`] and [`kick`] know them by.
///
/// # Errors
///
/// What is missing or does not fit, by name; then nothing is installed. What is missing for another core than the one that
/// boots, [`check`] says.
///
/// # Safety
///
/// `gic` is this machine's interrupt controller. `map` returns where the range it is given was mapped as device memory, for
/// good. Nobody else uses the controller, before or after, and it is installed once.
pub unsafe fn install(
    gic: &Gic,
    timer: u32,
    map: &dyn Fn(Range<PhysAddr>) -> Option<VirtAddr>,
    cores: &[u64],
) -> Result<(), InterruptError> {
    if !(16..32).contains(&timer) {
        return Err(InterruptError::TimerNotPrivate { intid: timer });
    }
    if cores.len() > MAX_CPUS {
        return Err(InterruptError::TooManyCores { cores: cores.len() });
    }
    let family = match gic {
        Gic::V2 { distributor, cpu_interface } => {
            let registers = (map_as(distributor, map)?, map_as(cpu_interface, map)?);
            // SAFETY: the caller vouches for the controller and the mapping; sizes were checked.
            Family::V2(unsafe { V2::set_up(registers.0, registers.1) })
        }
        Gic::V3 { distributor, redistributors } => {
            // SAFETY: the caller vouches for the controller and the mapping.
            Family::V3(unsafe { V3::set_up(distributor, redistributors, map, cores) }?)
        }
    };
    CONTROLLER.call_once(|| Controller { family, timer: IntId::ppi(timer - 16) });
    Ok(())
}

/// Whether interrupts can reach core `core` of those that [`install`] was told of.
///
/// # Errors
///
/// Why they cannot.
///
/// # Panics
///
/// Without a controller, or when there is no such core.
pub fn check(core: usize) -> Result<(), InterruptError> {
    match &CONTROLLER.get().expect("no interrupt controller is installed").family {
        Family::V2(_) => Ok(()),
        Family::V3(v3) => v3.check(core),
    }
}

/// Sets up the running core's part, core `core` of those that [`install`] was told of, and enables its kick and its timer.
/// Interrupts are masked (`PSTATE.I`) still.
///
/// # Panics
///
/// Without a controller, or when there is no such core.
pub fn start_core(core: usize) {
    let controller = CONTROLLER.get().expect("no interrupt controller is installed");
    match &controller.family {
        Family::V2(v2) => v2.start_core(core, controller.timer),
        Family::V3(v3) => v3.start_core(core, controller.timer),
    }
}

/// Takes the interrupt that is pending on this core, which owes its [`end`] then. `None` when there is none (any more), and
/// without a controller.
///
/// What the sender of a kick stored before it is visible after.
#[inline]
pub fn acknowledge() -> Option<Interrupt> {
    let controller = CONTROLLER.get()?;
    let intid = match &controller.family {
        Family::V2(v2) => v2.acknowledge(),
        Family::V3(_) => V3::acknowledge(),
    }?;
    // Nothing that follows is read before the controller has been (IHI 0069, observability of accesses to its registers).
    barrier::dsb(barrier::SY);
    Some(if intid == KICK {
        Interrupt::Kick
    } else if intid == controller.timer {
        Interrupt::Timer
    } else {
        Interrupt::Other(intid.raw_value())
    })
}

/// Ends an interrupt that [`acknowledge`] returned on this core. Interrupts end in the opposite order of their beginnings.
///
/// The timer is disarmed or set anew before, or its interrupt comes again. A kick has ended by the time that it is
/// acknowledged: a GICv2 wants its sender's number back, and nobody else does.
#[inline]
pub fn end(interrupt: Interrupt) {
    let Some(controller) = CONTROLLER.get() else { return };
    let intid = match interrupt {
        Interrupt::Kick => return,
        Interrupt::Timer => controller.timer,
        Interrupt::Other(intid) => match IntId::try_from(intid) {
            Ok(intid) => intid,
            Err(_) => return,
        },
    };
    // What was written to the timer's registers has taken effect before.
    barrier::isb(barrier::SY);
    match &controller.family {
        Family::V2(v2) => v2.end(intid),
        Family::V3(_) => V3::end(intid),
    }
}

/// Interrupts core `core`, which may be this one. Nothing happens without a controller, or (GICv2) to a core that has not
/// started; a kick that is pending already stays one.
///
/// # Panics
///
/// When there is no such core.
#[inline]
pub fn kick(core: usize) {
    let Some(controller) = CONTROLLER.get() else { return };
    // What this core stored is visible to the other one when the kick arrives.
    barrier::dsb(barrier::ISHST);
    match &controller.family {
        Family::V2(v2) => v2.kick(core),
        Family::V3(v3) => v3.kick(core),
    }
}

struct Controller {
    family: Family,
    timer: IntId,
}

#[expect(clippy::large_enum_variant, reason = "there is one controller, and it is static")]
enum Family {
    V2(V2),
    V3(V3),
}

// SAFETY: pointers to device registers, which are mapped on every core; see the top of this file for who touches which.
unsafe impl Send for Controller {}
// SAFETY: as above.
unsafe impl Sync for Controller {}

/// Maps `registers`, which have to be a `T` at least.
fn map_as<T>(
    registers: &Range<PhysAddr>,
    map: &dyn Fn(Range<PhysAddr>) -> Option<VirtAddr>,
) -> Result<NonNull<T>, InterruptError> {
    let is_enough = registers.end.0.saturating_sub(registers.start.0) >= size_of::<T>() as u64;
    if !is_enough || !registers.start.is_aligned(align_of::<T>()) {
        return Err(InterruptError::Misfit { registers: registers.clone(), needed: size_of::<T>() });
    }
    map(registers.clone())
        .and_then(|at| NonNull::new(core::ptr::with_exposed_provenance_mut(at.0 as usize)))
        .ok_or_else(|| InterruptError::NoRoom { registers: registers.clone() })
}
