//! A part of RAM that may not be mapped, on a machine of the Raspberry Pi 4's shape. QEMU cuts its tree's RAM to the first bank.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run machine=raspi4b dtb=tests/data/pi4.dtb", "output test result: ok");

#[cfg(target_os = "none")]
fn linear_map_leaves_out_what_may_not_be_mapped() {
    use ashlar::arch::aarch64::{layout, walk};
    use ashlar::mm::address::PhysAddr;

    let borders = [
        (0x0000_1000, true),
        // `no-map`, at the end of the first bank.
        (0x3bef_f000, true),
        (0x3bf0_0000, false),
        (0x3bff_f000, false),
        (0x3c00_0000, false),
        // Nothing, then devices.
        (0x3fff_f000, false),
        (0xfe20_1000, false),
    ];
    for (at, is_ram) in borders {
        let found = walk::walk(layout::linear(PhysAddr(at))).physical;
        assert_eq!(found, is_ram.then_some(PhysAddr(at)), "at {at:#x}");
    }
}

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    linear_map_leaves_out_what_may_not_be_mapped,
}
