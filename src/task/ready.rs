//! Threads that are ready: a queue for each core, lists by priority; and how long who may run.
//!
//! A woken thread goes to the core that it ran on last if that one is idle, else to any idle one, else back to its own. A
//! core without work takes from the others, and a core where threads wait hands those it leaves to cores where fewer do.
//! While application threads are ready, background threads run on a core's *credit*, which grows with the time that
//! application threads run there: [`BACKGROUND_PERCENT`] of it unless set otherwise, up to one [`QUANTUM`], which is used at once when it is
//! full.

use super::thread::{PRIORITIES, Priority, Thread};
use super::{Port, Scheduler};
use crate::sync::{Rank, Ranked};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use intrusive_collections::{
    KeyAdapter, LinkedList, LinkedListAtomicLink, RBTree, RBTreeAtomicLink, intrusive_adapter,
};

/// How long a thread runs while others of its priority are ready, in nanoseconds.
pub const SLICE: u64 = 2_000_000;
/// How long background threads run at once on a core's credit.
pub const QUANTUM: u64 = 1_000_000;
/// The share of a core that background threads get while application threads are ready, unless it was set otherwise.
pub const BACKGROUND_PERCENT: u64 = 5;

intrusive_adapter!(pub(super) ReadyAdapter = &'static Thread: Thread { ready_link => LinkedListAtomicLink });
intrusive_adapter!(pub(super) TimerAdapter = &'static Thread: Thread { timer_link => RBTreeAtomicLink });

impl KeyAdapter<'_> for TimerAdapter {
    type Key = u64;
    fn get_key(&self, thread: &Thread) -> u64 {
        thread.deadline.load(Ordering::Relaxed)
    }
}

/// A core's queue.
#[derive(Default)]
pub(super) struct Ready {
    lists: [LinkedList<ReadyAdapter>; PRIORITIES],
}

impl Ready {
    const fn new() -> Self {
        Ready { lists: [const { LinkedList::new(ReadyAdapter::NEW) }; PRIORITIES] }
    }
}

/// What leaves its core, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Leaving {
    /// It goes on later.
    Ready = 0,
    /// It waits.
    Parked = 1,
    /// It never comes back.
    Ended = 2,
    /// It is its core's idle thread.
    Idle = 3,
}

/// What the scheduler keeps of a core. Atomics without a lock's name are the core's own to write.
pub(super) struct CoreState {
    pub(super) ready: Ranked<Ready>,
    /// How many threads each list of `ready` has: written under its lock, read by everyone as a hint.
    counts: [AtomicU32; PRIORITIES],
    pub(super) timers: Ranked<RBTree<TimerAdapter>>,
    /// The earliest deadline among `timers`. Under their lock.
    pub(super) next_deadline: AtomicU64,
    idle_thread: AtomicPtr<Thread>,
    /// The priority that runs; [`NOBODY`] when it is the idle thread.
    running: AtomicU8,
    /// When the running thread's slice ends.
    pub(super) slice_end: AtomicU64,
    /// Whether an interrupt will end the running thread's slice: without others ready there is none.
    pub(super) ticks: AtomicBool,
    /// Until when time was accounted.
    accounted: AtomicU64,
    /// Nanoseconds that background threads may take from application threads.
    credit: AtomicI64,
    /// A background thread runs on the credit.
    spends: AtomicBool,
    /// The thread that the core has just left.
    pub(super) left: AtomicPtr<Thread>,
    /// A [`Leaving`].
    pub(super) leaving: AtomicU8,
    pub(super) switches: AtomicU64,
}

/// A priority below all.
const NOBODY: u8 = PRIORITIES as u8;

