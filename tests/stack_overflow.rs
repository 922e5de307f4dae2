//! A recursion without end runs into the guard below the application's stack and is reported as that.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=small-frames",
    "run case=large-frames",
    "status 102",
    "output ashlar: the application crashed: stack overflow: write at ",
    "output backtrace:",
    "output     #0 0xffffffffc0",
    "output     #20 0xffffffffc0",
    "absent while reporting"
);

#[cfg(target_os = "none")]
mod guest {
    use core::hint::black_box;

    #[allow(unconditional_recursion)]
    fn recurse<const BYTES: usize>(depth: u64) -> u64 {
        let frame = black_box([depth as u8; BYTES]);
        black_box(recurse::<BYTES>(depth + 1)) + u64::from(frame[BYTES - 1])
    }

    pub fn overflow() {
        let depth = match ashlar_test::case() {
            "small-frames" => recurse::<64>(0),
            _ => recurse::<1000>(0),
        };
        panic!("came back from depth {depth}");
    }
}
#[cfg(target_os = "none")]
use guest::overflow;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    overflow,
}
