//! Without semihosting the machine's last line says its status, and it turns itself off.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run semihosting=off",
    "run semihosting=off el=2",
    "run semihosting=off at_exit=reset",
    "run semihosting=off at_exit=reset el=2",
    "run semihosting=off machine=raspi4b dtb=tests/data/pi4.dtb",
    "run semihosting=off machine=raspi4b dtb=tests/data/pi4.dtb at_exit=reset",
    "output test result: ok",
    "output ashlar: exit 0"
);

fn nothing() {}

ashlar_test::tests! { nothing }
