//! Slots that become blocks on demand, pins, and homes that end.

use crate::faults::{SLOTS, set_policy, slots, touch};
use crate::sample::{figure, report, ticks, time};
use alloc::vec::Vec;
use ashlar::arch::aarch64::{gate, memory};
use ashlar::memory::{Mapping, VirtAddr, is_huge};
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_SLOT};
use ashlar::mm::huge::{Collapsed, Enabled, FaultMode};
use ashlar::mm::pin::PinRequest;

/// Where slot `slot` of `memory` begins, and `pages` further on.
pub fn at(memory: &Mapping, slot: usize, pages: usize) -> VirtAddr {
    memory.start() + (slot * BLOCK_SIZE + pages * PAGE_SIZE) as u64
}

/// Slots of single pages, no two of a slot next to each other.
fn scattered(count: usize) -> Mapping {
    set_policy(Enabled::Never, FaultMode::Adaptive);
    let mut memory = slots(count);
    for page in 0..PAGES_PER_SLOT {
        (0..count).for_each(|slot| touch(&mut memory, slot * BLOCK_SIZE + page * PAGE_SIZE));
    }
    memory
}

/// Blocks, each zeroed as a whole.
pub fn blocks(count: usize) -> Mapping {
    set_policy(Enabled::Always, FaultMode::Eager);
    let mut memory = slots(count);
    (0..count).for_each(|slot| touch(&mut memory, slot * BLOCK_SIZE));
    assert!(is_huge(memory.as_slice().as_ptr()));
    memory
}

/// Collapses the slot at `start`: what it took in all, and the longest time that it had the slot.
fn collapse(start: VirtAddr, expected: Collapsed) -> (u64, u64) {
    gate::call(move || {
        let (mut longest, mut before) = (0, ticks());
        let begin = before;
        let between_steps = || {
            let now = ticks();
            longest = longest.max(now - before);
            before = ticks();
            false
        };
        let check = |_, result| assert_eq!(result, Ok(expected));
        memory::manager().collapse(start, BLOCK_SIZE, between_steps, check).expect("the range is sound");
        (ticks() - begin, longest.max(ticks() - before))
    })
}

/// 512 scattered pages become a block.
pub fn scattered_pages() {
    let memory = scattered(SLOTS / 2);
    let expected = Collapsed::Copied { pages: PAGES_PER_SLOT, filled: 0 };
    let runs = (0..SLOTS / 2).map(|slot| collapse(at(&memory, slot, 0), expected));
    let (all, longest): (Vec<u64>, Vec<u64>) = runs.unzip();
    report("collapse_slot", all);
    figure("collapse_stall", longest.into_iter().max().unwrap_or(0), "instructions");
}

/// A table with all pages at home becomes a block.
pub fn promote() {
    let mut memory = slots(SLOTS);
    // A home first, then single pages in it that nothing promotes.
    set_policy(Enabled::Always, FaultMode::Adaptive);
    (0..SLOTS).for_each(|slot| touch(&mut memory, slot * BLOCK_SIZE));
    set_policy(Enabled::Never, FaultMode::Adaptive);
    (0..SLOTS * PAGES_PER_SLOT).for_each(|page| touch(&mut memory, page * PAGE_SIZE));
    assert!(!is_huge(memory.as_slice().as_ptr()));
    report("promote", (0..SLOTS).map(|slot| collapse(at(&memory, slot, 0), Collapsed::Promoted).0).collect());
}

/// A page in the middle of a block is unmapped.
pub fn unmap() {
    let memory = blocks(SLOTS);
    let unmap = |slot| {
        let page = at(&memory, slot, 100);
        time(|| gate::call(move || memory::manager().unmap(page, PAGE_SIZE)).expect("it is mapped"))
    };
    report("munmap_4k", (0..SLOTS).map(unmap).collect());
}

/// A page in a block is pinned, and its pin is dropped.
pub fn pin() {
    let memory = blocks(1);
    let mut pins = Vec::with_capacity(PAGES_PER_SLOT);
    let pin = |page| {
        let at = at(&memory, 0, page);
        let mut pin = None;
        let ticks =
            time(|| pin = gate::call(move || memory::manager().pin(at, PAGE_SIZE, PinRequest::new().write()).ok()));
        pins.push(pin.expect("it is present"));
        ticks
    };
    report("pin_page", (0..PAGES_PER_SLOT).map(pin).collect());
    let unpin = |pin| time(|| gate::call(move || memory::manager().unpin(pin)));
    report("unpin_page", pins.into_iter().map(unpin).collect());
}

/// Homes of which half is absent end.
pub fn dissolve() {
    let mut memory = blocks(SLOTS);
    for slot in 0..SLOTS {
        memory.release(slot * BLOCK_SIZE..slot * BLOCK_SIZE + BLOCK_SIZE / 2).expect("whole pages");
    }
    let dissolve = |slot| {
        let start = at(&memory, slot, 0);
        time(|| assert_eq!(gate::call(move || memory::manager().dissolve(start)), Ok(PAGES_PER_SLOT / 2)))
    };
    report("dissolve", (0..SLOTS).map(dissolve).collect());
}
