//! The kernel's half of the address space (39 bits, TTBR1), and where in it the parts of the image lie.
//!
//! | from | what |
//! | --- | --- |
//! | `0xFFFF_FF80_0000_0000` | linear map: physical address 0 and up, to 384 GiB |
//! | `0xFFFF_FFF0_0000_0000` | devices |
//! | `0xFFFF_FFF8_0000_0000` | kernel stacks |
//! | `0xFFFF_FFFF_C000_0000` | the image |
//! | `0xFFFF_FFFF_FFC0_0000` | fixed map: the device tree, and a window for tables being built |

use crate::mm::address::{PAGE_SIZE, PhysAddr, VirtAddr};
pub use crate::platform::machine::LINEAR_REACH;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Where physical address 0 is mapped.
pub const LINEAR: VirtAddr = VirtAddr(0xFFFF_FF80_0000_0000);
/// The device window; `boot.s` hangs its tables in.
pub const DEVICES: Range<VirtAddr> = VirtAddr(0xFFFF_FFF0_0000_0000)..VirtAddr(0xFFFF_FFF0_4000_0000);
/// Kernel stacks.
pub const STACKS: VirtAddr = VirtAddr(0xFFFF_FFF8_0000_0000);
/// The image's first byte; `linker.ld` says so too.
pub const IMAGE: VirtAddr = VirtAddr(0xFFFF_FFFF_C000_0000);
/// The device tree: room for 2 MiB at any offset in a page.
pub const TREE: VirtAddr = VirtAddr(0xFFFF_FFFF_FFC0_0000);
/// Pages that the device tree may span.
pub const TREE_PAGES: usize = 513;
/// The window for tables being built: what follows the device tree, but for the last pages of the address space.
pub const TABLE_WINDOW: VirtAddr = VirtAddr(TREE.0 + (TREE_PAGES * PAGE_SIZE) as u64);
/// Pages in the window.
pub const TABLE_WINDOW_PAGES: usize = 480;

/// A byte at a place that the linker script names.
#[repr(transparent)]
pub struct Symbol(u8);

impl Symbol {
    /// Its address.
    pub fn address(&'static self) -> VirtAddr {
        VirtAddr((&raw const self.0).addr() as u64)
    }
}

// SAFETY: `linker.ld` defines these; only their addresses are taken.
#[allow(missing_docs)] // `linker.ld` is where they are explained.
unsafe extern "C" {
    pub safe static __text_start: Symbol;
    pub safe static __text_end: Symbol;
    pub safe static __rodata_start: Symbol;
    pub safe static __rodata_end: Symbol;
    pub safe static __data_start: Symbol;
    pub safe static __boot_stack_start: Symbol;
    pub safe static __boot_stack_end: Symbol;
    pub safe static __overflow_stack_start: Symbol;
    pub safe static __overflow_stack_end: Symbol;
    pub safe static __kernel_root: Symbol;
    pub safe static __application_root: Symbol;
    pub safe static __device_level2: Symbol;
    pub safe static __device_level3: Symbol;
    pub safe static __fixed_level3: Symbol;
    pub safe static __image_end: Symbol;
}

static IMAGE_AT: AtomicU64 = AtomicU64::new(0);

/// Notes where the image was loaded.
pub(super) fn set_image(at: PhysAddr) {
    IMAGE_AT.store(at.0, Ordering::Relaxed);
}

/// Physical address of `at`, which lies in the image.
pub fn image_physical(at: VirtAddr) -> PhysAddr {
    PhysAddr(IMAGE_AT.load(Ordering::Relaxed)) + (at - IMAGE)
}

/// Where the kernel sees physical address `at` through the linear map.
pub const fn linear(at: PhysAddr) -> VirtAddr {
    VirtAddr(LINEAR.0 + at.0)
}
