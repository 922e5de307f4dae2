use crate::pmu;
use ashlar::arch::aarch64::{gate, memory};
use ashlar::memory::{Mapping, map, usage};
use ashlar::mm::address::{BLOCK_SIZE, PAGES_PER_SLOT};
use ashlar::mm::mmu::Mmu;
use ashlar::{println, thread};
use core::fmt;
use core::ops::{Deref, DerefMut, Range};
use core::time::Duration;
use workloads::{Counts, Failure, OutOfMemory, Plan, PlanError, Platform, Usage, machine, run};

/// A mapping whose bytes are at hand without a question whether they may be written.
pub struct Memory {
    mapping: Mapping,
    start: *mut u8,
}

impl Deref for Memory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping's bytes, readable, and this is the only way to them.
        unsafe { core::slice::from_raw_parts(self.start, self.mapping.len()) }
    }
}

impl DerefMut for Memory {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; writable, and borrowed for nobody else.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.mapping.len()) }
    }
}

struct Ashlar {
    /// The core's counters count as well.
    counts: bool,
}

impl Platform for Ashlar {
    type Memory = Memory;

    fn map(&self, bytes: usize) -> Result<Memory, OutOfMemory> {
        let mut mapping = map(bytes).map_err(|_| OutOfMemory)?;
        let start = mapping.as_mut_slice().as_mut_ptr();
        Ok(Memory { mapping, start })
    }

    fn release(&self, memory: &mut Memory, range: Range<usize>) {
        memory.mapping.release(range).expect("whole pages");
    }

    fn usage(&self) -> Usage {
        let usage = usage();
        Usage { resident: usage.mapped_bytes(), in_blocks: usage.blocks * BLOCK_SIZE }
    }

    fn sleep(&self, seconds: u64) {
        thread::sleep(Duration::from_secs(seconds));
    }

    fn zeroing(&self, bytes: usize) -> Option<u64> {
        gate::call(move || {
            let manager = memory::manager();
            let block = manager.frames().allocate_block()?;
            let start = machine::counter();
            for _ in 0..bytes / BLOCK_SIZE {
                manager.machine().zero(block.frame(0), PAGES_PER_SLOT);
            }
            let ticks = machine::counter() - start;
            manager.frames().free_block(block);
            Some(ticks)
        })
    }

    fn line(&self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }

    #[inline]
    fn now(&self) -> u64 {
        machine::counter()
    }

    fn frequency(&self) -> u64 {
        machine::frequency()
    }

    fn start(&self, tag: u64) {
        if self.counts {
            pmu::start();
        }
        machine::start(tag);
    }

    fn stop(&self, tag: u64) -> Counts {
        machine::report(tag);
        machine::stop(tag);
        if self.counts { pmu::stop() } else { Counts::default() }
    }
}

#[derive(Debug)]
pub enum Error {
    Word(PlanError),
    Failure(Failure),
    NoCounters,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Word(error) => error.fmt(f),
            Error::Failure(failure) => failure.fmt(f),
            Error::NoCounters => f.write_str("pmu: this core has no counters, or there is more than one core"),
        }
    }
}

pub fn main() -> Result<(), Error> {
    let start = machine::counter();
    let mut plan = Plan::default();
    let mut counts = false;
    for argument in ashlar::args() {
        if argument.key == "pmu" {
            if !pmu::is_there() || thread::available_parallelism().get() > 1 {
                return Err(Error::NoCounters);
            }
            counts = true;
            continue;
        }
        plan.word(argument.key, argument.value.unwrap_or("")).map_err(Error::Word)?;
    }
    run(&Ashlar { counts }, &plan, start).map_err(Error::Failure)
}
