//! Who runs for how long, on one core whose time is exact: an instruction takes a nanosecond.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run icount=on cores=1", "run icount=on gic=3 el=2", "output test result: ok");

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::vec::Vec;
    use ashlar::arch::aarch64::{gate, percore};
    use ashlar::sync::{Mutex, OnceLock, RwLock};
    use ashlar::task::{BACKGROUND_PERCENT, SLICE};
    use ashlar::thread::{self, Builder, Priority};
    use ashlar::time;
    use core::hint::spin_loop;
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use core::time::Duration;

    const SLICES: fn(u32) -> Duration = |count| Duration::from_nanos(SLICE) * count;

    /// Rounds of a loop that threads of these priorities get through, all busy at once for this long.
    fn rounds<const N: usize>(priorities: [Priority; N], time: Duration) -> [u64; N] {
        let stop = AtomicBool::new(false);
        let counts = [const { AtomicU64::new(0) }; N];
        thread::scope(|scope| {
            for (count, priority) in counts.iter().zip(priorities) {
                let run = || {
                    while !stop.load(Ordering::Relaxed) {
                        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    }
                };
                Builder::new().priority(priority).spawn_scoped(scope, run).unwrap();
            }
            thread::sleep(time);
            let at_end = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            stop.store(true, Ordering::Relaxed);
            at_end
        })
    }

    fn percent(part: u64, all: &[u64]) -> f64 {
        part as f64 * 100.0 / all.iter().sum::<u64>() as f64
    }

    pub fn background_threads_have_their_share() {
        let rounds = rounds([Priority::Application, Priority::Background], Duration::from_millis(150));
        let share = percent(rounds[1], &rounds);
        assert!((share - BACKGROUND_PERCENT as f64).abs() <= 1.0, "{share} %");
    }

    pub fn two_background_threads_share_one_budget() {
        let [application, background] = [Priority::Application, Priority::Background];
        let rounds = rounds([background, application, background], Duration::from_millis(150));
        let share = percent(rounds[0] + rounds[2], &rounds);
        assert!((share - BACKGROUND_PERCENT as f64).abs() <= 1.0, "{share} %");
        assert!(rounds[0] > 0 && rounds[2] > 0, "{rounds:?}");
    }

    pub fn idle_threads_run_when_nothing_else_does() {
        let time = Duration::from_millis(30);
        let [_, idle] = rounds([Priority::Application, Priority::Idle], time);
        assert_eq!(idle, 0, "beside an application thread");
        let [_, idle] = rounds([Priority::Background, Priority::Idle], time);
        assert_eq!(idle, 0, "beside a background thread");
        let ([alone], [busy]) = (rounds([Priority::Idle], time), rounds([Priority::Application], time));
        assert!(alone > busy * 95 / 100, "alone it gets through {alone} rounds, an application thread through {busy}");
    }

    pub fn busy_threads_share_the_core() {
        let two = rounds([Priority::Application; 2], SLICES(50));
        let three = rounds([Priority::Background; 3], SLICES(60));
        two.iter().for_each(|&rounds| assert!((percent(rounds, &two) - 50.0).abs() <= 3.0, "{two:?}"));
        three.iter().for_each(|&rounds| assert!((percent(rounds, &three) - 33.3).abs() <= 3.0, "{three:?}"));
    }

    /// Has a thread of `priority` run `hold`, which takes something and calls what it is given while it has it; meanwhile
    /// hogs keep the core busy. How long `want`, which waits for that something, takes.
    fn wait_among_hogs(priority: Priority, hold: impl Fn(&dyn Fn()) + Sync, want: impl FnOnce()) -> Duration {
        let [has, go, stop] = [const { AtomicBool::new(false) }; 3];
        thread::scope(|scope| {
            let holder = || {
                hold(&|| {
                    has.store(true, Ordering::Relaxed);
                    while !go.load(Ordering::Relaxed) {
                        spin_loop();
                    }
                    (0..50_000).for_each(|_| spin_loop());
                });
            };
            Builder::new().priority(priority).spawn_scoped(scope, holder).unwrap();
            while !has.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(100));
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        spin_loop();
                    }
                });
            }
            go.store(true, Ordering::Relaxed);
            let start = time::now();
            want();
            let waited = start.elapsed();
            stop.store(true, Ordering::Relaxed);
            waited
        })
    }

    /// The holder takes its turn with the two hogs, then the one that waited does: five slices, and one to spare.
    pub fn who_is_waited_for_is_not_kept_waiting() {
        for priority in [Priority::Idle, Priority::Background] {
            let mutex = Mutex::new(());
            let hold = |held: &dyn Fn()| {
                let guard = mutex.lock().unwrap();
                held();
                drop(guard);
            };
            let waited = wait_among_hogs(priority, hold, || drop(mutex.lock().unwrap()));
            assert!(waited < SLICES(6), "{waited:?} for a mutex that a thread of {priority:?} holds");

            let lock = RwLock::new(());
            let hold = |held: &dyn Fn()| {
                let guard = lock.write().unwrap();
                held();
                drop(guard);
            };
            let waited = wait_among_hogs(priority, hold, || drop(lock.read().unwrap()));
            assert!(waited < SLICES(6), "{waited:?} for what a thread of {priority:?} writes");

            let once = OnceLock::new();
            let hold = |held: &dyn Fn()| _ = once.get_or_init(held);
            let waited = wait_among_hogs(priority, hold, || *once.get_or_init(|| ()));
            assert!(waited < SLICES(6), "{waited:?} for what a thread of {priority:?} makes");
        }
    }

    /// Having given the lock up, the holder is again what it was: hogs keep it from the core.
    pub fn what_was_lent_is_given_back() {
        let (mutex, rounds) = (Mutex::new(()), AtomicU64::new(0));
        let [has, stop] = [const { AtomicBool::new(false) }; 2];
        thread::scope(|scope| {
            let run = || {
                let guard = mutex.lock().unwrap();
                has.store(true, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
                drop(guard);
                while !stop.load(Ordering::Relaxed) {
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            };
            Builder::new().priority(Priority::Idle).spawn_scoped(scope, run).unwrap();
            while !has.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(100));
            }
            drop(mutex.lock().unwrap());
            let before = rounds.load(Ordering::Relaxed);
            let start = time::now();
            while start.elapsed() < SLICES(10) {
                spin_loop();
            }
            assert_eq!(rounds.load(Ordering::Relaxed), before);
            stop.store(true, Ordering::Relaxed);
        });
    }

    fn timer_interrupts() -> u64 {
        gate::call(|| percore::current().timer_interrupts())
    }

    /// How many timer interrupts come while `body` runs.
    fn interrupts_in(body: impl FnOnce()) -> u64 {
        let before = timer_interrupts();
        body();
        timer_interrupts() - before
    }

    pub fn a_thread_alone_is_not_interrupted() {
        let interrupts = interrupts_in(|| {
            let start = time::now();
            while start.elapsed() < SLICES(20) {
                spin_loop();
            }
        });
        assert_eq!(interrupts, 0);
    }

    pub fn two_busy_threads_are_interrupted_once_a_slice() {
        let interrupts = interrupts_in(|| _ = rounds([Priority::Application; 2], SLICES(20)));
        assert!((19..=24).contains(&interrupts), "{interrupts}");
    }

    pub fn an_idle_machine_is_woken_for_sleepers_only() {
        assert_eq!(interrupts_in(|| thread::sleep(Duration::from_millis(100))), 1);
        let sleep_often = || (0..20).for_each(|_| thread::sleep(Duration::from_millis(1)));
        assert_eq!(interrupts_in(sleep_often), 20);
        // What is waited for comes long before the deadline, which is then nobody's.
        let wait = || {
            let main = thread::current();
            thread::scope(|scope| {
                scope.spawn(move || main.unpark());
                thread::park_timeout(Duration::from_millis(5));
            });
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(interrupts_in(wait), 1);
    }

    pub fn sleep_ends_on_time() {
        for micros in [1, 50, 51, 1000, 20_000] {
            let time = Duration::from_micros(micros);
            let start = time::now();
            thread::sleep(time);
            let slept = start.elapsed();
            assert!((time..time + Duration::from_micros(50)).contains(&slept), "{slept:?} instead of {time:?}");
        }
    }

    /// A sleeper of higher priority gets the core when its time has come, not when a slice ends.
    pub fn a_sleeper_preempts_less_urgent_threads() {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for priority in [Priority::Background, Priority::Idle] {
                let run = || {
                    while !stop.load(Ordering::Relaxed) {
                        spin_loop();
                    }
                };
                Builder::new().priority(priority).spawn_scoped(scope, run).unwrap();
            }
            let late: Vec<_> = (0..20)
                .map(|_| {
                    let start = time::now();
                    thread::sleep(Duration::from_micros(700));
                    start.elapsed() - Duration::from_micros(700)
                })
                .collect();
            stop.store(true, Ordering::Relaxed);
            assert!(late.iter().all(|&late| late < Duration::from_micros(50)), "{late:?}");
        });
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    background_threads_have_their_share,
    #[cfg(target_os = "none")]
    two_background_threads_share_one_budget,
    #[cfg(target_os = "none")]
    idle_threads_run_when_nothing_else_does,
    #[cfg(target_os = "none")]
    busy_threads_share_the_core,
    #[cfg(target_os = "none")]
    who_is_waited_for_is_not_kept_waiting,
    #[cfg(target_os = "none")]
    what_was_lent_is_given_back,
    #[cfg(target_os = "none")]
    a_thread_alone_is_not_interrupted,
    #[cfg(target_os = "none")]
    two_busy_threads_are_interrupted_once_a_slice,
    #[cfg(target_os = "none")]
    an_idle_machine_is_woken_for_sleepers_only,
    #[cfg(target_os = "none")]
    sleep_ends_on_time,
    #[cfg(target_os = "none")]
    a_sleeper_preempts_less_urgent_threads,
}
