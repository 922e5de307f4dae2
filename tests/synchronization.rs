//! Locks, conditions and channels between the machine's own threads: nothing is lost, nothing is done twice, whoever waits is
//! told of what became of what it waits for.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run cores=1",
    "run cores=4",
    "run cores=8 gic=3 el=2",
    "run machine=raspi4b dtb=tests/data/pi4.dtb",
    "output thread holder of the application panicked at ",
    "output it is stopped, alone",
    "output test result: ok"
);

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::vec;
    use alloc::vec::Vec;
    use ashlar::sync::channel::{RecvTimeoutError, TryRecvError, channel, sync_channel};
    use ashlar::sync::{Barrier, Condvar, LazyLock, Mutex, OnceLock, RawMutex, RwLock, Semaphore};
    use ashlar::thread::{self, Builder};
    use ashlar::time;
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use core::time::Duration;

    const THREADS: usize = 12;

    /// Runs `body` in that many threads, each with its number, and waits for their ends.
    fn together(threads: usize, body: impl Fn(usize) + Sync) {
        thread::scope(|scope| {
            for number in 0..threads {
                let body = &body;
                scope.spawn(move || body(number));
            }
        });
    }

    pub fn a_mutex_counts_exactly() {
        // Two counters that no single instruction changes together.
        let counters = Mutex::new((0_usize, 0_usize));
        together(THREADS, |number| {
            for turn in 0..400 {
                let mut counters = counters.lock().unwrap();
                counters.0 += 1;
                if turn % 64 == number {
                    thread::yield_now();
                }
                counters.1 += 1;
                assert_eq!(counters.0, counters.1, "one thread at a time");
            }
        });
        assert_eq!(counters.into_inner().unwrap(), (THREADS * 400, THREADS * 400));
    }

    /// Takes what `producers` sent, each its numbers from 0 on, and sees that each came once, and in its producer's order.
    fn consume(values: &mut dyn Iterator<Item = (usize, usize)>, next: &mut [Option<usize>]) -> usize {
        values
            .map(|(producer, number)| {
                assert!(next[producer] < Some(number), "producer {producer}: {number} after {:?}", next[producer]);
                next[producer] = Some(number);
                number
            })
            .sum()
    }

    const PRODUCERS: usize = 4;
    const NUMBERS: usize = 300;
    const SUM: usize = PRODUCERS * (NUMBERS * (NUMBERS - 1) / 2);

    pub fn channels_deliver_each_value_once() {
        for bound in [None, Some(0), Some(3)] {
            let sum = AtomicUsize::new(0);
            let count = AtomicUsize::new(0);
            thread::scope(|scope| {
                let (sender, bounded, receiver) = match bound {
                    None => {
                        let (sender, receiver) = channel();
                        (Some(sender), None, receiver)
                    }
                    Some(bound) => {
                        let (sender, receiver) = sync_channel(bound);
                        (None, Some(sender), receiver)
                    }
                };
                for producer in 0..PRODUCERS {
                    let (sender, bounded) = (sender.clone(), bounded.clone());
                    scope.spawn(move || {
                        for number in 0..NUMBERS {
                            if let Some(sender) = &sender {
                                sender.send((producer, number)).unwrap();
                            }
                            if let Some(sender) = &bounded {
                                sender.send((producer, number)).unwrap();
                            }
                        }
                    });
                }
                for _ in 0..3 {
                    let (receiver, sum, count) = (receiver.clone(), &sum, &count);
                    scope.spawn(move || {
                        let mut next = [None; PRODUCERS];
                        let mut values = receiver.iter().inspect(|_| _ = count.fetch_add(1, Ordering::Relaxed));
                        sum.fetch_add(consume(&mut values, &mut next), Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(count.into_inner(), PRODUCERS * NUMBERS, "bound {bound:?}");
            assert_eq!(sum.into_inner(), SUM, "bound {bound:?}");
        }
    }

    pub fn receiving_waits_until_its_deadline() {
        let (sender, receiver) = channel::<u32>();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let start = time::now();
        assert_eq!(receiver.recv_timeout(Duration::from_micros(800)), Err(RecvTimeoutError::Timeout));
        assert!(start.elapsed() >= Duration::from_micros(800));
        thread::scope(|scope| {
            scope.spawn(move || sender.send(5).unwrap());
            assert_eq!(receiver.recv_timeout(Duration::from_secs(100)), Ok(5));
        });
        assert!(start.elapsed() < Duration::from_secs(100));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(100)), Err(RecvTimeoutError::Disconnected));
    }

    pub fn conditions_hand_over_to_and_fro() {
        let (turn, changed) = (Mutex::new(0_usize), Condvar::new());
        together(3, |number| {
            for round in 0..150 {
                let wanted = 3 * round + number;
                let mut turn = changed.wait_while(turn.lock().unwrap(), |turn| *turn != wanted).unwrap();
                *turn += 1;
                changed.notify_all();
            }
        });
        assert_eq!(turn.into_inner().unwrap(), 450);
    }

    /// As many are woken as notified: the others sleep on.
    pub fn one_notification_wakes_one() {
        let (state, come) = (Mutex::new((0_usize, 0_usize)), Condvar::new());
        let woken = Condvar::new();
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    let mut guard = state.lock().unwrap();
                    guard.0 += 1;
                    woken.notify_one();
                    // A ticket is left for each notification: who wakes without one sleeps again.
                    guard = come.wait_while(guard, |state| state.1 == 0).unwrap();
                    guard.1 -= 1;
                    guard.0 -= 1;
                    woken.notify_one();
                });
            }
            let mut guard = woken.wait_while(state.lock().unwrap(), |state| state.0 != 5).unwrap();
            for left in (0..5).rev() {
                guard.1 += 1;
                come.notify_one();
                guard = woken.wait_while(guard, |state| state.0 != left).unwrap();
                assert_eq!(guard.1, 0);
            }
        });
    }

    pub fn conditions_time_out_and_never_early() {
        let (mutex, never) = (Mutex::new(false), Condvar::new());
        together(4, |number| {
            for round in 1..4 {
                let timeout = Duration::from_micros(300 * (number as u64 + round));
                let start = time::now();
                let guard = mutex.lock().unwrap();
                let (guard, result) = never.wait_timeout_while(guard, timeout, |come| !*come).unwrap();
                assert!(result.timed_out() && !*guard);
                assert!(start.elapsed() >= timeout, "{:?} of {timeout:?}", start.elapsed());
            }
        });
    }

    pub fn readers_see_pairs_and_writers_write_them() {
        let (pair, writing) = (RwLock::new((0_usize, 0_usize)), AtomicUsize::new(0));
        let readers = AtomicUsize::new(0);
        together(THREADS, |number| {
            for _ in 0..150 {
                if number % 4 == 0 {
                    let mut pair = pair.write().unwrap();
                    assert_eq!(writing.fetch_add(1, Ordering::Relaxed), 0);
                    pair.0 += 1;
                    thread::yield_now();
                    pair.1 += 1;
                    writing.fetch_sub(1, Ordering::Relaxed);
                } else {
                    let pair = pair.read().unwrap();
                    readers.fetch_add(1, Ordering::Relaxed);
                    assert_eq!((pair.0, writing.load(Ordering::Relaxed)), (pair.1, 0));
                }
            }
        });
        assert_eq!(pair.into_inner().unwrap(), (THREADS / 4 * 150, THREADS / 4 * 150));
        assert_eq!(readers.into_inner(), THREADS * 3 / 4 * 150);
    }

    /// All readers are in at once: each waits for all others while it has the lock.
    pub fn readers_do_not_keep_readers_out() {
        let (lock, together_in) = (RwLock::new(7), Barrier::new(6));
        together(6, |_| {
            let value = lock.read().unwrap();
            together_in.wait();
            assert_eq!(*value, 7);
        });
    }

    pub fn a_barrier_separates_generations() {
        const ROUNDS: usize = 40;
        let (barrier, leaders) = (Barrier::new(6), AtomicUsize::new(0));
        let come = [const { AtomicUsize::new(0) }; ROUNDS];
        together(6, |_| {
            for (round, come_now) in come.iter().enumerate() {
                come_now.fetch_add(1, Ordering::Relaxed);
                leaders.fetch_add(usize::from(barrier.wait().is_leader()), Ordering::Relaxed);
                assert_eq!(come_now.load(Ordering::Relaxed), 6, "round {round}");
                let ahead = come.get(round + 2).map_or(0, |come| come.load(Ordering::Relaxed));
                assert_eq!(ahead, 0, "nobody is two rounds ahead");
            }
        });
        assert_eq!(leaders.into_inner(), ROUNDS);
    }

    pub fn a_semaphore_keeps_its_limit() {
        let (semaphore, inside, full) = (Semaphore::new(3), AtomicUsize::new(0), Barrier::new(3));
        together(3, |_| {
            let _permit = semaphore.acquire();
            // All three are inside.
            full.wait();
        });
        together(THREADS, |_| {
            for _ in 0..60 {
                let permit = semaphore.acquire();
                let now = inside.fetch_add(1, Ordering::Relaxed) + 1;
                assert!(now <= 3, "{now} with 3 permits");
                thread::yield_now();
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            }
        });
        assert_eq!(semaphore.available_permits(), 3);
        let permits = [(); 3].map(|()| semaphore.acquire());
        let start = time::now();
        assert!(semaphore.acquire_timeout(Duration::from_micros(500)).is_none());
        assert!(start.elapsed() >= Duration::from_micros(500));
        drop(permits);
    }

    pub fn values_are_made_once() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        fn make() -> usize {
            // Slow, so that all come while it is being made.
            thread::sleep(Duration::from_millis(1));
            40 + MADE.fetch_add(1, Ordering::Relaxed)
        }
        static LAZY: LazyLock<usize> = LazyLock::new(make);
        let once = OnceLock::new();
        together(THREADS, |_| {
            assert_eq!(*LAZY, 40);
            assert_eq!(*once.get_or_init(make), 41);
        });
        assert_eq!((MADE.load(Ordering::Relaxed), once.set(1)), (2, Err(1)));
    }

    /// A panic stops the holder alone: those who sleep for the lock, and those who come later, get it with an error.
    pub fn a_stopped_holder_poisons_for_all() {
        static LOCK: Mutex<(usize, &str)> = Mutex::new((0, "whole"));
        let (holds, sleeping) = (Semaphore::new(0), AtomicUsize::new(0));
        let poisoned = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (holds, sleeping, poisoned) = (&holds, &sleeping, &poisoned);
            let holder = Builder::new().name("holder").isolate();
            let holder = holder.spawn_scoped(scope, move || {
                let mut value = LOCK.lock().unwrap();
                value.1 = "half";
                holds.release(5);
                while sleeping.load(Ordering::Relaxed) < 5 {
                    thread::yield_now();
                }
                // By then those who said so sleep, or spin for a little while.
                thread::sleep(Duration::from_millis(2));
                panic!("asked to");
            });
            let holder = holder.unwrap();
            for _ in 0..5 {
                scope.spawn(move || {
                    holds.acquire().forget();
                    sleeping.fetch_add(1, Ordering::Relaxed);
                    let mut value = LOCK.lock().expect_err("its holder was stopped").into_inner();
                    assert_eq!(value.1, "half");
                    value.0 += 1;
                    poisoned.fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(holder.join().is_err());
            // Taken, or poisoned.
            assert!(LOCK.try_lock().is_err());
        });
        assert!(LOCK.is_poisoned());
        assert_eq!((LOCK.lock().unwrap_err().into_inner().0, poisoned.into_inner()), (5, 5));
        LOCK.clear_poison();
        assert_eq!(LOCK.lock().unwrap().0, 5);
    }

    /// The same for a writer, and for whoever makes a value; a condition's waiters come back to a poisoned mutex.
    pub fn stopped_threads_poison_all_kinds_of_locks() {
        static PAIR: RwLock<u32> = RwLock::new(1);
        static STATE: Mutex<bool> = Mutex::new(false);
        static CHANGED: Condvar = Condvar::new();
        let stop = |body: fn()| {
            let stopped = Builder::new().name("holder").isolate().spawn(body).unwrap().join();
            assert!(stopped.is_err());
        };
        stop(|| {
            let _writes = PAIR.write().unwrap();
            panic!("asked to");
        });
        assert_eq!(*PAIR.read().unwrap_err().into_inner(), 1);
        let waiting = AtomicBool::new(false);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let guard = STATE.lock().unwrap();
                waiting.store(true, Ordering::Relaxed);
                CHANGED.wait_while(guard, |changed| !*changed).is_err()
            });
            while !waiting.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            stop(|| {
                let mut state = STATE.lock().unwrap();
                *state = true;
                CHANGED.notify_all();
                panic!("asked to");
            });
            assert_eq!(waiter.join(), Ok(true), "the waiter is told");
        });
    }

    /// The raw lock, as generic code of other crates uses it.
    pub fn raw_mutexes_carry_lock_api() {
        static LOCK: lock_api::Mutex<RawMutex, usize> = lock_api::Mutex::new(0);
        together(THREADS, |_| (0..200).for_each(|_| *LOCK.lock() += 1));
        assert_eq!(*LOCK.lock(), THREADS * 200);
        let held = LOCK.lock();
        assert!(LOCK.try_lock().is_none());
        drop(held);
        assert!(LOCK.try_lock().is_some());
    }

    /// Pieces of all sizes, freed by other threads than those that made them.
    pub fn the_heap_is_everybodys() {
        let senders: Vec<_> = (0..THREADS).map(|_| channel::<(u8, Vec<u8>)>()).collect();
        let check = |(value, bytes): (u8, Vec<u8>)| assert!(bytes.iter().all(|&byte| byte == value));
        together(THREADS, |number| {
            let (to, from) = (&senders[(number + 1) % THREADS].0, &senders[number].1);
            let mut kept: Vec<(u8, Vec<u8>)> = Vec::new();
            for round in 0..80 {
                let value = (number * 80 + round) as u8;
                let size = [24, 200, 1500, 5000, 70_000][(number + round) % 5];
                let mut bytes = vec![value; size];
                bytes.extend((0..round).map(|_| value));
                match round % 3 {
                    0 => to.send((value, bytes)).unwrap(),
                    1 => kept.push((value, bytes)),
                    _ => check((value, bytes)),
                }
                if round % 4 == 0 {
                    check(from.recv_timeout(Duration::from_millis(1)).unwrap_or_default());
                }
            }
            kept.into_iter().for_each(check);
        });
        senders.iter().for_each(|(_, from)| from.try_iter().for_each(check));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    a_mutex_counts_exactly,
    #[cfg(target_os = "none")]
    channels_deliver_each_value_once,
    #[cfg(target_os = "none")]
    receiving_waits_until_its_deadline,
    #[cfg(target_os = "none")]
    conditions_hand_over_to_and_fro,
    #[cfg(target_os = "none")]
    one_notification_wakes_one,
    #[cfg(target_os = "none")]
    conditions_time_out_and_never_early,
    #[cfg(target_os = "none")]
    readers_see_pairs_and_writers_write_them,
    #[cfg(target_os = "none")]
    readers_do_not_keep_readers_out,
    #[cfg(target_os = "none")]
    a_barrier_separates_generations,
    #[cfg(target_os = "none")]
    a_semaphore_keeps_its_limit,
    #[cfg(target_os = "none")]
    values_are_made_once,
    #[cfg(target_os = "none")]
    a_stopped_holder_poisons_for_all,
    #[cfg(target_os = "none")]
    stopped_threads_poison_all_kinds_of_locks,
    #[cfg(target_os = "none")]
    raw_mutexes_carry_lock_api,
    #[cfg(target_os = "none")]
    the_heap_is_everybodys,
}
