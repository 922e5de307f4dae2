//! The locks whose waiters sleep, under a scheduler that may switch at every operation of their words: one thread at a time,
//! no lost wake-up, and what a stopped thread held is taken over and poisoned.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/scheduler.rs"]
mod scheduler;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::scheduler::{self, explore, message, together};
    use ashlar::sync::{Acquired, Condvar, Mutex, OnceLock, Rank, RawMutex, RwLock, Semaphore, Sleeping, TryLockError};
    use shuttle::thread::{spawn, yield_now};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const SCHEDULES: usize = 2000;
    const SOON: Duration = Duration::from_millis(1);

    /// Adds one to a number that others must not change meanwhile.
    fn add_one(number: &mut u64) {
        let seen = *number;
        yield_now();
        *number = seen + 1;
    }

    pub fn mutex_lets_one_in_at_a_time() {
        explore(SCHEDULES, || {
            let number = Arc::new(Mutex::new(0));
            let shared = number.clone();
            together(3, move |_| (0..3).for_each(|_| add_one(&mut shared.lock().expect("whole"))));
            assert_eq!(*number.lock().expect("whole"), 9);
        });
    }

    pub fn free_locks_do_not_enter_the_scheduler() {
        explore(1, || {
            let (mutex, lock, changed) = (Mutex::new(1), RwLock::new(2), Condvar::new());
            let (permits, made) = (Semaphore::new(1), OnceLock::new());
            *mutex.lock().expect("whole") += 1;
            *lock.write().expect("whole") += 1;
            assert_eq!(*mutex.try_lock().expect("free") + *lock.read().expect("whole"), 5);
            drop(permits.acquire());
            assert_eq!(made.get_or_init(|| 4), &4);
            changed.notify_one();
            changed.notify_all();
            assert_eq!(scheduler::entered(), 0);
        });
    }

    pub fn a_lock_wait_may_time_out() {
        let timed_out = explore(SCHEDULES, || {
            let mutex = Arc::new(RawMutex::new());
            let _ = mutex.lock();
            let (patient, hasty) = (mutex.clone(), mutex.clone());
            let patient = spawn(move || {
                assert_eq!(patient.lock(), Acquired::Free);
                patient.unlock();
            });
            let hasty = spawn(move || {
                let acquired = hasty.lock_until(1000);
                match acquired {
                    Some(_) => hasty.unlock(),
                    None => assert!(scheduler::now() >= 1000),
                }
                scheduler::note(acquired.is_none());
            });
            (0..3).for_each(|_| yield_now());
            mutex.unlock();
            patient.join().expect("no lost wake-up");
            hasty.join().expect("no lost wake-up");
        });
        assert!((1..SCHEDULES).contains(&timed_out), "{timed_out}");
    }

    pub fn trying_does_not_wait() {
        explore(SCHEDULES, || {
            let (mutex, lock) = (Arc::new(Mutex::new(1)), Arc::new(RwLock::new(2)));
            let held = (mutex.lock().expect("whole"), lock.read().expect("whole"));
            let (others, other) = (mutex.clone(), lock.clone());
            let tried = spawn(move || {
                assert!(matches!(others.try_lock(), Err(TryLockError::WouldBlock)));
                assert!(matches!(other.try_write(), Err(TryLockError::WouldBlock)));
                assert_eq!(*other.try_read().expect("readers share"), 2);
            });
            tried.join().expect("no panic");
            drop(held);
            assert_eq!(*mutex.try_lock().expect("free") + *lock.try_write().expect("free"), 3);
        });
    }

    pub fn relocking_panics() {
        let mutex = || {
            let mutex = Mutex::new(());
            let _held = mutex.lock();
            assert!(mutex.try_lock().is_err());
            drop(mutex.lock());
        };
        let write = || {
            let lock = RwLock::new(());
            let _held = lock.write();
            drop(lock.write());
        };
        let read = || {
            let lock = RwLock::new(());
            let _held = lock.write();
            drop(lock.read());
        };
        let programs: [fn(); 3] = [mutex, write, read];
        for program in programs {
            let text = message(|| assert_eq!(explore(1, program), 0));
            assert!(text.contains("a thread locks a mutex that it has locked already"), "{text}");
        }
    }

    pub fn a_mutex_is_taken_over_from_a_stopped_thread() {
        explore(SCHEDULES, || {
            let mutex = Arc::new(Mutex::new(0));
            let first = mutex.clone();
            scheduler::start_stopping(move || {
                let mut guard = first.lock().expect("whole");
                yield_now();
                *guard = 1;
                std::mem::forget(guard);
            });
            scheduler::until_stopped();
            assert!(mutex.is_poisoned());
            let shared = mutex.clone();
            together(2, move |_| {
                let mut value = shared.lock().expect_err("poisoned").into_inner();
                assert!(*value >= 1, "what the stopped thread wrote is seen");
                add_one(&mut value);
            });
            assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
            mutex.clear_poison();
            assert_eq!(*mutex.lock().expect("cleared"), 3);
        });
    }

    pub fn threads_that_sleep_learn_that_the_owner_was_stopped() {
        let late = explore(SCHEDULES, || {
            let mutex = Arc::new(Mutex::new(()));
            let held = mutex.lock().expect("whole");
            // Of those that sleep, one is woken and stopped with the lock; the others fell asleep under another owner.
            let start = |stops: bool| {
                let mutex = mutex.clone();
                let program = move || {
                    let guard = mutex.lock();
                    scheduler::note(!stops && guard.is_err());
                    if stops {
                        std::mem::forget(guard);
                    }
                };
                if stops {
                    scheduler::start_stopping(program);
                    None
                } else {
                    Some(spawn(program))
                }
            };
            let threads = [false, true, false].map(start);
            scheduler::until_waiting(3);
            drop(held);
            threads.into_iter().flatten().for_each(|thread| thread.join().expect("no panic"));
            scheduler::until_stopped();
            assert!(mutex.is_poisoned());
        });
        assert!(late > 0);
    }

    pub fn trying_takes_over_too() {
        explore(SCHEDULES, || {
            let (mutex, lock) = (Arc::new(Mutex::new(())), Arc::new(RwLock::new(1)));
            let (one, two) = (mutex.clone(), lock.clone());
            scheduler::start_stopping(move || std::mem::forget((one.lock(), two.write())));
            scheduler::until_stopped();
            assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
            assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
            assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
            lock.clear_poison();
            assert_eq!(*lock.try_read().expect("cleared"), 1);
        });
    }

    pub fn lock_api_locks_stand_on_the_raw_mutex() {
        explore(SCHEDULES, || {
            let number = Arc::new(lock_api::Mutex::<RawMutex, u64>::new(0));
            let shared = number.clone();
            together(3, move |_| add_one(&mut shared.lock()));
            assert_eq!(*number.try_lock_for(SOON).expect("free"), 3);
            let held = number.lock();
            let other = number.clone();
            spawn(move || assert!(other.is_locked() && other.try_lock().is_none())).join().expect("no panic");
            drop(held);
        });
        let text = message(|| {
            explore(1, || {
                let mutex = Arc::new(lock_api::Mutex::<RawMutex, u64>::new(0));
                let first = mutex.clone();
                scheduler::start_stopping(move || std::mem::forget(first.lock()));
                scheduler::until_stopped();
                drop(mutex.lock());
            });
        });
        assert!(text.contains("a lock's owner was stopped"), "{text}");
    }

    pub fn sleeping_locks_have_ranks() {
        explore(SCHEDULES, || {
            let number = Arc::new(Sleeping::new(Rank::Space, 0));
            let shared = number.clone();
            together(3, move |_| add_one(&mut shared.lock()));
            assert_eq!(*number.try_lock().expect("free"), 3);
        });
        let text = message(|| {
            explore(1, || {
                let (space, slot) = (Sleeping::new(Rank::Space, ()), Sleeping::new(Rank::Slot, ()));
                let _held = slot.lock();
                drop(space.lock());
            });
        });
        assert!(text.contains("lock of rank Space taken while"), "{text}");
    }

    pub fn readers_see_whole_writes() {
        let shared = explore(SCHEDULES, || {
            let lock = Arc::new(RwLock::new((0, 0)));
            let readers = Arc::new(AtomicUsize::new(0));
            let (both, count) = (lock.clone(), readers.clone());
            together(4, move |number| {
                if number < 2 {
                    for _ in 0..2 {
                        let mut pair = both.write().expect("whole");
                        add_one(&mut pair.0);
                        add_one(&mut pair.1);
                    }
                } else {
                    for _ in 0..2 {
                        let pair = both.read().expect("whole");
                        scheduler::note(count.fetch_add(1, Ordering::Relaxed) == 1);
                        let first = pair.0;
                        yield_now();
                        assert_eq!((first, first), *pair);
                        count.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
            assert_eq!(*lock.read().expect("whole"), (4, 4));
        });
        assert!(shared > 0, "two read at the same time");
    }

    pub fn a_writer_that_waits_keeps_readers_out() {
        explore(SCHEDULES, || {
            let lock = Arc::new(RwLock::new(0));
            let reads = lock.read().expect("whole");
            let writes = lock.clone();
            let writer = spawn(move || *writes.write().expect("whole") = 1);
            scheduler::until_waiting(1);
            assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
            let late = lock.clone();
            let reader = spawn(move || assert_eq!(*late.read().expect("whole"), 1, "the writer came first"));
            assert_eq!(*reads, 0);
            yield_now();
            drop(reads);
            writer.join().expect("no lost wake-up");
            reader.join().expect("no lost wake-up");
        });
    }

    pub fn a_stopped_writer_poisons() {
        explore(SCHEDULES, || {
            let lock = Arc::new(RwLock::new(0));
            let first = lock.clone();
            scheduler::start_stopping(move || {
                let mut guard = first.write().expect("whole");
                *guard = 1;
                std::mem::forget(guard);
            });
            let shared = lock.clone();
            scheduler::until_stopped();
            assert!(lock.is_poisoned());
            together(3, move |number| {
                if number < 2 {
                    assert!(*shared.read().expect_err("poisoned").into_inner() >= 1);
                } else {
                    add_one(&mut shared.write().expect_err("poisoned").into_inner());
                }
            });
            lock.clear_poison();
            assert_eq!(*lock.read().expect("cleared"), 2);
        });
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    mutex_lets_one_in_at_a_time,
    #[cfg(not(target_os = "none"))]
    free_locks_do_not_enter_the_scheduler,
    #[cfg(not(target_os = "none"))]
    a_lock_wait_may_time_out,
    #[cfg(not(target_os = "none"))]
    trying_does_not_wait,
    #[cfg(not(target_os = "none"))]
    relocking_panics,
    #[cfg(not(target_os = "none"))]
    a_mutex_is_taken_over_from_a_stopped_thread,
    #[cfg(not(target_os = "none"))]
    threads_that_sleep_learn_that_the_owner_was_stopped,
    #[cfg(not(target_os = "none"))]
    trying_takes_over_too,
    #[cfg(not(target_os = "none"))]
    lock_api_locks_stand_on_the_raw_mutex,
    #[cfg(not(target_os = "none"))]
    sleeping_locks_have_ranks,
    #[cfg(not(target_os = "none"))]
    readers_see_whole_writes,
    #[cfg(not(target_os = "none"))]
    a_writer_that_waits_keeps_readers_out,
    #[cfg(not(target_os = "none"))]
    a_stopped_writer_poisons,
}
