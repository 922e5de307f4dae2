//! The application's memory, by itself: mappings beside the heap, and what is in blocks.

use crate::arch::aarch64::{background, gate, memory};
use crate::mm::address::PAGE_SIZE;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;
use core::time::Duration;

pub use super::alias::Alias;
pub use super::collapse::CollapseReport;
pub use super::pin::Pin;
pub use super::pressure::{ListenError, Listener, on_pressure, pressure};
pub use super::report::{Report, report};
pub use super::ring::Ring;
pub use super::snapshot::Snapshot;
pub use crate::mm::address::{PhysAddr, VirtAddr};
pub use crate::mm::huge::{Collapsed, HugePolicy, PolicyError, Settings};
pub use crate::mm::mmu::Access;
pub use crate::mm::pin::{PinError, PinRequest};
pub use crate::mm::pressure::{Level, Stalls};
pub use crate::mm::report::Usage;
pub use crate::mm::{Destination, FaultError, MapRequest, MemoryError, Refusal, RegionReport, RemapRequest};

/// Whole pages of memory of one's own, which read as zero at first. Dropping it unmaps them.
///
/// The memory is backed when it is touched: a slot (an aligned 2 MiB of it) by a block, if one can be had. A mapping of at
/// least that length begins at a multiple of 2 MiB.
///
/// ```ignore
/// let mut table = ashlar::memory::map(64 << 20)?;
/// table.as_mut_slice().fill(1);
/// assert!(ashlar::memory::is_huge(table.as_slice().as_ptr()));
/// let mut tail = table.split_off(32 << 20); // Each part may be treated in its own way.
/// tail.protect(Access::READ)?;
/// ```
///
/// What is done to a part of a mapping is done in bytes from its start; the range is widened to whole pages where that
/// is harmless ([`populate`](Self::populate), [`advise`](Self::advise)) and refused where it is not.
#[derive(Debug)]
pub struct Mapping {
    start: VirtAddr,
    length: usize,
    access: Access,
}

/// Maps `length` bytes, rounded up to whole pages, readable and writable.
///
/// # Errors
///
/// A length of zero, too many addresses or too much memory: [`MemoryError`] says which, and how much is left.
pub fn map(length: usize) -> Result<Mapping, MemoryError> {
    Mapping::new(MapRequest::new(length))
}

impl Mapping {
    /// Maps what `request` asks for.
    ///
    /// # Errors
    ///
    /// What [`MemoryManager::map`](crate::mm::MemoryManager::map) refuses.
    pub fn new(request: MapRequest) -> Result<Self, MemoryError> {
        let range = gate::call(move || memory::manager().map(request))?;
        let length = (range.end - range.start) as usize;
        Ok(Self { start: range.start, length, access: request.access })
    }

    /// Where it begins.
    pub fn start(&self) -> VirtAddr {
        self.start
    }

    /// Its length in bytes, whole pages.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no page: what [`split_off`](Self::split_off) leaves of one that is split off at 0.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What the application may do with it.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Its bytes.
    ///
    /// # Panics
    ///
    /// When it may not be read.
    pub fn as_slice(&self) -> &[u8] {
        self.require(Access::READ);
        // SAFETY: the pages are this mapping's own, readable, and zeroed before they are first seen; nothing changes them
        // while `self` is borrowed (a device that is given a pin's extents is its driver's to answer for).
        unsafe { core::slice::from_raw_parts(self.pointer(), self.length) }
    }

