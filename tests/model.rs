//! The memory manager against a model: random operations on several cores of a simulated machine, and after every
//! step the model, the tables as an independent walker reads them, the checker of the machine's rules, and the account
//! of every frame agree.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;
mod common;
#[path = "model/devices.rs"]
mod devices;
#[path = "model/memory.rs"]
mod memory;
#[path = "model/moves.rs"]
mod moves;
#[path = "model/remap.rs"]
mod remap;
#[path = "model/sharing.rs"]
mod sharing;
mod world;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use ashlar::mm::address::VirtAddr;
use ashlar::mm::huge::{Defrag, Enabled, FaultMode, HugePolicy, Rest};
use ashlar::mm::mmu::{Access, Mmu};
use ashlar::mm::{FaultError, MapRequest, MemoryError};
use common::Random;
use core::ops::Range;
use memory::{Model, ModelPage, WINDOW, address, bytes};
use world::{MIB, World};

/// Steps of a run: a kernel under emulation has less time.
const STEPS: usize = if cfg!(target_os = "none") { 1_200 } else { 8_000 };
/// Runs with plenty of memory, and as many that are short of it.
const RUNS: u64 = if cfg!(target_os = "none") { 2 } else { 6 };

struct Run {
    world: World,
    model: Model,
    random: Random,
    /// Bytes of RAM.
    ram: usize,
    /// They may be too few.
    short: bool,
    cores: usize,
    oom: usize,
    /// The background's time.
    now: u64,
    seen: Vec<sharing::Seen>,
    /// Pages that were released, and are what they were then.
    released: BTreeSet<u64>,
    /// What no counter tells, and how often.
    happened: BTreeMap<&'static str, u64>,
}

/// What a slot is at a moment.
struct SlotNow {
    /// Its first page.
    start: u64,
    huge: bool,
    /// Pages of it that are absent.
    absent: usize,
}

impl Run {
    fn new(seed: u64, ram: usize, short: bool) -> Self {
        let cores = 2 + seed as usize % 3;
        let world = World::new(ram, cores, seed);
        world.mm.set_overcommit(true);
        Run {
            world,
            model: Model::new(),
            random: Random::new(seed),
            ram,
            short,
            cores,
            oom: 0,
            now: 0,
            seen: Vec::new(),
            released: BTreeSet::new(),
            happened: BTreeMap::new(),
        }
    }

    fn happened(&mut self, name: &'static str) {
        *self.happened.entry(name).or_insert(0) += 1;
    }

    /// Pages in the window: whole slots as often as not, else where blocks and groups begin and end.
    fn range(&mut self) -> Range<u64> {
        if self.random.below(2) == 0 {
            return self.slots();
        }
        let pages = self.random.pick(&[1, 1, 2, 15, 16, 16, 17, 32, 100, 256, 256, 511, 512, 513]);
        let align = self.random.pick(&[1, 16, 512]);
        let span = WINDOW.end - WINDOW.start;
        let start = WINDOW.start + self.random.below(span) / align * align;
        start..(start + pages).min(WINDOW.end)
    }

    fn page(&mut self) -> u64 {
        WINDOW.start + self.random.below(WINDOW.end - WINDOW.start)
    }

    /// One or two whole slots of the window.
    fn slots(&mut self) -> Range<u64> {
        let start = WINDOW.start + self.random.below((WINDOW.end - WINDOW.start) / 512) * 512;
        start..(start + self.random.pick(&[512, 512, 1024])).min(WINDOW.end)
    }

    fn step(&mut self) {
        let core = self.random.index(self.cores);
        self.world.mm.machine().on_core(core);
        common::set_core(core);
        let operation = self.random.below(190);
        if !matches!(operation, 23..30 | 39..45 | 150..164 | 172..190) {
            self.released.clear();
        }
        match operation {
            0..6 => self.renew(),
            6..10 => {
                let range = self.range();
                self.map(range)
            }
            10..14 => {
                let range = self.range();
                self.unmap(range)
            }
            14..23 => self.protect(),
            23..30 => self.release(),
            30..33 => self.advise(),
            33..35 => self.set_policy(),
            35..39 => self.populate(),
            39..45 => self.idle(),
            45..55 => self.fill(),
            55..75 => self.store(),
            75..90 => self.load(),
            90..94 => self.execute(),
            94..103 => self.pin(),
            103..110 => self.unpin(),
            110..120 => self.device(),
            120..128 => self.migrate(),
            128..133 => self.dissolve(),
            133..145 => self.collapse(),
            145..150 => self.walk(),
            150..164 => self.background(),
            164..172 => self.remap(),
            172..175 => self.mark_free(),
            175..178 => self.mark_cold(),
            180..183 => self.snapshot(),
            183..188 => self.look_at_snapshot(),
            188..190 => self.alias(),
            _ => self.set_knobs(),
        }
    }

