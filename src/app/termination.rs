//! What an application's `main` may return.
#![forbid(unsafe_code)]

use core::fmt::Display;

/// A result of `main` that makes a status: as the host's `std::process::Termination`.
pub trait Termination {
    /// The status; prints what there is to say.
    fn report(self) -> u8;
}

impl Termination for () {
    fn report(self) -> u8 {
        0
    }
}

impl Termination for u8 {
    fn report(self) -> u8 {
        self
    }
}

/// A status outside of 0 to 255 is reported as 255: none but 0 may pass for success.
impl Termination for i32 {
    fn report(self) -> u8 {
        u8::try_from(self).unwrap_or(u8::MAX)
    }
}

/// An error is printed, and is status 1.
impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn report(self) -> u8 {
        match self {
            Ok(value) => value.report(),
            Err(error) => {
                crate::println!("error: {error}");
                1
            }
        }
    }
}
