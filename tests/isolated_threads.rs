//! A panic in a thread made with `isolate` stops that thread alone; in any other it ends the machine, with its name.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run cores=1",
    "run cores=4",
    "output ashlar: thread worker of the application panicked at ",
    "output asked to",
    "output     it is stopped, alone",
    "output backtrace:",
    "output test result: ok"
);

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::sync::Arc;
    use ashlar::thread::{self, Builder};
    use core::sync::atomic::{AtomicUsize, Ordering};

    pub fn join_gives_an_error() {
        let handle = Builder::new().name("worker").isolate().spawn(|| -> u32 { panic!("asked to") }).unwrap();
        let id = handle.id();
        let stopped = handle.join().unwrap_err();
        assert_eq!((stopped.id, stopped.name.as_str()), (id, "worker"));
        assert_eq!(thread::spawn(|| 3).join(), Ok(3), "others run on");
    }

    pub fn nothing_is_unwound() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Counted(drops.clone());
        let run = move || {
            let counted = counted;
            assert!(counted.0.load(Ordering::Relaxed) > 0, "asked to");
        };
        assert!(Builder::new().name("worker").isolate().spawn(run).unwrap().join().is_err());
        assert_eq!(drops.load(Ordering::Relaxed), 0);
    }

    pub fn a_scope_tolerates_what_was_joined() {
        let mut borrowed = [1, 2, 3];
        thread::scope(|scope| {
            let borrowed = &mut borrowed;
            let run = move || {
                borrowed[0] = 7;
                panic!("asked to");
            };
            let handle = Builder::new().name("worker").isolate().spawn_scoped(scope, run).unwrap();
            assert!(handle.join().is_err());
        });
        assert_eq!(borrowed, [7, 2, 3]);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    join_gives_an_error,
    #[cfg(target_os = "none")]
    nothing_is_unwound,
    #[cfg(target_os = "none")]
    a_scope_tolerates_what_was_joined,
}
