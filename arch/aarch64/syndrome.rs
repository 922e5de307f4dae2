//! What an exception was about: ESR_EL1 and FAR_EL1, decoded (Arm ARM D24.2.40). Pure.
#![forbid(unsafe_code)]

use crate::mm::address::VirtAddr;
use crate::mm::mmu::Access;
use core::fmt;

/// A synchronous exception, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exception {
    /// A load, store or instruction fetch went wrong.
    Abort(Abort),
    /// An instruction fetch from a misaligned address (FAR_EL1).
    PcAlignment(VirtAddr),
    /// A load or store through a stack pointer that is not a multiple of 16.
    SpAlignment,
    /// `BRK` with its immediate.
    Breakpoint(u16),
    /// `SVC` with its immediate.
    SupervisorCall(u16),
    /// `HVC` with its immediate.
    HypervisorCall(u16),
    /// `SMC` with its immediate.
    SecureCall(u16),
    /// An undefined instruction, or a return to an illegal state.
    Undefined {
        /// The state was illegal, not the instruction.
        illegal_state: bool,
    },
    /// An access to a system register that is trapped.
    SystemRegister,
    /// A floating-point or SIMD instruction while they are trapped.
    FloatingPointTrapped,
    /// A floating-point exception that is trapped.
    FloatingPoint,
    /// A branch to something that is no branch target.
    BranchTarget,
    /// A hardware breakpoint, watchpoint or single step.
    Debug,
    /// Anything else, by its exception class.
    Other {
        /// ESR_EL1.EC.
        class: u8,
        /// ESR_EL1.ISS.
        iss: u32,
    },
}

/// A data or instruction abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abort {
    /// What was tried: [`Access::READ`], [`Access::READ_WRITE`] for a store or cache maintenance that needs one, or
    /// [`Access::READ_EXECUTE`] for a fetch.
    pub access: Access,
    /// Where; `None` if the processor does not say (FnV).
    pub address: Option<VirtAddr>,
    /// Why.
    pub cause: Cause,
}

/// Why an access failed: the fault status code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A descriptor at this level is invalid; level 0 also when the address belongs to no half.
    Translation(u8),
    /// A descriptor at this level has its access flag clear.
    AccessFlag(u8),
    /// A descriptor at this level forbids it.
    Permission(u8),
    /// An address in a descriptor, or in a base register, is too large.
    AddressSize(u8),
    /// A misaligned access to memory that does not allow it.
    Alignment,
    /// Two TLB entries match.
    TlbConflict,
    /// An external abort, at a level of the walk or at the access itself.
    External(Option<u8>),
    /// An exclusive or atomic access to memory that does not support it.
    Exclusive,
    /// Anything else, by its status code.
    Other(u8),
}

impl Exception {
    /// Decodes ESR_EL1 and FAR_EL1.
    pub fn decode(esr: u64, far: u64) -> Exception {
        let class = (esr >> 26 & 0x3f) as u8;
        let iss = (esr & 0x1ff_ffff) as u32;
        let immediate = iss as u16;
        match class {
            0b100000 | 0b100001 => Exception::Abort(Abort::decode(iss, far, Access::READ_EXECUTE)),
            0b100100 | 0b100101 => {
                let store = iss & WNR != 0;
                let access = if store { Access::READ_WRITE } else { Access::READ };
                Exception::Abort(Abort::decode(iss, far, access))
            }
            0b100010 => Exception::PcAlignment(VirtAddr(far)),
            0b100110 => Exception::SpAlignment,
            0b111100 => Exception::Breakpoint(immediate),
            0b010101 => Exception::SupervisorCall(immediate),
            0b010110 => Exception::HypervisorCall(immediate),
            0b010111 => Exception::SecureCall(immediate),
            0b000000 => Exception::Undefined { illegal_state: false },
            0b001110 => Exception::Undefined { illegal_state: true },
            0b011000 => Exception::SystemRegister,
            0b000111 => Exception::FloatingPointTrapped,
            0b101100 => Exception::FloatingPoint,
            0b001101 => Exception::BranchTarget,
            0b110000..=0b110101 => Exception::Debug,
            _ => Exception::Other { class, iss },
        }
    }
}