    /// Whole slots begin anew, without a trace of the holes and differences of before. Many are used as a whole, or by half and
    /// left to idle time.
    fn renew(&mut self) {
        let range = self.slots();
        self.unmap(range.clone());
        self.map(range.clone());
        match self.random.below(4) {
            0 | 1 => range.for_each(|page| self.store_at(page, 0)),
            2 => {
                range.step_by(32).for_each(|page| self.store_at(page, 0));
                self.idle();
            }
            _ => {}
        }
    }

    fn map(&mut self, range: Range<u64>) {
        let often = Access::READ_WRITE;
        let access = self.random.pick(&[often, often, often, often, often, Access::READ, Access::NONE]);
        let often = HugePolicy::Default;
        let policy = self.random.pick(&[often, often, often, often, HugePolicy::Always, HugePolicy::Never]);
        let request = MapRequest::new(bytes(&range)).at(address(range.start)).access(access).policy(policy);
        let result = self.world.mm.map(request);
        if range.clone().any(|page| self.model.page(page).is_some()) {
            assert!(matches!(result, Err(MemoryError::Overlap { .. })), "{range:?}: {result:?}");
        } else if result != Err(MemoryError::NoMemory) {
            assert_eq!(result, Ok(address(range.start)..address(range.end)));
            let charged = access.write;
            self.model.change(range, |_| Some(ModelPage { access, policy, charged }));
        }
    }

