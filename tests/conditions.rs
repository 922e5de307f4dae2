//! Waiting for something to be so, under a scheduler that may switch at every operation of a word that is waited for:
//! condition variables, values made once, semaphores, barriers.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/scheduler.rs"]
mod scheduler;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::scheduler::{self, explore, message, together};
    use ashlar::sync::{Barrier, Condvar, LazyLock, Mutex, OnceLock, Semaphore};
    use shuttle::thread::{spawn, yield_now};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const SCHEDULES: usize = 2000;
    const SOON: Duration = Duration::from_millis(1);

    pub fn notifications_are_not_lost() {
        explore(SCHEDULES, || {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            together(4, move |number| {
                let (count, changed) = &*shared;
                for _ in 0..2 {
                    if number < 2 {
                        *count.lock().expect("whole") += 1;
                        changed.notify_one();
                    } else {
                        let count = changed.wait_while(count.lock().expect("whole"), |count| *count == 0);
                        *count.expect("whole") -= 1;
                    }
                }
            });
        });
    }

    pub fn all_are_notified() {
        explore(SCHEDULES, || {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            together(4, move |number| {
                let (open, changed) = &*shared;
                if number == 0 {
                    *open.lock().expect("whole") = true;
                    changed.notify_all();
                } else {
                    drop(changed.wait_while(open.lock().expect("whole"), |open| !*open));
                }
            });
        });
    }

    pub fn waits_for_a_notification_may_time_out() {
        let timed_out = explore(SCHEDULES, || {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let waits = shared.clone();
            let waiter = spawn(move || {
                let guard = waits.0.lock().expect("whole");
                let (open, result) = waits.1.wait_timeout_while(guard, SOON, |open| !*open).expect("whole");
                assert_eq!(*open, !result.timed_out());
                if result.timed_out() {
                    assert!(u128::from(scheduler::now()) >= SOON.as_nanos());
                }
                scheduler::note(result.timed_out());
            });
            *shared.0.lock().expect("whole") = true;
            shared.1.notify_one();
            waiter.join().expect("no panic");
            let guard = shared.0.lock().expect("whole");
            assert!(shared.1.wait_timeout(guard, SOON).expect("whole").1.timed_out(), "nobody notifies");
        });
        assert!((1..SCHEDULES).contains(&timed_out), "{timed_out}");
    }

    pub fn values_are_made_once() {
        explore(SCHEDULES, || {
            let made = Arc::new(AtomicUsize::new(0));
            let (once, makes) = (Arc::new(OnceLock::new()), made.clone());
            let make = move || {
                yield_now();
                makes.fetch_add(1, Ordering::Relaxed) + 1
            };
            let lazy = Arc::new(LazyLock::new(make.clone()));
            let placed = once.clone();
            together(3, move |_| {
                assert!(once.get_or_init(make.clone()) <= &2);
                assert!(**lazy <= 2);
                assert_eq!(once.set(7), Err(7));
            });
            assert_eq!(made.load(Ordering::Relaxed), 2, "each once");
            assert!(placed.get().is_some() && !placed.is_poisoned());
        });
    }

    pub fn a_stopped_maker_poisons() {
        explore(SCHEDULES, || {
            let once = Arc::new(OnceLock::<u32>::new());
            let makes = once.clone();
            scheduler::start_stopping(move || assert_eq!(makes.get_or_init(|| scheduler::stop()), &0));
            scheduler::until_stopped();
            assert!(once.is_poisoned() && once.get().is_none());
        });
        let text = message(|| {
            explore(1, || {
                let lazy = Arc::new(LazyLock::<u32, _>::new(|| scheduler::stop()));
                let makes = lazy.clone();
                scheduler::start_stopping(move || assert_eq!(**makes, 0));
                scheduler::until_stopped();
                let _ = **lazy;
            });
        });
        assert!(text.contains("a thread was stopped while it made the value"), "{text}");
    }

    pub fn no_more_threads_than_permits() {
        explore(SCHEDULES, || {
            let (permits, inside) = (Arc::new(Semaphore::new(2)), AtomicUsize::new(0));
            let shared = permits.clone();
            together(4, move |_| {
                for _ in 0..2 {
                    let permit = shared.acquire();
                    assert!(inside.fetch_add(1, Ordering::Relaxed) < 2);
                    yield_now();
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                }
            });
            assert_eq!(permits.available_permits(), 2);
            let taken = (permits.try_acquire(), permits.try_acquire());
            assert!(permits.try_acquire().is_none() && permits.acquire_timeout(SOON).is_none());
            drop(taken);
        });
    }

    pub fn permits_wake_as_many() {
        explore(SCHEDULES, || {
            let events = Arc::new(Semaphore::new(0));
            let shared = events.clone();
            together(4, move |number| {
                if number == 0 {
                    shared.release(2);
                    shared.release(1);
                } else {
                    shared.acquire().forget();
                }
            });
            assert_eq!(events.available_permits(), 0);
        });
    }

    pub fn a_barrier_holds_each_generation() {
        explore(SCHEDULES, || {
            let (barrier, came, leaders) = (Barrier::new(3), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
            let led = leaders.clone();
            together(3, move |_| {
                for generation in 1..=3 {
                    came.fetch_add(1, Ordering::Relaxed);
                    let leads = barrier.wait().is_leader();
                    assert!(came.load(Ordering::Relaxed) >= 3 * generation, "all have come");
                    led.fetch_add(usize::from(leads), Ordering::Relaxed);
                }
            });
            assert_eq!(leaders.load(Ordering::Relaxed), 3, "one leader in each");
        });
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    notifications_are_not_lost,
    #[cfg(not(target_os = "none"))]
    all_are_notified,
    #[cfg(not(target_os = "none"))]
    waits_for_a_notification_may_time_out,
    #[cfg(not(target_os = "none"))]
    values_are_made_once,
    #[cfg(not(target_os = "none"))]
    a_stopped_maker_poisons,
    #[cfg(not(target_os = "none"))]
    no_more_threads_than_permits,
    #[cfg(not(target_os = "none"))]
    permits_wake_as_many,
    #[cfg(not(target_os = "none"))]
    a_barrier_holds_each_generation,
}
