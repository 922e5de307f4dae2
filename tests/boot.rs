//! Boots on each machine below, and finds application mode as the application should find it.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run el=1",
    "run el=2",
    "run el=2 gic=3",
    "run offset=4K",
    "run offset=11996K el=2",
    "run image=elf",
    "run image=elf el=2",
    "run machine=virt,secure=on",
    "run memory=16M",
    "run memory=100M",
    "run memory=1023M el=2",
    "run memory=4G",
    "run memory=64G",
    "run cpu=max el=2 gic=3",
    "run machine=raspi4b dtb=tests/data/pi4.dtb",
    "output test result: ok"
);

#[cfg(target_os = "none")]
mod guest {
    use ashlar::arch::aarch64::percore::in_kernel_mode;
    use ashlar::arch::aarch64::{gate, layout, walk};
    use ashlar::mm::address::VirtAddr;

    extern crate alloc;

    pub fn application_runs_with_sp_el0() {
        assert!(!in_kernel_mode());
    }

    pub fn gate_leads_to_kernel_mode_and_back() {
        assert!(gate::call(in_kernel_mode));
        assert!(!in_kernel_mode());
        assert!(gate::call(|| gate::call(in_kernel_mode)), "a gate in kernel mode");
    }

    /// All eight registers go in and come out, each in its place.
    pub fn gate_carries_values() {
        let words = [1, 2, 3, 5, 7, 11, 13, u64::MAX];
        assert_eq!(gate::call(move || words.map(|word| !word)), words.map(|word| !word));
        let (byte, float, unit) = (7_u8, 1.5_f64, ());
        assert_eq!(gate::call(move || (float, byte, unit)), (1.5, 7, ()));
    }

    pub fn kernel_heap_gives_and_takes() {
        for _ in 0..100 {
            let sum = gate::call(|| {
                let numbers: alloc::vec::Vec<usize> = (0..1000).collect();
                numbers.iter().sum::<usize>()
            });
            assert_eq!(sum, 499_500);
        }
    }

    /// An application may drop what the kernel allocated.
    pub fn kernel_memory_is_freed_from_application_mode() {
        for _ in 0..1000 {
            drop(gate::call(|| alloc::boxed::Box::new([1_u8; 4096])));
        }
    }

    /// Text is in no writable mapping but its own read-only one: the linear map leaves it out.
    pub fn text_has_no_alias() {
        let text = layout::image_physical(layout::__text_start.address());
        assert!(walk::walk(layout::IMAGE).physical == Some(text));
        assert_eq!(walk::walk(layout::linear(text)).physical, None);
        let data = layout::image_physical(layout::__data_start.address());
        assert_eq!(walk::walk(layout::linear(data)).physical, Some(data));
    }

    pub fn walks_end_where_nothing_is_mapped() {
        let nowhere = [0, 0x1000, 1 << 38, 1 << 39, 0xFFFF_FF00_0000_0000, layout::STACKS.0, !7];
        for address in nowhere {
            assert_eq!(walk::read_word(VirtAddr(address)), None, "at {address:#x}");
        }
        let word: u64 = 0x0123_4567_89ab_cdef;
        let at = VirtAddr((&raw const word).addr() as u64);
        assert_eq!(walk::read_word(at), Some(word));
    }

    pub fn floating_point_works() {
        let third = core::hint::black_box(1.0_f64) / core::hint::black_box(3.0);
        assert!((third * 3.0 - 1.0).abs() < 1e-12);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    application_runs_with_sp_el0,
    #[cfg(target_os = "none")]
    gate_leads_to_kernel_mode_and_back,
    #[cfg(target_os = "none")]
    gate_carries_values,
    #[cfg(target_os = "none")]
    kernel_heap_gives_and_takes,
    #[cfg(target_os = "none")]
    kernel_memory_is_freed_from_application_mode,
    #[cfg(target_os = "none")]
    text_has_no_alias,
    #[cfg(target_os = "none")]
    walks_end_where_nothing_is_mapped,
    #[cfg(target_os = "none")]
    floating_point_works,
}
