//! The console: what is printed and logged, and what is typed.
//!
//! Lines end with a line feed alone. Before [`install`] and on a machine without a console, output is dropped.
//!
//! Formatting reads the caller's data, which may fault, and a fault takes locks that rank below the console's. So text
//! is formatted into a buffer first, and the console's lock is held only while that is sent: from kernel mode at once,
//! from application mode, whose stack may fault too, in pieces that the gate's registers hold.

#[cfg(target_os = "none")]
use crate::arch::aarch64::{gate, percore::in_kernel_mode};
use crate::platform::console::Port;
use crate::platform::machine::UartKind;
use crate::sync::{self, Rank, Ranked};
use core::fmt::{self, Write};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use log::{LevelFilter, Log, Metadata, Record};

/// Bytes formatted before they are sent. Output of several cores mixes in pieces of this size at worst, or of [`PIECE`].
const BUFFER: usize = 256;
/// Bytes that go through the gate at once, beside their count.
const PIECE: usize = 56;

/// End of transmission (Ctrl-D): ends the input when it comes at the start of a line.
const END_OF_INPUT: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

static PORT: Ranked<Option<Port>> = Ranked::new(Rank::Console, None);
/// The port's registers, for [`seize`].
static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(null_mut());
/// Whether they are a mini UART's.
static IS_MINI: AtomicBool = AtomicBool::new(false);
/// The number of the core that has seized the console, and 1; 0 while none has.
static SEIZED_BY: AtomicUsize = AtomicUsize::new(0);
/// The last byte that was sent.
static LAST_BYTE: AtomicU8 = AtomicU8::new(b'\n');

/// Makes the UART at `registers` the console. `clock` is its clock in Hz, if known.
///
/// # Safety
///
/// As [`Port::new`].
pub unsafe fn install(kind: UartKind, registers: NonNull<u8>, clock: Option<u32>) {
    // SAFETY: the caller vouches for the registers.
    let port = unsafe { Port::new(kind, registers, clock) };
    *PORT.lock() = Some(port);
    IS_MINI.store(kind == UartKind::Mini, Ordering::Relaxed);
    REGISTERS.store(registers.as_ptr(), Ordering::Release);
}

/// Whether there is a console.
pub fn is_installed() -> bool {
    !REGISTERS.load(Ordering::Acquire).is_null()
}

/// Makes the console the running core's own, for good: for a crash report. Nobody takes its lock any more, since that may be
/// held by what crashed; what other cores print is dropped, but for a piece that one of them is sending meanwhile. A line that
/// others have begun ends here. Called in kernel mode.
pub fn seize() {
    SEIZED_BY.store(sync::core() + 1, Ordering::Release);
    end_line();
}

/// Ends the line that others have begun, if there is one: what follows is a line of its own.
pub fn end_line() {
    if LAST_BYTE.load(Ordering::Relaxed) != b'\n' {
        write(b"\n");
    }
}

fn write_to(port: &mut Port, bytes: &[u8]) {
    port.write(bytes);
    if let Some(&last) = bytes.last() {
        LAST_BYTE.store(last, Ordering::Relaxed);
    }
}

/// Runs `act` on the port, if there is one.
fn with_port<R>(act: impl FnOnce(&mut Port) -> R) -> Option<R> {
    match SEIZED_BY.load(Ordering::Acquire) {
        0 => {
            let mut port = PORT.lock();
            // Seized while this core waited for the lock, by another one.
            if SEIZED_BY.load(Ordering::Acquire) == 0 { port.as_mut().map(act) } else { None }
        }
        core if core == sync::core() + 1 => {
            let registers = NonNull::new(REGISTERS.load(Ordering::Acquire))?;
            let kind = if IS_MINI.load(Ordering::Relaxed) { UartKind::Mini } else { UartKind::Pl011 };
            // SAFETY: `install` was given these registers; who seizes the console minds no mixed bytes.
            let mut port = unsafe { Port::open(kind, registers) };
            Some(act(&mut port))
        }
        _ => None,
    }
}

struct Buffered {
    bytes: [u8; BUFFER],
    length: usize,
}

impl Buffered {
    fn send(&mut self) {
        let bytes = &self.bytes[..self.length];
        if in_kernel_mode() {
            with_port(|port| write_to(port, bytes));
        } else {
            for chunk in bytes.chunks(PIECE) {
                let (mut piece, length) = ([0; PIECE], chunk.len());
                piece[..length].copy_from_slice(chunk);
                gate::call(move || with_port(|port| write_to(port, &piece[..length])));
            }
        }
        self.length = 0;
    }
}

impl Write for Buffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.length == BUFFER {
                self.send();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Prints formatted text; [`print!`](crate::print) and [`println!`](crate::println) are made of it.
pub fn print(arguments: fmt::Arguments<'_>) {
    let mut buffered = Buffered { bytes: [0; BUFFER], length: 0 };
    // It fails only if an argument's own formatting does; what came before that is printed.
    let _ = buffered.write_fmt(arguments);
    buffered.send();
}

/// Prints bytes as they are.
pub fn write(bytes: &[u8]) {
    for chunk in bytes.chunks(BUFFER) {
        let mut buffered = Buffered { bytes: [0; BUFFER], length: chunk.len() };
        buffered.bytes[..chunk.len()].copy_from_slice(chunk);
        buffered.send();
    }
}

/// Returns when everything was sent.
pub fn drain() {
    gate::call(|| with_port(Port::drain));
}

/// The next byte typed, if there is one.
pub fn read_byte() -> Option<u8> {
    gate::call(|| with_port(Port::read)).flatten()
}

/// Reads a line into `buffer`, without its end, and returns its length; `None` when the input ends (Ctrl-D at the start
/// of a line) or there is no console. Waits for it. What is typed is echoed, and backspace takes a byte back; bytes that
/// do not fit are left out.
pub fn read_line(buffer: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    loop {
        let byte = match gate::call(|| with_port(Port::read))? {
            Some(byte) => byte,
            None => {
                wait_for_input();
                continue;
            }
        };
        match byte {
            END_OF_INPUT if length == 0 => return None,
            b'\r' | b'\n' => {
                write(b"\n");
                return Some(length);
            }
            BACKSPACE | DELETE if length > 0 => {
                length -= 1;
                write(b"\x08 \x08");
            }
            byte if !byte.is_ascii_control() && length < buffer.len() => {
                buffer[length] = byte;
                length += 1;
                write(&[byte]);
            }
            _ => {}
        }
    }
}

/// Lets other threads run until something may have been typed: faster than anyone types, or a line sends.
fn wait_for_input() {
    #[cfg(target_os = "none")]
    crate::thread::sleep(core::time::Duration::from_millis(1));
}

/// On the host there is one mode, and no gate in front of it.
#[cfg(not(target_os = "none"))]
mod gate {
    pub fn call<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

#[cfg(not(target_os = "none"))]
fn in_kernel_mode() -> bool {
    true
}

struct ConsoleLog;

impl Log for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            print(format_args!("[{:<5} {}] {}\n", record.level(), record.target(), record.args()));
        }
    }

    fn flush(&self) {
        drain();
    }
}

/// Sends what is logged at `level` and above to the console.
pub fn start_log(level: LevelFilter) {
    // It fails only if there is a logger, which is then this one: nothing else sets one.
    let _ = log::set_logger(&ConsoleLog);
    log::set_max_level(level);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(::core::format_args!("\n")) };
    ($($argument:tt)*) => {
        $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($($argument)*)))
    };
}
