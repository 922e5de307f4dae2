//! The global allocator: one for both modes. It allocates by mode and frees by address half.

use super::{gate, percore};
use crate::mm::address::VirtAddr;
use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::NonNull;
use spin::{Mutex, Once};

/// Orders of the kernel heap: blocks of up to 2^31 bytes.
const ORDERS: usize = 32;

struct Split;

#[global_allocator]
static GLOBAL: Split = Split;

/// Kernel mode's heap. Taken in kernel mode only, and by nothing that reports a crash.
static KERNEL: Mutex<Heap<ORDERS>> = Mutex::new(Heap::empty());

/// The application's own allocator.
static APPLICATION: Once<&'static (dyn GlobalAlloc + Sync)> = Once::new();

/// Installs the allocator that serves application mode; only the first one counts. Until then application mode has no
/// memory to allocate. It is called in application mode and hands out lower-half addresses.
pub fn set_application_allocator(allocator: &'static (dyn GlobalAlloc + Sync)) {
    APPLICATION.call_once(|| allocator);
}

/// Adds memory to the kernel heap.
///
/// # Safety
///
/// `range` is mapped upper-half memory that nothing else uses.
pub(super) unsafe fn add_to_kernel_heap(range: Range<VirtAddr>) {
    // SAFETY: the caller's promise.
    unsafe { KERNEL.lock().add_to_heap(range.start.0 as usize, range.end.0 as usize) };
}

fn is_upper_half(at: *mut u8) -> bool {
    (at.addr() as isize) < 0
}

// SAFETY: memory comes from the kernel heap or from the application's allocator and goes back to where it came from: the
// half that its address lies in says which.
unsafe impl GlobalAlloc for Split {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if percore::in_kernel_mode() {
            return KERNEL.lock().alloc(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr);
        }
        match APPLICATION.get() {
            // SAFETY: the caller's promise.
            Some(allocator) => unsafe { allocator.alloc(layout) },
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if is_upper_half(at) {
            let at = NonNull::new(at);
            gate::call(move || {
                if let Some(at) = at {
                    // SAFETY: an upper-half address came from this heap, with this layout.
                    unsafe { KERNEL.lock().dealloc(at, layout) };
                }
            })
        } else if let Some(allocator) = APPLICATION.get() {
            // SAFETY: a lower-half address came from the application's allocator.
            unsafe { allocator.dealloc(at, layout) }
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !percore::in_kernel_mode()
            && !is_upper_half(at)
            && let Some(allocator) = APPLICATION.get()
        {
            // SAFETY: a lower-half address came from the application's allocator; the rest is the caller's promise.
            return unsafe { allocator.realloc(at, layout, size) };
        }
        // SAFETY: the caller promises that `size` rounded up to the alignment does not overflow.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are allocations of at least that many bytes, and the old one is the caller's to give up.
            unsafe {
                core::ptr::copy_nonoverlapping(at, new, layout.size().min(size));
                self.dealloc(at, layout);
            }
        }
        new
    }
}
