//! Threads on this machine: records, stacks, the switch; and what the rest of the kernel waits through.

use super::memory::manager;
use super::{gate, interrupts, percore, stacks, timer};
use crate::app;
use crate::mm::MemoryError;
use crate::mm::address::VirtAddr;
use crate::mm::slab::{Handle, Slab};
use crate::sync::Waiting;
use crate::sync::parking::{Parking, ThreadId};
use crate::task::{Life, NAME, Name, Port, Priority, Scheduler, Thread};
use aarch64_cpu::registers::{DAIF, TPIDR_EL0};
use core::arch::global_asm;
use core::fmt;
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

global_asm!(include_str!("switch.s"));

/// All threads.
pub static SCHEDULER: Scheduler<Hardware> = Scheduler::new(Hardware);

/// The boot core's idle thread: who runs there from the start.
static BOOT: Thread = Thread::new();

/// The records of all others.
static THREADS: Slab<Thread> = Slab::new();

/// Threads that a record serves: their numbers stay below [`IS_IDLE`].
const GENERATIONS: u64 = (1 << 29) - 1;

/// In the numbers of idle threads, and of no record of [`THREADS`].
const IS_IDLE: u64 = 1 << 61;

unsafe extern "C" {
    /// Leaves one stack for another; see `switch.s`.
    fn switch_stacks(left: *mut u64, next: u64);
    /// Where a new thread's stack leads.
    fn begin_thread();
}

/// What `switch_stacks` keeps on a stack that is left.
#[repr(C)]
struct Switched {
    /// x19 to x30.
    x: [u64; 12],
    /// d8 to d15.
    d: [u64; 8],
    sp_el0: u64,
    tpidr_el0: u64,
    fp_state: [u64; 2],
}

const _: () = assert!(
    size_of::<Switched>() == 192
        && offset_of!(Switched, x) + 11 * 8 == 88
        && offset_of!(Switched, d) == 96
        && offset_of!(Switched, sp_el0) == 160
        && offset_of!(Switched, fp_state) == 176
);

/// The main thread's name.
pub(super) const MAIN: Name = Name::new("main");

/// This machine, for the scheduler.
pub struct Hardware;

// SAFETY: `switch_stacks` returns on the stack that it is given, where an earlier call left it or `new_stack` made it look so;
// TPIDR_EL0 is each thread's own and TPIDR_EL1 each core's.
unsafe impl Port for Hardware {
    fn core(&self) -> usize {
        percore::index()
    }

    fn current(&self) -> &'static Thread {
        current()
    }

    fn now(&self) -> u64 {
        timer::now()
    }

    fn set_alarm(&self, at: Option<u64>) {
        timer::set_alarm(at);
    }

    fn kick(&self, core: usize) {
        interrupts::kick(core);
    }

    fn find(&self, id: ThreadId) -> Option<&'static Thread> {
        THREADS.find(Handle::from_raw(id.number() as u32)?)
    }

    unsafe fn switch(&self, from: &'static Thread, to: &'static Thread) {
        let [start, end] = [0, 1].map(|bound| VirtAddr(to.kernel_stack[bound].load(Ordering::Relaxed)));
        percore::current().set_stack(start..end);
        // SAFETY: the caller says that nobody stands on `to`'s stack, and its pointer was left there, or made, before.
        unsafe { switch_stacks(from.stack_pointer.as_ptr(), to.stack_pointer.load(Ordering::Acquire)) }
    }

    fn retire(&self, thread: &'static Thread) {
        stacks::free(range(&thread.kernel_stack));
        // What was stopped in the middle of something keeps its record: locks name it, and its stack may be referred to. So
        // does a record whose numbers are used up.
        let is_used_up = thread.id().is_some_and(|id| id.number() >> 32 >= GENERATIONS);
        if thread.life() == Life::Ended
            && !is_used_up
            && let Some(handle) = thread.id().and_then(|id| Handle::from_raw(id.number() as u32))
        {
            THREADS.free(handle);
        }
    }

    fn sleep(&self) {
        interrupts::sleep();
    }

    fn poll(&self) {
        interrupts::poll();
    }
}

