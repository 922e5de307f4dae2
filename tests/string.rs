//! Bytes set and copied, of all small lengths and at all alignments: what is to change does, and nothing beside it.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run memory=32M", "output test result: ok. 3 passed");

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::vec::Vec;
    use core::hint::black_box;

    const LENGTH: usize = 512;

    /// Bytes that are not the same twice in a row.
    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 256) as u8).collect()
    }

    /// Lengths that meet each way, and those around them.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..200).chain([255, 256, 257, 319, 320, 321])
    }

    pub fn bytes_are_set() {
        let before = pattern(LENGTH);
        for start in 0..17 {
            for length in lengths() {
                let mut bytes = before.clone();
                black_box(&mut bytes)[start..start + length].fill(black_box(0xA5));
                let set = |at: usize| (start..start + length).contains(&at);
                for (at, (&byte, &old)) in bytes.iter().zip(&before).enumerate() {
                    assert_eq!(byte, if set(at) { 0xA5 } else { old }, "byte {at} of {length} from {start}");
                }
            }
        }
    }

    pub fn bytes_are_copied() {
        let source = pattern(LENGTH);
        for (from, to) in (0..17).flat_map(|from| [(from, 0), (from, 3), (from, 8), (3, from)]) {
            for length in lengths() {
                let mut bytes = alloc::vec![0xEE; LENGTH];
                black_box(&mut bytes)[to..to + length].copy_from_slice(&black_box(&source)[from..from + length]);
                for (at, &byte) in bytes.iter().enumerate() {
                    let expected = if (to..to + length).contains(&at) { source[from + at - to] } else { 0xEE };
                    assert_eq!(byte, expected, "byte {at} of {length} from {from} to {to}");
                }
            }
        }
    }

    pub fn large_ones_too() {
        let source = pattern(100_003);
        let mut bytes = alloc::vec![0; 100_010];
        black_box(&mut bytes)[5..100_008].copy_from_slice(black_box(&source));
        assert_eq!((&bytes[5..100_008], bytes[4], bytes[100_008]), (&source[..], 0, 0));
        black_box(&mut bytes)[1..100_009].fill(black_box(9));
        assert!(bytes[0] == 0 && bytes[100_009] == 0 && bytes[1..100_009].iter().all(|&byte| byte == 9));
    }
}

#[cfg(target_os = "none")]
use guest::{bytes_are_copied, bytes_are_set, large_ones_too};

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    bytes_are_set,
    #[cfg(target_os = "none")]
    bytes_are_copied,
    #[cfg(target_os = "none")]
    large_ones_too,
}
