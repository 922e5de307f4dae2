//! The application's heap: the `talc` allocator over regions that grow by whole slots, so that it is in blocks.

use crate::arch::aarch64::{gate, memory};
use crate::mm::address::{BLOCK_SIZE, VirtAddr};
use crate::mm::{MapRequest, MemoryError};
use crate::sync::RawMutex;
use core::alloc::Layout;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicUsize, Ordering};
use talc::TalcLock;
use talc::base::binning::Binning;
use talc::base::{CHUNK_UNIT, Talc};
use talc::source::Source;

/// The most that the heap grows by at once, unless one allocation needs more. Mapped memory counts against the commit
/// limit, touched or not.
const LARGEST_STEP: usize = 64 << 20;
/// Free memory at the top of a heap that is kept, in bytes; more is unmapped.
const KEPT: usize = 16 << 20;

/// What application mode allocates from.
pub(crate) static HEAP: TalcLock<RawMutex, Regions> = TalcLock::new(Regions { end: None, mapped: 0 });

/// Bytes of the last allocation that was refused, or 0.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the last allocation for which no memory could be mapped; `None` if there was none. The default handler of
/// failed allocations panics: by this the panic handler tells that memory is exhausted.
pub fn refused() -> Option<usize> {
    Some(REFUSED.load(Ordering::Relaxed)).filter(|&bytes| bytes != 0)
}

/// Maps and unmaps the heap's memory.
#[derive(Debug)]
pub(crate) struct Regions {
    /// Where the heap ends that grows.
    end: Option<VirtAddr>,
    /// Bytes mapped for all heaps.
    mapped: usize,
}

impl Regions {
    /// How much to map for `layout`: at least what it needs, whatever its place in the new memory and the allocator's own
    /// records; by preference a quarter of the heap.
    fn steps(&self, layout: Layout) -> Option<[usize; 2]> {
        let records = talc::min_first_heap_size::<talc::DefaultBinning>() + 2 * CHUNK_UNIT;
        let needed = layout.size().checked_add(layout.align())?.checked_add(records)?;
        let needed = needed.checked_next_multiple_of(BLOCK_SIZE)?;
        let preferred = (self.mapped / 4).next_multiple_of(BLOCK_SIZE).min(LARGEST_STEP);
        Some([needed.max(preferred), needed])
    }
}

/// Maps `length` bytes, at `address` if given.
fn map(length: usize, address: Option<VirtAddr>) -> Result<VirtAddr, MemoryError> {
    gate::call(move || {
        let request = MapRequest { address, ..MapRequest::new(length) };
        memory::manager().map(request).map(|range| range.start)
    })
}

fn pointer(address: VirtAddr) -> *mut u8 {
    with_exposed_provenance_mut(address.0 as usize)
}

// SAFETY: nothing here allocates, and what is claimed was just mapped for this heap alone.
unsafe impl Source for Regions {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        for length in talc.source.steps(layout).into_iter().flatten() {
            if let Some(end) = talc.source.end
                && let Ok(start) = map(length, Some(end))
                && let Some(heap_end) = NonNull::new(pointer(end))
            {
                let new_end = start + length as u64;
                // SAFETY: `end` is where the heap ends, and the memory from there on was just mapped.
                unsafe { talc.extend(heap_end, pointer(new_end)) };
                talc.source.end = Some(new_end);
                talc.source.mapped += length;
                return Ok(());
            }
            if let Ok(start) = map(length, None) {
                // SAFETY: just mapped, so nobody else has it.
                unsafe { talc.claim(pointer(start), length) };
                talc.source.end = Some(start + length as u64);
                talc.source.mapped += length;
                return Ok(());
            }
        }
        REFUSED.store(layout.size(), Ordering::Relaxed);
        Err(())
    }

    const TRACK_HEAP_END: bool = true;

    unsafe fn resize(&mut self, chunk_base: *mut u8, heap_end: *mut u8, _is_heap_base: bool) -> *mut u8 {
        let (base, end) = (VirtAddr(chunk_base.addr() as u64), VirtAddr(heap_end.addr() as u64));
        if end - base <= 2 * KEPT as u64 {
            return heap_end;
        }
        let Some(new_end) = (base + KEPT as u64).align_up(BLOCK_SIZE) else { return heap_end };
        let length = (end - new_end) as usize;
        if gate::call(move || memory::manager().unmap(new_end, length)).is_err() {
            return heap_end;
        }
        if self.end == Some(end) {
            self.end = Some(new_end);
        }
        self.mapped -= length;
        pointer(new_end)
    }
}
