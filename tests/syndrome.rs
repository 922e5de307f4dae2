//! ESR_EL1 and FAR_EL1 as the processor writes them, and what they mean.
#![cfg_attr(target_os = "none", no_std, no_main)]

use ashlar::arch::aarch64::syndrome::{Abort, Cause, Exception, memory_fault};
use ashlar::mm::address::VirtAddr;
use ashlar::mm::mmu::Access;

const FAR: u64 = 0x12_3456_7890;

fn abort(access: Access, cause: Cause) -> Exception {
    Exception::Abort(Abort { access, address: Some(VirtAddr(FAR)), cause })
}

fn golden_values() {
    let cases = [
        (0x9600_0004, abort(Access::READ, Cause::Translation(0))),
        (0x9600_0005, abort(Access::READ, Cause::Translation(1))),
        (0x9600_0046, abort(Access::READ_WRITE, Cause::Translation(2))),
        (0x9600_0047, abort(Access::READ_WRITE, Cause::Translation(3))),
        (0x9600_004f, abort(Access::READ_WRITE, Cause::Permission(3))),
        (0x9600_000b, abort(Access::READ, Cause::AccessFlag(3))),
        (0x9200_000a, abort(Access::READ, Cause::AccessFlag(2))),
        (0x9600_0021, abort(Access::READ, Cause::Alignment)),
        (0x9600_0035, abort(Access::READ, Cause::Exclusive)),
        (0x9600_0030, abort(Access::READ, Cause::TlbConflict)),
        (0x9600_0001, abort(Access::READ, Cause::AddressSize(1))),
        (0x9600_0017, abort(Access::READ, Cause::External(Some(3)))),
        (0x9600_003f, abort(Access::READ, Cause::Other(0x3f))),
        // Cache maintenance (CM) reports as a store.
        (0x9600_0147, abort(Access::READ_WRITE, Cause::Translation(3))),
        (0x8600_0006, abort(Access::READ_EXECUTE, Cause::Translation(2))),
        (0x8200_000f, abort(Access::READ_EXECUTE, Cause::Permission(3))),
        // WnR's place means nothing for a fetch.
        (0x8600_004f, abort(Access::READ_EXECUTE, Cause::Permission(3))),
        (0x8a00_0000, Exception::PcAlignment(VirtAddr(FAR))),
        (0x9a00_0000, Exception::SpAlignment),
        (0xf200_03e8, Exception::Breakpoint(1000)),
        (0x5600_0001, Exception::SupervisorCall(1)),
        (0x5a00_0002, Exception::HypervisorCall(2)),
        (0x5e00_0003, Exception::SecureCall(3)),
        (0x0200_0000, Exception::Undefined { illegal_state: false }),
        (0x3a00_0000, Exception::Undefined { illegal_state: true }),
        (0x6200_0000, Exception::SystemRegister),
        (0x1e00_0000, Exception::FloatingPointTrapped),
        (0xb200_0000, Exception::FloatingPoint),
        (0x3600_0000, Exception::BranchTarget),
        (0xc200_0000, Exception::Debug),
        (0xf600_1234, Exception::Other { class: 0x3d, iss: 0x1234 }),
    ];
    for (esr, expected) in cases {
        assert_eq!(Exception::decode(esr, FAR), expected, "ESR {esr:#x}");
    }
}

/// FnV counts for an external abort on the access itself, and nowhere else.
fn address_not_valid() {
    let external = |address| Exception::Abort(Abort { access: Access::READ, address, cause: Cause::External(None) });
    assert_eq!(Exception::decode(0x9600_0010, FAR), external(Some(VirtAddr(FAR))));
    assert_eq!(Exception::decode(0x9600_0410, FAR), external(None));
    assert_eq!(Exception::decode(0x9600_0407, FAR), abort(Access::READ, Cause::Translation(3)));
}

/// Upper bits of ESR_EL1 that later extensions use (ISS2) change nothing.
fn upper_bits_are_ignored() {
    assert_eq!(Exception::decode(0x00ff_ffff_9600_0047, FAR), Exception::decode(0x9600_0047, FAR));
}

/// The short way to what a page fault was about says the same as the long one, whatever the class and status.
fn memory_faults_are_decoded_alike() {
    for class in 0..64 {
        for iss in (0..1 << 11).map(|iss| 0x15a_0000 | iss) {
            let esr = class << 26 | iss;
            let expected = match Exception::decode(esr, FAR) {
                Exception::Abort(Abort {
                    access,
                    cause: Cause::Translation(_) | Cause::AccessFlag(_) | Cause::Permission(_),
                    ..
                }) => Some(access),
                _ => None,
            };
            assert_eq!(memory_fault(esr), expected, "ESR {esr:#x}");
        }
    }
}

ashlar_test::tests! { golden_values, address_not_valid, upper_bits_are_ignored, memory_faults_are_decoded_alike }
