//! One test file, two machines: `tests!` makes a host test binary, or a kernel that boots and runs the same list.
#![cfg_attr(target_os = "none", no_std)]

/// Runs the named functions, each `fn()`, as the tests of this file.
#[cfg(not(target_os = "none"))]
#[macro_export]
macro_rules! tests {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        fn main() {
            $crate::run(vec![$($(#[$attribute])* (stringify!($name), $name as fn())),*])
        }
    };
}

/// Runs `tests` under the host's harness and ends the process with its status.
#[cfg(not(target_os = "none"))]
pub fn run(tests: Vec<(&'static str, fn())>) -> ! {
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            libtest_mimic::Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit()
}
