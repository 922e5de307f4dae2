//! The memory manager against a model: random operations on several cores of a simulated machine, and after every
//! step the model, the tables as an independent walker reads them, the checker of the machine's rules, and the account
//! of every frame agree.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
mod world;

use alloc::collections::BTreeMap;
use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, Page, VirtAddr};
use ashlar::mm::huge::{Enabled, FaultMode, HugePolicy};
use ashlar::mm::mmu::Access;
use ashlar::mm::{FaultError, MapRequest, MemoryError};
use common::Random;
use core::ops::Range;
use world::{MIB, World};

/// Steps of a run: a kernel under emulation has less time.
const STEPS: usize = if cfg!(target_os = "none") { 2_500 } else { 12_500 };
/// Runs with plenty of memory; half as many are short of it.
const RUNS: u64 = if cfg!(target_os = "none") { 2 } else { 8 };

/// The pages that operations choose from: five slots, so that everything meets everything.
const WINDOW: Range<u64> = 1 << 21 >> 12 << 11..(1 << 21 >> 12 << 11) + 5 * 512;
const CORES: usize = 3;

/// What a page should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ModelPage {
    access: Access,
    policy: HugePolicy,
}

/// The plainest memory there is.
#[derive(Default)]
struct Model {
    pages: BTreeMap<u64, ModelPage>,
    /// Words that were written, by address; all others are zero.
    words: BTreeMap<u64, u64>,
}

impl Model {
    fn forget(&mut self, pages: &Range<u64>) {
        let bytes = pages.start * PAGE_SIZE as u64..pages.end * PAGE_SIZE as u64;
        self.words.retain(|at, _| !bytes.contains(at));
    }

    fn hole(&self, pages: &Range<u64>) -> Option<u64> {
        pages.clone().find(|page| !self.pages.contains_key(page))
    }
}

struct Run {
    world: World,
    model: Model,
    random: Random,
    oom: usize,
}

impl Run {
    fn new(seed: u64, ram: usize) -> Self {
        let world = World::new(ram, CORES, seed);
        world.mm.set_overcommit(true);
        Run { world, model: Model::default(), random: Random::new(seed), oom: 0 }
    }

    /// Pages in the window, mostly of the sizes and alignments where blocks and groups begin and end.
    fn range(&mut self) -> Range<u64> {
        let pages = self.random.pick(&[1, 1, 2, 15, 16, 16, 17, 32, 100, 511, 512, 512, 512, 513, 1024]);
        let align = self.random.pick(&[1, 16, 512, 512]);
        let span = WINDOW.end - WINDOW.start;
        let start = WINDOW.start + self.random.below(span) / align * align;
        start..(start + pages).min(WINDOW.end)
    }

    fn step(&mut self) {
        let core = self.random.below(CORES as u64) as usize;
        self.world.mm.machine().on_core(core);
        match self.random.below(100) {
            0..12 => self.map(),
            12..18 => self.unmap(),
            18..26 => self.protect(),
            26..33 => self.release(),
            33..36 => self.advise(),
            36..38 => self.set_policy(),
            38..42 => self.populate(),
            42..48 => self.idle(),
            48..60 => self.fill(),
            60..82 => self.store(),
            _ => self.load(),
        }
    }

    fn map(&mut self) {
        let range = self.range();
        let access = self.random.pick(&[Access::READ_WRITE, Access::READ_WRITE, Access::READ, Access::NONE]);
        let policy =
            self.random.pick(&[HugePolicy::Default, HugePolicy::Default, HugePolicy::Always, HugePolicy::Never]);
        let request = MapRequest::new(bytes(&range)).at(address(range.start)).access(access).policy(policy);
        let result = self.world.mm.map(request);
        if range.clone().any(|page| self.model.pages.contains_key(&page)) {
            assert!(matches!(result, Err(MemoryError::Overlap { .. })), "{range:?}: {result:?}");
        } else if result != Err(MemoryError::NoMemory) {
            assert_eq!(result, Ok(address(range.start)..address(range.end)));
            self.model.pages.extend(range.map(|page| (page, ModelPage { access, policy })));
        }
    }

