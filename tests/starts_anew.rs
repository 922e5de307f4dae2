//! With `at_exit=reset` the machine starts anew in the end: what memory keeps tells the second start from the first.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run semihosting=off at_exit=reset qemu=\"-action reboot=reset\"",
    "run semihosting=off at_exit=reset qemu=\"-action reboot=reset\" el=2",
    "run semihosting=off at_exit=reset qemu=\"-action reboot=reset\" machine=raspi4b dtb=tests/data/pi4.dtb",
    "output test result: ok",
    "output ashlar: exit 0",
    "until started anew"
);

#[cfg(target_os = "none")]
fn start() {
    use ashlar::arch::aarch64::{gate, layout};

    const MARK: u64 = 0x7374_6172_7465_6421;
    // The far end of a stack that only a crash uses, which no start clears.
    let word = core::ptr::with_exposed_provenance_mut::<u64>(layout::__overflow_stack_start.address().0 as usize);
    // SAFETY: mapped, aligned, and while nothing crashes nobody else's.
    if gate::call(move || unsafe { word.replace(MARK) }) == MARK {
        ashlar::println!("started anew");
    }
}

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    start,
}
