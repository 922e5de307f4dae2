//! A core that the device tree names and the machine does not have is told of and left out; all others run threads.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run expect=3 cores=3 dtb=tests/data/virt-extra-core.dtb timeout=30",
    "run expect=3 cores=3 dtb=tests/data/virt-extra-core-gicv3.dtb gic=3 el=2 timeout=30",
    "output core 0x9 is left out: ",
    "output the core with MPIDR 0x9",
    "output test result: ok"
);

#[cfg(target_os = "none")]
#[path = "common/on_cores.rs"]
mod on_cores;

#[cfg(target_os = "none")]
fn the_others_run() {
    assert_eq!(ashlar::thread::available_parallelism().get(), on_cores::expected());
    assert_eq!(on_cores::cores_at_once(), 0b1101, "the second of those in the tree is missing");
}

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    the_others_run,
}
