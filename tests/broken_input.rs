//! An initrd that is no archive: an error that says so, and its memory is free again.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run qemu=\"-initrd tests/broken_input.rs\"",
    "run qemu=\"-initrd apps/index/tests/data/picture.bin\" el=2",
    "output test result: ok. 1 passed"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::app::archive::ArchiveError;
    use ashlar::input::{self, InputError};

    pub fn no_archive_is_an_error() {
        match input::files().err() {
            Some(InputError::Archive { address, error: ArchiveError::Magic }) => assert!(address.0 != 0),
            other => panic!("{other:?}"),
        }
        assert_eq!(input::files().err(), Some(InputError::Taken));
    }
}
#[cfg(target_os = "none")]
use guest::no_archive_is_an_error;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    no_archive_is_an_error,
}
