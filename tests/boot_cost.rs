//! What it takes from the image's first instruction to the application's, with one instruction a nanosecond.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    // As a board has it, whose tree is five times as long to read.
    "run icount=on memory=512M cores=1 most=4000000",
    "run icount=on memory=1G most=3000000",
    "run icount=on memory=64G most=25000000",
    "output test result: ok"
);

#[cfg(target_os = "none")]
fn boot_is_short() {
    use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
    let nanoseconds = CNTVCT_EL0.get() * (1_000_000_000 / CNTFRQ_EL0.get());
    let arguments = ashlar::arguments::boot().unwrap();
    let most = arguments.application().find(|argument| argument.key == "most").unwrap();
    let most: u64 = most.value.unwrap().parse().unwrap();
    ashlar::println!("{nanoseconds} instructions, {most} at most");
    assert!(nanoseconds <= most);
}

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    boot_is_short,
}
