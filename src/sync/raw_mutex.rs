//! The lock under the locks whose waiters sleep: one word that says who has it.
#![deny(unsafe_code)]

use core::hint::spin_loop;
use core::sync::atomic::Ordering;
use core::time::Duration;

use crate::sync::parking::{self, Parking, Prepared, ThreadId, Wake};
use crate::sync::word::Word;

/// Beside the owner's number: some may sleep until the word changes, and whoever frees the lock wakes one of them.
const CONTENDED: u64 = 1 << 63;
/// How often a thread looks before it sleeps, when the owner may be running on another core.
const LOOKS: usize = 64;

/// How a lock was acquired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what a stopped owner left behind may be broken"]
pub enum Acquired {
    /// It was free.
    Free,
    /// The thread that held it was stopped, alone, by a panic: the lock was taken over, and what it guards may be broken.
    TakenOver,
}

/// A mutex around nothing. Its waiters sleep, and lend the owner their priority.
///
/// The word is 0 when the lock is free, else the number of the thread that has it, with a flag once others wait. So a lock
/// that nobody waits for costs one exchange to take and one to free, and no call of the scheduler's but that for the thread's
/// number. Before a scheduler is installed, [`ThreadId::BOOT`] takes it.
///
/// A freed lock goes to whoever comes first, not to who has waited longest.
///
/// This is the raw lock of the `lock_api` crate, too. Through that, a lock that was taken over panics.
#[derive(Debug)]
pub struct RawMutex {
    word: Word,
}

impl RawMutex {
    /// A free lock.
    pub const fn new() -> Self {
        Self { word: Word::new(0) }
    }

    /// Takes the lock; sleeps while another thread has it.
    ///
    /// # Panics
    ///
    /// If the running thread has it already.
    #[inline]
    pub fn lock(&self) -> Acquired {
        let me = parking::me();
        if self.word.replace(0, me.number(), Ordering::Acquire) {
            return Acquired::Free;
        }
        self.wait(me, None).expect("without a deadline, a wait ends with the lock")
    }

    /// Takes the lock if it is free. One whose owner was stopped is not.
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.word.replace(0, parking::me().number(), Ordering::Acquire)
    }

    /// Takes the lock; sleeps while another thread has it, at most until the monotonic clock reaches `deadline`
    /// (nanoseconds). `None` if it did.
    ///
    /// # Panics
    ///
    /// If the running thread has it already.
    #[inline]
    pub fn lock_until(&self, deadline: u64) -> Option<Acquired> {
        let me = parking::me();
        if self.word.replace(0, me.number(), Ordering::Acquire) {
            return Some(Acquired::Free);
        }
        self.wait(me, Some(deadline))
    }

    /// Frees the lock, which the running thread has, and wakes one that waits for it.
    #[inline]
    pub fn unlock(&self) {
        // Release: who has the lock next sees what this thread wrote. The flag is read in the same step that frees the lock:
        // who sets it later finds the lock free.
        if self.word.swap(0, Ordering::Release) & CONTENDED != 0 {
            self.wake();
        }
    }

    /// Whether some thread has it, stopped or not.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != 0
    }

    /// Whether its owner was stopped: it can only be taken over.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned().is_some()
    }

    /// Takes the lock if its owner was stopped. Whether it did.
    pub fn take_over(&self) -> bool {
        let Some(seen) = self.abandoned() else { return false };
        // The owner is gone for good, so as long as the word names it, nobody else has taken over.
        let taken = self.word.replace(seen, parking::me().number() | CONTENDED, Ordering::Acquire);
        if taken {
            (parking::parking().own)(self.word.key());
        }
        taken
    }

    /// The word, if it names an owner that was stopped.
    fn abandoned(&self) -> Option<u64> {
        let seen = self.word.load(Ordering::Relaxed);
        let owner = ThreadId::new(seen & !CONTENDED)?;
        parking::try_parking().filter(|parking| (parking.stopped)(owner)).map(|_| seen)
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        (parking::parking().wake)(self.word.key(), 1);
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, me: ThreadId, deadline: Option<u64>) -> Option<Acquired> {
        let owner = self.word.load(Ordering::Relaxed) & !CONTENDED;
        assert!(owner != me.number(), "a thread locks a mutex that it has locked already");
        let parking = parking::parking();
        if (parking.spin)() && self.look(me) {
            return Some(Acquired::Free);
        }
        self.sleep(parking, me, deadline)
    }

    /// Looks for the lock to become free, while nobody sleeps for it. Whether it was taken.
    fn look(&self, me: ThreadId) -> bool {
        for _ in 0..LOOKS {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == 0 && self.word.replace(0, me.number(), Ordering::Acquire) {
                return true;
            }
            if seen & CONTENDED != 0 {
                return false;
            }
            spin_loop();
        }
        false
    }

    fn sleep(&self, parking: &Parking, me: ThreadId, deadline: Option<u64>) -> Option<Acquired> {
        let key = self.word.key();
        // A wake meant for the lock's next owner may have been spent on this thread, and others may sleep on. So it takes the
        // lock with the flag, and wakes the next of them when it frees it.
        let own = me.number() | CONTENDED;
        let mut prepared = false;
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let Some(owner) = ThreadId::new(seen & !CONTENDED) else {
                if !self.word.replace(0, own, Ordering::Acquire) {
                    continue;
                }
                if prepared {
                    (parking.own)(key);
                }
                return Some(Acquired::Free);
            };
            let contended = seen | CONTENDED;
            if seen != contended && !self.word.replace(seen, contended, Ordering::Relaxed) {
                continue;
            }
            if (parking.prepare)(key, Some(owner)) == Prepared::OwnerStopped {
                // The owner is gone for good, so as long as the word names it, nobody else has taken over.
                if self.word.replace(contended, own, Ordering::Acquire) {
                    (parking.own)(key);
                    return Some(Acquired::TakenOver);
                }
                continue;
            }
            prepared = true;
            // A wake before the preparation is not remembered, but the word it followed is seen after it.
            if self.word.load(Ordering::Relaxed) != contended {
                (parking.cancel)();
                continue;
            }
            // No wake is lost with who gives up: it either ended the park, or went to another.
            if (parking.park)(deadline) == Wake::TimedOut {
                return None;
            }
        }
    }
}

impl Default for RawMutex {
    fn default() -> Self {
        Self::new()
    }
}

fn intact(acquired: Acquired) {
    assert!(acquired == Acquired::Free, "a lock's owner was stopped: what the lock guards may be broken");
}

#[expect(unsafe_code, reason = "lock_api's locks rely on the exclusion")]
// SAFETY: the lock is taken only by an exchange that finds the word 0, or naming a thread that never runs again, and only
// `unlock` makes it 0. The guard stays with its thread, which the word names.
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: Self = Self::new();

    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        intact(self.lock());
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.try_lock()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.unlock();
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.is_locked()
    }
}

#[expect(unsafe_code, reason = "lock_api's locks rely on the exclusion")]
// SAFETY: `true` comes from the lock having been taken, as in `RawMutex::lock`.
unsafe impl lock_api::RawMutexTimed for RawMutex {
    type Duration = Duration;
    /// The monotonic clock's nanoseconds.
    type Instant = u64;

    fn try_lock_for(&self, timeout: Duration) -> bool {
        let Some(deadline) = parking::deadline_after(timeout) else {
            intact(self.lock());
            return true;
        };
        self.try_lock_until(deadline)
    }

    fn try_lock_until(&self, deadline: u64) -> bool {
        self.lock_until(deadline).map(intact).is_some()
    }
}
