//! An exception or a panic while a panic is being reported still ends the machine, with the first one's status.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=exception",
    "run case=panic",
    "run case=panic semihosting=off",
    "status 101",
    "output  while reporting",
    "absent test result"
);

#[cfg(target_os = "none")]
mod guest {
    use core::fmt;

    /// Cannot be printed.
    struct Bomb;

    impl fmt::Display for Bomb {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            match ashlar_test::case() {
                // SAFETY: none; the access is to be stopped.
                "exception" => _ = unsafe { core::ptr::null::<u64>().read_volatile() },
                _ => panic!("again"),
            }
            Ok(())
        }
    }

    pub fn panics_with_a_bomb() {
        panic!("{Bomb}");
    }
}
#[cfg(target_os = "none")]
use guest::panics_with_a_bomb;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    panics_with_a_bomb,
}
