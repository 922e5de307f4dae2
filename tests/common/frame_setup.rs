//! Frame allocators over machines with little memory of their own.
#![allow(dead_code, reason = "no test file uses all of it")]

use crate::common;
use alloc::vec::Vec;
use ashlar::arch::sim::{SimConfig, SimMachine};
use ashlar::mm::address::PhysAddr;
use ashlar::mm::frame::{CacheLimits, Frames, FramesError, MemoryMap, Owner};
use ashlar::mm::mmu::Mmu;
use core::ops::{Deref, Range};

pub const MIB: u64 = 1 << 20;

pub const GIB: u64 = 1 << 30;

/// An allocator, what it had to give at first, and the machine its records are in.
pub struct Setup {
    pub frames: Frames,
    pub map: MemoryMap,
    pub machine: SimMachine,
}

impl Deref for Setup {
    type Target = Frames;
    fn deref(&self) -> &Frames {
        &self.frames
    }
}

/// An allocator over `banks` on a machine with no more memory than `backed`, where its records should be.
pub fn try_setup(banks: &[Range<u64>], backed: &[Range<u64>]) -> Result<Setup, FramesError> {
    common::threads_are_contexts();
    let mut map = map_of(banks);
    let backed: Vec<_> = backed.iter().map(|bank| (PhysAddr(bank.start), (bank.end - bank.start) as usize)).collect();
    let machine = SimMachine::new(SimConfig { banks: &backed, ..SimConfig::default() });
    for &(start, bytes) in backed.iter().filter(|(_, bytes)| *bytes <= 32 * MIB as usize) {
        // RAM holds anything at boot.
        // SAFETY: the bank is `bytes` long, in one piece, and not in use yet.
        unsafe { machine.linear(start).write_bytes(0xa5, bytes) };
    }
    // SAFETY: the machine lives as long as the allocator, and nobody else uses its memory.
    let frames = unsafe { Frames::new(&machine, &mut map) }?;
    frames.check();
    Ok(Setup { frames, map, machine })
}

pub fn setup(banks: &[Range<u64>]) -> Setup {
    try_setup(banks, banks).unwrap()
}

/// Limits that make even small machines cache everything.
pub const CACHED: CacheLimits = CacheLimits { frames: 8, groups: 4, blocks: 2 };

/// The same without caches: what an allocation finds is what the pool has.
pub fn pool_of(banks: &[Range<u64>]) -> Setup {
    let frames = setup(banks);
    frames.set_cache_limits(CacheLimits::NONE);
    frames
}

pub fn map_of(banks: &[Range<u64>]) -> MemoryMap {
    let mut map = MemoryMap::new();
    for bank in banks {
        map.add(PhysAddr(bank.start)..PhysAddr(bank.end)).unwrap();
    }
    map
}

pub fn owner(number: u32) -> Owner {
    Owner::new(number).unwrap()
}
