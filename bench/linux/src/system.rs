//! System calls, as few as will do.

use core::arch::{asm, global_asm};
use core::ffi::CStr;

const IOCTL: usize = 29;
const MKDIRAT: usize = 34;
const MOUNT: usize = 40;
const OPENAT: usize = 56;
const CLOSE: usize = 57;
const READ: usize = 63;
const WRITE: usize = 64;
const NANOSLEEP: usize = 101;
const REBOOT: usize = 142;
const MUNMAP: usize = 215;
const MMAP: usize = 222;
const MADVISE: usize = 233;

const NO_DIRECTORY: usize = -100_isize as usize;
const WRITE_ONLY: usize = 1;
/// Readable and writable; private and anonymous.
const PROTECTION: usize = 1 | 2;
const FLAGS: usize = 2 | 0x20;
/// Waits until what was written to a terminal is out (`tcdrain`).
const DRAIN: usize = 0x5409;
/// The two numbers that keep `reboot` from happening by mistake, and what it is to do.
const POWER_OFF: [usize; 3] = [0xfee1_dead, 0x2812_1969, 0x4321_fedc];

/// `madvise`: what was there is not needed.
pub const DONT_NEED: usize = 4;
/// `madvise`: huge pages, please.
pub const HUGE_PAGE: usize = 14;

/// The kernel's number for what went wrong.
#[derive(Clone, Copy, Debug)]
pub struct Errno(#[allow(dead_code, reason = "it is printed")] usize);

// The kernel enters with the arguments on the stack.
global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "b {start}",
    start = sym crate::program::start,
);

// Ashlar's own, or the comparison would be one of libraries, too.
global_asm!(include_str!("../../../arch/aarch64/string.s"));

/// Calls the kernel.
///
/// # Safety
///
/// The arguments are those of call `number`, and what it does to memory is sound.
#[inline]
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    let result: usize;
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller's.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack));
    }
    if result > -4096_isize as usize { Err(Errno(result.wrapping_neg())) } else { Ok(result) }
}

/// Maps `length` bytes of zeros.
pub fn map(length: usize) -> Result<*mut u8, Errno> {
    // SAFETY: new memory at addresses that nobody has.
    let address = unsafe { call(MMAP, [0, length, PROTECTION, FLAGS, usize::MAX, 0]) }?;
    Ok(core::ptr::with_exposed_provenance_mut(address))
}

/// Unmaps `length` bytes at `start`.
///
/// # Safety
///
/// They were mapped, and nobody has a reference to them.
pub unsafe fn unmap(start: *mut u8, length: usize) -> Result<(), Errno> {
    // SAFETY: the caller's.
    unsafe { call(MUNMAP, [start.expose_provenance(), length, 0, 0, 0, 0]) }.map(drop)
}

/// Gives advice on memory of one's own.
pub fn advise(memory: &mut [u8], advice: usize) -> Result<(), Errno> {
    // SAFETY: its bytes stay, or become zero, and it is borrowed for nobody else.
    unsafe { call(MADVISE, [memory.as_mut_ptr().expose_provenance(), memory.len(), advice, 0, 0, 0]) }.map(drop)
}

/// Prints to the console, and waits until it is out.
pub fn print(text: &[u8]) {
    // SAFETY: the kernel reads `text`.
    let _ = unsafe { call(WRITE, [1, text.as_ptr().expose_provenance(), text.len(), 0, 0, 0]) };
    // SAFETY: no memory is involved.
    let _ = unsafe { call(IOCTL, [1, DRAIN, 1, 0, 0, 0]) };
}

/// Makes a directory and mounts a file system without a device there.
pub fn mount(kind: &CStr, at: &CStr) -> Result<(), Errno> {
    let [kind, at] = [kind, at].map(|text| text.as_ptr().expose_provenance());
    // SAFETY: the kernel reads the strings. It may be there already.
    let _ = unsafe { call(MKDIRAT, [NO_DIRECTORY, at, 0o755, 0, 0, 0]) };
    // SAFETY: the kernel reads the strings.
    unsafe { call(MOUNT, [kind, at, kind, 0, 0, 0]) }.map(drop)
}

fn with_file<T>(path: &CStr, flags: usize, act: impl FnOnce(usize) -> Result<T, Errno>) -> Result<T, Errno> {
    // SAFETY: the kernel reads the path.
    let file = unsafe { call(OPENAT, [NO_DIRECTORY, path.as_ptr().expose_provenance(), flags, 0, 0, 0]) }?;
    let result = act(file);
    // SAFETY: it was opened here.
    unsafe { call(CLOSE, [file, 0, 0, 0, 0, 0]) }?;
    result
}

/// Writes `value` to the file at `path`.
pub fn set(path: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `value`.
    let write = |file| unsafe { call(WRITE, [file, value.as_ptr().expose_provenance(), value.len(), 0, 0, 0]) };
    with_file(path, WRITE_ONLY, write).map(drop)
}

/// What the file at `path` begins with, in `buffer`.
pub fn read<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    // SAFETY: the kernel writes to `buffer`, as much as it holds.
    let read = |file| unsafe { call(READ, [file, buffer.as_mut_ptr().expose_provenance(), buffer.len(), 0, 0, 0]) };
    let length = with_file(path, 0, read)?;
    Ok(&buffer[..length])
}

/// Sleeps.
pub fn sleep(seconds: u64) {
    let time = [seconds, 0];
    // SAFETY: the kernel reads the time.
    let _ = unsafe { call(NANOSLEEP, [time.as_ptr().expose_provenance(), 0, 0, 0, 0, 0]) };
}

/// Switches the machine off.
pub fn power_off() -> ! {
    let [one, other, what] = POWER_OFF;
    // SAFETY: nothing is left to be lost.
    let _ = unsafe { call(REBOOT, [one, other, what, 0, 0, 0]) };
    loop {
        sleep(1);
    }
}
