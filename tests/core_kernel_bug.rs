//! A bug in kernel mode is reported by the core where it happens, whichever that is.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=read cores=4 timeout=40",
    "run case=read cores=8 gic=3 el=2 timeout=40",
    "run case=panic cores=4 timeout=40",
    "run case=overflow cores=4 timeout=40",
    "status 104",
    "output noise",
    "output ashlar: kernel bug: ",
    "silent noise",
    "silent kernel bug",
    "output     on core ",
    "output , in thread worker",
    "output backtrace:",
    "output     #0 0xffffffffc0",
    "output     #1 0xffffffffc0",
    "absent on core 0,",
    "absent while reporting",
    "absent test result"
);

#[cfg(target_os = "none")]
#[path = "common/noise.rs"]
mod noise;

#[cfg(target_os = "none")]
mod guest {
    use super::noise;
    use ashlar::arch::aarch64::{gate, percore};
    use ashlar::thread::{self, Builder};
    use core::hint::black_box;

    #[allow(unconditional_recursion)]
    fn recurse(depth: u64) -> u64 {
        let frame = black_box([depth; 32]);
        black_box(recurse(depth + 1)) + frame[31]
    }

    /// Breaks the kernel, unless this is the core that booted.
    fn break_kernel(case: &'static str) {
        if percore::index() == 0 {
            return;
        }
        match case {
            "panic" => panic!("asked to"),
            "overflow" => _ = black_box(recurse(0)),
            _ => {
                // SAFETY: none; the access is to be stopped.
                let value = unsafe { core::ptr::null::<u64>().read_volatile() };
                black_box(value);
            }
        }
    }

    pub fn a_core_breaks() {
        noise::start();
        let case = ashlar_test::case();
        let run = move || {
            loop {
                gate::call(move || break_kernel(case));
                thread::yield_now();
            }
        };
        for _ in 0..thread::available_parallelism().get() {
            Builder::new().name("worker").spawn(run).unwrap();
        }
        loop {
            thread::park();
        }
    }
}
#[cfg(target_os = "none")]
use guest::a_core_breaks;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    a_core_breaks,
}
