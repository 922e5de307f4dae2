//! One test file, two machines: `tests!` makes a host test binary, or a kernel that boots and runs the same list.
#![cfg_attr(target_os = "none", no_std)]

pub mod fragment;

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

/// Makes the named functions, each `fn()`, the application of this kernel.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! tests {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        #[unsafe(no_mangle)]
        extern "C" fn ashlar_application() -> i32 {
            $crate::run(&[$($(#[$attribute])* (stringify!($name), $name as fn())),*])
        }
    };
}

/// Runs `tests` one after the other, in application mode, with a line for each; the first that panics ends the machine.
#[cfg(target_os = "none")]
pub fn run(tests: &[(&str, fn())]) -> i32 {
    use ashlar::{print, println};
    println!("running {} tests", tests.len());
    for (name, test) in tests {
        print!("test {name} ... ");
        test();
        println!("ok");
    }
    println!("test result: ok. {} passed; 0 failed", tests.len());
    0
}

/// The boot argument `case=`: which of a test kernel's cases this boot is for. Empty without one.
#[cfg(target_os = "none")]
pub fn case() -> &'static str {
    let arguments = ashlar::arguments::boot().into_iter().flat_map(|arguments| arguments.application());
    arguments.filter(|argument| argument.key == "case").find_map(|argument| argument.value).unwrap_or("")
}

/// Tells the runner how to boot this kernel and what must come of it: lines of `run WORD…`, `status N`, `output TEXT`,
/// `silent TEXT` and `absent TEXT`, one to an argument. They go to a section of the ELF file that is not loaded. Does nothing on the host.
#[macro_export]
macro_rules! expect {
    ($($line:literal),+ $(,)?) => {
        #[cfg(target_os = "none")]
        ::core::arch::global_asm!(
            ".pushsection .ashlar.expect, \"\", @progbits",
            // The literal as it was written: what is escaped in it is escaped for the assembler too.
            $(concat!(".ascii ", stringify!($line)), ".ascii \"\\n\""),+,
            ".popsection",
            options(raw)
        );
    };
}
