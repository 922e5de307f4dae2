//! The plainest memory there is: an access and a wish for each page, the words that were written, and for each pin the frames that
//! it holds, and whether they are their pages' still.

use crate::world::World;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use ashlar::arch::sim::Mapping;
use ashlar::mm::FaultError;
use ashlar::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, Page, PhysAddr, VirtAddr};
use ashlar::mm::huge::HugePolicy;
use ashlar::mm::mmu::{Access, Mmu};
use ashlar::mm::pin::PinId;
use core::ops::Range;

/// The pages that operations choose from: five slots, so that everything meets everything.
pub const WINDOW: Range<u64> = 1 << 21 >> 12 << 11..(1 << 21 >> 12 << 11) + 5 * 512;
/// Where RAM begins.
pub const RAM: PhysAddr = PhysAddr(0x4000_0000);

/// What a page should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelPage {
    pub access: Access,
    pub policy: HugePolicy,
    /// It was writable at some time.
    pub charged: bool,
}

/// A page that is pinned, or was when the pin was made.
#[derive(Clone, Copy, Debug)]
pub struct PinnedPage {
    pub page: u64,
    pub frame: Frame,
    /// The page was released or unmapped since: the frame is nobody's.
    pub lost: bool,
}

/// A pin, and its device.
pub struct Pin {
    pub id: PinId,
    /// The device may write.
    pub write: bool,
    /// It is for long.
    pub long: bool,
    pub pages: Vec<PinnedPage>,
}

pub struct Model {
    /// By their places in the window.
    pages: Vec<Option<ModelPage>>,
    /// Words that were written, by address; all others are zero.
    pub words: BTreeMap<u64, u64>,
    pub pins: Vec<Pin>,
    /// Pages that may be taken back, or might have been before they were written to.
    pub freed: BTreeSet<u64>,
}

impl Model {
    pub fn new() -> Self {
        let pages = vec![None; (WINDOW.end - WINDOW.start) as usize];
        Model { pages, words: BTreeMap::new(), pins: Vec::new(), freed: BTreeSet::new() }
    }

    /// What page `page` of the window is; `None` where nothing is mapped.
    pub fn page(&self, page: u64) -> Option<ModelPage> {
        self.pages[(page - WINDOW.start) as usize]
    }

    /// Changes every page of `pages`.
    pub fn change(&mut self, pages: Range<u64>, to: impl Fn(Option<ModelPage>) -> Option<ModelPage>) {
        for page in pages {
            let page = &mut self.pages[(page - WINDOW.start) as usize];
            *page = to(*page);
        }
    }

    /// The memory of `pages` is given back. Frames of theirs that are pinned stay their devices'.
    pub fn forget(&mut self, pages: &Range<u64>) {
        self.forget_words(pages);
        self.freed.retain(|page| !pages.contains(page));
        let pinned = self.pins.iter_mut().flat_map(|pin| &mut pin.pages);
        pinned.filter(|pinned| pages.contains(&pinned.page)).for_each(|pinned| pinned.lost = true);
    }

    /// What was written to `pages` is gone.
    pub fn forget_words(&mut self, pages: &Range<u64>) {
        let bytes = pages.start * PAGE_SIZE as u64..pages.end * PAGE_SIZE as u64;
        while let Some((&at, _)) = self.words.range(bytes.clone()).next() {
            self.words.remove(&at);
        }
    }

    /// `pages` go to page `to` and those after it, where nothing is, with what is pinned of them. Frames that are lost go where
    /// their home does: with the pages of which `whole` says so.
    pub fn go(&mut self, pages: &Range<u64>, to: u64, whole: impl Fn(u64) -> bool) {
        let bytes = pages.start * PAGE_SIZE as u64..pages.end * PAGE_SIZE as u64;
        let words: Vec<_> = self.words.range(bytes).map(|(&at, &word)| (at, word)).collect();
        words.iter().for_each(|(at, _)| _ = self.words.remove(at));
        self.words.extend(words.iter().map(|(at, word)| (at - address(pages.start).0 + address(to).0, *word)));
        self.freed =
            self.freed.iter().map(|page| if pages.contains(page) { page - pages.start + to } else { *page }).collect();
        let pinned = self.pins.iter_mut().flat_map(|pin| &mut pin.pages).filter(|pinned| pages.contains(&pinned.page));
        pinned
            .filter(|pinned| !pinned.lost || whole(pinned.page))
            .for_each(|pinned| pinned.page = pinned.page - pages.start + to);
    }

