//! What a core may have beyond what a Cortex-A72 has, as its identification registers say. Pure: a test feeds it those of cores.
//!
//! A Cortex-A72 has no FEAT_LSE, FEAT_BBM, FEAT_TLBIRANGE or FEAT_HAFDBS. Of these LSE alone is used, where it is; the others have no code:
//! every change of a live descriptor that needs a break has one, invalidations are by address or by ASID, and access and dirty flags are
//! software's.
#![forbid(unsafe_code)]

/// Whether there are FEAT_LSE's atomic operations: `ID_AA64ISAR0_EL1` (Arm ARM D24.2.66), field Atomic.
pub const fn has_lse(isar0: u64) -> bool {
    isar0 >> 20 & 0xf >= 0b0010
}
