//! Crash reports: what is the same on every machine. A report takes no lock and allocates nothing.
//!
//! The first report decides the status with which the machine ends; what goes wrong while it is written can only
//! shorten it.
#![forbid(unsafe_code)]

use crate::mm::address::VirtAddr;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Status of the machine after a Rust panic of the application.
pub const APPLICATION_PANIC: u8 = 101;
/// Status after any other crash of the application: a wild access, a stack overflow.
pub const APPLICATION_CRASH: u8 = 102;
/// Status when the application touched memory that could not be had.
pub const OUT_OF_MEMORY: u8 = 103;
/// Status after a bug of the kernel's.
pub const KERNEL_BUG: u8 = 104;

/// Reports begun by the core that began the first one.
static STARTED: AtomicUsize = AtomicUsize::new(0);
/// That core's number and 1; 0 while there is none.
static REPORTER: AtomicUsize = AtomicUsize::new(0);
static STATUS: AtomicU8 = AtomicU8::new(0);

/// How far reporting may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// This is the first report: write all of it.
    First,
    /// Writing the first one failed: a line at most, then end with the status of the first.
    Second(u8),
    /// That failed too: end with the status of the first, without a word.
    Third(u8),
    /// Even ending failed, or another core reports: nothing is left to do.
    Lost,
}

/// Whether a report was begun: the machine ends.
pub fn is_begun() -> bool {
    REPORTER.load(Ordering::Acquire) != 0
}

/// Begins a report on core number `core` that is to end the machine with `status`. The first core that does has the say.
pub fn begin(status: u8, core: usize) -> Turn {
    let reporter = REPORTER.compare_exchange(0, core + 1, Ordering::AcqRel, Ordering::Acquire);
    if reporter.is_err_and(|reporter| reporter != core + 1) {
        return Turn::Lost;
    }
    match STARTED.fetch_add(1, Ordering::AcqRel) {
        0 => {
            STATUS.store(status, Ordering::Release);
            Turn::First
        }
        1 => Turn::Second(STATUS.load(Ordering::Acquire)),
        2 => Turn::Third(STATUS.load(Ordering::Acquire)),
        _ => Turn::Lost,
    }
}

/// The status that the first report began with.
pub fn status() -> u8 {
    STATUS.load(Ordering::Acquire)
}

/// Calls that a backtrace shows at most: a chain that was overwritten may be a circle.
const DEPTH: usize = 64;

/// The return addresses of the calls that led here, by frame records (AAPCS64 6.4.6): each holds the address of the
/// caller's, then the return address.
pub struct Backtrace<R> {
    record: VirtAddr,
    left: usize,
    read: R,
}

impl<R: FnMut(VirtAddr) -> Option<u64>> Backtrace<R> {
    /// From the frame record at `record` on. `read` gives the word at an address, or `None` where nothing can be read.
    pub fn new(record: VirtAddr, read: R) -> Self {
        Backtrace { record, left: DEPTH, read }
    }
}

impl<R: FnMut(VirtAddr) -> Option<u64>> Iterator for Backtrace<R> {
    type Item = VirtAddr;

    fn next(&mut self) -> Option<VirtAddr> {
        if self.record.0 == 0 || !self.record.is_aligned(8) || self.left == 0 {
            return None;
        }
        let next = (self.read)(self.record)?;
        let pc = (self.read)(self.record.checked_add(8)?)?;
        self.record = VirtAddr(next);
        self.left -= 1;
        (pc != 0).then_some(VirtAddr(pc))
    }
}
