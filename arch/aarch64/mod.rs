//! Armv8-A at EL1, with a Cortex-A72 as the least of what is expected.

pub mod descriptor;
