//! A core that is called and does not answer is told of and left out; all others run threads.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run expect=3 machine=raspi4b dtb=tests/data/pi4-silent-core.dtb timeout=30",
    "output core 0x2 is left out: it did not come up within 1000 ms",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/on_cores.rs"]
mod on_cores;

#[cfg(target_os = "none")]
fn the_others_run() {
    assert_eq!(ashlar::thread::available_parallelism().get(), on_cores::expected());
    assert_eq!(on_cores::cores_at_once(), 0b1011, "the third of those in the tree is missing");
}

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    the_others_run,
}
