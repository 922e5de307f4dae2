//! The first line says what `begin=` does; without semihosting the machine's last line says its status, and it turns itself off.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run semihosting=off begin=5f3c",
    "run semihosting=off el=2 begin=5f3c",
    "output ashlar: begin ",
    "output test result: ok",
    "output ashlar: exit 0"
);

fn nothing() {}

ashlar_test::tests! { nothing }
