//! Machines: aarch64 hardware, and the simulated machine that the host tests run on.
//!
//! `aarch64::descriptor` and `aarch64::syndrome` are pure and exist on both; the rest of `aarch64` exists on the
//! target only, so that a machine-independent module that names it does not compile on the host.

pub mod aarch64;
#[cfg(feature = "sim")]
pub mod sim;
