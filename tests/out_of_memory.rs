//! Memory exhausted: by allocations beyond the commit limit, or by touching more than there is.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=allocation memory=64M",
    "run case=huge-allocation memory=64M",
    "run case=allocation memory=16M",
    "run case=touch memory=64M overcommit=on",
    "run case=touch memory=64M overcommit=on fault=eager",
    "run case=touch memory=64M overcommit=on thp=never semihosting=off",
    "status 103",
    "output ashlar: out of memory: ",
    "output backtrace:",
    "output frames: ",
    "output regions that hold most, of ",
    "output memory: ",
    "absent while reporting",
    "absent test result"
);

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;
    use alloc::vec::Vec;
    use core::hint::black_box;

    pub fn exhausts_memory() {
        match ashlar_test::case() {
            "allocation" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
                }
            }
            "huge-allocation" => drop(black_box(Vec::<u8>::with_capacity(black_box(1 << 40)))),
            "touch" => {
                let mut mapping = ashlar::memory::map(256 << 20).unwrap();
                mapping.as_mut_slice().fill(1);
                panic!("touched {} bytes of 64 MiB", mapping.len());
            }
            other => panic!("no such case: {other}"),
        }
    }
}
#[cfg(target_os = "none")]
use guest::exhausts_memory;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    exhausts_memory,
}
