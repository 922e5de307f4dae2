//! A machine with a broken device tree says on the console what is wrong with it, and ends.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run dtb=tests/data/broken.dtb",
    "status 104",
    "output ashlar: device tree: cell count of 2 bytes instead of 4",
    "output in /bus",
    "absent reached"
);

#[cfg(target_os = "none")]
fn is_not_reached() {
    ashlar::println!("reached");
}

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    is_not_reached
}
