//! The memory manager on this machine.

use super::mmu::Machine;
use crate::arguments::Arguments;
use crate::mm::address::{Frame, PhysAddr, VirtAddr};
use crate::mm::frame::{Frames, FramesError, MemoryMap};
use crate::mm::mmu::{Access, Invalidation, Mmu};
use crate::mm::{FaultError, MemoryManager, NoRoot};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::TTBR0_EL1;
use core::fmt;
use spin::Once;
use tock_registers::interfaces::Writeable;

static MANAGER: Once<MemoryManager<Machine>> = Once::new();

/// Why the memory manager cannot start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StartError {
    Frames(FramesError),
    Root(NoRoot),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(error) => error.fmt(f),
            Self::Root(error) => error.fmt(f),
        }
    }
}

/// The memory manager, for the kernel, its tests and its benchmarks: an application has [`crate::memory`], whose handles own
/// what they map. Whatever takes the manager's locks is called in kernel mode.
///
/// # Panics
///
/// Before boot has started it: the application never sees that.
pub fn manager() -> &'static MemoryManager<Machine> {
    MANAGER.get().expect("the memory manager has been started")
}

/// The memory manager, for crash reports.
pub(super) fn started() -> Option<&'static MemoryManager<Machine>> {
    MANAGER.get()
}

/// Starts the memory manager on all RAM that is `free` and makes the application's half its own.
///
/// # Errors
///
/// There is no room for its records.
///
/// # Safety
///
/// What `free` holds and holds back is RAM that the linear map shows and that nobody else will use.
pub(super) unsafe fn start(free: &mut MemoryMap, arguments: &Arguments<'_>) -> Result<(), StartError> {
    let machine = Machine::new();
    // SAFETY: the caller's promise is the same.
    let frames = unsafe { Frames::new(&machine, free) }.map_err(StartError::Frames)?;
    let manager = MemoryManager::new(machine, frames).map_err(StartError::Root)?;
    let manager = MANAGER.call_once(|| manager);
    manager.policy().apply(&arguments.policy);
    manager.set_overcommit(arguments.overcommit);
    use_root(manager.root());
    Ok(())
}

/// Makes the application's half of the running core the memory manager's, as it is of the boot core.
pub(super) fn enter_space() {
    use_root(manager().root());
}

/// Makes the table in `root` the one that the application's half is walked from. The one before it is empty.
fn use_root(root: Frame) {
    let PhysAddr(base) = root.start();
    TTBR0_EL1.write(TTBR0_EL1::ASID.val(super::mmu::ASID) + TTBR0_EL1::BADDR.val(base >> 1));
    barrier::isb(barrier::SY);
    Machine::new().invalidate(&Invalidation::All);
}

/// Makes an access by the application possible.
///
/// # Errors
///
/// Those of [`MemoryManager::fault`].
pub(super) fn fault(address: VirtAddr, access: Access) -> Result<(), FaultError> {
    match MANAGER.get() {
        Some(manager) => manager.fault(address, access),
        None => Err(FaultError::NoRegion { address }),
    }
}
