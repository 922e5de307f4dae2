//! RAM beyond the limit of `mem=` is neither mapped nor given out; what was in use before, wherever it lies, counts.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    "run memory=512M mem=64M overcommit=on khugepaged=off",
    "run memory=512M mem=63000K cores=2 el=2 input=apps overcommit=on khugepaged=off",
    // As much as there is: the limit changes nothing.
    "run machine=virt memory=64M mem=1G input=apps overcommit=on khugepaged=off",
    "run machine=raspi4b dtb=tests/data/pi4.dtb mem=64M overcommit=on khugepaged=off",
    "output test result: ok"
);

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::vec;
    use ashlar::arch::aarch64::{gate, layout, walk};
    use ashlar::memory;
    use ashlar::mm::address::{PAGE_SIZE, PhysAddr, VirtAddr};

    /// RAM of these runs, in pages.
    const MOST: usize = (64 << 20) / PAGE_SIZE;
    const LEAST: usize = (60 << 20) / PAGE_SIZE;

    fn is_in_linear_map(at: PhysAddr) -> bool {
        walk::walk(layout::linear(at)).physical.is_some()
    }

    /// All but the image's text, which has no alias.
    pub fn no_more_is_mapped() {
        let mapped = gate::call(|| {
            let pages = (0..2_u64 << 30).step_by(PAGE_SIZE);
            pages.filter(|&at| is_in_linear_map(PhysAddr(at))).count()
        });
        assert!((LEAST..=MOST).contains(&mapped), "{mapped} pages");
    }

    /// The initrd's memory is part of it.
    pub fn no_more_is_given_out() {
        // The board's tree names an initrd where there is no archive: given back as well.
        drop(ashlar::input::files());
        let [all, free, ..] = memory::report().frames;
        assert!(all <= MOST, "{all} frames");
        let mut mapping = memory::map((free - 1000) * PAGE_SIZE).unwrap();
        let (mut seen, start) = (vec![0_u64; (2 << 30) / PAGE_SIZE / 64], mapping.start());
        for page in mapping.as_mut_slice().chunks_mut(PAGE_SIZE) {
            // Zeros would be given back: there is little left.
            page[0] = 1;
        }
        for page in (0..mapping.len()).step_by(PAGE_SIZE) {
            let frame = walk::walk(VirtAddr(start.0 + page as u64)).physical.expect("touched");
            assert!(is_in_linear_map(frame), "{frame}");
            let number = frame.0 as usize / PAGE_SIZE;
            assert_eq!(seen[number / 64] >> (number % 64) & 1, 0, "{frame} twice");
            seen[number / 64] |= 1 << (number % 64);
        }
    }
}
#[cfg(target_os = "none")]
use guest::{no_more_is_given_out, no_more_is_mapped};

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    no_more_is_mapped,
    #[cfg(target_os = "none")]
    no_more_is_given_out,
}
