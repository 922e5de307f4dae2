//! Wild accesses by the application end it with a report that says where and what.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=read-null",
    "run case=write-null",
    "run case=read-unmapped",
    "run case=write-kernel-gap",
    "run case=read-non-canonical",
    "run case=jump-null",
    "run case=jump-unmapped",
    "run case=jump-misaligned",
    "run case=jump-data",
    "run case=write-text",
    "run case=write-rodata",
    "run case=read-unmapped-page-of-block",
    "run case=read-forbidden-page-of-block",
    "run case=write-protected-page-of-block el=2",
    "run case=undefined",
    "run case=atomic-null el=2",
    "status 102",
    "output ashlar: the application crashed: ",
    "output pc 0x",
    "output registers:",
    "output x0  0x",
    "output backtrace:",
    "output     #0 0xffffffffc0",
    "absent while reporting",
    "absent test result"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::arch::aarch64::layout;
    use ashlar::memory::{self, Access, Mapping, is_huge};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use core::arch::asm;
    use core::sync::atomic::{AtomicU64, Ordering};

    fn at(address: u64) -> *mut u64 {
        core::ptr::with_exposed_provenance_mut(address as usize)
    }

    fn read(address: u64) {
        // SAFETY: none; the access is to be stopped.
        let value = unsafe { at(address).read_volatile() };
        panic!("read {value:#x} at {address:#x}");
    }

    fn write(address: u64) {
        // SAFETY: none; the access is to be stopped.
        unsafe { at(address).write_volatile(1) };
        panic!("wrote at {address:#x}");
    }

    fn jump(address: u64) {
        // SAFETY: none; the fetch is to be stopped.
        unsafe { asm!("blr {}", in(reg) address, clobber_abi("C")) };
        panic!("jumped to {address:#x}");
    }

    static DATA: AtomicU64 = AtomicU64::new(0xd65f_03c0); // a return instruction

    /// An address in a block of which one page is treated otherwise after all of it has been written.
    fn in_block(treat: fn(&mut Mapping)) -> u64 {
        let mut mapping = memory::map(2 * BLOCK_SIZE).expect("RAM has room");
        mapping.as_mut_slice().fill(1);
        assert!(is_huge(mapping.as_slice()));
        let mut part = mapping.split_off(BLOCK_SIZE / 2);
        let rest = part.split_off(PAGE_SIZE);
        let address = part.start().0 + 8;
        treat(&mut part);
        // The neighbours are there as before.
        assert!(mapping.as_slice().iter().chain(rest.as_slice()).all(|&byte| byte == 1));
        core::mem::forget((mapping, part, rest));
        address
    }

    pub fn crash() {
        match ashlar_test::case() {
            "read-null" => read(0),
            "write-null" => write(8),
            "read-unmapped" => read(0x7f_ffff_f000),
            "write-kernel-gap" => write(layout::STACKS.0),
            "read-non-canonical" => read(0x1234_5678_9abc_def0),
            "jump-null" => jump(0),
            "jump-unmapped" => jump(0x40_0000_0000),
            "jump-misaligned" => jump(layout::IMAGE.0 + 2),
            "jump-data" => jump(DATA.as_ptr().addr() as u64),
            "write-text" => write(layout::__text_start.address().0),
            "write-rodata" => write(layout::__rodata_start.address().0),
            "read-unmapped-page-of-block" => read(in_block(|page| drop(page.split_off(0)))),
            "read-forbidden-page-of-block" => read(in_block(|page| page.protect(Access::NONE).expect("mapped"))),
            "write-protected-page-of-block" => write(in_block(|page| page.protect(Access::READ).expect("mapped"))),
            // SAFETY: none; the instruction is to be stopped.
            "undefined" => unsafe { asm!("udf #0") },
            // SAFETY: none; the access is to be stopped.
            "atomic-null" => _ = unsafe { AtomicU64::from_ptr(at(16)) }.fetch_add(1, Ordering::SeqCst),
            other => panic!("no such case: {other}"),
        }
    }
}
#[cfg(target_os = "none")]
use guest::crash;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    crash,
}
