//! A report says what stands at the address: region, slot, page, and the descriptors of the walk; and how much memory there is.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run",
    "status 102",
    "output ashlar: the application crashed: write at 0x0000000020003008: permission fault at level 3",
    "output pc 0xffffffffc0",
    "output region 0x20000000..0x20004000: allows read, huge pages ",
    "output slot: Table(",
    "output page: present",
    "output level 1: Table(",
    "output level 2: Table(",
    "output level 3: Page { ",
    "output backtrace:",
    "output frames: "
);

#[cfg(target_os = "none")]
fn writes_to_protected_memory() {
    use ashlar::memory::{Access, MapRequest, Mapping};
    use ashlar::mm::address::{PAGE_SIZE, VirtAddr};

    let request = MapRequest::new(4 * PAGE_SIZE).at(VirtAddr(0x2000_0000));
    let mut mapping = Mapping::new(request).unwrap();
    mapping.as_mut_slice().fill(1);
    mapping.protect(Access::READ).unwrap();
    let start = mapping.as_slice().as_ptr().cast_mut();
    // SAFETY: none; the access is to be stopped.
    unsafe { start.add(3 * PAGE_SIZE + 8).write_volatile(2) };
    panic!("wrote to what is read-only");
}

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    writes_to_protected_memory,
}
