//! Memory that stays where it is, for devices.

use crate::arch::aarch64::{gate, memory};
use crate::mm::address::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::mm::pin::{PinError, PinId, PinRequest};
use core::ops::Range;

/// Pages that are pinned: their physical memory keeps its place and its contents until this is dropped, even if they are
/// unmapped before. Then it is nobody else's until the pin is dropped, and given back.
///
/// Handing the extents to a device is what needs care: while it may write, no reference to the bytes may live, and a store
/// barrier is between what the application wrote and the device's start.
///
/// ```ignore
/// let mut buffer = ashlar::memory::map(1 << 20)?;
/// let pin = buffer.pin(0..1 << 20, PinRequest::new().write().below(PhysAddr(1 << 30)))?;
/// for extent in pin.extents() {
///     device.add_descriptor(extent.start, extent.end - extent.start);
/// }
/// ```
#[derive(Debug)]
#[must_use = "the pages may move as soon as it is dropped"]
pub struct Pin {
    /// `None` when it is being dropped.
    id: Option<PinId>,
    /// Bytes before the first that was asked for, in its page.
    offset: usize,
    length: usize,
}

impl Pin {
    pub(super) fn new(start: VirtAddr, length: usize, request: PinRequest) -> Result<Self, PinError> {
        let id = gate::call(move || memory::manager().pin(start, length, request))?;
        Ok(Pin { id: Some(id), offset: start.0 as usize % PAGE_SIZE, length })
    }

    /// Where the bytes lie, in their order, to the byte.
    pub fn extents(&self) -> impl Iterator<Item = Range<PhysAddr>> + '_ {
        let (mut skip, mut left) = (self.offset as u64, self.length as u64);
        // What is kept of a pin does not change: it is read without the kernel.
        self.id.iter().flat_map(|id| memory::manager().extents(id)).map(move |pages| {
            let start = pages.start + core::mem::take(&mut skip);
            let end = pages.end.min(start + left);
            left -= end - start;
            start..end
        })
    }

    /// How many bytes were asked for.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether that is none: never.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            gate::call(move || memory::manager().unpin(id));
        }
    }
}
