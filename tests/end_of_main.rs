//! The machine ends with `main`, though other threads run on: what is said of the end is the last that is said.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run cores=1 semihosting=off timeout=40",
    "run cores=4 semihosting=off timeout=40",
    "run cores=4 gic=3 el=2 timeout=40",
    "output noise",
    "absent panicked",
    "absent crashed"
);

#[cfg(target_os = "none")]
#[path = "common/noise.rs"]
mod noise;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    start,
}
#[cfg(target_os = "none")]
use noise::start;
