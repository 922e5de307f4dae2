//! What each core has of its own, found through `TPIDR_EL1`.

use super::layout;
use crate::mm::address::VirtAddr;
use crate::platform::machine::AFFINITY;
use crate::task::{MAX_CORES, Thread};
use aarch64_cpu::registers::{SPSel, TPIDR_EL1};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ops::Range;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use tock_registers::interfaces::Readable;

/// A core's own data. `exception.s` knows the offsets of the first three, `boot.s` those of `stack` and `affinity`.
#[repr(C, align(128))]
pub struct Core {
    /// Registers that an exception entry sets aside before it has a stack.
    scratch: UnsafeCell<[u64; 4]>,
    /// The stack that kernel mode stands on.
    stack: Bounds,
    /// The stack for exceptions that find that one unusable.
    overflow: Bounds,
    /// Its affinity, as in MPIDR_EL1, and [`LISTED`]; 0 for a core that there is not.
    affinity: AtomicU64,
    /// How far it has come: a [`Stage`].
    stage: AtomicU64,
    /// The thread that runs when no other does.
    idle: AtomicPtr<Thread>,
    /// Interrupts of its timer so far. The core's own to write.
    timer_interrupts: AtomicU64,
}

/// In [`Core::affinity`]: bit 31, which is always set in MPIDR_EL1.
const LISTED: u64 = 1 << 31;
const _: () = assert!(
    offset_of!(Core, stack) == 32
        && offset_of!(Core, overflow) == 48
        && offset_of!(Core, affinity) == 64
        && size_of::<Core>() == 128
);

/// How far a core has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Stage {
    /// Nobody has called it.
    Off = 0,
    /// It was called.
    Called = 1,
    /// It runs threads.
    Online = 2,
    /// It did not answer in time, and may not take part any more.
    LeftOut = 3,
}

#[repr(C)]
struct Bounds {
    start: AtomicU64,
    end: AtomicU64,
}

impl Bounds {
    const fn new() -> Self {
        Bounds { start: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    fn set(&self, range: Range<VirtAddr>) {
        self.start.store(range.start.0, Ordering::Relaxed);
        self.end.store(range.end.0, Ordering::Relaxed);
    }

    fn get(&self) -> Range<VirtAddr> {
        VirtAddr(self.start.load(Ordering::Relaxed))..VirtAddr(self.end.load(Ordering::Relaxed))
    }
}

// SAFETY: `scratch` is touched by the exception entry of the core that it belongs to alone; the rest is atomic.
unsafe impl Sync for Core {}

/// All cores by number; the first is the one that boots.
#[unsafe(no_mangle)]
static CORES: [Core; MAX_CORES] = [const { Core::new() }; MAX_CORES];

/// Core number `index`, below [`MAX_CORES`].
pub fn core(index: usize) -> &'static Core {
    &CORES[index]
}

/// The running core. In application mode the thread may be moved to another one at any time.
#[inline]
pub fn current() -> &'static Core {
    let core = core::ptr::with_exposed_provenance::<Core>(TPIDR_EL1.get() as usize);
    // SAFETY: `boot.s` points TPIDR_EL1 to an element of `CORES`, and nothing changes it.
    unsafe { &*core }
}

/// The number of the running core.
#[inline]
pub fn index() -> usize {
    (TPIDR_EL1.get() as usize - CORES.as_ptr().addr()) / size_of::<Core>()
}

impl Core {
    const fn new() -> Self {
        Core {
            scratch: UnsafeCell::new([0; 4]),
            stack: Bounds::new(),
            overflow: Bounds::new(),
            affinity: AtomicU64::new(0),
            stage: AtomicU64::new(Stage::Off as u64),
            idle: AtomicPtr::new(null_mut()),
            timer_interrupts: AtomicU64::new(0),
        }
    }

    /// Tells the exception entry which stacks there are: the boot stack, and the overflow stack.
    pub(super) fn enter_boot_stack(&self) {
        self.stack.set(layout::__boot_stack_start.address()..layout::__boot_stack_end.address());
        self.overflow.set(layout::__overflow_stack_start.address()..layout::__overflow_stack_end.address());
    }

    /// The stack that kernel mode stands on from now on.
    pub(super) fn set_stack(&self, stack: Range<VirtAddr>) {
        self.stack.set(stack);
    }

    /// The stack for exceptions that find the other unusable.
    pub(super) fn set_overflow_stack(&self, stack: Range<VirtAddr>) {
        self.overflow.set(stack);
    }

    /// The stack that kernel mode stands on.
    pub fn stack(&self) -> Range<VirtAddr> {
        self.stack.get()
    }

    /// The stack for exceptions that find the other unusable.
    pub fn overflow_stack(&self) -> Range<VirtAddr> {
        self.overflow.get()
    }

    /// Gives it the thread that it runs from the start, and when no other runs.
    pub(super) fn set_idle_thread(&self, thread: &'static Thread) {
        self.idle.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Release);
    }

    /// The thread that it runs from the start.
    pub(super) fn idle_thread(&self) -> Option<&'static Thread> {
        // SAFETY: `set_idle_thread` stored a reference that lives as long as the machine.
        unsafe { self.idle.load(Ordering::Acquire).as_ref() }
    }

    /// Gives it the affinity by which it will know itself.
    pub(super) fn set_affinity(&self, mpidr: u64) {
        self.affinity.store(mpidr & AFFINITY | LISTED, Ordering::Release);
    }

    /// Its affinity, as the device tree has it.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Acquire) & !LISTED
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Off,
            1 => Stage::Called,
            2 => Stage::Online,
            _ => Stage::LeftOut,
        }
    }

    /// How many interrupts of its timer it has taken.
    pub fn timer_interrupts(&self) -> u64 {
        self.timer_interrupts.load(Ordering::Relaxed)
    }

    /// Counts one: on the core itself, in kernel mode.
    pub(super) fn count_timer_interrupt(&self) {
        self.timer_interrupts.store(self.timer_interrupts() + 1, Ordering::Relaxed);
    }

    /// From one stage to another; false when it is not in the first.
    pub(super) fn advance(&self, from: Stage, to: Stage) -> bool {
        self.stage.compare_exchange(from as u64, to as u64, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Whether this is kernel mode: SP_EL1 is the stack pointer. Application code runs with SP_EL0.
#[inline]
pub fn in_kernel_mode() -> bool {
    SPSel.get() & 1 != 0
}
