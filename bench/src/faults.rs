//! First touches, and splits.

use crate::sample::{figure, median, report, time};
use alloc::vec::Vec;
use ashlar::arch::aarch64::{gate, memory};
use ashlar::memory::{Access, Mapping, is_huge, map};
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
use ashlar::mm::frame::Class;
use ashlar::mm::huge::{Enabled, FaultMode};
use ashlar::mm::mmu::Mmu;

/// Slots that each figure is the middle of.
pub const SLOTS: usize = 32;

/// Sets who gets blocks, and when.
pub fn set_policy(enabled: Enabled, mode: FaultMode) {
    gate::call(move || {
        memory::manager().policy().set_enabled(enabled);
        memory::manager().policy().set_fault_mode(mode);
    });
}

/// Memory of `count` slots.
pub fn slots(count: usize) -> Mapping {
    map(count * BLOCK_SIZE).expect("RAM has room for the benchmark")
}

/// Stores a byte `offset` bytes into `memory`.
pub fn touch(memory: &mut Mapping, offset: usize) {
    // SAFETY: `offset` is in the mapping, which is borrowed mutably; volatile, so that the store is made.
    unsafe { memory.as_mut_slice().as_mut_ptr().add(offset).write_volatile(1) }
}

/// What zeroing 2 MiB takes by itself.
fn zeroing() -> u64 {
    gate::call(|| {
        let manager = memory::manager();
        let block = manager.frames().allocate_block().expect("a free block");
        let ticks = time(|| manager.machine().zero(block.frame(0), PAGES_PER_SLOT));
        manager.frames().free_block(block);
        ticks
    })
}

/// First touches that map a block.
pub fn eager() {
    let zeroing = zeroing();
    set_policy(Enabled::Always, FaultMode::Eager);
    let mut memory = slots(SLOTS);
    let samples: Vec<u64> = (0..SLOTS).map(|slot| time(|| touch(&mut memory, slot * BLOCK_SIZE))).collect();
    assert!(is_huge(memory.as_slice().as_ptr()));
    let whole = median(samples.clone());
    report("fault_slot_eager", samples);
    figure("fault_slot_eager_beyond_zeroing", whole.saturating_sub(zeroing), "instructions");
}

/// First touches that find a block which idle time has zeroed.
pub fn pool() {
    set_policy(Enabled::Always, FaultMode::Eager);
    gate::call(|| while memory::manager().idle_step() {});
    let hits = || memory::manager().counters().zeroed_pool_hit.get();
    let before = gate::call(hits);
    let mut memory = slots(SLOTS);
    let samples = (0..SLOTS).map(|slot| time(|| touch(&mut memory, slot * BLOCK_SIZE))).collect();
    assert!(is_huge(memory.as_slice().as_ptr()));
    assert!(gate::call(hits) - before > SLOTS as u64 / 2, "most touches find one");
    report("fault_slot_pool", samples);
}

/// First touches of a slot: a home, and a group.
pub fn group() {
    set_policy(Enabled::Always, FaultMode::Adaptive);
    let mut memory = slots(SLOTS);
    report("fault_group", (0..SLOTS).map(|slot| time(|| touch(&mut memory, slot * BLOCK_SIZE))).collect());
}

/// First reads of a slot: they map the zero block, which is there after one.
pub fn zeros() {
    set_policy(Enabled::Always, FaultMode::Adaptive);
    let memory = slots(SLOTS + 1);
    let read = |slot: usize| {
        // SAFETY: the byte is in the mapping, which is readable; volatile, so that the load is made.
        time(|| _ = unsafe { memory.as_slice().as_ptr().add(slot * BLOCK_SIZE).read_volatile() })
    };
    read(SLOTS);
    report("zero_read_slot", (0..SLOTS).map(read).collect());
}

/// Touches of every page of a slot, until it promotes.
pub fn fill_slot() {
    set_policy(Enabled::Always, FaultMode::Adaptive);
    let mut memory = slots(SLOTS);
    let fill =
        |slot| time(|| (0..PAGES_PER_SLOT).for_each(|page| touch(&mut memory, slot * BLOCK_SIZE + page * PAGE_SIZE)));
    let samples = (0..SLOTS).map(fill).collect();
    assert!(is_huge(memory.as_slice().as_ptr()));
    report("fill_slot", samples);
}

/// First touches with no block and no group to be had: the policy allows them, memory is in single frames.
pub fn page() {
    set_policy(Enabled::Always, FaultMode::Adaptive);
    let mut memory = slots(1);
    let mut kept = slots(1);
    touch(&mut kept, 0);
    let frames = || memory::manager().frames();
    // Every second frame of what is left is free.
    let singles: Vec<_> = core::iter::from_fn(|| gate::call(move || frames().allocate(0, Class::Movable))).collect();
    for &frame in singles.iter().skip(1).step_by(2) {
        gate::call(move || frames().free(frame, 0));
    }
    let samples = (1..PAGES_PER_SLOT).map(|page| time(|| touch(&mut memory, page * PAGE_SIZE))).collect();
    assert!(!is_huge(memory.as_slice().as_ptr()));
    report("fault_page", samples);
    for &frame in singles.iter().step_by(2) {
        gate::call(move || frames().free(frame, 0));
    }
}

/// A page in the middle of a block is released, or protected.
pub fn splits() {
    set_policy(Enabled::Always, FaultMode::Eager);
    let mut memory = slots(2 * SLOTS);
    (0..2 * SLOTS).for_each(|slot| touch(&mut memory, slot * BLOCK_SIZE));
    assert!(is_huge(memory.as_slice().as_ptr()));
    let start = memory.start();
    let page = move |slot: usize| start + (slot * BLOCK_SIZE + 100 * PAGE_SIZE) as u64;
    let release = |slot| time(|| gate::call(move || memory::manager().release(page(slot), PAGE_SIZE)).expect("mapped"));
    report("split_release", (0..SLOTS).map(release).collect());
    let protect = |slot| {
        time(|| gate::call(move || memory::manager().protect(page(slot), PAGE_SIZE, Access::READ)).expect("mapped"))
    };
    report("split_protect", (SLOTS..2 * SLOTS).map(protect).collect());
    assert!(!is_huge(memory.as_slice().as_ptr()));
}
