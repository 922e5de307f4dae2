//! No section of the image is both writable and executable, and no other than its own permissions hold.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=write-text",
    "run case=write-rodata",
    "run case=execute-rodata",
    "run case=execute-data",
    "run case=execute-bss",
    "run case=execute-stack",
    "run case=execute-linear",
    "status 102",
    "output ashlar: the application crashed: ",
    "output permission fault at level ",
    "absent test result"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::arch::aarch64::layout;
    use ashlar::mm::address::VirtAddr;
    use core::arch::asm;
    use core::hint::black_box;
    use core::sync::atomic::AtomicU32;

    const RETURN: u32 = 0xd65f_03c0;
    static RODATA: u32 = RETURN;
    static DATA: AtomicU32 = AtomicU32::new(RETURN);
    static BSS: AtomicU32 = AtomicU32::new(0);

    fn write(at: VirtAddr) {
        // SAFETY: none; the access is to be stopped.
        unsafe { core::ptr::with_exposed_provenance_mut::<u64>(at.0 as usize).write_volatile(1) };
    }

    fn execute(at: usize) {
        // SAFETY: none; the fetch is to be stopped.
        unsafe { asm!("blr {}", in(reg) at, clobber_abi("C")) };
    }

    pub fn violate() {
        let stack = black_box(RETURN);
        let linear = layout::linear(layout::image_physical(layout::__data_start.address()));
        match ashlar_test::case() {
            "write-text" => write(layout::__text_start.address()),
            "write-rodata" => write(layout::__rodata_start.address()),
            "execute-rodata" => execute((&raw const RODATA).addr()),
            "execute-data" => execute(DATA.as_ptr().addr()),
            "execute-bss" => execute(BSS.as_ptr().addr()),
            "execute-stack" => execute((&raw const stack).addr()),
            "execute-linear" => execute(linear.0 as usize),
            other => panic!("no such case: {other}"),
        }
        panic!("{} was possible", ashlar_test::case());
    }
}
#[cfg(target_os = "none")]
use guest::violate;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    violate,
}
