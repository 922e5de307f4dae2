//! Looking a region up among a hundred thousand.

use crate::sample::{report, time};
use alloc::vec::Vec;
use ashlar::arch::aarch64::{gate, memory};
use ashlar::memory::{Access, MapRequest};
use ashlar::mm::address::{PAGE_SIZE, VirtAddr};

const REGIONS: usize = 100_000;
const LOOKUPS: usize = 1000;
const BASE: u64 = 1 << 36;

/// Measures it.
pub fn measure() {
    for region in 0..REGIONS as u64 {
        // Pages with a hole between, so that they stay regions of their own.
        let at = VirtAddr(BASE + region * 2 * PAGE_SIZE as u64);
        let request = MapRequest::new(PAGE_SIZE).at(at).access(Access::READ);
        gate::call(move || memory::manager().map(request)).expect("the addresses are free");
    }
    let mut state = 1_u64;
    let samples: Vec<u64> = (0..LOOKUPS)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = VirtAddr(BASE + (state >> 33) % REGIONS as u64 * 2 * PAGE_SIZE as u64);
            gate::call(move || {
                let mut found = None;
                let ticks = time(|| found = memory::manager().region(at));
                assert!(found.is_some());
                ticks
            })
        })
        .collect();
    report("region_lookup_100k", samples);
    gate::call(|| memory::manager().unmap(VirtAddr(BASE), REGIONS * 2 * PAGE_SIZE)).expect("whole regions");
}