/// The access behind a translation, access flag or permission fault; `None` for every other exception. What
/// [`Exception::decode`] says, for the way that every page fault takes.
#[inline]
pub fn memory_fault(esr: u64) -> Option<Access> {
    let class = esr >> 26 & 0x3f;
    // Status codes 0b0001LL, 0b0010LL and 0b0011LL.
    if !(0b000100..=0b001111).contains(&(esr & 0x3f)) {
        return None;
    }
    match class {
        0b100100 | 0b100101 if esr & u64::from(WNR) != 0 => Some(Access::READ_WRITE),
        0b100100 | 0b100101 => Some(Access::READ),
        0b100000 | 0b100001 => Some(Access::READ_EXECUTE),
        _ => None,
    }
}

/// ISS.WnR of a data abort: a store, or cache maintenance that needs the right to store.
const WNR: u32 = 1 << 6;
/// ISS.FnV: FAR_EL1 means nothing.
const FNV: u32 = 1 << 10;

impl Abort {
    fn decode(iss: u32, far: u64, access: Access) -> Abort {
        let cause = Cause::decode((iss & 0x3f) as u8);
        // FnV has a meaning for external aborts that are not on a walk only.
        let unknown = iss & FNV != 0 && cause == Cause::External(None);
        Abort { access, address: (!unknown).then_some(VirtAddr(far)), cause }
    }
}

impl Cause {
    fn decode(status: u8) -> Cause {
        let level = status & 0b11;
        match status {
            0b000000..=0b000011 => Cause::AddressSize(level),
            0b000100..=0b000111 => Cause::Translation(level),
            0b001000..=0b001011 => Cause::AccessFlag(level),
            0b001100..=0b001111 => Cause::Permission(level),
            0b010000 => Cause::External(None),
            0b010100..=0b010111 => Cause::External(Some(level)),
            0b100001 => Cause::Alignment,
            0b110000 => Cause::TlbConflict,
            0b110101 => Cause::Exclusive,
            other => Cause::Other(other),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Translation(level) => write!(f, "translation fault at level {level}"),
            Cause::AccessFlag(level) => write!(f, "access flag fault at level {level}"),
            Cause::Permission(level) => write!(f, "permission fault at level {level}"),
            Cause::AddressSize(level) => write!(f, "address size fault at level {level}"),
            Cause::Alignment => f.write_str("alignment fault"),
            Cause::TlbConflict => f.write_str("TLB conflict"),
            Cause::External(Some(level)) => write!(f, "external abort on the walk at level {level}"),
            Cause::External(None) => f.write_str("external abort"),
            Cause::Exclusive => f.write_str("exclusive or atomic access to memory without support for it"),
            Cause::Other(status) => write!(f, "fault status {status:#04x}"),
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exception::Abort(Abort { access, address, cause }) => {
                f.write_str(match (access.execute, access.write) {
                    (true, _) => "instruction fetch",
                    (false, true) => "write",
                    (false, false) => "read",
                })?;
                match address {
                    Some(address) => write!(f, " at {:#018x}: {cause}", address.0),
                    None => write!(f, " at an unknown address: {cause}"),
                }
            }
            Exception::PcAlignment(pc) => write!(f, "misaligned pc {:#018x}", pc.0),
            Exception::SpAlignment => f.write_str("misaligned stack pointer"),
            Exception::Breakpoint(immediate) => write!(f, "breakpoint instruction {immediate:#x}"),
            Exception::SupervisorCall(immediate) => write!(f, "supervisor call {immediate:#x}"),
            Exception::HypervisorCall(immediate) => write!(f, "hypervisor call {immediate:#x}"),
            Exception::SecureCall(immediate) => write!(f, "secure monitor call {immediate:#x}"),
            Exception::Undefined { illegal_state: false } => f.write_str("undefined instruction"),
            Exception::Undefined { illegal_state: true } => f.write_str("illegal execution state"),
            Exception::SystemRegister => f.write_str("trapped access to a system register"),
            Exception::FloatingPointTrapped => f.write_str("trapped floating-point instruction"),
            Exception::FloatingPoint => f.write_str("floating-point exception"),
            Exception::BranchTarget => f.write_str("branch to something that is no branch target"),
            Exception::Debug => f.write_str("debug exception"),
            Exception::Other { class, iss } => write!(f, "exception class {class:#04x}, syndrome {iss:#x}"),
        }
    }
}
