//! Chains of frame records, whole and broken.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;
use ashlar::mm::address::VirtAddr;
use ashlar::report::Backtrace;

/// The return addresses that a chain from `record` gives, in a memory of (address, word) pairs.
fn backtrace(record: u64, memory: &[(u64, u64)]) -> Vec<u64> {
    let read = |at: VirtAddr| memory.iter().find(|(address, _)| *address == at.0).map(|(_, word)| *word);
    Backtrace::new(VirtAddr(record), read).map(|pc| pc.0).collect()
}

const STACK: u64 = 0xFFFF_FFF8_0000_8000;

fn follows_records_across_stacks() {
    let memory = [(STACK, 0x1000), (STACK + 8, 10), (0x1000, 0x2000), (0x1008, 20), (0x2000, 0), (0x2008, 30)];
    assert_eq!(backtrace(STACK, &memory), [10, 20, 30]);
}

fn ends_where_the_chain_does() {
    assert_eq!(backtrace(0, &[(0, 0x1000), (8, 10)]), [0; 0]);
    // A record without a return address is where assembly began.
    assert_eq!(backtrace(0x1000, &[(0x1000, 0x2000), (0x1008, 0), (0x2000, 0), (0x2008, 5)]), [0; 0]);
}

fn stops_at_what_cannot_be_read() {
    assert_eq!(backtrace(0x1000, &[(0x1000, 0x2000), (0x1008, 10), (0x2000, 0x3000)]), [10]);
    assert_eq!(backtrace(0x1000, &[(0x1000, 0x2004), (0x1008, 10), (0x2004, 0), (0x200c, 20)]), [10]);
    assert_eq!(backtrace(!7, &[(!7, 0x1000)]), [0; 0]);
}

fn a_circle_ends() {
    let calls = backtrace(0x1000, &[(0x1000, 0x1000), (0x1008, 10)]).len();
    assert!((2..1000).contains(&calls));
}

ashlar_test::tests! {
    follows_records_across_stacks,
    ends_where_the_chain_does,
    stops_at_what_cannot_be_read,
    a_circle_ends,
}
