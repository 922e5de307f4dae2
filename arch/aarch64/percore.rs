//! What each core has of its own, found through `TPIDR_EL1`.

use super::layout;
use crate::mm::address::VirtAddr;
use aarch64_cpu::registers::{SPSel, TPIDR_EL1};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use tock_registers::interfaces::Readable;

/// A core's own data. `exception.s` knows the offsets of the first three.
#[repr(C)]
pub struct Core {
    /// Registers that an exception entry sets aside before it has a stack.
    scratch: UnsafeCell<[u64; 4]>,
    /// The stack that kernel mode stands on.
    stack: Bounds,
    /// The stack for exceptions that find that one unusable.
    overflow: Bounds,
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

/// The core that boots.
#[unsafe(no_mangle)]
static BOOT_CORE: Core = Core { scratch: UnsafeCell::new([0; 4]), stack: Bounds::new(), overflow: Bounds::new() };

/// The running core.
pub fn current() -> &'static Core {
    let core = core::ptr::with_exposed_provenance::<Core>(TPIDR_EL1.get() as usize);
    // SAFETY: `boot.s` points TPIDR_EL1 to a static `Core`, and nothing changes it.
    unsafe { &*core }
}

impl Core {
    /// Tells the exception entry which stacks there are: the boot stack, and the overflow stack.
    pub(super) fn enter_boot_stack(&self) {
        self.stack.set(layout::__boot_stack_start.address()..layout::__boot_stack_end.address());
        self.overflow.set(layout::__overflow_stack_start.address()..layout::__overflow_stack_end.address());
    }

    /// The stack that kernel mode stands on from now on.
    pub(super) fn set_stack(&self, stack: Range<VirtAddr>) {
        self.stack.set(stack);
    }

    /// The stack that kernel mode stands on.
    pub fn stack(&self) -> Range<VirtAddr> {
        self.stack.get()
    }

    /// The stack for exceptions that find the other unusable.
    pub fn overflow_stack(&self) -> Range<VirtAddr> {
        self.overflow.get()
    }
}

/// Whether this is kernel mode: SP_EL1 is the stack pointer. Application code runs with SP_EL0.
#[inline]
pub fn in_kernel_mode() -> bool {
    SPSel.get() & 1 != 0
}
