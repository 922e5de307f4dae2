//! Threads: made, ended, preempted, moved between cores; names, locals, stacks, time.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run cores=1 memory=512M",
    "run cores=2 memory=512M gic=3",
    "run cores=4 memory=512M el=2",
    "run cores=8 memory=512M gic=3 el=2",
    "run cores=4 memory=512M cpu=max gic=3 fault=eager",
    "run machine=raspi4b dtb=tests/data/pi4.dtb",
    "output test result: ok"
);

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::collections::BTreeSet;
    use alloc::string::String;
    use alloc::vec::Vec;
    use ashlar::arch::aarch64::{gate, percore, threads::SCHEDULER, walk::walk};
    use ashlar::mm::address::VirtAddr;
    use ashlar::sync::{Barrier, Mutex};
    use ashlar::thread::{self, Builder, NoThread};
    use ashlar::{memory, time};
    use core::arch::asm;
    use core::cell::{Cell, RefCell};
    use core::hint::{black_box, spin_loop};
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use core::time::Duration;

    pub fn a_thread_returns_what_it_computed() {
        let text = String::from("moved in");
        let handle = thread::spawn(move || (text.len(), thread::current().id()));
        let id = handle.id();
        assert_eq!(handle.join().unwrap(), (8, id));
        assert_ne!(thread::current().id(), id);
    }

    pub fn thousands_are_made_and_joined() {
        let before = memory::usage();
        let mut ids = BTreeSet::new();
        for round in 0..20 {
            let handles: Vec<_> = (0..100).map(|n| thread::spawn(move || round * 100 + n)).collect();
            for (n, handle) in handles.into_iter().enumerate() {
                assert!(ids.insert(handle.id()), "no two threads are the same");
                assert_eq!(handle.join().unwrap(), round * 100 + n);
            }
        }
        assert_eq!(ids.len(), 2000);
        let after = memory::usage();
        assert_eq!(before.regions, after.regions, "all stacks are gone");
        assert_eq!(before.committed_pages, after.committed_pages);
    }

    pub fn a_thousand_live_at_once() {
        let (started, go) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..1000 {
                scope.spawn(|| {
                    started.fetch_add(1, Ordering::Relaxed);
                    while !go.load(Ordering::Acquire) {
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            while started.load(Ordering::Relaxed) < 1000 {
                thread::yield_now();
            }
            go.store(true, Ordering::Release);
        });
        assert_eq!(started.load(Ordering::Relaxed), 1000);
    }

    pub fn without_memory_there_is_no_thread() {
        let refused = Builder::new().stack_size(1 << 40).spawn(|| ()).err();
        assert!(matches!(refused, Some(NoThread::Stack(_))), "{refused:?}");
        assert_eq!(thread::spawn(|| 7).join(), Ok(7));
    }

    pub fn stacks_are_as_large_as_asked() {
        fn depth(left: usize) -> usize {
            let frame = black_box([left as u8 & 0x7f; 1000]);
            if left == 0 { 0 } else { 1 + black_box(depth(left - 1)) + usize::from(frame[999] == 255) }
        }
        let deep = Builder::new().stack_size(32 << 20).spawn(|| depth(16_000)).unwrap();
        assert_eq!(deep.join(), Ok(16_000));
    }

    pub fn a_scope_borrows() {
        let mut numbers: Vec<u64> = (0..10_000).collect();
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for part in numbers.chunks_mut(1000) {
                let total = &total;
                scope.spawn(move || {
                    part.iter_mut().for_each(|number| *number += 1);
                    total.fetch_add(part.iter().sum::<u64>() as usize, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 10_000 * 10_001 / 2);
        assert_eq!(numbers[9_999], 10_000);
    }

    pub fn names_and_locals_are_each_threads_own() {
        ashlar::thread_local! {
            static COUNT: Cell<u32> = Cell::new(7);
            static WORDS: RefCell<Vec<String>> = RefCell::new(Vec::new());
        }
        struct Noted<'a>(&'a AtomicUsize);
        impl Drop for Noted<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        ashlar::thread_local! {
            static NOTED: Noted<'static> = Noted(&DROPPED);
        }
        COUNT.set(1);
        let handles = ["first", "second"].map(|name| {
            let run = move || {
                let own = thread::current();
                assert_eq!(own.name(), Some(name));
                WORDS.with(|words| words.borrow_mut().push(String::from(name)));
                NOTED.with(|_| ());
                COUNT.set(COUNT.get() + 1);
                (COUNT.get(), WORDS.with(|words| words.borrow().len()))
            };
            Builder::new().name(name).spawn(run).unwrap()
        });
        for handle in handles {
            assert_eq!(handle.join(), Ok((8, 1)));
        }
        assert_eq!(COUNT.get(), 1);
        assert_eq!(DROPPED.load(Ordering::Relaxed), 2, "a thread's values are dropped at its end");
        assert_eq!(thread::current().name(), Some("main"));
    }

    /// One core and threads that never wait: only an interrupt gets the others a turn.
    pub fn who_never_waits_is_preempted() {
        let (turns, done) = ([const { AtomicUsize::new(0) }; 3], AtomicBool::new(false));
        thread::scope(|scope| {
            for turns in &turns {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        turns.fetch_add(1, Ordering::Relaxed);
                        spin_loop();
                    }
                });
            }
            while turns.iter().any(|turns| turns.load(Ordering::Relaxed) < 1000) {
                spin_loop();
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    /// Floating-point registers, rounding modes included, survive being interrupted at any moment.
    pub fn registers_are_each_threads_own() {
        let sum = |step: f64| {
            let mut sum = 0.0;
            for n in 0..200_000 {
                sum += black_box(step) * f64::from(n % 7);
            }
            sum
        };
        let expected: Vec<f64> = (1..=6).map(|n| sum(f64::from(n) / 3.0)).collect();
        let found: Vec<f64> = thread::scope(|scope| {
            let handles: Vec<_> = (1..=6).map(|n| scope.spawn(move || sum(f64::from(n) / 3.0))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        assert_eq!(expected, found);
    }

    /// Whether d8 to d15 and the rounding mode, set by `number`, are the same after other threads have run. In kernel mode: the
    /// gate's caller expects no more of d8 to d15 than of all others.
    fn keeps_registers_across_yields(number: u64) -> bool {
        extern "C" fn yield_often() {
            (0..20).for_each(|_| SCHEDULER.yield_now());
        }
        let differs: u64;
        // SAFETY: what is written is declared, and FPCR is put back; the stack pointer is aligned as Rust keeps it.
        unsafe {
            asm!(
                "mrs x23, fpcr",
                "msr fpcr, x22",
                "fmov d8, x20", "fmov d9, x20", "fmov d10, x20", "fmov d11, x20",
                "fmov d12, x20", "fmov d13, x20", "fmov d14, x20", "fmov d15, x20",
                "blr x21",
                "mrs x9, fpcr",
                "eor x10, x9, x22",
                "msr fpcr, x23",
                "fmov x9, d8", "eor x9, x9, x20", "orr x10, x10, x9",
                "fmov x9, d9", "eor x9, x9, x20", "orr x10, x10, x9",
                "fmov x9, d10", "eor x9, x9, x20", "orr x10, x10, x9",
                "fmov x9, d11", "eor x9, x9, x20", "orr x10, x10, x9",
                "fmov x9, d12", "eor x9, x9, x20", "orr x10, x10, x9",
                "fmov x9, d13", "eor x9, x9, x20", "orr x10, x10, x9",
                "fmov x9, d14", "eor x9, x9, x20", "orr x10, x10, x9",
                "fmov x9, d15", "eor x9, x9, x20", "orr x10, x10, x9",
                in("x20") number << 32 | 0xffff_ffff,
                in("x21") yield_often as extern "C" fn(),
                in("x22") (number & 3) << 22,
                out("x23") _, lateout("x10") differs,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                clobber_abi("C"),
            );
        }
        differs == 0
    }

    pub fn a_switch_keeps_what_a_call_keeps() {
        let kept: Vec<bool> = thread::scope(|scope| {
            let threads: Vec<_> =
                (1..=12).map(|n| scope.spawn(move || gate::call(move || keeps_registers_across_yields(n)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(kept, [true; 12]);
    }

    /// Below a kernel stack nothing is mapped; when threads have ended, only a few stacks stay for the next ones.
    pub fn kernel_stacks_come_and_go() {
        const THREADS: usize = 60;
        let mapped = |address| gate::call(move || walk(address).physical.is_some());
        let (barrier, stacks) = (Barrier::new(THREADS), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    let stack = gate::call(|| percore::current().stack());
                    let guard = VirtAddr(stack.start.0 - 8);
                    assert!(mapped(stack.start) && mapped(VirtAddr(stack.end.0 - 8)) && !mapped(guard));
                    stacks.lock().unwrap().push(stack.start);
                    barrier.wait();
                });
            }
        });
        let stacks: BTreeSet<_> = stacks.into_inner().unwrap().into_iter().collect();
        assert_eq!(stacks.len(), THREADS, "each has its own");
        // The last to end may still be on its way.
        let start = time::now();
        while stacks.iter().filter(|&&stack| mapped(stack)).count() > 20 {
            assert!(start.elapsed() < Duration::from_secs(10), "stacks of threads that ended are mapped");
            thread::yield_now();
        }
    }

    pub fn sleep_is_as_long_as_asked() {
        for micros in [50, 700, 3000] {
            let start = time::now();
            thread::sleep(Duration::from_micros(micros));
            assert!(start.elapsed() >= Duration::from_micros(micros));
        }
        let start = time::now();
        thread::scope(|scope| {
            for millis in [30, 10, 20] {
                scope.spawn(move || thread::sleep(Duration::from_millis(millis)));
            }
        });
        assert!(start.elapsed() >= Duration::from_millis(30));
    }

    pub fn park_and_unpark() {
        let flag = AtomicUsize::new(0);
        let main = thread::current();
        thread::scope(|scope| {
            scope.spawn(|| {
                flag.store(1, Ordering::Release);
                main.unpark();
            });
            while flag.load(Ordering::Acquire) == 0 {
                thread::park();
            }
        });
        main.unpark();
        // The token is there already.
        thread::park();
        let start = time::now();
        thread::park_timeout(Duration::from_millis(2));
        assert!(start.elapsed() >= Duration::from_millis(2));
    }

    pub fn faults_of_many_threads() {
        let mut mapping = memory::map(64 << 20).unwrap();
        let bytes = mapping.as_mut_slice();
        thread::scope(|scope| {
            for (value, part) in bytes.chunks_mut(4 << 20).enumerate() {
                scope.spawn(move || part.fill(value as u8 + 1));
            }
        });
        for (value, part) in bytes.chunks(4 << 20).enumerate() {
            assert!(part.iter().all(|&byte| byte == value as u8 + 1), "part {value}");
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    a_thread_returns_what_it_computed,
    #[cfg(target_os = "none")]
    thousands_are_made_and_joined,
    #[cfg(target_os = "none")]
    a_thousand_live_at_once,
    #[cfg(target_os = "none")]
    without_memory_there_is_no_thread,
    #[cfg(target_os = "none")]
    stacks_are_as_large_as_asked,
    #[cfg(target_os = "none")]
    a_scope_borrows,
    #[cfg(target_os = "none")]
    names_and_locals_are_each_threads_own,
    #[cfg(target_os = "none")]
    who_never_waits_is_preempted,
    #[cfg(target_os = "none")]
    registers_are_each_threads_own,
    #[cfg(target_os = "none")]
    a_switch_keeps_what_a_call_keeps,
    #[cfg(target_os = "none")]
    kernel_stacks_come_and_go,
    #[cfg(target_os = "none")]
    sleep_is_as_long_as_asked,
    #[cfg(target_os = "none")]
    park_and_unpark,
    #[cfg(target_os = "none")]
    faults_of_many_threads,
}