    fn unmap(&mut self) {
        let range = self.range();
        match self.world.mm.unmap(address(range.start), bytes(&range)) {
            Ok(()) => {
                self.model.forget(&range);
                self.model.pages.retain(|page, _| !range.contains(page));
            }
            Err(error) => assert_eq!(error, MemoryError::NoMemory),
        }
    }

    fn protect(&mut self) {
        let range = self.range();
        let access = self.random.pick(&[
            Access::READ_WRITE,
            Access::READ_WRITE,
            Access::READ,
            Access::NONE,
            Access::READ_EXECUTE,
        ]);
        let result = self.world.mm.protect(address(range.start), bytes(&range), access);
        self.change(result, range, |page| ModelPage { access, ..page });
    }

    fn advise(&mut self) {
        let range = self.range();
        let policy = self.random.pick(&[HugePolicy::Default, HugePolicy::Always, HugePolicy::Never]);
        let result = self.world.mm.advise(address(range.start), bytes(&range), policy);
        self.change(result, range, |page| ModelPage { policy, ..page });
    }

    fn change(&mut self, result: Result<(), MemoryError>, range: Range<u64>, to: impl Fn(ModelPage) -> ModelPage) {
        match (result, self.model.hole(&range)) {
            (Err(MemoryError::NoMemory), _) => {}
            (result, Some(hole)) => assert_eq!(result, Err(MemoryError::NotMapped { address: address(hole) })),
            (result, None) => {
                assert_eq!(result, Ok(()));
                for page in range {
                    let page = self.model.pages.get_mut(&page).expect("no hole");
                    *page = to(*page);
                }
            }
        }
    }

    fn release(&mut self) {
        let range = self.range();
        let result = self.world.mm.release(address(range.start), bytes(&range));
        match self.model.hole(&range) {
            Some(hole) => assert_eq!(result, Err(MemoryError::NotMapped { address: address(hole) })),
            None => {
                assert_eq!(result, Ok(()));
                self.model.forget(&range);
            }
        }
    }

    fn set_policy(&mut self) {
        let policy = self.world.mm.policy();
        policy.set_enabled(self.random.pick(&[Enabled::Always, Enabled::Always, Enabled::Madvise, Enabled::Never]));
        policy.set_fault_mode(self.random.pick(&[FaultMode::Adaptive, FaultMode::Adaptive, FaultMode::Eager]));
    }

    fn populate(&mut self) {
        let range = self.range();
        match (self.world.mm.populate(address(range.start), bytes(&range)), self.model.hole(&range)) {
            (Err(FaultError::OutOfMemory { .. }), _) => self.oom += 1,
            (Err(error), Some(hole)) => assert_eq!(error, FaultError::NoRegion { address: address(hole) }),
            (result, hole) => assert_eq!((result, hole), (Ok(()), None)),
        }
    }

    /// A core has nothing else to do for a while.
    fn idle(&mut self) {
        for _ in 0..self.random.below(40) {
            if !self.world.mm.idle_step() {
                break;
            }
        }
    }

    /// Touches page after page, as programs do.
    fn fill(&mut self) {
        let range = self.range();
        for page in range {
            let offset = self.random.below(512) * 8;
            self.store_at(page, offset);
        }
    }

    fn store(&mut self) {
        let page = WINDOW.start + self.random.below(WINDOW.end - WINDOW.start);
        let offset = self.random.below(512) * 8;
        self.store_at(page, offset);
    }

    fn store_at(&mut self, page: u64, offset: u64) {
        let at = address(page) + offset;
        let word = self.random.next();
        let result = self.world.store(at, &word.to_le_bytes());
        match self.expected(page, at, Access::READ_WRITE) {
            Some(error) => assert_eq!(result, Err(error)),
            None if result == Err(FaultError::OutOfMemory { address: at }) => self.oom += 1,
            None => {
                assert_eq!(result, Ok(()));
                self.model.words.insert(at.0, word);
            }
        }
    }

