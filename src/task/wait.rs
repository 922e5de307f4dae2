//! Waiting and waking: the scheduler's side of [`crate::sync::parking`].

use super::inherit::for_each;
use super::thread::{Life, NEVER, Priority, Thread, WaitState};
use super::{BUCKETS, Port, Scheduler};
use crate::sync::parking::{Prepared, ThreadId, Wake};
use crate::sync::{Rank, Ranked};
use core::sync::atomic::Ordering;
use intrusive_collections::{Bound, LinkedList, LinkedListAtomicLink, intrusive_adapter};

intrusive_adapter!(pub(super) WaitAdapter = &'static Thread: Thread { wait_link => LinkedListAtomicLink });

/// Threads that wait, those whose keys have one hash: in the order in which they came.
pub(super) struct Bucket(pub(super) Ranked<LinkedList<WaitAdapter>>);

impl Bucket {
    pub(super) const fn new() -> Self {
        Bucket(Ranked::new(Rank::Wait, LinkedList::new(WaitAdapter::NEW)))
    }
}

impl<P: Port> Scheduler<P> {
    pub(super) fn bucket(&self, key: usize) -> &Bucket {
        // Fibonacci hashing: keys are addresses, whose low bits say little.
        let hash = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.buckets[(hash >> (64 - BUCKETS.trailing_zeros())) as usize]
    }

    /// [`Parking::prepare`](crate::sync::parking::Parking::prepare) for the running thread.
    ///
    /// A preparation that was neither parked nor cancelled is cancelled.
    pub fn prepare(&self, key: usize, owner: Option<ThreadId>) -> Prepared {
        let me = self.port.current();
        if me.wait() != WaitState::None {
            self.cancel();
        }
        let owner = owner.and_then(|id| Some((id, self.port.find(id)?)));
        let mut bucket = self.bucket(key).0.lock();
        // Under the lock: who is stopped looks through the buckets after it says so.
        if let Some((id, owner)) = owner
            && owner.life_of(id) == Life::Stopped
        {
            return Prepared::OwnerStopped;
        }
        me.key.store(key, Ordering::Relaxed);
        me.owner.store(0, Ordering::Relaxed);
        // After the key, which tells the bucket to whoever sees that it waits.
        me.set_wait(WaitState::Waiting);
        bucket.push_back(me);
        if let Some((id, _)) = owner {
            for_each(&bucket, key, |thread| thread.owner.store(id.number(), Ordering::Relaxed));
        }
        if let Some((id, owner)) = owner
            && owner.life_of(id) == Life::Alive
            && owner.base_priority() > Priority::Application
        {
            self.lend_all(&bucket, key, owner);
        }
        Prepared::Ready
    }

    /// [`Parking::park`](crate::sync::parking::Parking::park) for the running thread.
    pub fn park(&self, deadline: Option<u64>) -> Wake {
        let me = self.port.current();
        if me.wait() == WaitState::None {
            // Nothing was prepared, so there is nothing to wait for.
            return Wake::Woken;
        }
        if let Some(deadline) = deadline {
            self.set_timer(me, deadline);
        }
        if me.change_wait(WaitState::Waiting, WaitState::Parking) {
            self.sleep();
        }
        if deadline.is_some() {
            self.clear_timer(me);
        }
        match me.set_wait(WaitState::None) {
            WaitState::Woken => Wake::Woken,
            WaitState::TimedOut => Wake::TimedOut,
            other => unreachable!("{me:?} goes on while it is {other:?}"),
        }
    }

    /// [`Parking::cancel`](crate::sync::parking::Parking::cancel) for the running thread.
    pub fn cancel(&self) {
        let me = self.port.current();
        let mut bucket = self.bucket(me.key.load(Ordering::Relaxed)).0.lock();
        if me.wait() == WaitState::Waiting {
            self.take_out(&mut bucket, me);
        }
        me.set_wait(WaitState::None);
    }

    /// [`Parking::wake`](crate::sync::parking::Parking::wake).
    pub fn wake(&self, key: usize, count: usize) -> usize {
        let mut bucket = self.bucket(key).0.lock();
        let mut woken = 0;
        while woken < count
            && let Some(thread) = first_of(&bucket, key)
        {
            self.take_out(&mut bucket, thread);
            self.wake_thread(thread, WaitState::Woken);
            woken += 1;
        }
        self.take_back_all(&bucket, key);
        woken
    }

    /// [`Parking::own`](crate::sync::parking::Parking::own) for the running thread.
    pub fn own(&self, key: usize) {
        let me = self.port.current();
        let id = me.id().map_or(0, ThreadId::number);
        let bucket = self.bucket(key).0.lock();
        for_each(&bucket, key, |thread| thread.owner.store(id, Ordering::Relaxed));
        if me.base_priority() > Priority::Application {
            self.lend_all(&bucket, key, me);
        }
    }

    /// [`Parking::stopped`](crate::sync::parking::Parking::stopped).
    pub fn stopped(&self, id: ThreadId) -> bool {
        self.port.find(id).is_some_and(|thread| thread.life_of(id) == Life::Stopped)
    }

    /// Wakes all who wait for what `owner` holds, which was stopped.
    pub(super) fn wake_for(&self, owner: &'static Thread) {
        let id = owner.id().map_or(0, ThreadId::number);
        for bucket in &self.buckets {
            let mut bucket = bucket.0.lock();
            loop {
                let found = bucket.iter().find(|thread| thread.owner.load(Ordering::Relaxed) == id);
                let Some(found) = found.map(core::ptr::from_ref) else { break };
                // SAFETY: linked in this bucket, whose lock is held.
                let Some(thread) = (unsafe { bucket.cursor_mut_from_ptr(found) }).remove() else { break };
                self.take_back(thread);
                self.wake_thread(thread, WaitState::Woken);
            }
        }
    }

    /// Says that `thread`, just taken out of its bucket, has waited long enough.
    fn wake_thread(&self, thread: &'static Thread, why: WaitState) {
        if thread.set_wait(why) == WaitState::Asleep {
            self.make_ready(thread);
        }
    }

    /// Takes `thread`, which is in `bucket`, out of it.
    fn take_out(&self, bucket: &mut LinkedList<WaitAdapter>, thread: &'static Thread) {
        debug_assert!(thread.wait_link.is_linked());
        // SAFETY: it is linked, and in this bucket: its key says so, under the bucket's lock.
        unsafe { bucket.cursor_mut_from_ptr(thread) }.remove();
        self.take_back(thread);
    }

    fn set_timer(&self, me: &'static Thread, deadline: u64) {
        let core = self.port.core();
        let state = &self.cores[core];
        me.timer_core.store(core, Ordering::Relaxed);
        let mut timers = state.timers.lock();
        me.deadline.store(deadline, Ordering::Relaxed);
        timers.insert(me);
        if deadline < state.next_deadline.load(Ordering::Relaxed) {
            state.next_deadline.store(deadline, Ordering::Relaxed);
            drop(timers);
            self.arm(self.port.now());
        }
    }

    fn clear_timer(&self, me: &'static Thread) {
        let state = &self.cores[me.timer_core.load(Ordering::Relaxed)];
        let mut timers = state.timers.lock();
        if me.timer_link.is_linked() {
            // SAFETY: it is linked, and in this tree: nobody puts it into another while it is this thread's own to move.
            unsafe { timers.cursor_mut_from_ptr(me) }.remove();
            let next = timers.front().get().map_or(NEVER, |thread| thread.deadline.load(Ordering::Relaxed));
            state.next_deadline.store(next, Ordering::Relaxed);
        }
        me.deadline.store(NEVER, Ordering::Relaxed);
    }

    /// Ends the waits on this core whose deadlines have passed.
    pub(super) fn expire(&self, now: u64) {
        let state = &self.cores[self.port.core()];
        while state.next_deadline.load(Ordering::Relaxed) <= now {
            let mut timers = state.timers.lock();
            let expired = timers.upper_bound_mut(Bound::Included(&now)).remove();
            let next = timers.front().get().map_or(NEVER, |thread| thread.deadline.load(Ordering::Relaxed));
            state.next_deadline.store(next, Ordering::Relaxed);
            drop(timers);
            if let Some(thread) = expired {
                self.time_out(thread, now);
            }
        }
    }

    /// Ends the wait of `thread` if its deadline has passed: it may have been woken, and wait for something else by now.
    fn time_out(&self, thread: &'static Thread, now: u64) {
        let key = thread.key.load(Ordering::Relaxed);
        let mut bucket = self.bucket(key).0.lock();
        let waits = matches!(thread.wait(), WaitState::Waiting | WaitState::Parking | WaitState::Asleep);
        if waits && thread.key.load(Ordering::Relaxed) == key && thread.deadline.load(Ordering::Relaxed) <= now {
            self.take_out(&mut bucket, thread);
            self.wake_thread(thread, WaitState::TimedOut);
        }
    }
}

/// Who is woken first of those that wait at `key`: of the highest priority, the one that came first.
fn first_of(bucket: &LinkedList<WaitAdapter>, key: usize) -> Option<&'static Thread> {
    let mut best: Option<&'static Thread> = None;
    let mut cursor = bucket.front();
    while let Some(thread) = cursor.clone_pointer() {
        if thread.key.load(Ordering::Relaxed) == key && best.is_none_or(|best| thread.priority() < best.priority()) {
            best = Some(thread);
            if thread.priority() == Priority::Application {
                break;
            }
        }
        cursor.move_next();
    }
    best
}

const _: () = assert!(BUCKETS.is_power_of_two());
