//! Threads that sleep and wake through `ashlar::sync::parking`, run one at a time by a scheduler that may switch at every
//! operation of a lock's word. The order is drawn from a seed, so a failure comes back.

#![allow(dead_code, reason = "no test file uses all of it")]

use ashlar::sync::parking::{Parking, Prepared, ThreadId, Wake};
use ashlar::sync::{Held, Waiting};
use shuttle::current::try_get_current_task;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use shuttle::{Config, MaxSteps, Runner};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SEED: u64 = 0x5eed;
/// Far more than any schedule takes that ends.
const STEPS: usize = 200_000;
/// Of this many looks at the clock of a thread that sleeps until then, one finds the deadline reached.
const PATIENCE: u32 = 6;

/// A thread that has prepared and neither parked to the end nor cancelled.
#[derive(Clone, Copy, Default)]
struct Waiter {
    woken: bool,
}

#[derive(Default)]
struct State {
    waiters: BTreeMap<ThreadId, Waiter>,
    /// Who waits, and where; who was woken is not in it.
    queue: Vec<(usize, ThreadId)>,
    owners: BTreeMap<usize, ThreadId>,
    stopped: BTreeSet<ThreadId>,
    now: u64,
    entered: usize,
}

/// The threads of one schedule.
#[derive(Default)]
struct Lot {
    state: Mutex<State>,
    changed: Condvar,
}

thread_local! {
    // All threads of a schedule run on one thread of the host.
    static LOT: RefCell<Arc<Lot>> = RefCell::default();
    static HELD: RefCell<Vec<&'static Held>> = const { RefCell::new(Vec::new()) };
    static NOTED: Cell<usize> = const { Cell::new(0) };
}

fn lot() -> Arc<Lot> {
    LOT.with(|lot| lot.borrow().clone())
}

fn me() -> ThreadId {
    try_get_current_task().map_or(ThreadId::BOOT, |task| ThreadId::new(usize::from(task) as u64 + 1).expect("small"))
}

impl Lot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn enter(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.entered += 1;
        state
    }
}

impl State {
    /// Wakes up to `count` of those at keys for which `chosen` holds: any of them, as their priorities may be.
    fn wake(&mut self, chosen: impl Fn(usize) -> bool, count: usize) -> usize {
        for woken in 0..count {
            let found = (0..self.queue.len()).filter(|&place| chosen(self.queue[place].0)).collect::<Vec<_>>();
            if found.is_empty() {
                return woken;
            }
            let (_, thread) = self.queue.remove(found[thread_rng().gen_range(0..found.len())]);
            self.waiters.get_mut(&thread).expect("who is queued waits").woken = true;
        }
        count
    }

    fn leave(&mut self, thread: ThreadId) {
        self.waiters.remove(&thread).expect("prepared");
        self.queue.retain(|&(_, waiter)| waiter != thread);
    }
}

fn prepare(key: usize, owner: Option<ThreadId>) -> Prepared {
    let (lot, me) = (lot(), me());
    assert!(owner != Some(me), "a thread waits for itself");
    let mut state = lot.enter();
    assert!(!state.waiters.contains_key(&me), "prepared twice");
    if owner.is_some_and(|owner| state.stopped.contains(&owner)) {
        return Prepared::OwnerStopped;
    }
    state.waiters.insert(me, Waiter::default());
    state.queue.push((key, me));
    match owner {
        Some(owner) => state.owners.insert(key, owner),
        None => state.owners.remove(&key),
    };
    Prepared::Ready
}

fn park(deadline: Option<u64>) -> Wake {
    let (lot, me) = (lot(), me());
    let mut state = lot.enter();
    loop {
        let waiter = *state.waiters.get(&me).expect("who parks has prepared");
        let timed_out = deadline.is_some_and(|deadline| state.now >= deadline);
        if waiter.woken || timed_out {
            state.leave(me);
            return if waiter.woken { Wake::Woken } else { Wake::TimedOut };
        }
        let Some(deadline) = deadline else {
            state = lot.changed.wait(state).expect("no panic");
            continue;
        };
        // The clock goes on at a random point, surely when all who could run wait for it.
        drop(state);
        shuttle::thread::yield_now();
        state = lot.lock();
        if thread_rng().gen_range(0..PATIENCE) == 0 {
            state.now = state.now.max(deadline);
        }
    }
}

