//! Cores to run the scheduler on: each thread is one of shuttle's, and the gate at its seat lets it go on when a core is
//! switched to it.

use ashlar::sync::parking::ThreadId;
use ashlar::sync::{Held, Waiting};
use ashlar::task::{Life, Name, Port, Priority, Scheduler, Thread};
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, MaxSteps, Runner};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const SEED: u64 = 0x5eed;
/// Threads at most, idle threads included.
const THREADS: usize = 16;
/// Cores at most.
pub const CORES: usize = 3;
/// What a look at the clock takes, in nanoseconds.
const LOOK: u64 = 100;

shuttle::thread_local! {
    /// Which record the shuttle thread is.
    static ME: Cell<usize> = const { Cell::new(usize::MAX) };
    static HELD: &'static Held = Box::leak(Box::new(Held::new()));
}

/// Ends a shuttle thread whose thread has ended.
struct Ended;

/// A thread's place in the simulation.
struct Seat {
    thread: Thread,
    /// Opened by who switches to it.
    gate: (Mutex<bool>, Condvar),
    core: AtomicUsize,
    /// A core stands on its stack.
    stands: AtomicBool,
}

pub struct Sim {
    seats: Vec<Seat>,
    pub clock: AtomicU64,
    kicked: [AtomicBool; CORES],
    alarms: [AtomicU64; CORES],
    taken: AtomicUsize,
    running: AtomicUsize,
}

pub type World = Scheduler<&'static Sim>;

pub fn step() {
    shuttle::thread::yield_now();
}

impl Sim {
    fn seat(&self) -> &Seat {
        &self.seats[ME.with(Cell::get)]
    }
}

// SAFETY: a gate gives the core to one shuttle thread and holds the one that opened it.
unsafe impl Port for &'static Sim {
    fn core(&self) -> usize {
        self.seat().core.load(Ordering::Relaxed)
    }

    fn current(&self) -> &'static Thread {
        &self.seats[ME.with(Cell::get)].thread
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(LOOK, Ordering::Relaxed)
    }

    fn set_alarm(&self, at: Option<u64>) {
        self.alarms[self.core()].store(at.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn kick(&self, core: usize) {
        step();
        self.kicked[core].store(true, Ordering::Relaxed);
    }

    fn find(&self, id: ThreadId) -> Option<&'static Thread> {
        self.seats.get(id.number() as usize - 1).map(|seat| &seat.thread)
    }

    unsafe fn switch(&self, from: &'static Thread, to: &'static Thread) {
        let index = |thread: &Thread| self.seats.iter().position(|seat| std::ptr::eq(&seat.thread, thread)).unwrap();
        let (from, to) = (&self.seats[index(from)], &self.seats[index(to)]);
        assert!(!to.stands.swap(true, Ordering::Relaxed), "TH-1: two cores on one stack");
        to.core.store(self.core(), Ordering::Relaxed);
        from.stands.store(false, Ordering::Relaxed);
        let ends = from.thread.life() != Life::Alive;
        *to.gate.0.lock().unwrap() = true;
        to.gate.1.notify_one();
        if ends {
            resume_unwind(Box::new(Ended));
        }
        self.pass(from);
    }

    fn retire(&self, thread: &'static Thread) {
        assert_ne!(thread.life(), Life::Alive);
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    fn sleep(&self) {
        let core = self.core();
        loop {
            step();
            // Nothing happens until a kick or an alarm: time passes.
            let next = self.alarms.iter().map(|alarm| alarm.load(Ordering::Relaxed)).min().unwrap();
            if next != u64::MAX {
                self.clock.fetch_max(next.min(self.clock.load(Ordering::Relaxed) + 50_000), Ordering::Relaxed);
            }
            let due = self.alarms[core].load(Ordering::Relaxed) <= self.clock.load(Ordering::Relaxed);
            if due || self.kicked[core].load(Ordering::Relaxed) || self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    fn poll(&self) {
        step();
        let core = self.core();
        let due = self.alarms[core].load(Ordering::Relaxed) <= self.clock.load(Ordering::Relaxed);
        if self.kicked[core].swap(false, Ordering::Relaxed) || due {
            if due {
                self.alarms[core].store(u64::MAX, Ordering::Relaxed);
            }
            scheduler(self).interrupt();
        }
    }
}

impl Sim {
    /// Waits until somebody switches to `seat`.
    fn pass(&self, seat: &Seat) {
        let mut open = seat.gate.0.lock().unwrap();
        while !*open {
            open = seat.gate.1.wait(open).unwrap();
        }
        *open = false;
    }
}

thread_local! {
    /// The world of the schedule that runs: schedules of one test run one after another, on one system thread.
    static WORLD: Cell<Option<&'static World>> = const { Cell::new(None) };
}

fn scheduler(_: &Sim) -> &'static World {
    world()
}

pub fn world() -> &'static World {
    WORLD.get().expect("a schedule runs")
}

pub fn sim() -> &'static Sim {
    world().port()
}

