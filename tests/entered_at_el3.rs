//! EL3 is the firmware's: an image that is entered there says so, and does nothing else. On a board all cores are entered at once.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run machine=virt,secure=on image=elf",
    "run machine=virt,secure=on image=elf cores=2 gic=3",
    "run machine=raspi4b dtb=tests/data/pi4.dtb image=elf",
    "until or through the firmware's own stub",
    "output ashlar: entered at EL3, the firmware's exception level; it runs from EL2 or EL1: boot the raw image",
    "absent test result"
);

fn nothing() {}

ashlar_test::tests! { nothing }