fn cancel() {
    lot().enter().leave(me());
}

fn wake(key: usize, count: usize) -> usize {
    let lot = lot();
    let mut state = lot.enter();
    let woken = state.wake(|waited| waited == key, count);
    state.owners.remove(&key);
    lot.changed.notify_all();
    woken
}

fn own(key: usize) {
    let lot = lot();
    let mut state = lot.enter();
    if state.queue.iter().any(|&(waited, _)| waited == key) {
        state.owners.insert(key, me());
    }
}

fn stopped(thread: ThreadId) -> bool {
    lot().enter().stopped.contains(&thread)
}

/// Ends the running thread as a panic would: nothing of it is unwound, nothing it held is given back.
pub fn stop() -> ! {
    let (lot, me) = (lot(), me());
    let mut state = lot.lock();
    state.stopped.insert(me);
    let owners = state.owners.clone();
    state.wake(|key| owners.get(&key) == Some(&me), usize::MAX);
    lot.changed.notify_all();
    drop(state);
    loop {
        shuttle::thread::park();
    }
}

/// Starts a thread that ends in [`stop`]. The schedule does not wait for it.
pub fn start_stopping(program: impl FnOnce() + Send + 'static) {
    // A thread would have to end; a task whose handle is dropped need not.
    drop(shuttle::future::spawn(async move {
        program();
        stop();
    }));
}

fn waiting() -> usize {
    lot().lock().waiters.len()
}

/// Lets others run until `count` threads sleep or are about to.
pub fn until_waiting(count: usize) {
    while waiting() != count {
        shuttle::thread::yield_now();
    }
}

/// Lets others run until a thread has been stopped.
pub fn until_stopped() {
    while lot().lock().stopped.is_empty() {
        shuttle::thread::yield_now();
    }
}

/// How often the scheduler was entered, for anything but the running thread's number and the clock.
pub fn entered() -> usize {
    lot().lock().entered
}

/// The virtual clock.
pub fn now() -> u64 {
    lot().lock().now
}

/// Counts a schedule as one on which something happened.
pub fn note(happened: bool) {
    NOTED.set(NOTED.get() + usize::from(happened));
}

fn held() -> &'static Held {
    let number = try_get_current_task().map_or(0, usize::from);
    HELD.with_borrow_mut(|held| {
        while held.len() <= number {
            held.push(Box::leak(Box::default()));
        }
        held[number]
    })
}

fn switch() {
    if try_get_current_task().is_some() {
        shuttle::thread::yield_now();
    }
}

/// Makes this the scheduler of the whole test program.
pub fn install() {
    Waiting { held, core: || 0, relax: switch, breathe: || (), switch }.install();
    let spin = || try_get_current_task().is_some() && thread_rng().gen_range(0..4) == 0;
    Parking { me, prepare, park, cancel, wake, own, stopped, now, spin }.install();
}

/// Runs `program` under each of `schedules` schedules. Returns how many were noted.
///
/// # Panics
///
/// If it panics, if all threads sleep, or if it does not end, on any schedule.
pub fn explore(schedules: usize, program: impl Fn() + Send + Sync + 'static) -> usize {
    install();
    // A failure leaves threads behind that the host takes for panicking: not in a thread that runs other tests.
    let explorer = std::thread::spawn(move || {
        let mut config = Config::default();
        config.max_steps = MaxSteps::FailAfter(STEPS);
        Runner::new(RandomScheduler::new_from_seed(SEED, schedules), config).run(move || {
            LOT.set(Arc::default());
            program();
        });
        NOTED.get()
    });
    explorer.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// Runs `program` in `threads` threads, each with its number, and waits for their end.
pub fn together(threads: usize, program: impl Fn(usize) + Send + Sync + 'static) {
    let program = Arc::new(program);
    let start = |number| {
        let program = program.clone();
        shuttle::thread::spawn(move || program(number))
    };
    let started: Vec<_> = (0..threads).map(start).collect();
    started.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// What `program` panics with.
pub fn message(program: impl FnOnce()) -> String {
    let program = std::panic::AssertUnwindSafe(program);
    let payload = std::panic::catch_unwind(program).expect_err("it panics");
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    payload.downcast_ref::<String>().cloned().or(text).expect("a message")
}