    /// Its bytes, to be written.
    ///
    /// # Panics
    ///
    /// When it may not be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.require(Access::READ_WRITE);
        // SAFETY: as in `as_slice`; writable, and `self` is borrowed for nobody else.
        unsafe { core::slice::from_raw_parts_mut(self.pointer(), self.length) }
    }

    fn pointer(&self) -> *mut u8 {
        match self.length {
            0 => core::ptr::NonNull::dangling().as_ptr(),
            _ => with_exposed_provenance_mut(self.start.0 as usize),
        }
    }

    #[track_caller]
    fn require(&self, wanted: Access) {
        assert!(
            self.length == 0 || self.access.permits(wanted),
            "the mapping at {} allows {}, not {wanted}",
            self.start,
            self.access
        );
    }

    /// Changes what the application may do with all of it. Blocks stay blocks where they lie in it as a whole.
    ///
    /// # Errors
    ///
    /// Writable and executable at once; making it writable exceeds the commit limit; no memory for the record of one region
    /// more. Nothing is changed then.
    pub fn protect(&mut self, access: Access) -> Result<(), MemoryError> {
        self.for_range(0..self.length, move |start, length| memory::manager().protect(start, length, access))?;
        self.access = access;
        Ok(())
    }

    /// Gives the memory of `range` back (Linux: `MADV_DONTNEED`): it reads as zero, and is backed again when it is
    /// touched. `range` is in bytes from the start, whole pages.
    ///
    /// # Errors
    ///
    /// A border of `range` that lies in the middle of a page: [`MemoryError::Misaligned`].
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn release(&mut self, range: Range<usize>) -> Result<(), MemoryError> {
        self.require_pages(&range)?;
        self.for_range(range, |start, length| memory::manager().release(start, length))
    }

    /// Says that what `range` holds is not needed any more, but may be again (Linux: `MADV_FREE`): each page of it keeps what it
    /// holds until memory is short, and reads as zero from then on; one that is written to before stays.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn mark_free(&mut self, range: Range<usize>) -> Result<(), MemoryError> {
        self.require_pages(&range)?;
        self.for_range(range, |start, length| memory::manager().mark_free(start, length))
    }

    /// Says that every page that `range` touches will not be needed soon (Linux: `MADV_COLD`): the background takes no trouble
    /// for a slot of which all that is present is cold, until it is touched.
    ///
    /// # Errors
    ///
    /// None today.
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn mark_cold(&mut self, range: Range<usize>) -> Result<(), MemoryError> {
        self.for_range(range, |start, length| memory::manager().mark_cold(start, length))
    }

    /// The borders of `range` are those of pages.
    fn require_pages(&self, range: &Range<usize>) -> Result<(), MemoryError> {
        match [range.start, range.end].into_iter().find(|border| !border.is_multiple_of(PAGE_SIZE)) {
            Some(border) => Err(MemoryError::Misaligned { address: self.start + border as u64 }),
            None => Ok(()),
        }
    }

    /// Makes every page that `range` touches present now, as its first touch would.
    ///
    /// # Errors
    ///
    /// Memory is exhausted: the error names the page for which there was none. Those before it stay.
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn populate(&mut self, range: Range<usize>) -> Result<(), FaultError> {
        self.for_range(range, |start, length| memory::manager().populate(start, length))
    }

    /// Makes every page that `range` touches ready to be read, or to be written (Linux: `MADV_POPULATE_READ`,
    /// `MADV_POPULATE_WRITE`): for reading alone no memory is taken.
    ///
    /// # Errors
    ///
    /// As [`populate`](Self::populate); and the mapping does not allow `access`.
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn populate_for(&mut self, range: Range<usize>, access: Access) -> Result<(), FaultError> {
        self.for_range(range, move |start, length| memory::manager().populate_for(start, length, access))
    }

    /// Sets the wish for blocks of every page that `range` touches, for later faults (Linux: `MADV_HUGEPAGE`,
    /// `MADV_NOHUGEPAGE`).
    ///
    /// # Errors
    ///
    /// No memory for the records of more regions.
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn advise(&mut self, range: Range<usize>, policy: HugePolicy) -> Result<(), MemoryError> {
        self.for_range(range, move |start, length| memory::manager().advise(start, length, policy))
    }

    /// Makes blocks of the slots (each 2 MiB, aligned) that lie in `range` as a whole, now and whatever it copies (Linux:
    /// `MADV_COLLAPSE`); holes become zeros. `transparent_hugepage=never` is not asked, the region's own wish for pages is. Other
    /// threads go on: one that touches a page on its way waits for a copy of 64 KiB at most. Once `deadline` has passed, what
    /// was reached stays.
    ///
    /// # Errors
    ///
    /// An empty range, or no memory for the report, in which is what became of each slot.
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn collapse(&mut self, range: Range<usize>, deadline: Option<Duration>) -> Result<CollapseReport, MemoryError> {
        self.require_inside(&range);
        CollapseReport::of(self.start + range.start as u64, range.len(), deadline)
    }

    /// Pins the pages that `range` touches, for a device; those that are not present are made so. The pin may outlive the mapping.
    ///
    /// # Errors
    ///
    /// What the device wants to do is not allowed, a page cannot be had, or would have to move first and cannot: [`PinError`] says
    /// which, and where.
    ///
    /// # Panics
    ///
    /// When `range` leaves the mapping.
    pub fn pin(&self, range: Range<usize>, request: PinRequest) -> Result<Pin, PinError> {
        self.require_inside(&range);
        Pin::new(self.start + range.start as u64, range.len(), request)
    }

    #[track_caller]
    fn require_inside(&self, range: &Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} of {} bytes", self.length);
    }

    /// Calls `act` in kernel mode with the whole pages around `range`, unless it is empty.
    fn for_range<E: 'static>(
        &self,
        range: Range<usize>,
        act: impl FnOnce(VirtAddr, usize) -> Result<(), E> + 'static,
    ) -> Result<(), E> {
        self.require_inside(&range);
        if range.is_empty() {
            return Ok(());
        }
        let first = range.start - range.start % PAGE_SIZE;
        let (start, length) = (self.start + first as u64, range.end.next_multiple_of(PAGE_SIZE) - first);
        gate::call(move || act(start, length))
    }

    /// Gives it `length` bytes, rounded up to whole pages, and other addresses if `to` says so (Linux: `mremap`). Its contents go
    /// with it, blocks as blocks where the way is of whole slots; what is new reads as zero. Nothing is copied but a few pages
    /// at the ends of an unaligned way.
    ///
    /// ```ignore
    /// let mut log = ashlar::memory::map(2 << 20)?;
    /// log.remap(4 << 20, Destination::Anywhere)?; // It may begin elsewhere now.
    /// ```
    ///
    /// # Errors
    ///
    /// What [`MemoryManager::remap`](crate::mm::MemoryManager::remap) refuses: no room where it is, addresses in use, the commit
    /// limit. Nothing is changed.
    ///
    /// # Panics
    ///
    /// With [`Destination::Over`]: what is there belongs to somebody, who is to give it to [`move_onto`](Self::move_onto).
    pub fn remap(&mut self, length: usize, to: Destination) -> Result<(), MemoryError> {
        self.go(RemapRequest { length, to, keep: false })
    }

    /// Moves it to where `place` is, whose memory is given back and whose length it gets. `place` comes back when that fails.
    ///
    /// # Errors
    ///
    /// As [`remap`](Self::remap).
    pub fn move_onto(&mut self, place: Self) -> Result<(), (Self, MemoryError)> {
        let to = Destination::Over(place.start);
        match self.go_anywhere(RemapRequest { length: place.length, to, keep: false }) {
            Ok(()) => {
                let _ = ManuallyDrop::new(place);
                Ok(())
            }
            Err(error) => Err((place, error)),
        }
    }

    /// Moves its contents to other addresses, which are returned; its own stay mapped, and read as zero (Linux:
    /// `MREMAP_DONTUNMAP`).
    ///
    /// # Errors
    ///
    /// As [`remap`](Self::remap); both together are charged against the commit limit.
    ///
    /// # Panics
    ///
    /// As [`remap`](Self::remap).
    pub fn take(&mut self, to: Destination) -> Result<Self, MemoryError> {
        let mut taken = ManuallyDrop::new(Self { start: self.start, length: self.length, access: self.access });
        taken.go(RemapRequest { length: self.length, to, keep: true })?;
        Ok(ManuallyDrop::into_inner(taken))
    }

    fn go(&mut self, request: RemapRequest) -> Result<(), MemoryError> {
        assert!(!matches!(request.to, Destination::Over(_)), "memory at {:?} is somebody's", request.to);
        self.go_anywhere(request)
    }

    fn go_anywhere(&mut self, request: RemapRequest) -> Result<(), MemoryError> {
        let (start, length) = (self.start, self.length);
        let range = gate::call(move || memory::manager().remap(start, length, request))?;
        (self.start, self.length) = (range.start, (range.end - range.start) as usize);
        Ok(())
    }

    /// Splits it in two: `self` keeps the first `at` bytes, the rest is returned. The memory stays as it is.
    ///
    /// # Panics
    ///
    /// When `at` is no multiple of 4 KiB, or is beyond the end.
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at.is_multiple_of(PAGE_SIZE) && at <= self.length, "{at} of {} bytes", self.length);
        let rest = Self { start: self.start + at as u64, length: self.length - at, access: self.access };
        self.length = at;
        rest
    }

    /// Undoes [`split_off`](Self::split_off): takes `other` over, which begins where `self` ends and allows the same.
    ///
    /// # Errors
    ///
    /// `other` comes back when it begins elsewhere, or allows something else.
    pub fn append(&mut self, other: Self) -> Result<(), Self> {
        if other.start != self.start + self.length as u64 || other.access != self.access {
            return Err(other);
        }
        self.length += ManuallyDrop::new(other).length;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let (start, length) = (self.start, self.length);
        if length != 0
            && let Err(error) = gate::call(move || memory::manager().unmap(start, length))
        {
            // The record of a region may have to be cut in two, which needs memory. What is not unmapped is lost, not misused.
            log::warn!("{length} bytes at {start} stay mapped: {error}");
        }
    }
}

