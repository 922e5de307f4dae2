//! The laboratory's workloads ([`workloads`]) on Ashlar: `part=NAME,… size=64M reach=256M rounds=5`. With `icount=on` figures are
//! guest instructions, without it nanoseconds. With `pmu` rates come with what the core's own counters counted.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod application;
#[cfg(target_os = "none")]
mod pmu;

ashlar::entry!(application::main);
