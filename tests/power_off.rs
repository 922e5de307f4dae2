//! The first line says what `begin=` does; without semihosting the machine's last line says its status, and it turns itself off: a reset
//! would boot it again.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run begin=5f3c semihosting=off qemu=\"-action reboot=reset\"",
    "run begin=5f3c semihosting=off qemu=\"-action reboot=reset\" el=2",
    "run begin=5f3c semihosting=off qemu=\"-action reboot=reset\" machine=raspi4b dtb=tests/data/pi4.dtb",
    "run begin=5f3c semihosting=off machine=raspi4b dtb=tests/data/pi4.dtb console=serial1",
    "output ashlar: begin ",
    "output test result: ok",
    "output ashlar: exit 0"
);

fn nothing() {}

ashlar_test::tests! { nothing }
