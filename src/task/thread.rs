//! What is kept about a thread. Records are type-stable: one that ended serves another thread later, under another
//! [`ThreadId`], and a stale reference finds a wrong thread, never a wild one.
#![forbid(unsafe_code)]

use crate::sync::Held;
use crate::sync::parking::ThreadId;
use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use intrusive_collections::{LinkedListAtomicLink, RBTreeAtomicLink};

/// Who runs first. A thread of a lower priority runs when none of a higher one is ready, or within its budget.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Priority {
    /// What the machine is for.
    #[default]
    Application = 0,
    /// Work that may wait: while application threads are ready, a small share of each core is its own, and no more.
    Background = 1,
    /// Only when a core has nothing else to do.
    Idle = 2,
}

/// How many priorities there are.
pub const PRIORITIES: usize = 3;

impl Priority {
    /// All, the highest first.
    pub const ALL: [Priority; PRIORITIES] = [Priority::Application, Priority::Background, Priority::Idle];

    const fn from_raw(raw: u8) -> Priority {
        match raw {
            0 => Priority::Application,
            1 => Priority::Background,
            _ => Priority::Idle,
        }
    }
}

/// Bytes of a thread's name that reports show.
pub const NAME: usize = 24;

/// How far a wait has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum WaitState {
    /// It waits for nothing.
    None = 0,
    /// Prepared: wakers find it.
    Waiting = 1,
    /// It goes to sleep, and its core still stands on its stack.
    Parking = 2,
    /// It sleeps.
    Asleep = 3,
    /// It was woken.
    Woken = 4,
    /// Its deadline passed.
    TimedOut = 5,
}

impl WaitState {
    fn from_raw(raw: u8) -> WaitState {
        [Self::None, Self::Waiting, Self::Parking, Self::Asleep, Self::Woken, Self::TimedOut][raw as usize]
    }
}

/// Whether a thread still runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Life {
    /// It runs, or will.
    Alive = 0,
    /// It came to its end.
    Ended = 1,
    /// A panic stopped it alone: what it held stays held, what lies on its stack stays.
    Stopped = 2,
}

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// A thread.
pub struct Thread {
    id: AtomicU64,
    /// UTF-8, zero bytes at its end.
    name: [AtomicU8; NAME],
    life: AtomicU8,
    base: AtomicU8,
    effective: AtomicU8,

    /// The core that it runs on, ran on last, or is queued at. Written under that core's queue lock, or by the core itself.
    pub(super) core: AtomicUsize,
    /// The list of its core's queue that it is in. Under the queue's lock.
    pub(super) queued_as: AtomicU8,
    pub(super) ready_link: LinkedListAtomicLink,

    /// Changed to woken or timed out under the lock of the key's bucket only.
    wait: AtomicU8,
    /// What it waits for. Under the bucket's lock.
    pub(super) key: AtomicUsize,
    pub(super) wait_link: LinkedListAtomicLink,
    /// The owner of what it waits for, as a number; 0 for none. Under the bucket's lock.
    pub(super) owner: AtomicU64,

    /// When its wait ends, in nanoseconds.
    pub(super) deadline: AtomicU64,
    /// The core whose timers it is among.
    pub(super) timer_core: AtomicUsize,
    pub(super) timer_link: RBTreeAtomicLink,

    /// Whom it lends its priority, and which. Under the lock of inheritance, as the counts are.
    pub(super) lends_to: AtomicPtr<Thread>,
    pub(super) lent: AtomicU8,
    /// How many threads of each priority lend this one theirs.
    pub(super) lenders: [AtomicU32; PRIORITIES],

    /// The kernel stack's pointer while it does not run.
    pub stack_pointer: AtomicU64,
    /// Bounds of the kernel stack.
    pub kernel_stack: [AtomicU64; 2],
    /// Bounds of the stack in application mode; 0 for a thread of the kernel's.
    pub application_stack: [AtomicU64; 2],
    /// Where the thread begins, and what it is given.
    pub start: [AtomicU64; 2],
    /// The application's own data of the thread.
    pub local: AtomicUsize,
    /// Whether a panic stops the thread alone.
    pub isolated: AtomicU8,
    /// Ranked locks that it holds in kernel mode and in application mode.
    pub held: [Held; 2],
}

