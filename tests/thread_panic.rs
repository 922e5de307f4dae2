//! A thread that panics is named. Its message is formatted in application mode, where interrupts are open, and comes out whole
//! though other threads are ready on its core and print on others.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run cores=1 timeout=40",
    "run cores=1 icount=on timeout=40",
    "run cores=4 timeout=40",
    "run cores=4 gic=3 el=2 semihosting=off timeout=40",
    "status 101",
    "output noise",
    "output ashlar: thread worker of the application panicked at tests/thread_panic.rs:",
    "silent noise",
    "output long message: ",
    "output 0123456789 ends",
    "output backtrace:",
    "output frames: ",
    "absent while reporting",
    "absent test result"
);

#[cfg(target_os = "none")]
#[path = "common/noise.rs"]
mod noise;

#[cfg(target_os = "none")]
mod guest {
    use super::noise;
    use ashlar::task::SLICE;
    use ashlar::thread::Builder;
    use ashlar::time;
    use core::fmt;
    use core::hint::spin_loop;
    use core::time::Duration;

    /// Takes its time: the slice of its thread ends while it is formatted, after what comes before it has been sent.
    struct Slow;

    impl fmt::Display for Slow {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for digit in 0..10 {
                let start = time::now();
                while start.elapsed() < Duration::from_nanos(SLICE) {
                    spin_loop();
                }
                write!(f, "{digit}")?;
            }
            Ok(())
        }
    }

    pub fn a_thread_panics() {
        noise::start();
        let worker = Builder::new().name("worker").spawn(|| panic!("long message: {:300}{Slow} ends", "")).unwrap();
        worker.join().unwrap_or_else(|_: ashlar::thread::Stopped| unreachable!("the machine ends"));
    }
}
#[cfg(target_os = "none")]
use guest::a_thread_panics;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    a_thread_panics,
}
