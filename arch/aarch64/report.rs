//! Crash reports: what happened, to whom, where, the registers, the calls that led there.

use super::boot;
use super::exception::Frame;
use super::memory;
use super::stacks;
use super::syndrome::{Abort, Exception};
use super::threads::{self, MAIN, SCHEDULER};
use super::walk::{read_word, walk};
use super::{gate, interrupts, percore};
use crate::app::{self, heap};
use crate::mm::FaultError;
use crate::mm::address::{LOWER_END, VirtAddr};
use crate::platform::power;
use crate::report::{self, APPLICATION_CRASH, APPLICATION_PANIC, Backtrace, KERNEL_BUG, OUT_OF_MEMORY, Turn};
use crate::task::{Life, Thread};
use crate::{console, println};
use arrayvec::ArrayString;
use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::Ordering;

/// A fault this far below the stack is taken for an overflow: compilers touch every page of a large frame in turn.
const GUARD: u64 = app::stack::GUARD as u64;

/// In [`Thread::isolated`]: the thread has panicked.
const PANICKED: u8 = 2;

/// The application, or a thread of it.
struct Who(&'static Thread);

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.name() {
            name if name == MAIN => f.write_str("the application"),
            name => write!(f, "thread {name} of the application"),
        }
    }
}

/// Whether `address` is in the guard below the running thread's stack.
fn is_stack_overflow(address: VirtAddr) -> bool {
    let start = threads::current().application_stack[0].load(Ordering::Relaxed);
    (start.saturating_sub(GUARD)..start).contains(&address.0)
}

/// Reports a crash of the application and ends the machine. `refused` says why the memory manager did not resolve a fault.
pub(super) fn application_crash(frame: &Frame, exception: Exception, refused: Option<FaultError>) -> ! {
    let out_of_memory = matches!(refused, Some(FaultError::OutOfMemory { .. }));
    start(if out_of_memory { OUT_OF_MEMORY } else { APPLICATION_CRASH }, &exception);
    let address = fault_address(exception);
    let who = Who(threads::current());
    match address {
        _ if out_of_memory => println!("ashlar: out of memory: {who}: {exception}"),
        Some(address) if is_stack_overflow(address) => {
            println!("ashlar: {who} crashed: stack overflow: {exception}");
        }
        _ => println!("ashlar: {who} crashed: {exception}"),
    }
    println!("    pc {:#018x}", frame.elr);
    if let Some(address) = address {
        print_place(address);
    }
    print_registers(frame, frame.sp_el0);
    print_calls(frame, exception);
    print_memory(out_of_memory);
    finish()
}

/// Reports an exception in kernel mode and ends the machine.
pub(super) fn kernel_crash(frame: &Frame, exception: Exception) -> ! {
    start(KERNEL_BUG, &exception);
    println!("ashlar: kernel bug: {exception}");
    print_core();
    let stack = percore::current().stack();
    let sp = VirtAddr(frame.sp_el1);
    let address = fault_address(exception);
    if address.is_some_and(stacks::is_guard) {
        println!("    kernel stack overflow");
    }
    if sp < stack.start || sp > stack.end {
        println!("    the stack pointer is outside of its stack, {:#018x}..{:#018x}", stack.start.0, stack.end.0);
    }
    println!("    pc {:#018x}", frame.elr);
    if let Some(address) = address {
        print_place(address);
    }
    print_registers(frame, frame.sp_el1);
    print_calls(frame, exception);
    print_memory(false);
    finish()
}

/// Reports an interrupt or an SError and ends the machine: none is enabled. `kind` is the place in the vector group.
pub(super) fn unexpected(frame: &Frame, esr: u64, kind: u64, sp: u64) -> ! {
    let name = match kind {
        1 => "IRQ",
        2 => "FIQ",
        _ => "SError",
    };
    start(KERNEL_BUG, &name);
    println!("ashlar: kernel bug: unexpected {name}, ESR_EL1 {esr:#x}");
    print_core();
    println!("    pc {:#018x}", frame.elr);
    print_registers(frame, sp);
    print_backtrace(None, frame.x[29]);
    print_memory(false);
    finish()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let record: u64;
    // SAFETY: reads the frame pointer.
    unsafe { asm!("mov {}, x29", out(reg) record, options(nomem, nostack, preserves_flags)) };
    if percore::in_kernel_mode() {
        start(KERNEL_BUG, &"panic");
        println!("ashlar: kernel bug: {info}");
        print_core();
        print_backtrace(None, record);
        print_memory(false);
        finish()
    }
    // The message is formatted here, in application mode: its parts are the application's own code and memory.
    let out_of_memory = is_failed_allocation(info);
    let who = Who(threads::current());
    if who.0.isolated.load(Ordering::Relaxed) != 0 && !report::is_begun() {
        // A message may panic as it is formatted: once is enough.
        if who.0.isolated.swap(PANICKED, Ordering::Relaxed) != PANICKED {
            println!("ashlar: {who} {info}\n    it is stopped, alone");
        } else {
            println!("ashlar: {who} panicked while it told of a panic\n    it is stopped, alone");
        }
        gate::call(move || {
            print_backtrace(None, record);
            SCHEDULER.end(Life::Stopped)
        })
    }
    if out_of_memory {
        start(OUT_OF_MEMORY, &"panic");
        println!("ashlar: out of memory: {who} {info}");
    } else {
        start(APPLICATION_PANIC, &"panic");
        println!("ashlar: {who} {info}");
    }
    gate::call(move || {
        print_backtrace(None, record);
        print_memory(out_of_memory);
        finish()
    })
}