impl CoreState {
    /// All zeros, which take no room in the image: [`CoreState::join`] makes the state of a core of it.
    pub(super) const fn new() -> Self {
        CoreState {
            ready: Ranked::new(Rank::Run, Ready::new()),
            counts: [const { AtomicU32::new(0) }; PRIORITIES],
            timers: Ranked::new(Rank::Run, RBTree::new(TimerAdapter::NEW)),
            next_deadline: AtomicU64::new(0),
            idle_thread: AtomicPtr::new(null_mut()),
            running: AtomicU8::new(0),
            slice_end: AtomicU64::new(0),
            ticks: AtomicBool::new(false),
            accounted: AtomicU64::new(0),
            credit: AtomicI64::new(0),
            spends: AtomicBool::new(false),
            left: AtomicPtr::new(null_mut()),
            leaving: AtomicU8::new(0),
            switches: AtomicU64::new(0),
        }
    }

    pub(super) fn join(&self, idle: &'static Thread, now: u64) {
        self.idle_thread.store(core::ptr::from_ref(idle).cast_mut(), Ordering::Relaxed);
        self.running.store(NOBODY, Ordering::Relaxed);
        self.next_deadline.store(u64::MAX, Ordering::Relaxed);
        self.accounted.store(now, Ordering::Relaxed);
    }