    fn unmap(&mut self, range: Range<u64>) {
        match self.world.mm.unmap(address(range.start), bytes(&range)) {
            Ok(()) => {
                self.model.forget(&range);
                self.model.change(range, |_| None);
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
        self.change(result, range, |page| ModelPage { access, charged: page.charged || access.write, ..page });
    }

    fn advise(&mut self) {
        let range = self.range();
        let often = HugePolicy::Default;
        let policy = self.random.pick(&[often, often, HugePolicy::Always, HugePolicy::Never]);
        let result = self.world.mm.advise(address(range.start), bytes(&range), policy);
        self.change(result, range, |page| ModelPage { policy, ..page });
    }

    fn change(&mut self, result: Result<(), MemoryError>, range: Range<u64>, to: impl Fn(ModelPage) -> ModelPage) {
        match (result, self.model.hole(&range)) {
            (Err(MemoryError::NoMemory), _) => {}
            (result, Some(hole)) => assert_eq!(result, Err(MemoryError::NotMapped { address: address(hole) })),
            (result, None) => {
                assert_eq!(result, Ok(()));
                self.model.change(range, |page| page.map(&to));
            }
        }
    }

    fn release(&mut self) {
        let range = self.range();
        // What was absent may be so for another reason, and be filled again.
        let is_present = |page: &u64| self.frame_of(*page).is_some();
        let present: Vec<_> = range.clone().filter(is_present).collect();
        let result = self.world.mm.release(address(range.start), bytes(&range));
        match self.model.hole(&range) {
            Some(hole) => assert_eq!(result, Err(MemoryError::NotMapped { address: address(hole) })),
            None => {
                assert_eq!(result, Ok(()));
                self.model.forget(&range);
                self.released.extend(present);
            }
        }
    }

    fn mark_free(&mut self) {
        let range = self.range();
        let result = self.world.mm.mark_free(address(range.start), bytes(&range));
        self.change(result, range.clone(), |page| page);
        if result.is_ok() {
            let kept: Vec<_> = range.filter(|&page| !self.model.is_pinned(page..page + 1)).collect();
            self.model.freed.extend(kept);
        }
    }

    fn mark_cold(&mut self) {
        let range = self.range();
        let result = self.world.mm.mark_cold(address(range.start), bytes(&range));
        self.change(result, range, |page| page);
    }

    /// Pages that might be taken back, and were, hold nothing any more.
    fn settle_freed(&mut self, pages: Range<u64>) {
        let pages: Vec<_> = self.model.freed.range(pages).copied().collect();
        for page in pages {
            match self.frame_of(page) {
                None => self.model.forget(&(page..page + 1)),
                // Its group may have been touched since.
                Some(frame) if self.world.mm.machine().is_zero(frame) => self.model.forget_words(&(page..page + 1)),
                Some(_) => {}
            }
        }
    }

    fn set_policy(&mut self) {
        let policy = self.world.mm.policy();
        let often = Enabled::Always;
        policy.set_enabled(self.random.pick(&[often, often, often, Enabled::Madvise, Enabled::Never]));
        policy.set_fault_mode(self.random.pick(&[FaultMode::Adaptive, FaultMode::Adaptive, FaultMode::Eager]));
    }

    /// What the background may do, and what faults do for want of a block.
    fn set_knobs(&mut self) {
        use Defrag::{Always, Defer, DeferMadvise, Madvise, Never};
        let policy = self.world.mm.policy();
        policy.set_defrag(self.random.pick(&[Never, Never, Always, Defer, DeferMadvise, Madvise]));
        policy.set_max_ptes_none(self.random.pick(&[64, 64, 0, 255, 511]));
        policy.set_max_ptes_shared(self.random.pick(&[256, 0, 100, 511]));
        policy.set_khugepaged(self.random.below(8) > 0);
        policy.set_use_zero_page(self.random.below(4) > 0);
        self.world.mm.reconsider();
    }

    /// The background has its turn for some steps. What it made blocks of, it was allowed to.
    fn background(&mut self) {
        self.now += self.random.pick(&[1_000_000, 10_000_000, 1_000_000_000]);
        for _ in 0..self.random.below(12) {
            let before = self.slots_now();
            let limit = self.world.mm.policy().max_ptes_none();
            let (enabled, on) = (self.world.mm.policy().enabled(), self.world.mm.policy().khugepaged());
            let rest = self.world.mm.background_step(self.now);
            self.world.check();
            for (before, after) in
                before.iter().zip(self.slots_now()).filter(|(before, after)| !before.huge && after.huge)
            {
                let allowed = on && before.absent <= limit && enabled != Enabled::Never;
                assert!(allowed, "slot {:#x}: {} pages were filled", after.start, before.absent);
            }
            self.assert_released();
            match rest {
                Rest::None => {}
                Rest::Until(at) => self.now = self.now.max(at),
                Rest::Wait => break,
            }
        }
    }

    /// What the slots of the window are.
    fn slots_now(&self) -> Vec<SlotNow> {
        let is_absent = |page: &u64| self.frame_of(*page).is_none();
        let slot = |start: u64| SlotNow {
            start,
            huge: self.world.mm.is_huge(address(start)),
            absent: (start..start + 512).filter(is_absent).count(),
        };
        WINDOW.step_by(512).map(slot).collect()
    }

    /// What was released, and not touched since, is absent.
    fn assert_released(&self) {
        for &page in &self.released {
            assert_eq!(self.frame_of(page), None, "page {page:#x} was refilled");
        }
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
        for _ in 0..self.random.below(64) {
            if !self.world.mm.idle_step() {
                break;
            }
        }
        self.assert_released();
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
        let page = self.page();
        let offset = self.random.below(512) * 8;
        self.store_at(page, offset);
    }

    fn store_at(&mut self, page: u64, offset: u64) {
        let at = address(page) + offset;
        let word = self.random.next();
        self.settle_freed(page..page + 1);
        let result = self.world.store(at, &word.to_le_bytes());
        match self.model.refuses(page, at, Access::READ_WRITE) {
            Some(error) => assert_eq!(result, Err(error)),
            None if result == Err(FaultError::OutOfMemory { address: at }) => self.oom += 1,
            None => {
                assert_eq!(result, Ok(()));
                self.model.words.insert(at.0, word);
                self.model.freed.remove(&page);
            }
        }
    }

    fn load(&mut self) {
        let page = self.page();
        // A word that was written, as often as not.
        let start = address(page).0;
        let at = match self.model.words.range(start..).next() {
            Some((&at, _)) if self.random.below(2) == 0 => VirtAddr(at),
            _ => VirtAddr(start + self.random.below(512) * 8),
        };
        self.settle_freed(at.page().0..at.page().0 + 1);
        let result = self.world.load(at, 8);
        match self.model.refuses(at.page().0, at, Access::READ) {
            Some(error) => assert_eq!(result, Err(error)),
            None if result == Err(FaultError::OutOfMemory { address: at }) => self.oom += 1,
            None => {
                let word = self.model.word(at);
                assert_eq!(result, Ok(word.to_le_bytes().to_vec()), "at {at}");
            }
        }
    }

    /// Fetches from a page that may be run: whatever moved or filled it made that safe.
    fn execute(&mut self) {
        let page = self.page();
        let page = (page..WINDOW.end).find(|&page| self.model.page(page).is_some_and(|page| page.access.execute));
        if let Some(page) = page {
            match self.world.execute(address(page)) {
                Err(FaultError::OutOfMemory { .. }) => self.oom += 1,
                result => assert_eq!(result, Ok(())),
            }
        }
    }
}

/// Runs each seed with its amount of RAM. Everything in `happens` must have been counted in some run, and nothing in `never`.
fn run(runs: impl Iterator<Item = (u64, usize)>, short: bool, happens: &[&str], never: &[&str]) {
    let mut counts = BTreeMap::new();
    for (seed, ram) in runs {
        let mut run = Run::new(seed, ram, short);
        for _ in 0..STEPS {
            run.step();
            run.world.check();
            run.settle_freed(WINDOW);
            run.model.agree(&run.world, ram);
            let page = run.page();
            run.model.compare(&run.world, page..(page + 16).min(WINDOW.end));
        }
        let happened = run.happened.iter().map(|(&name, &count)| (name, count));
        let counted = run.world.mm.counters().iter().chain(happened);
        counted.for_each(|(name, count)| *counts.entry(name).or_insert(0) += count);
        run.model.compare(&run.world, WINDOW);
        run.world.mm.unmap(address(WINDOW.start), bytes(&WINDOW)).expect("whole regions are unmapped");
        run.unpin_all();
        run.end_snapshots();
        run.world.check();
        let frames = run.world.mm.frames().statistics();
        let left = (frames.homes, frames.movable, frames.pinned, frames.orphans);
        assert_eq!(left, (0, 0, 0, 0), "nothing is left of the application");
    }
    // A few steps don't meet everything.
    for name in happens.iter().filter(|_| cfg!(not(target_os = "none"))) {
        assert!(counts.get(name).is_some_and(|&count| count > 0), "{name}: it was never met");
    }
    for name in never {
        assert_eq!(counts[name], 0, "{name}");
    }
}

/// Memory for everything.
fn agrees_with_plenty() {
    let happens = [
        "promote_idle",
        "thp_split_pmd_release",
        "thp_split_pmd_unmap",
        "thp_split_pmd_protect",
        "thp_split_pmd_pages",
        "thp_split_page_failed",
        "collapse",
        "collapse_adopt",
        "thp_collapse_alloc",
        "refused_not_covered",
        "refused_mixed_attributes",
        "refused_policy",
        "refused_empty",
        "refused_absent",
        "refused_no_home",
        "refused_pinned",
        "refused_deadline",
        "refused_released",
        "refused_freed",
        "refused_cold",
        "pglazyfree",
        "pgdeactivate",
        "khugepaged_collapsed",
        "thp_scan_exceed_none_pte",
        "snapshot",
        "snapshot_shared",
        "snapshot_ended",
        "snapshot_pages_copied",
        "thp_split_pmd_snapshot",
        "thp_scan_exceed_share_pte",
        "alias",
        "alias_moved_back",
        "remap_shared",
        "remap_block",
        "remap_slot",
        "remap_pages_copied",
        "remap_pages_in_their_frames",
        "remap_pinned",
        "remap_moved",
        "remap_back",
        "remap_kept",
        "remap_grown",
        "remap_grown_here",
        "remap_shrunk",
        "remap_shrunk_here",
        "remap_not_mapped",
        "remap_divided",
        "remap_into_itself",
        "remap_kept_length",
        "remap_overlap",
    ];
    // Five slots fit.
    let never = ["reclaim", "out_of_memory", "thp_collapse_alloc_failed", "refused_busy", "kswapd_steal"];
    run((1..1 + RUNS).map(|seed| (seed, 32 * MIB)), false, &happens, &never);
}

/// Memory for a few slots, so that blocks run out, homes dissolve and faults find nothing.
fn agrees_when_memory_is_short() {
    let happens = [
        "out_of_memory",
        "thp_split_page",
        "thp_split_page_failed",
        "thp_underused_split_page",
        "zero_pages_released",
        "thp_fault_fallback",
        "group_fault_fallback",
        "collapse",
        "collapse_adopt",
        "thp_collapse_alloc_failed",
        "khugepaged_collapsed",
        "heat_samples",
        "access_flag_fault",
        "compact_stall",
        "compact_success",
        "compact_fail",
        "compact_daemon_wake",
        "compact_blocks",
        "kswapd_steal",
        "pglazyfreed",
        "refused_no_free_block",
        "refused_no_free_frame",
        "remap_block",
        "remap_pages_in_their_frames",
        "remap_no_memory",
    ];
    let ram = [6, 8, 4, 10, 3, 7].map(|mib| mib * MIB);
    run((101..101 + RUNS).zip(ram), true, &happens, &["refused_busy"]);
}

ashlar_test::tests! { agrees_with_plenty, agrees_when_memory_is_short }
