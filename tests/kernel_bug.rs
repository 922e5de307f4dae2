//! What goes wrong in kernel mode is the kernel's bug, and told apart from the application's.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run case=read-null",
    "run case=panic",
    "run case=stack-overflow",
    "run case=bad-stack-pointer",
    "run case=misaligned-stack-pointer",
    "run case=jump-data el=2",
    "run case=supervisor-call",
    "status 104",
    "output ashlar: kernel bug: ",
    "output backtrace:",
    "absent while reporting",
    "absent the application crashed",
    "absent the application panicked",
    "absent test result"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::arch::aarch64::{gate, layout};
    use core::arch::asm;
    use core::hint::black_box;

    #[allow(unconditional_recursion)]
    fn recurse(depth: u64) -> u64 {
        let frame = black_box([depth; 32]);
        black_box(recurse(depth + 1)) + frame[31]
    }

    pub fn breaks_the_kernel() {
        match ashlar_test::case() {
            "read-null" => gate::call(|| {
                // SAFETY: none; the access is to be stopped.
                let value = unsafe { core::ptr::null::<u64>().read_volatile() };
                black_box(value);
            }),
            "panic" => gate::call(|| panic!("asked to")),
            "stack-overflow" => gate::call(|| {
                black_box(recurse(0));
            }),
            "bad-stack-pointer" => {
                // SAFETY: none; the access is to be stopped.
                gate::call(|| unsafe { asm!("mov sp, {}", "str xzr, [sp]", in(reg) 0x1000_u64, options(noreturn)) })
            }
            // The breakpoint is what ends it where SP's alignment is not checked, as in QEMU.
            "misaligned-stack-pointer" => {
                // SAFETY: none; the access, or else the breakpoint, is to be stopped.
                gate::call(|| unsafe { asm!("sub sp, sp, #24", "str xzr, [sp]", "brk #1", options(noreturn)) })
            }
            "jump-data" => gate::call(|| {
                let data = layout::__data_start.address().0;
                // SAFETY: none; the fetch is to be stopped.
                unsafe { asm!("blr {}", in(reg) data, clobber_abi("C")) }
            }),
            "supervisor-call" => gate::call(|| {
                // SAFETY: none; the instruction is to be stopped.
                unsafe { asm!("svc #1") }
            }),
            other => panic!("no such case: {other}"),
        }
    }
}
#[cfg(target_os = "none")]
use guest::breaks_the_kernel;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    breaks_the_kernel,
}