/// As [`Mapping::collapse`], for `bytes` wherever they come from: the heap, for instance.
///
/// # Errors
///
/// No bytes, or addresses that are not the application's.
pub fn collapse(bytes: *const [u8], deadline: Option<Duration>) -> Result<CollapseReport, MemoryError> {
    CollapseReport::of(VirtAddr(bytes.cast::<u8>().addr() as u64), bytes.len(), deadline)
}

/// As [`Mapping::pin`], for the pages that `bytes` touch, wherever they come from.
///
/// # Errors
///
/// As there; and addresses that are not mapped.
pub fn pin(bytes: *const [u8], request: PinRequest) -> Result<Pin, PinError> {
    Pin::new(VirtAddr(bytes.cast::<u8>().addr() as u64), bytes.len(), request)
}

/// Whether the byte at `pointer` is in a block: mapped by one block descriptor. Any address may be asked for; memory
/// that has not been touched is not in a block.
pub fn is_huge<T: ?Sized>(pointer: *const T) -> bool {
    let address = VirtAddr(pointer.addr() as u64);
    gate::call(move || memory::manager().is_huge(address))
}

/// The application's memory by the size of its descriptors. Looks at every slot.
pub fn usage() -> Usage {
    gate::call(|| memory::manager().usage())
}

/// All regions in the order of their addresses, each with what is in it, and whether it may have blocks (Linux:
/// `/proc/self/smaps`). Regions that come and go meanwhile may be missed.
pub fn regions() -> impl Iterator<Item = RegionReport> {
    let mut next = VirtAddr(0);
    core::iter::from_fn(move || {
        let after = next;
        let report = gate::call(move || memory::manager().region_report(after))?;
        next = report.range.end;
        Some(report)
    })
}

