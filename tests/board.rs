//! What a Raspberry Pi has and other machines do not: its firmware says what the board is, its mini UART can be the console.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run machine=raspi4b dtb=tests/data/pi4-four-cores.dtb log=info maxcpus=3",
    "run machine=raspi4b dtb=tests/data/pi4.dtb log=info console=serial1",
    "run machine=raspi4b dtb=tests/data/pi4.dtb log=info semihosting=off",
    "output on Raspberry Pi 4 Model B: ",
    "output entered at EL2",
    "output Raspberry Pi 4 Model B 1.5, 2048 MiB, code b03115",
    "output cores: 960 MiB from 0x0; VideoCore: 64 MiB from 0x3c000000; cores at ",
    "output test result: ok"
);

fn nothing() {}

ashlar_test::tests! { nothing }
