//! From one thread to the next.

use super::ready::{Leaving, Pick};
use super::thread::{Life, Priority, Thread, WaitState};
use super::{Port, Scheduler};
use core::sync::atomic::{Ordering, fence};

impl<P: Port> Scheduler<P> {
    /// Lets other threads of the same priority or a higher one run first, if there are any.
    pub fn yield_now(&self) {
        let me = self.port.current();
        self.account();
        if let Some(next) = self.pick(Some(me.priority())) {
            self.leave(me, Leaving::Ready, next);
        }
    }

    /// What an interrupt of the running core does: deadlines that passed, a slice that ended, a thread of a higher priority
    /// that became ready. The thread that was interrupted may go on much later, on another core.
    pub fn interrupt(&self) {
        let now = self.account();
        self.expire(now);
        let me = self.port.current();
        let idle = core::ptr::eq(me, self.cores[self.port.core()].idle_thread());
        // The idle thread looks for itself.
        if !idle
            && self.should_switch(now)
            && let Some(next) = self.pick(Some(me.priority()))
        {
            return self.leave(me, Leaving::Ready, next);
        }
        self.arm(now);
    }

    /// Leaves the running thread, which goes to sleep and is parking, until it is woken.
    pub(super) fn sleep(&self) {
        self.account();
        let me = self.port.current();
        self.leave(me, Leaving::Parked, self.next_or_idle());
    }

    /// Ends the running thread: as one that came to its end, or was stopped.
    pub fn end(&self, life: Life) -> ! {
        let me = self.port.current();
        me.set_life(life);
        if life == Life::Stopped {
            self.wake_for(me);
        }
        self.wake(Self::end_key(me), usize::MAX);
        self.account();
        self.leave(me, Leaving::Ended, self.next_or_idle());
        unreachable!("a thread that ended runs again: {me:?}")
    }

    /// The key at which those wait who wait for the end of `thread`.
    pub fn end_key(thread: &'static Thread) -> usize {
        core::ptr::from_ref(thread).addr()
    }

    /// One turn of the running core's idle thread: runs what is ready; else does a piece of `work`, which says whether there
    /// was any; else sleeps until an interrupt.
    pub fn idle(&self, work: impl FnOnce() -> bool) {
        let core = self.port.core();
        if let Some(next) = self.pick(None) {
            return self.leave(self.cores[core].idle_thread(), Leaving::Idle, next);
        }
        self.idle.fetch_or(1 << core, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // Who queues a thread looks for the bit after that: it sees the bit, or its thread is seen here.
        if !self.is_any_ready(core) && !work() {
            self.port.sleep();
        }
        self.idle.fetch_and(!(1 << core), Ordering::SeqCst);
        self.port.poll();
    }

    fn is_any_ready(&self, core: usize) -> bool {
        drop(self.cores[core].ready.lock());
        self.online().any(|core| self.cores[core].any(Priority::Idle))
    }

    fn next_or_idle(&self) -> Pick {
        let idle = || Pick { thread: self.cores[self.port.core()].idle_thread(), spends: false };
        self.pick(None).unwrap_or_else(idle)
    }

    fn account(&self) -> u64 {
        let (now, state) = (self.port.now(), &self.cores[self.port.core()]);
        state.account(now, self.background_percent());
        state.note_priority(self.port.current());
        now
    }

    fn leave(&self, me: &'static Thread, leaving: Leaving, next: Pick) {
        let state = &self.cores[self.port.core()];
        let now = self.port.now();
        next.thread.core.store(self.port.core(), Ordering::Relaxed);
        state.left.store(core::ptr::from_ref(me).cast_mut(), Ordering::Relaxed);
        state.leaving.store(leaving as u8, Ordering::Relaxed);
        state.switches.fetch_add(1, Ordering::Relaxed);
        state.runs(next.thread, next.spends, now);
        self.arm(now);
        // SAFETY: what is picked was in a queue, so no core stands on its stack (TH-1), or it is this core's idle thread;
        // `arrive` follows.
        unsafe { self.port.switch(me, next.thread) };
        self.arrive();
    }

    /// What the thread that was switched to does first, a new one too: settles the one that its core has left.
    pub fn arrive(&self) {
        let core = self.port.core();
        let state = &self.cores[core];
        let left = state.left.swap(core::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: `leave` stored a reference to a record, which lives as long as the machine.
        let Some(left) = (unsafe { left.as_ref() }) else { return };
        let left: &'static Thread = left;
        match state.leaving() {
            Leaving::Ready => self.queue(left, self.place_leaver(left, core)),
            // Woken meanwhile: whoever did it has left the rest to us (TH-3).
            Leaving::Parked if left.change_wait(WaitState::Parking, WaitState::Asleep) => {}
            Leaving::Parked => self.make_ready(left),
            Leaving::Ended => self.port.retire(left),
            Leaving::Idle => {}
        }
    }
}