/// Whether `info` is the panic of a failed allocation (`alloc::alloc::handle_alloc_error`), by its message.
fn is_failed_allocation(info: &PanicInfo<'_>) -> bool {
    let Some(bytes) = heap::refused() else { return false };
    let mut expected = ArrayString::<64>::new();
    let written = write!(expected, "memory allocation of {bytes} bytes failed");
    let mut compared = Compared { rest: Some(&expected) };
    written.is_ok() && write!(compared, "{}", info.message()).is_ok() && compared.rest == Some("")
}

/// Compares what is written with a text; `None` once they differ.
struct Compared<'a> {
    rest: Option<&'a str>,
}

impl fmt::Write for Compared<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.rest = self.rest.and_then(|rest| rest.strip_prefix(text));
        Ok(())
    }
}

/// Stops the other cores and takes the console for the report of something that ends the machine with `status`; does not
/// return when a report has been begun before. From then on the running thread keeps its core.
fn start(status: u8, what: &dyn fmt::Display) {
    // In one piece: between telling the core's number and stopping the others, the thread might be moved.
    let turn = gate::call(move || {
        let turn = report::begin(status, percore::index());
        match turn {
            Turn::First => interrupts::stop_others(),
            Turn::Lost => interrupts::stop(),
            _ => {}
        }
        console::seize();
        turn
    });
    match turn {
        Turn::First => boot::ensure_console(),
        Turn::Second(status) => {
            println!("ashlar: {what} while reporting");
            power::exit(status)
        }
        Turn::Third(status) => power::exit(status),
        Turn::Lost => unreachable!("the core has stopped"),
    }
}

fn finish() -> ! {
    power::exit(report::status())
}

/// Who was in kernel mode, and where.
fn print_core() {
    println!("    on core {}, in thread {}", percore::index(), threads::current().name());
}

fn fault_address(exception: Exception) -> Option<VirtAddr> {
    match exception {
        Exception::Abort(Abort { address, .. }) => address,
        Exception::PcAlignment(address) => Some(address),
        _ => None,
    }
}

/// What stands at `address`: region, slot and descriptors, or the descriptors alone where there is no manager for it.
fn print_place(address: VirtAddr) {
    let half = match address.0 {
        ..LOWER_END => "the application's half",
        address if address >= !(LOWER_END - 1) => "the kernel's half",
        _ => "neither half of the address space",
    };
    println!("    {:#018x} is in {half}", address.0);
    match memory::started().filter(|_| address.0 < LOWER_END) {
        Some(manager) => {
            // Printing to the console does not fail.
            let _ = manager.describe(address, &mut Console);
        }
        None => {
            for (level, raw) in walk(address).steps.into_iter().flatten() {
                println!("    level {level} descriptor {raw:#018x}");
            }
        }
    }
}

struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        console::print(format_args!("{text}"));
        Ok(())
    }
}

/// How much memory there is; `in_full`, also who has it, which looks at every slot and takes its lock: for crashes of the
/// application, which holds none.
fn print_memory(in_full: bool) {
    let Some(manager) = memory::started() else { return };
    if let Some(statistics) = manager.frames().try_statistics() {
        println!("{statistics}");
    }
    if in_full {
        // The console takes all.
        let _ = manager.describe_holders(&mut Console);
        println!("{}", app::report::report());
    }
}

fn print_registers(frame: &Frame, sp: u64) {
    println!("registers:");
    for (row, registers) in frame.x.chunks(3).enumerate() {
        console::print(format_args!("   "));
        for (column, value) in registers.iter().enumerate() {
            console::print(format_args!(" x{:<2} {value:#018x}", row * 3 + column));
        }
        println!();
    }
    println!("    sp  {sp:#018x} spsr {:#010x}", frame.spsr);
}

/// The calls that led to an exception. A jump to where nothing can be fetched has made no record yet: who jumped is in x30.
fn print_calls(frame: &Frame, exception: Exception) {
    let is_jump = match exception {
        Exception::Abort(Abort { access, .. }) => access.execute,
        Exception::PcAlignment(_) => true,
        _ => false,
    };
    print_backtrace(is_jump.then_some(VirtAddr(frame.x[30])), frame.x[29]);
}

fn print_backtrace(first: Option<VirtAddr>, record: u64) {
    println!("backtrace:");
    let calls = first.into_iter().chain(Backtrace::new(VirtAddr(record), read_word));
    for (number, pc) in calls.enumerate() {
        println!("    #{number} {:#018x}", pc.0);
    }
}
