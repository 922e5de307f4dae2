//! A `main` that returns an error, or a status.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run reason=\"no reason\"",
    "run reason=\"no reason\" semihosting=off",
    "status 1",
    "output error: 1 argument: reason=no reason",
    "absent kernel bug"
);

#[cfg(target_os = "none")]
mod guest {
    use core::fmt;

    ashlar::entry!(main);

    struct Failure(usize);

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} argument:", self.0)?;
            ashlar::args().try_for_each(|argument| write!(f, " {argument}"))
        }
    }

    fn main() -> Result<(), Failure> {
        Err(Failure(ashlar::args().count()))
    }
}

/// What `main` may return, and the status that it makes.
#[cfg(not(target_os = "none"))]
fn results_make_statuses() {
    use ashlar::app::Termination;
    assert_eq!([().report(), 7u8.report(), Ok::<u8, &str>(9).report(), Err::<(), _>("no").report()], [0, 7, 9, 1]);
    assert_eq!([0, 255, 256, -1, i32::MAX].map(Termination::report), [0, 255, 255, 255, 255]);
}

#[cfg(not(target_os = "none"))]
ashlar_test::tests! { results_make_statuses }
