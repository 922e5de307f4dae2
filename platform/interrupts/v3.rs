//! A GICv3 or v4, by `arm_gic`'s drivers of its parts: the whole one knows of one range of redistributors only.

use super::{InterruptError, KICK, OPEN_MASK, SPECIAL, map_as};
use crate::mm::address::{PhysAddr, VirtAddr};
use crate::platform::machine::{AFFINITY, MAX_CPUS, MAX_REDISTRIBUTORS};
use aarch64_cpu::asm::barrier;
use arm_gic::gicv3::registers::{Gicd, GicdCtlr, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicDistributor, GicRedistributor, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use arrayvec::ArrayVec;
use core::arch::asm;
use core::ops::Range;
use core::ptr::NonNull;

/// Cores of one Aff1 that a kick can name: a bit for each.
const REACH: u8 = 16;

pub(super) struct V3 {
    /// What there is of each core, or why kicks cannot reach it.
    cores: ArrayVec<Result<Core, InterruptError>, MAX_CPUS>,
}

#[derive(Debug)]
struct Core {
    /// Aff0 to Aff3.
    affinity: [u8; 4],
    redistributor: NonNull<GicrSgi>,
}

impl V3 {
    /// Sets up what all cores share, with all interrupts of it disabled.
    ///
    /// # Errors
    ///
    /// What of the controller cannot be used.
    ///
    /// # Safety
    ///
    /// The registers are those of this machine's GICv3, and nobody else uses them. `map` returns where what it is given was
    /// mapped as device memory, for good.
    pub unsafe fn set_up(
        distributor: &Range<PhysAddr>,
        redistributors: &[Range<PhysAddr>],
        map: &dyn Fn(Range<PhysAddr>) -> Option<VirtAddr>,
        cores: &[u64],
    ) -> Result<Self, InterruptError> {
        if !enable_system_registers() {
            return Err(InterruptError::NoSystemRegisters);
        }
        let gicd = map_as::<Gicd>(distributor, map)?;
        let mut ranges = ArrayVec::<_, MAX_REDISTRIBUTORS>::new();
        for range in redistributors.iter().take(MAX_REDISTRIBUTORS) {
            ranges.push((map_as::<GicrSgi>(range, map)?, range.end - range.start));
        }
        let look_for = |&mpidr: &u64| {
            let [aff0, aff1, aff2, _, aff3, ..] = mpidr.to_le_bytes();
            if aff0 >= REACH {
                return Err(InterruptError::OutOfReach { mpidr });
            }
            // SAFETY: these are the redistributors, mapped for good.
            let redistributor = ranges.iter().find_map(|&(first, bytes)| unsafe { find(first, bytes, mpidr) });
            let redistributor = redistributor.ok_or(InterruptError::NoRedistributor { mpidr })?;
            Ok(Core { affinity: [aff0, aff1, aff2, aff3], redistributor })
        };
        let found: ArrayVec<_, MAX_CPUS> = cores.iter().take(MAX_CPUS).map(look_for).collect();
        // The core that boots takes interrupts, or none does.
        if let Some(Err(error)) = found.first() {
            return Err(error.clone());
        }
        // SAFETY: the distributor, mapped for good and used here only.
        let mut gicd = GicDistributor::new(unsafe { UniqueMmioPointer::new(gicd) });
        // Affinity routing may change only while no group is enabled (IHI 0069, GICD_CTLR).
        gicd.modify_control(GicdCtlr::EnableGrp0 | GicdCtlr::EnableGrp1NS, false);
        gicd.wait_for_pending_write();
        gicd.enable_all_interrupts(false);
        gicd.configure_default_settings();
        Ok(Self { cores: found })
    }

    pub fn check(&self, core: usize) -> Result<(), InterruptError> {
        self.cores[core].as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn core(&self, core: usize) -> &Core {
        self.cores[core].as_ref().expect("who cannot be reached is left out")
    }

    /// Sets up the running core's redistributor and CPU interface, and enables its kick and its timer.
    pub fn start_core(&self, core: usize, timer: IntId) {
        // SAFETY: mapped for good, and the running core's own.
        let registers = unsafe { UniqueMmioPointer::new(self.core(core).redistributor) };
        let mut redistributor = GicRedistributor::new(registers);
        // The one error: it is awake already.
        let _ = redistributor.mark_core_awake();
        redistributor.configure_default_settings();
        for intid in [KICK, timer] {
            let enabled = redistributor.enable_interrupt(intid, true);
            debug_assert!(enabled.is_ok(), "SGIs and PPIs are a redistributor's");
        }
        redistributor.wait_for_pending_write();
        // `set_up` asked for them on the core that boots; a machine's cores are alike in this.
        enable_system_registers();
        // SAFETY: ICC_CTLR_EL1: a write to ICC_EOIR1_EL1 also deactivates. No memory is touched.
        unsafe { asm!("msr S3_0_C12_C12_4, xzr", options(nomem, nostack, preserves_flags)) };
        GicCpuInterface::set_priority_mask(OPEN_MASK);
        GicCpuInterface::enable_group1(true);
        barrier::isb(barrier::SY);
    }

    #[inline]
    pub fn acknowledge() -> Option<IntId> {
        let intid = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)?;
        if SPECIAL.contains(&intid.raw_value()) {
            return None;
        }
        if intid == KICK {
            Self::end(intid);
        }
        Some(intid)
    }

    #[inline]
    pub fn end(intid: IntId) {
        GicCpuInterface::end_interrupt(intid, InterruptGroup::Group1);
    }

    #[inline]
    pub fn kick(&self, core: usize) {
        let [affinity0, affinity1, affinity2, affinity3] = self.core(core).affinity;
        let target = SgiTarget::List { affinity3, affinity2, affinity1, target_list: 1 << affinity0 };
        let sent = GicCpuInterface::send_sgi(KICK, target, SgiTargetGroup::CurrentGroup1);
        debug_assert!(sent.is_ok(), "the kick is an SGI");
        // Sent now, not when the core gets to it.
        barrier::isb(barrier::SY);
    }
}

/// Lets EL1 drive the CPU interface by system registers. Whether it can: the core has them, and no higher exception level
/// keeps them to itself.
fn enable_system_registers() -> bool {
    let features: u64;
    // SAFETY: reads ID_AA64PFR0_EL1.
    unsafe { asm!("mrs {}, id_aa64pfr0_el1", out(reg) features, options(nomem, nostack, preserves_flags)) };
    if features >> 24 & 0xf == 0 {
        return false;
    }
    GicCpuInterface::enable_system_register_el1();
    barrier::isb(barrier::SY);
    let enabled: u64;
    // SAFETY: reads ICC_SRE_EL1, which a core with these registers has.
    unsafe { asm!("mrs {}, S3_0_C12_C12_5", out(reg) enabled, options(nomem, nostack, preserves_flags)) };
    enabled & 1 != 0
}

/// The redistributor of the core with affinity `mpidr` in a range of `bytes` bytes of them that begins with `first`.
///
/// # Safety
///
/// The range is mapped as device memory for good, and holds redistributors up to one that says that it is the last.
unsafe fn find(first: NonNull<GicrSgi>, bytes: u64, mpidr: u64) -> Option<NonNull<GicrSgi>> {
    let mut at = first;
    let mut left = bytes;
    loop {
        left = left.checked_sub(size_of::<GicrSgi>() as u64)?;
        // SAFETY: inside the range, which the caller vouches for; only a constant register is read.
        let typer = GicRedistributor::new(unsafe { UniqueMmioPointer::new(at) }).typer();
        if typer.core_mpidr() == mpidr & AFFINITY {
            return Some(at);
        }
        if typer.last_redistributor() {
            return None;
        }
        // With virtual LPIs, as every GICv4 has, two more frames follow (IHI 0069, GICR_TYPER.VLPIS).
        let frames = if typer.virtual_lpis_supported() { 2 } else { 1 };
        left = left.checked_sub((frames - 1) * size_of::<GicrSgi>() as u64)?;
        // SAFETY: in the range, or at its end, where the next round stops.
        at = unsafe { at.add(frames as usize) };
    }
}
