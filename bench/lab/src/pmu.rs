//! The core's own counters (Arm ARM D13), which on a board count what an emulator does not have: cycles, and what its TLBs missed. They are
//! the core's: a run with `pmu` keeps to one core.

use core::arch::asm;
use workloads::Counts;

/// Events by number (Arm ARM D13.12.2), and the figures' names of them.
const EVENTS: [(u32, &str); 2] = [(0x05, "l1d_tlb_refills"), (0x08, "retired")];

/// `PMCR_EL0`: enabled, all counters zero, the cycle counter of 64 bits.
const ENABLE_ZEROED: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 6;
const LONG_CYCLES: u64 = 1 << 6;
/// `PMCNTENSET_EL0`: the cycle counter and the first two others.
const ALL: u64 = 1 << 31 | 0b11;

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reads a register of the performance monitors, or of the processor's identification.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

macro_rules! write {
    ($register:literal, $value:expr) => {
        // SAFETY: the counters are used by nobody else, and no interrupt of theirs is enabled.
        unsafe { asm!(concat!("msr ", $register, ", {}"), in(reg) $value, options(nostack, preserves_flags)) }
    };
}

/// Whether there are counters (`ID_AA64DFR0_EL1.PMUVer`: 15 are of another kind).
pub fn is_there() -> bool {
    !matches!(read!("id_aa64dfr0_el1") >> 8 & 0xf, 0 | 15)
}

/// Counts from zero.
pub fn start() {
    let [(first, _), (second, _)] = EVENTS;
    write!("pmevtyper0_el0", u64::from(first));
    write!("pmevtyper1_el0", u64::from(second));
    // Cycles at EL1, as by the event types above.
    write!("pmccfiltr_el0", 0_u64);
    write!("pmcntenset_el0", ALL);
    write!("pmcr_el0", ENABLE_ZEROED);
    synchronize();
}

/// Counts no more; what was counted, of what the core can. The events' counters have 32 bits, and say nothing of more.
pub fn stop() -> Counts {
    synchronize();
    write!("pmcr_el0", LONG_CYCLES);
    synchronize();
    let counted = read!("pmceid0_el0");
    let overflown = read!("pmovsclr_el0");
    write!("pmovsclr_el0", ALL);
    let event = |place: usize, value: u64| {
        let (number, name) = EVENTS[place];
        (counted >> number & 1 == 1 && overflown >> place & 1 == 0).then_some((name, value))
    };
    [Some(("cycles", read!("pmccntr_el0"))), event(0, read!("pmevcntr0_el0")), event(1, read!("pmevcntr1_el0"))]
}

/// What was written to the counters' registers holds from here on (Arm ARM D13.3).
fn synchronize() {
    // SAFETY: changes nothing.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}
