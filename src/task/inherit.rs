//! Priorities that waiting threads lend to the owner of what they wait for, so that it is not kept from giving it up by
//! threads that are less urgent than those.

use super::thread::{Priority, Thread};
use super::wait::WaitAdapter;
use super::{Port, Scheduler};
use core::sync::atomic::{Ordering, fence};
use intrusive_collections::LinkedList;

/// Owners that wait for owners: a longer chain is a circle, or as good as one.
const CHAIN: usize = 16;

impl<P: Port> Scheduler<P> {
    /// Has all that wait at `key` in `bucket`, whose lock is held, lend their priorities to `owner`.
    pub(super) fn lend_all(&self, bucket: &LinkedList<WaitAdapter>, key: usize, owner: &'static Thread) {
        let _held = self.inheritance.lock();
        for_each(bucket, key, |thread| {
            self.end_loan(thread);
            // Though it may be no higher than the owner's own: it rises with what is lent to the one that waits.
            self.lend(thread, owner, thread.priority());
        });
    }

    /// Has none that wait at `key` lend anything to anyone: they do not know the owner any more.
    pub(super) fn take_back_all(&self, bucket: &LinkedList<WaitAdapter>, key: usize) {
        for_each(bucket, key, |thread| {
            thread.owner.store(0, Ordering::Relaxed);
            self.take_back(thread);
        });
    }

    /// Takes back what `thread` lends. The lock of its bucket is held.
    pub(super) fn take_back(&self, thread: &'static Thread) {
        // Written under the bucket's lock too, so that this look needs no other.
        if !thread.lends_to.load(Ordering::Relaxed).is_null() {
            let _held = self.inheritance.lock();
            self.end_loan(thread);
        }
    }

    fn lend(&self, thread: &'static Thread, owner: &'static Thread, priority: Priority) {
        thread.lends_to.store(core::ptr::from_ref(owner).cast_mut(), Ordering::Relaxed);
        thread.lent.store(priority as u8, Ordering::Relaxed);
        owner.lenders[priority as usize].fetch_add(1, Ordering::Relaxed);
        self.reconsider(owner);
    }

    fn end_loan(&self, thread: &'static Thread) {
        let owner = thread.lends_to.swap(core::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: `lend` stored a reference to a record, which lives as long as the machine.
        if let Some(owner) = unsafe { owner.as_ref() } {
            let owner: &'static Thread = owner;
            owner.lenders[thread.lent() as usize].fetch_sub(1, Ordering::Relaxed);
            self.reconsider(owner);
        }
    }

    /// Gives `owner` the priority that is its own by now, and those after it in the chain.
    fn reconsider(&self, owner: &'static Thread) {
        let mut thread = owner;
        for _ in 0..CHAIN {
            let lent =
                Priority::ALL.into_iter().find(|&lent| thread.lenders[lent as usize].load(Ordering::Relaxed) > 0);
            let now = lent.map_or(thread.base_priority(), |lent| lent.min(thread.base_priority()));
            if now == thread.priority() {
                return;
            }
            thread.set_priority(now);
            fence(Ordering::SeqCst);
            let core = thread.core.load(Ordering::Relaxed);
            self.cores[core].relist(thread, core);
            // Where it runs, or is ready, another thread may be the one to run by now.
            self.port.kick(core);
            // SAFETY: as above.
            let Some(next) = (unsafe { thread.lends_to.load(Ordering::Relaxed).as_ref() }) else { return };
            let next: &'static Thread = next;
            next.lenders[thread.lent() as usize].fetch_sub(1, Ordering::Relaxed);
            next.lenders[now as usize].fetch_add(1, Ordering::Relaxed);
            thread.lent.store(now as u8, Ordering::Relaxed);
            thread = next;
        }
    }
}

/// Calls `each` for the threads in `bucket` that wait at `key`.
pub(super) fn for_each(bucket: &LinkedList<WaitAdapter>, key: usize, mut each: impl FnMut(&'static Thread)) {
    let mut cursor = bucket.front();
    while let Some(thread) = cursor.clone_pointer() {
        if thread.key.load(Ordering::Relaxed) == key {
            each(thread);
        }
        cursor.move_next();
    }
}