/// A moment in application mode: time passes, and an interrupt is taken if one is pending.
pub fn work(nanoseconds: u64) {
    sim().clock.fetch_add(nanoseconds, Ordering::Relaxed);
    sim().poll();
}

pub fn me() -> &'static Thread {
    sim().current()
}

pub fn id() -> ThreadId {
    me().id().unwrap()
}

pub fn key<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}

/// Makes a thread that runs `body`.
pub fn spawn(priority: Priority, body: impl FnOnce() + Send + 'static) -> (&'static Thread, ThreadId) {
    let sim = sim();
    let number = sim.taken.fetch_add(1, Ordering::Relaxed);
    let seat: &'static Seat = &sim.seats[number];
    let id = ThreadId::new(number as u64 + 1).unwrap();
    seat.thread.begin(id, Name::new("test").0, priority);
    sim.running.fetch_add(1, Ordering::Relaxed);
    shuttle::thread::spawn(move || {
        let run = || {
            ME.with(|me| me.set(number));
            sim.pass(seat);
            world().arrive();
            body();
            world().end(Life::Ended)
        };
        let payload = catch_unwind(AssertUnwindSafe(run)).err().unwrap();
        if payload.downcast_ref::<Ended>().is_none() {
            resume_unwind(payload);
        }
    });
    world().start(&seat.thread);
    (&seat.thread, id)
}

/// Ends what was prepared: with a sleep, or not.
pub fn park_if(waits: bool) {
    if waits {
        world().park(None);
    } else {
        world().cancel();
    }
}

/// Waits until `thread` has ended.
pub fn join((thread, id): (&'static Thread, ThreadId)) -> Life {
    while thread.life_of(id) == Life::Alive {
        world().prepare(World::end_key(thread), None);
        park_if(thread.life_of(id) == Life::Alive);
    }
    thread.life_of(id)
}

/// A core's idle thread, until all threads have ended.
fn idle_thread(number: usize) {
    let sim = sim();
    ME.with(|me| me.set(number));
    world().join(&sim.seats[number].thread);
    while sim.running.load(Ordering::Relaxed) > 0 {
        world().idle(|| false);
    }
}

/// Runs `main` as the first thread on `cores` cores, in `schedules` orders.
pub fn explore(cores: usize, schedules: usize, main: impl Fn() + Send + Sync + Clone + 'static) {
    Waiting {
        held: || HELD.with(|held| *held),
        core: || 0,
        relax: shuttle::thread::yield_now,
        breathe: || (),
        switch: shuttle::thread::yield_now,
    }
    .install();
    let mut config = Config::default();
    config.max_steps = MaxSteps::FailAfter(2_000_000);
    Runner::new(RandomScheduler::new_from_seed(SEED, schedules), config).run(move || {
        let seat = |number| Seat {
            thread: Thread::new(),
            gate: (Mutex::new(false), Condvar::new()),
            core: AtomicUsize::new(if number < cores { number } else { usize::MAX }),
            stands: AtomicBool::new(number < cores),
        };
        let sim: &'static Sim = Box::leak(Box::new(Sim {
            seats: (0..THREADS).map(seat).collect(),
            clock: AtomicU64::new(1),
            kicked: [const { AtomicBool::new(false) }; CORES],
            alarms: [const { AtomicU64::new(u64::MAX) }; CORES],
            taken: AtomicUsize::new(cores),
            running: AtomicUsize::new(0),
        }));
        WORLD.set(Some(Box::leak(Box::new(Scheduler::new(sim)))));
        for number in 0..cores {
            let id = ThreadId::new(number as u64 + 1).unwrap();
            sim.seats[number].thread.begin(id, Name::new("idle").0, Priority::Idle);
        }
        ME.with(|me| me.set(0));
        world().join(&sim.seats[0].thread);
        spawn(Priority::Application, main.clone());
        let others: Vec<_> = (1..cores).map(|number| shuttle::thread::spawn(move || idle_thread(number))).collect();
        idle_thread(0);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}
