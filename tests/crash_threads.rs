//! A thread that crashes is named, on whatever core; once the report has begun, nothing that other cores print gets into it.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=one cores=4 timeout=40",
    "run case=one cores=8 gic=3 el=2 timeout=40",
    "run case=one timeout=40",
    "run case=all-at-once cores=4 timeout=40",
    "run case=all-at-once cores=8 gic=3 timeout=40",
    "run case=one machine=raspi4b dtb=tests/data/pi4-four-cores.dtb timeout=40",
    "status 102",
    "output noise",
    "output ashlar: thread worker of the application crashed: write at 0x0000000000000010: translation fault",
    "silent noise",
    "silent of the application crashed",
    "output pc 0xffffffffc0",
    "output registers:",
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
    use ashlar::sync::Barrier;
    use ashlar::thread::{self, Builder};
    use core::hint::spin_loop;
    use core::sync::atomic::{AtomicUsize, Ordering};

    fn crash() {
        // SAFETY: none; the access is to be stopped.
        unsafe { core::ptr::without_provenance_mut::<u64>(16).write_volatile(1) };
        panic!("wrote to where nothing is");
    }

    /// Crashes on all cores, as near to one moment as threads get.
    fn crash_together(threads: usize) {
        static COME: AtomicUsize = AtomicUsize::new(0);
        let barrier = Barrier::new(threads);
        thread::scope(|scope| {
            for _ in 0..threads {
                let run = || {
                    barrier.wait();
                    COME.fetch_add(1, Ordering::Relaxed);
                    while COME.load(Ordering::Relaxed) < threads {
                        spin_loop();
                    }
                    crash();
                };
                Builder::new().name("worker").spawn_scoped(scope, run).unwrap();
            }
        });
    }

    pub fn a_thread_crashes() {
        noise::start();
        match ashlar_test::case() {
            "all-at-once" => crash_together(thread::available_parallelism().get()),
            _ => crash_together(1),
        }
    }
}
#[cfg(target_os = "none")]
use guest::a_thread_crashes;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    a_thread_crashes,
}