impl Thread {
    /// A record of no thread.
    pub const fn new() -> Self {
        Thread {
            id: AtomicU64::new(0),
            name: [const { AtomicU8::new(0) }; NAME],
            life: AtomicU8::new(Life::Ended as u8),
            base: AtomicU8::new(0),
            effective: AtomicU8::new(0),
            core: AtomicUsize::new(0),
            queued_as: AtomicU8::new(0),
            ready_link: LinkedListAtomicLink::new(),
            wait: AtomicU8::new(0),
            key: AtomicUsize::new(0),
            wait_link: LinkedListAtomicLink::new(),
            owner: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
            timer_core: AtomicUsize::new(0),
            timer_link: RBTreeAtomicLink::new(),
            lends_to: AtomicPtr::new(core::ptr::null_mut()),
            lent: AtomicU8::new(0),
            lenders: [const { AtomicU32::new(0) }; PRIORITIES],
            stack_pointer: AtomicU64::new(0),
            kernel_stack: [const { AtomicU64::new(0) }; 2],
            application_stack: [const { AtomicU64::new(0) }; 2],
            start: [const { AtomicU64::new(0) }; 2],
            local: AtomicUsize::new(0),
            isolated: AtomicU8::new(0),
            held: [Held::new(), Held::new()],
        }
    }

    /// Makes the record that of a thread `id`, which runs as soon as a scheduler is told.
    pub fn begin(&self, id: ThreadId, name: [u8; NAME], priority: Priority) {
        for (place, byte) in self.name.iter().zip(name) {
            place.store(byte, Ordering::Relaxed);
        }
        self.base.store(priority as u8, Ordering::Relaxed);
        self.effective.store(priority as u8, Ordering::Relaxed);
        self.local.store(0, Ordering::Relaxed);
        self.isolated.store(0, Ordering::Relaxed);
        // In this order: who asks for the thread that the record was of sees another one, or that it has ended.
        self.id.store(id.number(), Ordering::Release);
        self.life.store(Life::Alive as u8, Ordering::Release);
    }

    /// The thread that the record is of; `None` before the first.
    pub fn id(&self) -> Option<ThreadId> {
        ThreadId::new(self.id.load(Ordering::Acquire))
    }

    /// Whether it still runs.
    pub fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            0 => Life::Alive,
            1 => Life::Ended,
            _ => Life::Stopped,
        }
    }

    pub(super) fn set_life(&self, life: Life) {
        self.life.store(life as u8, Ordering::Release);
    }

    /// What became of the thread `id`, whose record this was when it began: the record of one that ended may serve another.
    pub fn life_of(&self, id: ThreadId) -> Life {
        let life = self.life();
        if self.id() == Some(id) { life } else { Life::Ended }
    }

    /// The priority that it was given.
    pub fn base_priority(&self) -> Priority {
        Priority::from_raw(self.base.load(Ordering::Relaxed))
    }

    /// The priority that it runs at: its own, or a higher one that a thread lends it which waits for what it holds.
    pub fn priority(&self) -> Priority {
        Priority::from_raw(self.effective.load(Ordering::Acquire))
    }

    pub(super) fn set_priority(&self, priority: Priority) {
        self.effective.store(priority as u8, Ordering::Release);
    }

    pub(super) fn lent(&self) -> Priority {
        Priority::from_raw(self.lent.load(Ordering::Relaxed))
    }

    pub(super) fn wait(&self) -> WaitState {
        WaitState::from_raw(self.wait.load(Ordering::Acquire))
    }

    pub(super) fn set_wait(&self, state: WaitState) -> WaitState {
        WaitState::from_raw(self.wait.swap(state as u8, Ordering::AcqRel))
    }

    /// From one state to another; false when it is in neither.
    pub(super) fn change_wait(&self, from: WaitState, to: WaitState) -> bool {
        self.wait.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Its name.
    pub fn name(&self) -> Name {
        Name(core::array::from_fn(|at| self.name[at].load(Ordering::Relaxed)))
    }
}

impl Default for Thread {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {:?}, {:?})", self.name(), self.id(), self.life(), self.wait())
    }
}

/// A thread's name, cut to what its record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name(pub [u8; NAME]);

impl Name {
    /// `text`, cut at a character's border to what fits.
    pub const fn new(text: &str) -> Self {
        let mut bytes = [0; NAME];
        let mut length = if text.len() < NAME { text.len() } else { NAME };
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        let mut at = 0;
        while at < length {
            bytes[at] = text.as_bytes()[at];
            at += 1;
        }
        Name(bytes)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(NAME);
        core::str::from_utf8(&self.0[..length]).unwrap_or("?")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
