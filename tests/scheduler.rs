//! The scheduler on simulated cores, under a checker that may switch between them at every lock and every step of the port:
//! no wake is lost, nobody runs twice or on a stack that is in use, budgets and priorities hold.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/simulated.rs"]
mod simulated;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::simulated::{CORES, explore, id, join, key, me, park_if, sim, spawn, step, work, world};
    use ashlar::sync::parking::{Prepared, ThreadId, Wake};
    use ashlar::task::{BACKGROUND_PERCENT, Life, Port, Priority, QUANTUM, SLICE};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    /// Waits at `word` while `waits` holds.
    fn wait_while(word: &AtomicU64, waits: impl Fn(u64) -> bool) {
        while waits(word.load(Ordering::SeqCst)) {
            world().prepare(key(word), None);
            step();
            park_if(waits(word.load(Ordering::SeqCst)));
        }
    }

    fn change(word: &AtomicU64, by: u64) {
        word.fetch_add(by, Ordering::SeqCst);
        step();
        world().wake(key(word), usize::MAX);
    }

    fn ping_pong(cores: usize) {
        explore(cores, 300, || {
            let word = Arc::new(AtomicU64::new(0));
            let theirs = word.clone();
            let other = spawn(Priority::Application, move || {
                for turn in 0..4 {
                    wait_while(&theirs, |value| value != 2 * turn + 1);
                    change(&theirs, 1);
                }
            });
            for turn in 0..4 {
                change(&word, 1);
                wait_while(&word, |value| value != 2 * turn + 2);
            }
            assert_eq!(join(other), Life::Ended);
        });
    }

    pub fn no_wake_is_lost_on_one_core() {
        ping_pong(1);
    }

    pub fn no_wake_is_lost_on_three_cores() {
        ping_pong(3);
    }

    pub fn a_wait_ends_in_one_way() {
        explore(2, 400, || {
            let word = Arc::new(AtomicU64::new(0));
            let theirs = word.clone();
            let waker = spawn(Priority::Application, move || {
                work(20_000);
                theirs.store(1, Ordering::SeqCst);
                let woken = world().wake(key(&*theirs), 1);
                theirs.store(2 + woken as u64, Ordering::SeqCst);
            });
            assert_eq!(world().prepare(key(&*word), None), Prepared::Ready);
            let wake = world().park(Some(sim().now() + 20_000));
            wait_while_busy(&word);
            let woken = word.load(Ordering::SeqCst) - 2;
            assert_eq!(woken, u64::from(wake == Wake::Woken), "{wake:?}");
            // A deadline that was not reached has no say in the next wait.
            world().prepare(key(&word), None);
            let start = sim().now();
            assert_eq!(world().park(Some(start + 300_000)), Wake::TimedOut);
            assert!(sim().now() >= start + 300_000);
            join(waker);
        });
    }

    fn wait_while_busy(word: &AtomicU64) {
        while word.load(Ordering::SeqCst) < 2 {
            work(1000);
            world().yield_now();
        }
    }

    pub fn sleepers_wake_in_order_and_never_early() {
        explore(2, 200, || {
            let order = Arc::new(std::sync::Mutex::new(Vec::new()));
            let sleepers: Vec<_> = [3_u64, 1, 2]
                .into_iter()
                .map(|n| {
                    let order = order.clone();
                    spawn(Priority::Application, move || {
                        let until = sim().now() + n * 1_000_000;
                        world().prepare(key(me()) + 1, None);
                        assert_eq!(world().park(Some(until)), Wake::TimedOut);
                        assert!(sim().now() >= until);
                        order.lock().unwrap().push(n);
                    })
                })
                .collect();
            sleepers.into_iter().for_each(|sleeper| assert_eq!(join(sleeper), Life::Ended));
            assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
        });
    }

    pub fn a_busy_thread_shares_its_core() {
        explore(1, 20, || {
            let done = Arc::new(AtomicU64::new(0));
            let most = Arc::new(AtomicU64::new(0));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (done, most) = (done.clone(), most.clone());
                    spawn(Priority::Application, move || {
                        let mut last = sim().now();
                        for _ in 0..40 {
                            work(SLICE / 4);
                            let now = sim().now();
                            most.fetch_max(now - last, Ordering::Relaxed);
                            last = now;
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| assert_eq!(join(thread), Life::Ended));
            assert_eq!(done.load(Ordering::Relaxed), 3);
            // Two others' slices and one's own step, and what the steps add to a slice.
            assert!(most.load(Ordering::Relaxed) <= 4 * SLICE, "{most:?}");
        });
    }

    pub fn background_threads_keep_their_budget() {
        explore(1, 10, || {
            let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicU64::new(0) }; 3]));
            let busy = |priority: Priority| {
                let (stop, times) = (stop.clone(), times.clone());
                spawn(priority, move || {
                    while !stop.load(Ordering::Relaxed) {
                        work(QUANTUM / 10);
                        times[priority as usize].fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            let threads = [busy(Priority::Background), busy(Priority::Idle), busy(Priority::Application)];
            // This thread waits; the three compete.
            world().prepare(key(me()) + 1, None);
            world().park(Some(sim().now() + 400 * QUANTUM));
            let [application, background, idle] = [0, 1, 2].map(|n| times[n].load(Ordering::Relaxed));
            stop.store(true, Ordering::Relaxed);
            threads.into_iter().for_each(|thread| assert_eq!(join(thread), Life::Ended));
            let percent = background as f64 * 100.0 / (application + background) as f64;
            let budget = BACKGROUND_PERCENT as f64;
            assert!((budget - 1.0..budget + 1.0).contains(&percent), "{percent} %: {background} of {application}");
            assert_eq!(idle, 0, "an idle thread runs when nothing else is ready");
        });
    }

    /// A lock of the simplest kind: the holder's number, or 0.
    fn lock(word: &AtomicU64) {
        loop {
            step();
            let holder = word.compare_exchange(0, id().number(), Ordering::SeqCst, Ordering::SeqCst);
            let Err(holder) = holder else { return };
            world().prepare(key(word), ThreadId::new(holder));
            step();
            park_if(word.load(Ordering::SeqCst) == holder);
        }
    }

    fn unlock(word: &AtomicU64) {
        word.store(0, Ordering::SeqCst);
        step();
        world().wake(key(word), 1);
    }

    /// `middle` is the priority of the thread in the chain's middle.
    fn inversion(cores: usize, middle: Priority) {
        explore(cores, 100, move || {
            let (outer, inner) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let [stop, ready] = [const { AtomicBool::new(false) }; 2].map(Arc::new);
            // Idle holds `inner`; another holds `outer` and waits for `inner`; hogs keep the cores busy.
            let (i, go) = (inner.clone(), ready.clone());
            let low = spawn(Priority::Idle, move || {
                lock(&i);
                while !go.load(Ordering::Relaxed) {
                    work(10_000);
                }
                (0..20).for_each(|_| work(100_000));
                assert_eq!(i.load(Ordering::SeqCst), id().number());
                unlock(&i);
            });
            while inner.load(Ordering::SeqCst) == 0 {
                world().prepare(key(me()) + 1, None);
                world().park(Some(sim().now() + 100_000));
            }
            let (o, i) = (outer.clone(), inner.clone());
            let middle_thread = spawn(middle, move || {
                lock(&o);
                lock(&i);
                unlock(&i);
                unlock(&o);
                assert_eq!(me().priority(), middle, "what was lent is given back");
            });
            while outer.load(Ordering::SeqCst) == 0 {
                world().prepare(key(me()) + 1, None);
                world().park(Some(sim().now() + 100_000));
            }
            let hogs: Vec<_> = (0..cores)
                .map(|_| {
                    let stop = stop.clone();
                    spawn(Priority::Application, move || {
                        while !stop.load(Ordering::Relaxed) {
                            work(100_000);
                        }
                    })
                })
                .collect();
            ready.store(true, Ordering::Relaxed);
            lock(&outer);
            unlock(&outer);
            stop.store(true, Ordering::Relaxed);
            [low, middle_thread].into_iter().chain(hogs).for_each(|thread| assert_eq!(join(thread), Life::Ended));
            assert_eq!(low.0.priority(), Priority::Idle);
        });
    }

    pub fn priorities_are_lent_along_a_chain() {
        inversion(1, Priority::Background);
        inversion(1, Priority::Idle);
    }

    pub fn priorities_are_lent_across_cores() {
        inversion(2, Priority::Background);
        inversion(2, Priority::Idle);
    }

    pub fn who_waits_for_a_stopped_owner_is_told() {
        explore(2, 300, || {
            let word = Arc::new(AtomicU64::new(0));
            let theirs = word.clone();
            let owner = spawn(Priority::Application, move || {
                theirs.store(id().number(), Ordering::SeqCst);
                work(1000);
                world().end(Life::Stopped)
            });
            wait_while_zero(&word);
            loop {
                match world().prepare(key(&*word), Some(owner.1)) {
                    Prepared::OwnerStopped => break,
                    Prepared::Ready => park_if(true),
                }
            }
            assert_eq!(join(owner), Life::Stopped);
        });
    }

    /// The last preparation names the owner for all who wait there, also when it was cancelled.
    pub fn who_was_asleep_before_is_told_of_a_stopped_owner() {
        explore(2, 100, || {
            let (word, go) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let (theirs, asleep) = (word.clone(), Arc::new(AtomicBool::new(false)));
            let slept = asleep.clone();
            let sleeper = spawn(Priority::Application, move || {
                world().prepare(key(&*theirs), None);
                slept.store(true, Ordering::SeqCst);
                assert_eq!(world().park(None), Wake::Woken);
            });
            let goes = go.clone();
            let owner = spawn(Priority::Application, move || {
                while !goes.load(Ordering::SeqCst) {
                    work(1000);
                    world().yield_now();
                }
                world().end(Life::Stopped)
            });
            while !asleep.load(Ordering::SeqCst) {
                work(1000);
                world().yield_now();
            }
            world().prepare(key(&*word), Some(owner.1));
            world().cancel();
            go.store(true, Ordering::SeqCst);
            assert_eq!((join(owner), join(sleeper)), (Life::Stopped, Life::Ended));
        });
    }

    fn wait_while_zero(word: &AtomicU64) {
        while word.load(Ordering::SeqCst) == 0 {
            work(1000);
            world().yield_now();
        }
    }

    pub fn idle_cores_take_what_is_ready() {
        explore(3, 100, || {
            let cores = Arc::new([const { AtomicUsize::new(0) }; CORES]);
            let threads: Vec<_> = (0..6)
                .map(|_| {
                    let cores = cores.clone();
                    spawn(Priority::Application, move || {
                        for _ in 0..10 {
                            cores[sim().core()].fetch_add(1, Ordering::Relaxed);
                            work(SLICE / 2);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| assert_eq!(join(thread), Life::Ended));
            assert!(cores.iter().all(|count| count.load(Ordering::Relaxed) > 0), "{cores:?}");
        });
    }

    /// Threads that become ready at once get a core each, or none of them would ever see all three: again and again, while cores
    /// are about to sleep.
    pub fn no_core_sleeps_while_a_thread_is_ready() {
        const ROUNDS: u64 = 4;
        explore(3, 300, || {
            let [go, done] = [const { AtomicU64::new(0) }; 2].map(Arc::new);
            let seen = Arc::new([const { AtomicUsize::new(0) }; ROUNDS as usize]);
            let threads = [(); 3].map(|()| {
                let (go, done, seen) = (go.clone(), done.clone(), seen.clone());
                spawn(Priority::Application, move || {
                    for (round, seen) in seen.iter().enumerate() {
                        wait_while(&go, |go| go <= round as u64);
                        while seen.load(Ordering::Relaxed) != 0b111 {
                            seen.fetch_or(1 << sim().core(), Ordering::Relaxed);
                            work(1000);
                        }
                        change(&done, 1);
                    }
                })
            });
            for round in 0..ROUNDS {
                wait_while(&done, |done| done != 3 * round);
                change(&go, 1);
            }
            threads.into_iter().for_each(|thread| assert_eq!(join(thread), Life::Ended));
        });
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    no_wake_is_lost_on_one_core,
    #[cfg(not(target_os = "none"))]
    no_wake_is_lost_on_three_cores,
    #[cfg(not(target_os = "none"))]
    a_wait_ends_in_one_way,
    #[cfg(not(target_os = "none"))]
    sleepers_wake_in_order_and_never_early,
    #[cfg(not(target_os = "none"))]
    a_busy_thread_shares_its_core,
    #[cfg(not(target_os = "none"))]
    background_threads_keep_their_budget,
    #[cfg(not(target_os = "none"))]
    priorities_are_lent_along_a_chain,
    #[cfg(not(target_os = "none"))]
    priorities_are_lent_across_cores,
    #[cfg(not(target_os = "none"))]
    who_waits_for_a_stopped_owner_is_told,
    #[cfg(not(target_os = "none"))]
    who_was_asleep_before_is_told_of_a_stopped_owner,
    #[cfg(not(target_os = "none"))]
    idle_cores_take_what_is_ready,
    #[cfg(not(target_os = "none"))]
    no_core_sleeps_while_a_thread_is_ready,
}