fn range(bounds: &[AtomicU64; 2]) -> Range<VirtAddr> {
    VirtAddr(bounds[0].load(Ordering::Relaxed))..VirtAddr(bounds[1].load(Ordering::Relaxed))
}

fn set_range(bounds: &[AtomicU64; 2], range: &Range<VirtAddr>) {
    bounds[0].store(range.start.0, Ordering::Relaxed);
    bounds[1].store(range.end.0, Ordering::Relaxed);
}

/// The running thread, in either mode.
#[inline]
pub fn current() -> &'static Thread {
    let thread = core::ptr::with_exposed_provenance::<Thread>(TPIDR_EL0.get() as usize);
    // SAFETY: `enter` and `new_stack` set TPIDR_EL0 to a record, which lives as long as the machine; it is the thread's own.
    unsafe { &*thread }
}

/// Has the running core be its idle thread from here on: the first thing that it does.
pub(super) fn enter() {
    let idle = percore::current().idle_thread().unwrap_or(&BOOT);
    let id = ThreadId::new(IS_IDLE | percore::index() as u64).unwrap_or_else(|| unreachable!("below 2^62"));
    idle.begin(id, Name::new("idle").0, Priority::Idle);
    TPIDR_EL0.set(core::ptr::from_ref(idle).expose_provenance() as u64);
}

/// A record for another core's idle thread. `None` without memory.
pub(super) fn new_idle_thread() -> Option<&'static Thread> {
    let record = THREADS.allocate(&manager().source())?;
    THREADS.find(record)
}

/// Installs how threads wait, for locks of all kinds; from here on threads can be told apart.
pub(super) fn install() {
    Waiting {
        held: || &current().held[!percore::in_kernel_mode() as usize],
        core: percore::index,
        relax: core::hint::spin_loop,
        breathe: || gate::call(interrupts::poll),
        switch: || (),
    }
    .install();
    Parking {
        me: || current().id().unwrap_or_else(|| unreachable!("the boot core waits before it is a thread")),
        prepare: |key, owner| gate::call(move || SCHEDULER.prepare(key, owner)),
        park: |deadline| gate::call(move || SCHEDULER.park(deadline)),
        cancel: || gate::call(|| SCHEDULER.cancel()),
        wake: |key, count| gate::call(move || SCHEDULER.wake(key, count)),
        own: |key| gate::call(move || SCHEDULER.own(key)),
        stopped: |thread| gate::call(move || SCHEDULER.stopped(thread)),
        now: timer::now,
        spin: || SCHEDULER.cores() > 1,
    }
    .install();
}

/// Lets the running core run threads; it stands on `stack` and goes on with [`idle`].
pub(super) fn join(stack: Range<VirtAddr>) {
    set_range(&current().kernel_stack, &stack);
    SCHEDULER.join(current());
}

/// The running core's idle thread, for good: runs what is ready, works for memory when nothing is.
pub(super) fn idle() -> ! {
    // What the system bus has to say is heard in kernel mode, too.
    DAIF.modify(DAIF::A::Unmasked);
    loop {
        SCHEDULER.idle(|| manager().idle_step());
    }
}

/// Why there is no new thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoThread {
    /// No memory for its record or its kernel stack, or no address for that one.
    NoMemory,
    /// No memory for its stack in application mode.
    Stack(MemoryError),
}

impl fmt::Display for NoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoThread::NoMemory => f.write_str("no memory for a thread's record and kernel stack"),
            NoThread::Stack(error) => write!(f, "no stack for a thread: {error}"),
        }
    }
}

impl core::error::Error for NoThread {}

