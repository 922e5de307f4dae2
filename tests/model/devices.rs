//! Pins and their devices, which read and write what they hold at any time, whatever became of it.

use crate::Run;
use crate::memory::{Pin, PinnedPage, RAM, WINDOW, address, bytes};
use alloc::vec::Vec;
use ashlar::mm::address::{PAGE_SIZE, PAGES_PER_SLOT, PhysAddr};
use ashlar::mm::mmu::Access;
use ashlar::mm::pin::{PinError, PinRequest};
use ashlar::mm::{FaultError, Refusal};
use core::ops::Range;

/// Pins alive at once.
const PINS: usize = 6;
/// Pages that they hold together, so that what is lost does not add up to all of memory.
const PINNED: usize = 3 * PAGES_PER_SLOT;

impl Run {
    pub fn pin(&mut self) {
        let range = self.range();
        let held: usize = self.model.pins.iter().map(|pin| pin.pages.len()).sum();
        if self.model.pins.len() == PINS || held + (range.end - range.start) as usize > PINNED {
            return self.unpin();
        }
        let request = PinRequest {
            write: self.random.below(3) > 0,
            long: self.random.below(4) == 0,
            below: (self.random.below(4) == 0).then(|| RAM + self.ram as u64 / 4 * (1 + self.random.below(3))),
        };
        let wanted = if request.write { Access::READ_WRITE } else { Access::READ };
        let mut pages = range.clone();
        let denied = pages.find_map(|page| Some((page, self.model.refuses(page, address(page), wanted)?)));
        match self.world.mm.pin(address(range.start), bytes(&range), request) {
            Ok(id) => {
                assert_eq!(denied, None, "{range:?} is pinned");
                let frames = self.world.mm.extents(&id).flat_map(|extent| extent.start.frame().0..extent.end.frame().0);
                let frames: Vec<_> = frames.map(ashlar::mm::address::Frame).collect();
                assert_eq!(frames.len() as u64, range.end - range.start, "extents of {range:?}");
                let pages = range.clone().zip(frames).map(|(page, frame)| PinnedPage { page, frame, lost: false });
                let pages: Vec<_> = pages.collect();
                pages.iter().for_each(|pinned| self.has_settled(pinned, &range, request));
                self.model.pins.push(Pin { id, write: request.write, long: request.long, pages });
            }
            Err(PinError::Fault(FaultError::OutOfMemory { .. }) | PinError::NoMemory) => self.oom += 1,
            Err(PinError::Fault(error)) => assert_eq!(Some(error), denied.map(|(_, error)| error), "{range:?}"),
            Err(PinError::Refused { address, refusal: Refusal::Pinned }) => {
                let start = address.page().0 / 16 * 16;
                assert!(request.long || request.below.is_some(), "{request:?} moves nothing");
                assert!(self.model.is_pinned(start..start + 16), "nothing is pinned around {address}");
            }
            Err(PinError::Refused { refusal: Refusal::NoFreeFrame, .. }) => {
                assert!(request.below.is_some() || request.long && self.short, "frames are free for {request:?}");
            }
            Err(error) => panic!("{range:?}, {request:?}: {error}"),
        }
    }

    /// A page that was just pinned is where the request wants it.
    fn has_settled(&self, pinned: &PinnedPage, range: &Range<u64>, request: PinRequest) {
        let (mm, PinnedPage { page, frame, .. }) = (&self.world.mm, *pinned);
        assert_eq!(mm.machine().translate(address(page)), Some(frame.start()), "page {page:#x}");
        let limit = request.below.unwrap_or(PhysAddr(u64::MAX));
        assert!(frame.start() + PAGE_SIZE as u64 <= limit, "{frame:?} is not below {limit}");
        if request.long && !mm.frames().is_unmovable(frame) {
            let slot = page - page % 512..page - page % 512 + 512;
            let whole = range.start <= slot.start && slot.end <= range.end;
            let held = |pin: &Pin| pin.long && pin.pages.iter().any(|other| other.frame == frame);
            let may = whole && mm.is_huge(address(page)) || self.model.pins.iter().any(held);
            assert!(may, "page {page:#x} is in a block, for long");
        }
    }

    pub fn unpin(&mut self) {
        if !self.model.pins.is_empty() {
            let index = self.random.index(self.model.pins.len());
            self.world.mm.unpin(self.model.pins.swap_remove(index).id);
        }
    }

    /// A device reads or writes a page that it has pinned. It leaves code alone. Of a page that is lost it takes everything.
    pub fn device(&mut self) {
        if self.model.pins.is_empty() {
            return;
        }
        let machine = self.world.mm.machine();
        let pin = &self.model.pins[self.random.index(self.model.pins.len())];
        for _ in 0..8 {
            let PinnedPage { page, frame, lost } = pin.pages[self.random.index(pin.pages.len())];
            let offset = self.random.below(512) * 8;
            let (at, pa) = (address(page) + offset, frame.start() + offset);
            let word = self.random.next();
            match lost {
                true if pin.write => machine.write_physical(frame.start(), &[0xDE; PAGE_SIZE]),
                true => _ = machine.read_physical(pa, 8),
                false if pin.write && self.model.page(page).is_some_and(|page| !page.access.execute) => {
                    machine.write_physical(pa, &word.to_le_bytes());
                    self.model.words.insert(at.0, word);
                }
                false => assert_eq!(machine.read_physical(pa, 8), self.model.word(at).to_le_bytes(), "at {at}"),
            }
        }
    }

    /// All devices are done, after all memory was unmapped under them.
    pub fn unpin_all(&mut self) {
        self.model.forget(&WINDOW);
        while !self.model.pins.is_empty() {
            self.unpin();
            self.world.check();
        }
    }
}