    /// The first of `pages` that is not mapped.
    pub fn hole(&self, pages: &Range<u64>) -> Option<u64> {
        pages.clone().find(|&page| self.page(page).is_none())
    }

    /// Why an access to `page`, at `address`, fails.
    pub fn refuses(&self, page: u64, address: VirtAddr, wanted: Access) -> Option<FaultError> {
        match self.page(page) {
            None => Some(FaultError::NoRegion { address }),
            Some(ModelPage { access, .. }) if !access.permits(wanted) => {
                Some(FaultError::Denied { address, wanted, allowed: access })
            }
            Some(_) => None,
        }
    }

    pub fn word(&self, at: VirtAddr) -> u64 {
        self.words.get(&at.0).copied().unwrap_or(0)
    }

    /// What pins hold of `pages`, or held.
    pub fn pinned(&self, pages: Range<u64>) -> impl Iterator<Item = &PinnedPage> {
        self.pins.iter().flat_map(|pin| &pin.pages).filter(move |pinned| pages.contains(&pinned.page))
    }

    /// Whether a page of `pages` must stay in its frame.
    pub fn is_pinned(&self, pages: Range<u64>) -> bool {
        self.pinned(pages).any(|pinned| !pinned.lost)
    }

    /// All of `pages` is what it should be: where no word was written there are zeros.
    pub fn compare(&self, world: &World, pages: Range<u64>) {
        for page in pages {
            let machine = world.mm.machine();
            let Some(pa) = machine.translate(address(page)) else { continue };
            let mut words = self.words.range(address(page).0..address(page + 1).0).peekable();
            if words.peek().is_none() {
                assert!(machine.is_zero(pa.frame()), "page {page:#x} was never written");
                continue;
            }
            let mut found = machine.read_physical(pa, PAGE_SIZE);
            for (at, word) in words {
                let bytes = &mut found[*at as usize % PAGE_SIZE..][..8];
                assert_eq!(bytes, word.to_le_bytes(), "at {at:#x}");
                bytes.fill(0);
            }
            assert!(found.iter().all(|&byte| byte == 0), "page {page:#x} holds what nobody wrote to it");
        }
    }

