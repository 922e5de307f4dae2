//! What the TLBs reach: random reads over 64 MiB, in pages, in groups and in blocks. The TLB model (`tlb=`) counts them,
//! and theory has numbers for it. And a descriptor that changes without an invalidation, which the model has to notice.

use crate::faults::{set_policy, touch};
use ashlar::arch::aarch64::{descriptor, gate, layout, memory, walk};
use ashlar::memory::{Access, HugePolicy, Mapping, VirtAddr, map};
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
use ashlar::mm::huge::{Enabled, FaultMode};
use ashlar::mm::mmu::{Entry, Level};
use ashlar::println;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use workloads::machine;

const LENGTH: usize = 64 << 20;
const READS: u64 = 4_000_000;
/// Half a slot.
const HALF: usize = BLOCK_SIZE / 2;

/// Random reads over memory of each size.
pub fn reach() {
    ashlar::memory::set_policy("khugepaged", "off").expect("a knob");
    for (name, policy, mode) in
        [("pages", HugePolicy::Never, FaultMode::Adaptive), ("blocks", HugePolicy::Always, FaultMode::Eager)]
    {
        set_policy(Enabled::Always, mode);
        let mut memory = map(LENGTH).expect("RAM has room");
        memory.advise(0..LENGTH, policy).expect("it is whole");
        (0..LENGTH).step_by(PAGE_SIZE).for_each(|offset| touch(&mut memory, offset));
        count(name, &memory);
    }
    // Half of each slot may not be written, so that no slot is one mapping.
    set_policy(Enabled::Always, FaultMode::Adaptive);
    let mut memory = map(LENGTH).expect("RAM has room");
    let touch_half = |memory: &mut Mapping, first: usize| {
        let halves = (first..LENGTH).step_by(BLOCK_SIZE);
        halves.flat_map(|half| (half..half + HALF).step_by(PAGE_SIZE)).for_each(|offset| touch(memory, offset));
    };
    touch_half(&mut memory, 0);
    for half in (0..LENGTH as u64).step_by(BLOCK_SIZE) {
        let at = memory.start() + half;
        gate::call(move || memory::manager().protect(at, HALF, Access::READ)).expect("it is whole");
    }
    touch_half(&mut memory, HALF);
    count("groups", &memory);
}

/// Counts random reads of `memory`, and says what it is in.
fn count(name: &str, memory: &Mapping) {
    let range = memory.start()..memory.start() + LENGTH as u64;
    let (mut present, mut blocks, mut groups) = (0, 0, 0);
    for region in ashlar::memory::regions().filter(|region| range.contains(&region.range.start)) {
        present += region.present >> 10;
        blocks += region.huge >> 10;
        groups += region.groups >> 10;
    }
    println!("  {name}: {present} KiB, {blocks} of them in blocks, {groups} in groups; {READS} reads");
    // Up to 8 letters, the first in the lowest byte.
    assert!(name.len() <= 8);
    let tag = name.bytes().rev().fold(0, |tag, letter| tag << 8 | u64::from(letter));
    machine::start(tag);
    random_reads(memory.as_slice());
    machine::report(tag);
}

fn random_reads(memory: &[u8]) {
    let words = memory.as_ptr().cast::<u64>();
    let mut state = 1_u64;
    for _ in 0..READS {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let word = (state >> 32) as usize % (LENGTH / 8);
        // SAFETY: a word of the slice, which begins at a page; volatile, so that the load is made.
        unsafe { words.add(word).read_volatile() };
    }
}

/// A page's descriptor leads elsewhere for a while, and nobody invalidates the entry.
pub fn stale() {
    set_policy(Enabled::Never, FaultMode::Adaptive);
    let mut memory = map(2 * PAGE_SIZE).expect("RAM has room");
    [0, PAGE_SIZE].into_iter().for_each(|offset| touch(&mut memory, offset));
    memory.protect(Access::READ).expect("it is whole");
    let (first, second) = (memory.start(), memory.start() + PAGE_SIZE as u64);
    let [_, Some((_, table)), Some((_, leaf))] = walk::walk(first).steps else { panic!("a page") };
    let Some((_, other)) = walk::walk(second).steps[2] else { panic!("a page") };
    let Entry::Table(table) = descriptor::decode(table, Level::Two) else { panic!("a page") };
    let descriptor = layout::linear(table.start() + Level::Three.index(first.page()) as u64 * 8).0 as usize;
    let read = |at: VirtAddr| {
        // SAFETY: the page is mapped, whichever frame it leads to.
        unsafe { with_exposed_provenance::<u8>(at.0 as usize).read_volatile() }
    };
    for _ in 0..10 {
        read(first);
        // SAFETY: the linear map has the table, and nobody else changes this descriptor.
        unsafe { with_exposed_provenance_mut::<u64>(descriptor).write_volatile(other) };
        read(second);
        read(first);
        // SAFETY: as above: it is as it was.
        unsafe { with_exposed_provenance_mut::<u64>(descriptor).write_volatile(leaf) };
    }
    println!("  a page led to another's frame 10 times, and no TLBI was made");
}