/// The global policy for huge pages, as it is now. Displayed as boot arguments.
pub fn policy() -> Settings {
    memory::manager().policy().settings()
}

/// Sets a part of the global policy, by the name and in the words of the boot argument: `set_policy("max_ptes_none", "511")`.
/// Later faults go by it, and background work from now on; what is mapped stays as it is until then.
///
/// # Errors
///
/// There is no such part, or it does not take that value: the error says which there are. Nothing is changed.
pub fn set_policy(name: &str, value: &str) -> Result<(), PolicyError> {
    let mut settings = policy();
    settings.set(name, value)?;
    gate::call(move || {
        memory::manager().policy().apply(&settings);
        background::policy_changed();
    });
    Ok(())
}

/// Events since boot by name, in a fixed order; names that Linux has in `/proc/vmstat` mean what they mean there.
pub fn counters() -> impl Iterator<Item = (&'static str, u64)> {
    memory::manager().counters().iter()
}

/// The present count of the events called `name`; `None` if nothing is counted under that name.
pub fn counter(name: &str) -> Option<u64> {
    counters().find(|&(other, _)| other == name).map(|(_, count)| count)
}

/// Bytes as people read them.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kib, mib) = (self.0 >> 10, self.0 >> 20);
        if kib < 10 << 10 { write!(f, "{kib} KiB") } else { write!(f, "{mib} MiB") }
    }
}
