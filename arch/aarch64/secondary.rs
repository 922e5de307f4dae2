//! The other cores: called one by one, at boot, by what the device tree says of each.

use super::layout::{self, Symbol};
use super::percore::{self, Core, Stage};
use super::{cache, interrupts, memory, stacks, threads, timer};
use crate::mm::address::PhysAddr;
use crate::platform::cores::cpu_on;
use crate::platform::interrupts::{self as controller, InterruptError};
use crate::platform::machine::{AFFINITY, Cpu, EnableMethod, Machine};
use crate::task::MAX_CORES;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::MPIDR_EL1;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use tock_registers::interfaces::Readable;

/// How long a core may take to come up, in nanoseconds: firmware may have to power it first.
const PATIENCE: u64 = 1_000_000_000;
// SAFETY: `boot.s` defines it; only its address is taken.
unsafe extern "C" {
    safe static secondary_entry: Symbol;
}

/// Why a core does not take part.
enum LeftOut {
    Unknown,
    NoMemory,
    Firmware(crate::platform::cores::StartError),
    Controller(InterruptError),
    Unreachable(PhysAddr),
    Silent,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftOut::Unknown => f.write_str("the device tree does not say how to start it"),
            LeftOut::NoMemory => f.write_str("there is no memory for its stacks and its idle thread"),
            LeftOut::Firmware(error) => error.fmt(f),
            LeftOut::Controller(error) => error.fmt(f),
            LeftOut::Unreachable(at) => write!(f, "its release address {at} is not in RAM"),
            LeftOut::Silent => write!(f, "it did not come up within {} ms", PATIENCE / 1_000_000),
        }
    }
}

/// The cores to run on, the boot core first: their affinities.
pub(super) fn list(machine: &Machine<'_>, limit: usize) -> arrayvec::ArrayVec<Cpu, MAX_CORES> {
    let me = MPIDR_EL1.get() & AFFINITY;
    let mut cpus = arrayvec::ArrayVec::new();
    cpus.push(Cpu { mpidr: me, enable: EnableMethod::Unknown });
    let others = machine.cpus.iter().filter(|cpu| cpu.mpidr & AFFINITY != me);
    cpus.extend(others.copied().take(limit.min(MAX_CORES) - 1));
    for (index, cpu) in cpus.iter().enumerate() {
        percore::core(index).set_affinity(cpu.mpidr);
    }
    cpus
}

/// Starts all cores of `cpus` but the first, which runs. Those that do not come up are named and left out.
pub(super) fn start_all(cpus: &[Cpu]) {
    for (index, cpu) in cpus.iter().enumerate().skip(1) {
        if let Err(why) = start(index, cpu) {
            log::warn!("core {:#x} is left out: {why}", cpu.mpidr);
        }
    }
}

fn start(index: usize, cpu: &Cpu) -> Result<(), LeftOut> {
    controller::check(index).map_err(LeftOut::Controller)?;
    let stack = stacks::allocate().ok_or(LeftOut::NoMemory)?;
    let Some(overflow) = stacks::allocate() else {
        stacks::free(stack);
        return Err(LeftOut::NoMemory);
    };
    let core = percore::core(index);
    core.set_idle_thread(threads::new_idle_thread().ok_or(LeftOut::NoMemory)?);
    core.set_stack(stack.clone());
    core.set_overflow_stack(overflow.clone());
    core.advance(Stage::Off, Stage::Called);
    call(core, cpu).inspect_err(|_| {
        // Nobody has told it to come.
        core.advance(Stage::Called, Stage::LeftOut);
        stacks::free(stack);
        stacks::free(overflow);
    })?;
    let deadline = timer::now() + PATIENCE;
    while !threads::SCHEDULER.online().any(|online| online == index) {
        if timer::now() > deadline && core.advance(Stage::Called, Stage::LeftOut) {
            // What it may still stand on stays its own.
            return Err(LeftOut::Silent);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// Has the core come, by whatever way the device tree says.
fn call(core: &Core, cpu: &Cpu) -> Result<(), LeftOut> {
    debug_assert_eq!(core.stage(), Stage::Called);
    barrier::dsb(barrier::SY);
    let entry = layout::image_physical(secondary_entry.address());
    match cpu.enable {
        // SAFETY: `boot.s` is made for being entered there, and the core will find its stacks, set just now.
        EnableMethod::Psci => unsafe { cpu_on(cpu.mpidr, entry, 0) }.map_err(LeftOut::Firmware),
        EnableMethod::SpinTable { release } => write_release(release, entry),
        EnableMethod::Unknown => Err(LeftOut::Unknown),
    }
}

/// Tells a core that spins on the word at `release` where to go (Linux Documentation/arch/arm64/booting.rst).
fn write_release(release: PhysAddr, entry: PhysAddr) -> Result<(), LeftOut> {
    let at = layout::linear(release);
    if !release.is_aligned(8) || super::walk::walk(at).physical != Some(release) {
        return Err(LeftOut::Unreachable(release));
    }
    let word = core::ptr::with_exposed_provenance::<AtomicU64>(at.0 as usize);
    // SAFETY: aligned, mapped by the linear map as just seen, and what the firmware says is for this.
    unsafe { &*word }.store(entry.0, Ordering::Relaxed);
    // The core reads it with its caches off.
    // SAFETY: the line is mapped, as just seen, and of normal memory.
    unsafe { cache::clean_and_invalidate(word.cast_mut().cast(), 8) };
    aarch64_cpu::asm::sev();
    Ok(())
}

/// Called by `boot.s` on the core's own stack, with the MMU on.
#[unsafe(no_mangle)]
extern "C" fn start_secondary() -> ! {
    threads::enter();
    memory::enter_space();
    let core = percore::current();
    if !core.advance(Stage::Called, Stage::Online) {
        // Too late: it was left out.
        interrupts::stop();
    }
    controller::start_core(percore::index());
    threads::join(core.stack());
    threads::idle()
}