    fn load(&mut self) {
        let page = WINDOW.start + self.random.below(WINDOW.end - WINDOW.start);
        // A word that was written, as often as not.
        let start = address(page).0;
        let at = match self.model.words.range(start..).next() {
            Some((&at, _)) if self.random.below(2) == 0 => VirtAddr(at),
            _ => VirtAddr(start + self.random.below(512) * 8),
        };
        let result = self.world.load(at, 8);
        match self.expected(at.page().0, at, Access::READ) {
            Some(error) => assert_eq!(result, Err(error)),
            None if result == Err(FaultError::OutOfMemory { address: at }) => self.oom += 1,
            None => {
                let word = self.model.words.get(&at.0).copied().unwrap_or(0);
                assert_eq!(result, Ok(word.to_le_bytes().to_vec()), "at {at}");
            }
        }
    }

    fn expected(&self, page: u64, address: VirtAddr, wanted: Access) -> Option<FaultError> {
        match self.model.pages.get(&page) {
            None => Some(FaultError::NoRegion { address }),
            Some(ModelPage { access, .. }) if !access.permits(wanted) => {
                Some(FaultError::Denied { address, wanted, allowed: *access })
            }
            Some(_) => None,
        }
    }

    /// Model, walker and manager agree on what is mapped, and on every word that was written.
    fn agree(&self) {
        self.world.check();
        let mm = &self.world.mm;
        let mut pages = self.model.pages.iter();
        for (range, access, policy) in mm.regions() {
            for page in range {
                assert_eq!(pages.next(), Some((&page, &ModelPage { access, policy })));
            }
        }
        assert_eq!(pages.next(), None, "a page is in no region");
        let mut usage = mm.usage();
        for mapping in mm.machine().mappings() {
            let first = mapping.va.page().0;
            for page in first..first + (mapping.bytes / PAGE_SIZE) as u64 {
                let model =
                    self.model.pages.get(&page).unwrap_or_else(|| panic!("page {page:#x} should not be mapped"));
                let allowed = if mapping.accessed { mapping.access } else { Access::NONE };
                assert_eq!(allowed, model.access, "page {page:#x}");
            }
            match mapping.bytes {
                BLOCK_SIZE => usage.blocks -= 1,
                _ if mapping.contiguous => usage.pages += 1,
                _ => usage.pages -= 1,
            }
        }
        assert_eq!(usage.blocks, 0, "the walker finds as many blocks as the manager counts");
        assert_eq!(usage.pages, usage.groups * 16, "and as many pages and groups");
        for (&at, &word) in &self.model.words {
            let found = mm.machine().translate(VirtAddr(at)).map(|pa| mm.machine().read_physical(pa, 8));
            let found = found.unwrap_or_else(|| panic!("the word at {at:#x} is gone"));
            assert_eq!(found, word.to_le_bytes(), "at {at:#x}");
        }
    }
}

fn address(page: u64) -> VirtAddr {
    Page(page).start()
}

fn bytes(pages: &Range<u64>) -> usize {
    (pages.end - pages.start) as usize * PAGE_SIZE
}

/// Runs each seed with its amount of RAM; returns how often no frame was free.
fn run(runs: impl Iterator<Item = (u64, usize)>) -> u64 {
    let mut short = 0;
    for (seed, ram) in runs {
        let mut run = Run::new(seed, ram);
        for _ in 0..STEPS {
            run.step();
            run.agree();
        }
        short += run.world.mm.counters().reclaim.get();
        run.world.mm.unmap(address(WINDOW.start), bytes(&WINDOW)).expect("whole regions are unmapped");
        run.world.check();
        let frames = run.world.mm.frames().statistics();
        assert_eq!(frames.homes, 0, "nothing is left of the application");
    }
    short
}

/// Memory for everything.
fn agrees_with_plenty() {
    assert_eq!(run((1..1 + RUNS).map(|seed| (seed, 32 * MIB))), 0, "five slots fit");
}

/// Memory for a few slots, so that blocks run out, homes dissolve and faults find nothing.
fn agrees_when_memory_is_short() {
    assert!(run((101..101 + RUNS / 2).zip([5 * MIB / 2, 3 * MIB, 4 * MIB, 6 * MIB])) > 0, "memory was never short");
}

ashlar_test::tests! { agrees_with_plenty, agrees_when_memory_is_short }
