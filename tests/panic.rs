//! A Rust panic of the application: message, place, backtrace, status 101.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=explicit",
    "run case=bounds",
    "run case=capacity semihosting=off",
    "status 101",
    "output test panics ... ",
    "output ashlar: the application panicked at ",
    "output backtrace:",
    "output     #0 0xffffffffc0",
    "absent kernel bug",
    "absent test result"
);

#[cfg(target_os = "none")]
mod guest {
    use core::hint::black_box;

    extern crate alloc;

    pub fn panics() {
        match ashlar_test::case() {
            "bounds" => drop(black_box([0; 4].as_slice())[black_box(4)]),
            "capacity" => drop(black_box(alloc::vec::Vec::<u8>::with_capacity(black_box(usize::MAX)))),
            other => panic!("asked to by {other}"),
        }
    }
}
#[cfg(target_os = "none")]
use guest::panics;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    panics,
}
