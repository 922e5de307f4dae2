//! When blocks are used: the global policy, and each region's own.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU8, Ordering};

/// A region's wish (Linux: `MADV_HUGEPAGE`, `MADV_NOHUGEPAGE`; and a way back to the default).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HugePolicy {
    /// As the global policy says.
    #[default]
    Default,
    /// Blocks, unless the global policy is never.
    Always,
    /// Pages.
    Never,
}

/// `transparent_hugepage=`: who gets blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Enabled {
    /// Every region that doesn't say never.
    #[default]
    Always,
    /// Regions that say always.
    Madvise,
    /// None: pages only.
    Never,
}

/// `fault=`: what a first touch of a slot does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum FaultMode {
    /// Gives the slot a home and maps one group; the slot promotes when it is full.
    #[default]
    Adaptive,
    /// Zeroes and maps the whole block, as Linux does.
    Eager,
}

/// The global policy. Changing it affects later faults only.
#[derive(Debug, Default)]
pub struct Policy {
    enabled: AtomicU8,
    fault: AtomicU8,
}

impl Policy {
    /// Who gets blocks.
    #[inline]
    pub fn enabled(&self) -> Enabled {
        match self.enabled.load(Ordering::Relaxed) {
            0 => Enabled::Always,
            1 => Enabled::Madvise,
            _ => Enabled::Never,
        }
    }

    /// Sets who gets blocks.
    pub fn set_enabled(&self, enabled: Enabled) {
        self.enabled.store(enabled as u8, Ordering::Relaxed);
    }

    /// What a first touch does.
    #[inline]
    pub fn fault_mode(&self) -> FaultMode {
        match self.fault.load(Ordering::Relaxed) {
            0 => FaultMode::Adaptive,
            _ => FaultMode::Eager,
        }
    }

    /// Sets what a first touch does.
    pub fn set_fault_mode(&self, mode: FaultMode) {
        self.fault.store(mode as u8, Ordering::Relaxed);
    }

    /// Whether a region that wishes `wish` gets blocks and groups.
    #[inline]
    pub fn allows(&self, wish: HugePolicy) -> bool {
        match (self.enabled(), wish) {
            (Enabled::Never, _) | (_, HugePolicy::Never) => false,
            (Enabled::Always, _) => true,
            (Enabled::Madvise, wish) => wish == HugePolicy::Always,
        }
    }
}
