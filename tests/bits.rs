//! Sets of 512 pages against the plainest model there is: an array of bools.
#![cfg_attr(target_os = "none", no_std, no_main)]

use ashlar::mm::bits::Bits512;

fn ranges_agree_with_an_array() {
    for (start, end) in [(0, 0), (0, 1), (0, 64), (63, 65), (1, 511), (64, 128), (100, 400), (0, 512), (511, 512)] {
        let mut bits = Bits512::EMPTY;
        bits.set_range(start..end);
        for index in 0..512 {
            assert_eq!(bits.get(index), (start..end).contains(&index), "set_range({start}..{end}) at {index}");
        }
        assert_eq!(bits.count(), end - start);
        assert!(bits.all_in(start..end));
        assert_eq!(bits.any_in(start..end), start != end);
        assert!(bits.runs().eq((start != end).then_some(start..end)));
        assert!(bits.iter().eq(start..end));
        assert!((0..512).all(|index| (bits.group(index / 16 * 16) >> (index % 16) & 1 != 0) == bits.get(index)));
        let mut rest = Bits512::FULL;
        rest.clear_range(start..end);
        assert_eq!(rest, bits.not());
    }
}

fn single_bits() {
    let mut bits = Bits512::EMPTY;
    for index in (0..512).step_by(7) {
        bits.set(index);
    }
    assert!((0..512).all(|index| bits.get(index) == (index % 7 == 0)));
    assert_eq!(bits.next_set(1), Some(7));
    assert_eq!(bits.next_set(505), Some(511));
    assert_eq!(bits.next_set(512), None);
    assert!(bits.runs().eq((0..512).step_by(7).map(|index| index..index + 1)));
    assert!(bits.iter().eq((0..512).step_by(7)));
    bits.clear(0);
    assert_eq!(bits.next_set(0), Some(7));
    assert_eq!(Bits512::FULL.full_groups(), 32);
    assert_eq!(bits.full_groups(), 0);
}

ashlar_test::tests! { ranges_agree_with_an_array, single_bits }
