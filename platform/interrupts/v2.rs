//! A GICv2, by its registers.
//!
//! Bit 0 of both control registers enables the group that matters, whatever the controller has: with the Security
//! Extensions, non-secure code sees copies of these registers where it stands for group 1; without them it stands for
//! group 0, of which IRQ tells there (IHI 0048 4.3.1, 4.4.1). `arm_gic`'s own driver goes by bit 1 in the first case,
//! which only secure code has, and by the alias of GICC_IAR that only secure code may read.

use super::{KICK, MAX_CPUS, OPEN_MASK, SPECIAL};
use arm_gic::IntId;
use arm_gic::gicv2::registers::{Gicc, Gicd, GicdCtlr};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};
use safe_mmio::fields::{ReadPure, ReadPureWrite, WriteOnly};
use safe_mmio::{UniqueMmioPointer, field, field_shared};

/// Four interrupts' priorities, all the same; a controller with 16 levels tells neighbours of it apart.
const PRIORITIES: u32 = 0xa0a0_a0a0;
/// What GICC_IAR has of the INTID; above it is a kick's sender.
const INTID: u32 = 0x3ff;

pub(super) struct V2 {
    distributor: NonNull<Gicd>,
    interface: NonNull<Gicc>,
    /// The bit that stands for each core's CPU interface; 0 before the core has started.
    targets: [AtomicU8; MAX_CPUS],
}

impl V2 {
    /// Sets up what all cores share, with all interrupts disabled.
    ///
    /// # Safety
    ///
    /// The registers are those of this machine's GICv2, mapped as device memory for good, and nobody else uses them.
    pub unsafe fn set_up(distributor: NonNull<Gicd>, interface: NonNull<Gicc>) -> Self {
        // SAFETY: the caller vouches for the registers.
        let mut gicd = unsafe { UniqueMmioPointer::new(distributor) };
        field!(gicd, ctlr).write(GicdCtlr::empty());
        let intids = field_shared!(gicd, typer).read().num_irqs() as usize;
        // INTIDs 0 to 31 are each core's own.
        for word in 1..intids / 32 {
            set(field!(gicd, icenabler), word, !0);
            set(field!(gicd, igroupr), word, 0);
        }
        for word in 8..intids / 4 {
            set(field!(gicd, ipriorityr), word, PRIORITIES);
        }
        field!(gicd, ctlr).write(GicdCtlr::EnableGrp0);
        Self { distributor, interface, targets: [const { AtomicU8::new(0) }; MAX_CPUS] }
    }

    /// Sets up the running core's banked registers, and enables its kick and its timer.
    pub fn start_core(&self, core: usize, timer: IntId) {
        // SAFETY: mapped for good. What is used of it below are registers for INTIDs 0 to 31, the running core's own.
        let mut gicd = unsafe { UniqueMmioPointer::new(self.distributor) };
        set(field!(gicd, icenabler), 0, !0);
        set(field!(gicd, icactiver), 0, !0);
        set(field!(gicd, igroupr), 0, 0);
        for word in 0..8 {
            set(field!(gicd, ipriorityr), word, PRIORITIES);
        }
        // Of two bits to a PPI, the upper one says edge-triggered. A timer's line is a level; where that is fixed, it is so.
        let triggered = 1 << (2 * (timer.raw_value() % 16) + 1);
        if let Some(mut ppis) = field!(gicd, icfgr).get(1) {
            ppis.modify(|modes| modes & !triggered);
        }
        self.targets[core].store(self.target(), Ordering::Relaxed);
        set(field!(gicd, isenabler), 0, 1 << KICK.raw_value() | 1 << timer.raw_value());
        let mut gicc = self.interface();
        field!(gicc, pmr).write(OPEN_MASK.into());
        field!(gicc, ctlr).write(1);
    }

    /// The bit that stands for the running core's CPU interface, which need not be its number: GICD_ITARGETSR0 to 7 have
    /// it for each interrupt that there is and that EL1 may use (IHI 0048 4.3.12).
    fn target(&self) -> u8 {
        let mut target = 0;
        for word in 0..8 {
            // SAFETY: a register of the distributor, mapped for good, that is only read; `safe_mmio` knows no such access
            // through the crate's field, which says nothing about it.
            let register = unsafe {
                let register = &raw mut (*self.distributor.as_ptr()).itargetsr[word];
                UniqueMmioPointer::<ReadPure<u32>>::new(NonNull::new_unchecked(register.cast()))
            };
            target |= register.read().to_ne_bytes().into_iter().fold(0, |all, byte| all | byte);
        }
        // A controller with one interface has no such registers: they read as zero.
        if target == 0 { 1 } else { target }
    }

    #[inline]
    pub fn acknowledge(&self) -> Option<IntId> {
        let mut gicc = self.interface();
        let acknowledged = field!(gicc, iar).read();
        let intid = acknowledged & INTID;
        if SPECIAL.contains(&intid) {
            return None;
        }
        if intid == KICK.raw_value() {
            // With its sender's number, which only this register gave.
            field!(gicc, eoir).write(acknowledged);
        }
        IntId::try_from(intid).ok()
    }

    #[inline]
    pub fn end(&self, intid: IntId) {
        let mut gicc = self.interface();
        field!(gicc, eoir).write(intid.raw_value());
    }

    #[inline]
    pub fn kick(&self, core: usize) {
        let target = self.targets[core].load(Ordering::Relaxed);
        // SAFETY: a register of the distributor, mapped for good. Other cores write it too, and none reads it: each store
        // is a command by itself, to the interfaces in bits 16 to 23.
        let mut sgir = unsafe {
            let register = &raw mut (*self.distributor.as_ptr()).sgir;
            UniqueMmioPointer::<WriteOnly<u32>>::new(NonNull::new_unchecked(register))
        };
        sgir.write(u32::from(target) << 16 | KICK.raw_value());
    }

    /// The running core's CPU interface.
    #[inline]
    fn interface(&self) -> UniqueMmioPointer<'_, Gicc> {
        // SAFETY: mapped for good, and banked: these are the running core's own registers, which this file alone uses, with
        // interrupts masked.
        unsafe { UniqueMmioPointer::new(self.interface) }
    }
}

/// Writes one of a row of registers; there are more of them than any controller has interrupts for.
fn set<const N: usize>(mut registers: UniqueMmioPointer<'_, [ReadPureWrite<u32>; N]>, index: usize, value: u32) {
    if let Some(mut register) = registers.get(index) {
        register.write(value);
    }
}
