//! The memory map that the frame allocator starts from.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::single_range_in_vec_init, reason = "a machine with one bank of RAM")]

extern crate alloc;

mod common;
#[path = "common/frame_setup.rs"]
mod frame_setup;

use alloc::vec::Vec;
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, PhysAddr};
use ashlar::mm::frame::MemoryMap;
use common::Random;
use core::ops::Range;
use frame_setup::{GIB, MIB, map_of};

fn ranges(map: &MemoryMap) -> Vec<(u64, u64)> {
    map.iter().map(|range| (range.start.0, range.end.0)).collect()
}

fn maps_take_ranges_in_any_order() {
    let at = |page: u64| PhysAddr(page * PAGE_SIZE as u64);
    for seed in 0..20 {
        let (mut map, mut random) = (MemoryMap::new(), Random::new(seed));
        let mut model = [false; 256];
        for _ in 0..200 {
            let (first, second) = (random.index(257), random.index(257));
            let range = first.min(second)..first.max(second);
            let addresses = at(range.start as u64)..at(range.end as u64);
            let add = random.index(2) == 0;
            match add {
                true => map.add(addresses).unwrap(),
                false => map.remove(addresses).unwrap(),
            }
            model[range].fill(add);
            let mut expected = Vec::new();
            for page in 0..256 {
                if model[page] && (page == 0 || !model[page - 1]) {
                    let end = (page..256).find(|&page| !model[page]).unwrap_or(256);
                    expected.push((at(page as u64).0, at(end as u64).0));
                }
            }
            assert_eq!(ranges(&map), expected, "seed {seed}");
            assert_eq!(map.total(), model.iter().filter(|&&free| free).count() as u64 * PAGE_SIZE as u64);
        }
    }
}

fn maps_hold_whole_frames() {
    let mut map = MemoryMap::new();
    map.add(PhysAddr(1)..PhysAddr(0x4fff)).unwrap();
    assert_eq!(ranges(&map), [(0x1000, 0x4000)], "frames that are RAM in part are none");
    map.remove(PhysAddr(0x2fff)..PhysAddr(0x3000)).unwrap();
    assert_eq!(ranges(&map), [(0x1000, 0x2000), (0x3000, 0x4000)], "frames that are reserved in part are reserved");
    map.add(PhysAddr(0x9000)..PhysAddr(0x9fff)).unwrap();
    map.add(PhysAddr(u64::MAX - 1)..PhysAddr(u64::MAX)).unwrap();
    map.remove(PhysAddr(0x9000)..PhysAddr(0x9000)).unwrap();
    assert_eq!(map.total(), 0x2000);
    map.remove(PhysAddr(0x3001)..PhysAddr(u64::MAX)).unwrap();
    assert_eq!(ranges(&map), [(0x1000, 0x2000)]);
}

fn maps_say_when_they_are_full() {
    let mut map = MemoryMap::new();
    let capacity = ashlar::mm::frame::memory_map::CAPACITY as u64;
    for range in 0..capacity {
        map.add(PhysAddr(range * 0x4000)..PhysAddr(range * 0x4000 + 0x3000)).unwrap();
    }
    let before = ranges(&map);
    let error = map.add(PhysAddr(0x100_0000)..PhysAddr(0x100_1000)).unwrap_err();
    assert_eq!((error.start, error.end), (PhysAddr(0x100_0000), PhysAddr(0x100_1000)));
    assert!(map.remove(PhysAddr(0x1000)..PhysAddr(0x2000)).is_err(), "that would be one range more");
    assert_eq!(ranges(&map), before);
    assert_eq!(map.carve(PAGE_SIZE, 0x2000), Some(PhysAddr((capacity - 1) * 0x4000 + 0x2000)), "no split, no need");
    map.remove(PhysAddr(0)..PhysAddr(0x1000)).unwrap();
    map.add(PhysAddr(0x3000)..PhysAddr(0x4000)).unwrap();
    map.add(PhysAddr(0x100_0000)..PhysAddr(0x100_1000)).unwrap();
}

fn carving_leaves_blocks_whole() {
    let carve =
        |banks: &[Range<u64>], bytes: u64, align: usize| map_of(banks).carve(bytes as usize, align).map(|at| at.0);
    // The highest place, where nothing is the worse for it.
    assert_eq!(carve(&[GIB..GIB + 8 * MIB], 4096, 1), Some(GIB + 8 * MIB - 4096));
    // The odd end below, not the whole block above.
    assert_eq!(carve(&[GIB - MIB..GIB + 8 * MIB], MIB, 4096), Some(GIB - MIB));
    // A bank that is no GiB, not one that is.
    assert_eq!(carve(&[GIB..GIB + 8 * MIB, 2 * GIB..3 * GIB], 4 * MIB, 4096), Some(GIB + 4 * MIB));
    // Where nothing but a GiB is left, its end.
    assert_eq!(carve(&[2 * GIB..3 * GIB], 4 * MIB, BLOCK_SIZE), Some(3 * GIB - 4 * MIB));
    assert_eq!(carve(&[GIB..GIB + 8 * MIB], 9 * MIB, 1), None);
    assert_eq!(carve(&[GIB + 4096..GIB + 2 * MIB], MIB, BLOCK_SIZE), None);
    let mut map = map_of(&[GIB..GIB + MIB]);
    assert_eq!(map.carve(1, 1), Some(PhysAddr(GIB + MIB - 4096)), "whole frames");
    assert_eq!(map.total(), MIB - 4096);
    assert_eq!(map.carve(usize::MAX, 1), None);
}

ashlar_test::tests! {
    maps_take_ranges_in_any_order,
    maps_hold_whole_frames,
    maps_say_when_they_are_full,
    carving_leaves_blocks_whole,
}
