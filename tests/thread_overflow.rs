//! A thread that runs into the guard below its stack is named, and the crash is told as that.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run cores=1 timeout=40",
    "run cores=4 gic=3 timeout=40",
    "status 102",
    "output ashlar: thread deep worker of the application crashed: stack overflow: write at ",
    "output backtrace:",
    "output     #0 0xffffffffc0",
    "output     #20 0xffffffffc0",
    "absent while reporting"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::thread::Builder;
    use core::hint::black_box;

    #[allow(unconditional_recursion)]
    fn recurse(depth: u64) -> u64 {
        let frame = black_box([depth; 24]);
        black_box(recurse(depth + 1)) + frame[23]
    }

    pub fn overflow() {
        // Below and above it lie stacks of other threads, which are not taken for its own.
        let neighbours = [(); 2].map(|()| Builder::new().spawn(ashlar::thread::park).unwrap());
        let worker = Builder::new().name("deep worker").stack_size(64 << 10).spawn(|| recurse(0)).unwrap();
        let _after = Builder::new().spawn(ashlar::thread::park).unwrap();
        panic!("came back: {:?} {neighbours:?}", worker.join());
    }
}
#[cfg(target_os = "none")]
use guest::overflow;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    overflow,
}