/// What a thread is made of.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Its name.
    pub name: [u8; NAME],
    /// Its priority.
    pub priority: Priority,
    /// Where it begins, in kernel mode.
    pub start: extern "C" fn(usize),
    /// What it is given.
    pub argument: usize,
    /// Bytes of its stack in application mode; 0 for none.
    pub stack: usize,
    /// Whether a panic stops it alone.
    pub isolated: bool,
}

/// Makes a thread and lets it run.
///
/// # Errors
///
/// There is no memory for it.
pub fn spawn(spec: Spec) -> Result<(&'static Thread, ThreadId), NoThread> {
    let manager = manager();
    let handle = manager.with_reclaim(|| THREADS.allocate(&manager.source())).ok_or(NoThread::NoMemory)?;
    let free_record = |error| {
        THREADS.free(handle);
        error
    };
    let kernel_stack = stacks::allocate().ok_or_else(|| free_record(NoThread::NoMemory))?;
    let application_stack = match spec.stack {
        0 => VirtAddr(0)..VirtAddr(0),
        bytes => app::stack::map(bytes).map_err(|error| {
            stacks::free(kernel_stack.clone());
            free_record(NoThread::Stack(error))
        })?,
    };
    let thread = THREADS.get(handle);
    set_range(&thread.kernel_stack, &kernel_stack);
    set_range(&thread.application_stack, &application_stack);
    thread.start[0].store(spec.start as usize as u64, Ordering::Relaxed);
    thread.start[1].store(spec.argument as u64, Ordering::Relaxed);
    new_stack(thread, kernel_stack.end);
    let id = next_id(thread, handle);
    thread.begin(id, spec.name, spec.priority);
    thread.isolated.store(spec.isolated as u8, Ordering::Relaxed);
    SCHEDULER.start(thread);
    Ok((thread, id))
}

/// The record's next thread: its number is the handle's, below the count of threads that the record was of.
fn next_id(thread: &Thread, handle: Handle<Thread>) -> ThreadId {
    let generation = thread.id().map_or(0, |id| id.number() >> 32) + 1;
    ThreadId::new(generation << 32 | u64::from(handle.raw()))
        .unwrap_or_else(|| unreachable!("a record that is used up is not freed"))
}

/// Makes the kernel stack that ends at `top` look as if its thread had left at the start of `begin_thread`.
fn new_stack(thread: &'static Thread, top: VirtAddr) {
    let at = top.0 as usize - size_of::<Switched>();
    let switched = Switched {
        x: core::array::from_fn(|register| if register == 11 { begin_thread as *const () as u64 } else { 0 }),
        d: [0; 8],
        sp_el0: 0,
        tpidr_el0: core::ptr::from_ref(thread).expose_provenance() as u64,
        fp_state: [0; 2],
    };
    // SAFETY: the top of a kernel stack that nobody uses yet, a multiple of 16.
    unsafe { core::ptr::with_exposed_provenance_mut::<Switched>(at).write(switched) };
    thread.stack_pointer.store(at as u64, Ordering::Release);
}

/// The first function of every thread.
#[unsafe(no_mangle)]
extern "C" fn run_thread() -> ! {
    SCHEDULER.arrive();
    let me = current();
    let start = core::ptr::with_exposed_provenance::<()>(me.start[0].load(Ordering::Relaxed) as usize);
    // SAFETY: `spawn` stored a function of this type.
    let start: extern "C" fn(usize) = unsafe { core::mem::transmute(start) };
    start(me.start[1].load(Ordering::Relaxed) as usize);
    SCHEDULER.end(Life::Ended)
}

/// The kernel's part of a thread of the application: runs `entry` with `argument` in application mode, then gives the stack
/// back.
pub(crate) fn run_in_application_mode(entry: extern "C" fn(usize) -> i32, argument: usize) -> i32 {
    let stack = range(&current().application_stack);
    // SAFETY: kernel mode, on the thread's own kernel stack; the other stack was mapped for it.
    let status = unsafe { gate::enter_application(entry, argument, stack.end) };
    app::stack::unmap(stack);
    status
}