    /// The thread that runs when no other does.
    pub(super) fn idle_thread(&self) -> &'static Thread {
        // SAFETY: `join` stored a reference that lives as long as the machine, before the core ran any other thread.
        unsafe { self.idle_thread.load(Ordering::Relaxed).as_ref() }.expect("the core has joined")
    }

    /// Why the core has left the thread that it left last.
    pub(super) fn leaving(&self) -> Leaving {
        let all = [Leaving::Ready, Leaving::Parked, Leaving::Ended, Leaving::Idle];
        all[self.leaving.load(Ordering::Relaxed) as usize]
    }

    /// How many threads of `priority` are ready: a hint, for who does not hold the queue's lock.
    fn count(&self, priority: Priority) -> u32 {
        self.counts[priority as usize].load(Ordering::Relaxed)
    }

    /// How many threads are ready.
    pub(super) fn waiting(&self) -> u32 {
        Priority::ALL.into_iter().map(|priority| self.count(priority)).sum()
    }

    /// Whether any thread of `priority` or above is ready.
    pub(super) fn any(&self, priority: Priority) -> bool {
        Priority::ALL.iter().take_while(|&&other| other <= priority).any(|&other| self.count(other) > 0)
    }

    fn push(&self, thread: &'static Thread, core: usize) {
        let mut ready = self.ready.lock();
        thread.core.store(core, Ordering::Relaxed);
        // Who changes the priority looks for the core after that: it finds the thread here, or it is seen here.
        fence(Ordering::SeqCst);
        let priority = thread.priority();
        thread.queued_as.store(priority as u8, Ordering::Relaxed);
        ready.lists[priority as usize].push_back(thread);
        self.counts[priority as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn pop(&self, ready: &mut Ready, priority: Priority) -> Option<&'static Thread> {
        let thread = ready.lists[priority as usize].pop_front()?;
        self.counts[priority as usize].fetch_sub(1, Ordering::Relaxed);
        Some(thread)
    }

    /// Moves a thread whose priority has changed to the list where it belongs, if it is in this core's queue.
    pub(super) fn relist(&self, thread: &'static Thread, core: usize) {
        let mut ready = self.ready.lock();
        if !thread.ready_link.is_linked() || thread.core.load(Ordering::Relaxed) != core {
            return;
        }
        let (old, new) = (thread.queued_as.load(Ordering::Relaxed) as usize, thread.priority());
        // SAFETY: it is linked, in this core's queue, and in that list, as both say under the queue's lock.
        let removed = unsafe { ready.lists[old].cursor_mut_from_ptr(thread) }.remove();
        self.counts[old].fetch_sub(1, Ordering::Relaxed);
        if let Some(thread) = removed {
            thread.queued_as.store(new as u8, Ordering::Relaxed);
            ready.lists[new as usize].push_back(thread);
            self.counts[new as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn running_priority(&self) -> u8 {
        self.running.load(Ordering::Relaxed)
    }

    /// Accounts the time since the last time that this was called: on the core itself.
    pub(super) fn account(&self, now: u64, background_percent: u64) {
        let passed = now.saturating_sub(self.accounted.swap(now, Ordering::Relaxed));
        let credit = self.credit.load(Ordering::Relaxed);
        let credit = if self.running_priority() == Priority::Application as u8 {
            (credit + (passed * background_percent / 100) as i64).min(QUANTUM as i64)
        } else if self.spends.load(Ordering::Relaxed) && self.count(Priority::Application) > 0 {
            credit - passed as i64
        } else {
            return;
        };
        self.credit.store(credit, Ordering::Relaxed);
    }

    /// Notes the priority of `me`, which runs: it may have been lent another.
    pub(super) fn note_priority(&self, me: &'static Thread) {
        let idle = core::ptr::eq(me, self.idle_thread());
        self.running.store(if idle { NOBODY } else { me.priority() as u8 }, Ordering::Relaxed);
    }

    /// Whether a background thread may run although an application thread could.
    fn may_spend(&self) -> bool {
        let credit = self.credit.load(Ordering::Relaxed);
        credit >= QUANTUM as i64 || self.spends.load(Ordering::Relaxed) && credit > 0
    }

    /// Notes that `next` runs from `now` on. `spends`: a background thread on the core's credit.
    pub(super) fn runs(&self, next: &'static Thread, spends: bool, now: u64) {
        self.note_priority(next);
        self.spends.store(spends, Ordering::Relaxed);
        self.slice_end.store(now + SLICE, Ordering::Relaxed);
    }
}

/// A thread that was picked, and whether it runs on its core's credit.
pub(super) struct Pick {
    pub(super) thread: &'static Thread,
    pub(super) spends: bool,
}

impl<P: Port> Scheduler<P> {
    /// Lets a new thread run: here, unless another core is idle.
    pub fn start(&self, thread: &'static Thread) {
        thread.core.store(self.port.core(), Ordering::Relaxed);
        self.make_ready(thread);
    }

    /// Makes a thread ready that sleeps, or is new.
    pub(super) fn make_ready(&self, thread: &'static Thread) {
        self.queue(thread, self.place(thread));
    }

    /// The core for a thread that becomes ready.
    fn place(&self, thread: &Thread) -> usize {
        let last = thread.core.load(Ordering::Relaxed);
        self.take_idle(last).unwrap_or(last)
    }

    /// A core that is idle, by preference `wanted`; whoever asks next gets another one.
    fn take_idle(&self, wanted: usize) -> Option<usize> {
        loop {
            let idle = self.idle.load(Ordering::SeqCst);
            let core = match idle {
                0 => return None,
                _ if idle >> wanted & 1 != 0 => wanted,
                _ => idle.trailing_zeros() as usize,
            };
            if self.idle.fetch_and(!(1 << core), Ordering::SeqCst) >> core & 1 != 0 {
                return Some(core);
            }
        }
    }

    /// The core for a thread that `core` has left for another, though it could go on: where others wait here, one where fewer
    /// do. A core with one thread has no interrupts to look for more by itself.
    pub(super) fn place_leaver(&self, left: &Thread, core: usize) -> usize {
        let waiting = |core: usize| self.cores[core].count(left.priority());
        match waiting(core) {
            0 => core,
            here => {
                self.online().filter(|&other| waiting(other) < here).min_by_key(|&other| waiting(other)).unwrap_or(core)
            }
        }
    }

    /// Puts a thread that no core stands on into `core`'s queue, and sees to it that the core knows.
    pub(super) fn queue(&self, thread: &'static Thread, core: usize) {
        let state = &self.cores[core];
        state.push(thread, core);
        // The core may be arming its alarm: it sees the thread, or what it says of itself is seen here.
        fence(Ordering::SeqCst);
        let running = state.running_priority();
        let preempts = (thread.priority() as u8) < running;
        let here = core == self.port.core();
        if preempts || !here && !state.ticks.load(Ordering::Relaxed) {
            self.port.kick(core);
        } else if here {
            self.arm(self.port.now());
        }
        // A core that went to sleep between the choice of this one and the push: it takes the thread, or another.
        fence(Ordering::SeqCst);
        if running != NOBODY
            && let Some(idle) = self.take_idle(core)
        {
            self.port.kick(idle);
        }
    }

    /// The next thread for the running core. With `leaver`, the priority of a running thread that could go on: only one
    /// that may run in its place.
    pub(super) fn pick(&self, leaver: Option<Priority>) -> Option<Pick> {
        let core = self.port.core();
        let state = &self.cores[core];
        let application = leaver == Some(Priority::Application) || state.count(Priority::Application) > 0;
        if application && state.count(Priority::Background) > 0 && state.may_spend() {
            let thread = state.pop(&mut state.ready.lock(), Priority::Background);
            if let Some(thread) = thread {
                return Some(Pick { thread, spends: true });
            }
        }
        let wanted = Priority::ALL.iter().take_while(|&&priority| leaver.is_none_or(|leaver| priority <= leaver));
        wanted.copied().find_map(|priority| self.take(core, priority)).map(|thread| Pick { thread, spends: false })
    }

    /// The first thread of `priority` that is ready: in the core's own queue, else in another's.
    fn take(&self, core: usize, priority: Priority) -> Option<&'static Thread> {
        let state = &self.cores[core];
        if state.count(priority) > 0
            && let Some(thread) = state.pop(&mut state.ready.lock(), priority)
        {
            return Some(thread);
        }
        // From the next core on, so that not all take from the same one.
        let others = self.online().filter(|&other| other > core).chain(self.online().filter(|&other| other < core));
        others.map(|other| &self.cores[other]).filter(|victim| victim.count(priority) > 0).find_map(|victim| {
            // Who finds the queue taken goes on to the next: its owner is awake.
            victim.pop(&mut *victim.ready.try_lock()?, priority)
        })
    }

    /// Whether the running core should leave the thread that it runs for one that is ready.
    pub(super) fn should_switch(&self, now: u64) -> bool {
        let state = &self.cores[self.port.core()];
        let running = state.running_priority();
        let better = |priority: &&Priority| state.count(**priority) > 0;
        let best = Priority::ALL.iter().find(better).map_or(NOBODY, |&priority| priority as u8);
        if running == Priority::Application as u8 && state.count(Priority::Background) > 0 && state.may_spend() {
            return true;
        }
        if state.spends.load(Ordering::Relaxed) && state.may_spend() {
            return false;
        }
        best < running || best == running && best != NOBODY && now >= state.slice_end.load(Ordering::Relaxed)
    }

    /// Sets the running core's alarm for what is next: a deadline, the end of a slice, the credit filled or used up.
    pub(super) fn arm(&self, now: u64) {
        let state = &self.cores[self.port.core()];
        let running = state.running_priority();
        let mut at = state.next_deadline.load(Ordering::Relaxed);
        let mut ticks = false;
        if let Some(&same) = Priority::ALL.get(running as usize) {
            if state.count(same) > 0 {
                at = at.min(state.slice_end.load(Ordering::Relaxed));
                ticks = true;
            }
            let credit = state.credit.load(Ordering::Relaxed);
            if same == Priority::Application && state.count(Priority::Background) > 0 {
                let missing = (QUANTUM as i64 - credit).max(0) as u64;
                at = at.min((missing * 100).checked_div(self.background_percent()).map_or(u64::MAX, |wait| now + wait));
            } else if state.spends.load(Ordering::Relaxed) {
                at = at.min(now + credit.max(0) as u64);
                ticks = true;
            }
        }
        state.ticks.store(ticks, Ordering::Relaxed);
        self.port.set_alarm((at != u64::MAX).then_some(at.max(now + 1)));
        // A thread that was queued before that could be seen has interrupted nobody.
        fence(Ordering::SeqCst);
        if let Some(&same) = Priority::ALL.get(running as usize) {
            let better = Priority::ALL.iter().take_while(|&&other| other < same).any(|&other| state.count(other) > 0);
            if better && !state.spends.load(Ordering::Relaxed) || !ticks && state.count(same) > 0 {
                self.port.kick(self.port.core());
            }
        }
    }
}