    /// Model, walker and manager agree on what is mapped and where, on what is pinned, and on every word that was written.
    pub fn agree(&self, world: &World, ram: usize) {
        let mm = &world.mm;
        let mut pages = (WINDOW.start..).zip(&self.pages).filter_map(|(page, model)| Some((page, (*model)?)));
        let mut charged = 0;
        for (range, access, policy) in mm.regions() {
            if !WINDOW.contains(&range.start) {
                assert_eq!(access, Access::READ, "what is elsewhere are snapshots");
                charged += range.end - range.start;
                continue;
            }
            for page in range {
                let (at, model) = pages.next().unwrap_or_else(|| panic!("page {page:#x} should not be in a region"));
                assert_eq!((at, model.access, model.policy), (page, access, policy));
                charged += u64::from(model.charged);
            }
        }
        assert_eq!(pages.next(), None, "a page is in no region");
        let mut usage = mm.usage();
        let zeros = mm.zero_block();
        assert_eq!(usage.committed_pages, charged, "what may be written to is charged");
        let mut frames: Vec<Option<Frame>> = vec![None; self.pages.len()];
        let mut used = vec![false; ram / PAGE_SIZE];
        let is_here = |mapping: &Mapping| WINDOW.contains(&mapping.va.page().0);
        let (here, elsewhere): (Vec<_>, Vec<_>) = mm.machine().mappings().into_iter().partition(is_here);
        let shares = !elsewhere.is_empty() || mm.regions().iter().any(|(range, ..)| !WINDOW.contains(&range.start));
        for mapping in here {
            // Without its access flag it may be sampled: it allows as much, after a fault.
            let allowed = mapping.access;
            for offset in 0..(mapping.bytes / PAGE_SIZE) as u64 {
                let (page, frame) = (mapping.va.page().0 + offset, mapping.pa.frame() + offset);
                let model = self.page(page).unwrap_or_else(|| panic!("page {page:#x} should not be mapped"));
                if Some(frame.block()) == zeros {
                    assert_eq!(allowed, Access { write: false, ..model.access }, "page {page:#x} is of the zero block");
                    continue;
                }
                let waits =
                    (shares || self.freed.contains(&page)) && allowed == Access { write: false, ..model.access };
                assert!(waits || allowed == model.access, "page {page:#x} allows {allowed}");
                frames[(page - WINDOW.start) as usize] = Some(frame);
                let used = &mut used[(frame.0 - RAM.frame().0) as usize];
                assert!(!*used, "{frame:?} is mapped twice, at page {page:#x} as well");
                *used = true;
            }
            match mapping.bytes {
                bytes if Some(mapping.pa.frame().block()) == zeros => usage.zeros -= bytes / PAGE_SIZE,
                BLOCK_SIZE => usage.blocks -= 1,
                _ if mapping.contiguous => usage.pages += 1,
                _ => usage.pages -= 1,
            }
        }
        let mut seen = vec![false; ram / PAGE_SIZE];
        for mapping in elsewhere {
            assert!(!mapping.access.write, "a snapshot can be written to at {}", mapping.va);
            let first = mapping.pa.frame();
            if Some(first.block()) == zeros {
                usage.zeros -= mapping.bytes / PAGE_SIZE;
                continue;
            }
            let places =
                (0..(mapping.bytes / PAGE_SIZE) as u64).map(|offset| (first.0 + offset - RAM.frame().0) as usize);
            let shared = places.clone().filter(|&place| used[place]).count();
            if shared == 0 {
                match mapping.contiguous {
                    true => usage.pages += 1,
                    false => usage.pages -= 1,
                }
                places.for_each(|place| assert!(!core::mem::replace(&mut seen[place], true), "a copy is mapped twice"));
            } else {
                assert_eq!(shared, mapping.bytes / PAGE_SIZE, "a snapshot maps more than what is there");
                usage.shared -= shared as u32;
            }
        }
        assert_eq!(usage.shared, 0, "the walker finds as many pages of the live memory in snapshots");
        assert_eq!(usage.zeros, 0, "the walker finds as many pages of the zero block as the manager counts");
        assert_eq!(usage.blocks, 0, "the walker finds as many blocks as the manager counts");
        assert_eq!(usage.pages, usage.groups * 16, "and as many pages and groups");
        let frame_of = |page: u64| frames[(page - WINDOW.start) as usize];
        for PinnedPage { page, frame, lost } in self.pins.iter().flat_map(|pin| &pin.pages) {
            match lost {
                true => assert!(!used[(frame.0 - RAM.frame().0) as usize], "{frame:?} is a device's alone"),
                false => assert_eq!(frame_of(*page), Some(*frame), "page {page:#x} is pinned"),
            }
        }
        for (&at, &word) in &self.words {
            let at = VirtAddr(at);
            let frame = frame_of(at.page().0).unwrap_or_else(|| panic!("the word at {at} is gone"));
            let offset = at - address(at.page().0);
            let found = mm.machine().read_physical(frame.start() + offset, 8);
            assert_eq!(found, word.to_le_bytes(), "at {at}");
        }
    }
}

pub fn address(page: u64) -> VirtAddr {
    Page(page).start()
}

pub fn bytes(pages: &Range<u64>) -> usize {
    (pages.end - pages.start) as usize * PAGE_SIZE
}
