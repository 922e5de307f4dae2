//! One core's TLBs.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::cache::{Cache, Slot};
use crate::decode::{Register, Scope};
use crate::presets::Geometry;
use crate::removed::{Cause, Removed};
use crate::report::{Count, Counters};
use crate::walk::{Fault, Mapping, Memory, Regime, Table, canonical, is_upper, shift, walk};

/// Which TLB of level 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Instructions.
    Fetch = 0,
    /// Data.
    Data = 1,
}

/// One access.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Where.
    pub va: u64,
    /// What for.
    pub side: Side,
    /// Whether it stores.
    pub write: bool,
    /// It is not known to succeed: it comes before the instruction, which may fault.
    pub tentative: bool,
    /// The instruction.
    pub pc: u64,
}

/// How a hit contradicts the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// They have no translation.
    Gone = 0,
    /// They lead to another place.
    Moved = 1,
    /// They allow less.
    Narrowed = 2,
    /// They allow what the entry refuses, and what was done.
    Widened = 3,
    /// Memory type, shareability, or whether it is global.
    Attributes = 4,
    /// The mapping is of another size.
    Size = 5,
    /// A table that is held leads elsewhere.
    Table = 6,
}

impl Contradiction {
    /// All.
    pub const ALL: [Contradiction; 7] = [
        Contradiction::Gone,
        Contradiction::Moved,
        Contradiction::Narrowed,
        Contradiction::Widened,
        Contradiction::Attributes,
        Contradiction::Size,
        Contradiction::Table,
    ];

    /// In a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Moved => "moved",
            Self::Narrowed => "narrowed",
            Self::Widened => "widened",
            Self::Attributes => "attributes",
            Self::Size => "size",
            Self::Table => "table",
        }
    }

    /// How `held` contradicts what a walk finds now.
    fn between(held: &Mapping, now: Result<Mapping, Fault>, va: u64) -> Option<Self> {
        let Ok(now) = now else { return Some(Self::Gone) };
        if held.physical(va) != now.physical(va) {
            Some(Self::Moved)
        } else if held.rights.exceed(now.rights) {
            Some(Self::Narrowed)
        } else if (held.attributes, held.global) != (now.attributes, now.global) {
            Some(Self::Attributes)
        } else if (held.shift, held.leaf) != (now.shift, now.leaf) {
            Some(Self::Size)
        } else {
            None
        }
    }
}

/// Something that should not be.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// The access.
    pub access: Access,
    /// What of it; `None`: an access was made for which there is no translation.
    pub contradiction: Option<Contradiction>,
    /// Where the entry leads.
    pub held: Option<u64>,
    /// Where the tables lead.
    pub tables: Option<u64>,
}

/// A contradiction that another core may be about to resolve: it has written the tables and not yet invalidated.
#[derive(Clone, Debug)]
struct Suspect {
    slot: Slot<()>,
    finding: Finding,
    /// What the other cores' clocks stood at.
    since: Vec<u64>,
}

/// Findings that are kept until they are fetched.
const FINDINGS: usize = 64;
/// Suspects that are kept; what comes on top is not judged.
const SUSPECTS: usize = 4096;

/// What is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Every hit is compared with the tables.
    pub hits: bool,
    /// There are other cores: a contradiction counts when each of them has run so many instructions since.
    pub patience: Option<u64>,
}

/// How many instructions each of the other cores has run; [`IDLE`] for one that waits.
pub type Clocks = Box<dyn Fn() -> Vec<u64> + Send>;

/// The clock of a core that waits: it is not about to resolve anything.
pub const IDLE: u64 = u64::MAX;

/// Lookups between two looks at the clocks.
const LOOK: u64 = 1024;

/// A core.
pub struct Core {
    geometry: Geometry,
    checks: Checks,
    regime: Regime,
    micro: [Cache<Mapping>; 2],
    main: Cache<Mapping>,
    tables: Cache<Table>,
    /// The page of the last access on each side, and whether it may be written; no page while that is to be looked up again.
    last: [(u64, bool); 2],
    removed: Removed,
    suspects: Vec<Suspect>,
    findings: Vec<Finding>,
    clocks: Clocks,
    lookups: u64,
    counters: Arc<Counters>,
}

const NO_PAGE: (u64, bool) = (u64::MAX, false);

impl Core {
    /// With empty TLBs, and translation off.
    pub fn new(geometry: Geometry, checks: Checks, clocks: Clocks, counters: Arc<Counters>) -> Self {
        let whole = |entries: usize| Cache::new(entries, entries);
        Self {
            regime: Regime::default(),
            micro: [whole(geometry.micro[0]), whole(geometry.micro[1])],
            main: Cache::new(geometry.main.0, geometry.main.1),
            tables: Cache::new(geometry.tables.0, geometry.tables.1),
            last: [NO_PAGE; 2],
            removed: Removed::default(),
            suspects: Vec::new(),
            findings: Vec::new(),
            clocks,
            lookups: 0,
            geometry,
            checks,
            counters,
        }
    }

    /// Empties it, for a start that knows nothing of what was before.
    pub fn reset(&mut self, regime: Regime) {
        self.regime = regime;
        self.micro.iter_mut().for_each(Cache::clear);
        self.main.clear();
        self.tables.clear();
        self.removed.clear();
        self.suspects.clear();
        self.last = [NO_PAGE; 2];
    }

    /// A register was written.
    pub fn write_register(&mut self, register: Register, value: u64) {
        match register {
            Register::Sctlr => self.regime.sctlr = value,
            Register::Tcr => self.regime.tcr = value,
            Register::Ttbr0 => self.regime.ttbr0 = value,
            Register::Ttbr1 => self.regime.ttbr1 = value,
        }
        self.last = [NO_PAGE; 2];
    }

    /// The registers are those: what was not written by an instruction.
    pub fn set_regime(&mut self, regime: Regime) {
        if regime != self.regime {
            self.regime = regime;
            self.last = [NO_PAGE; 2];
        }
    }

    /// Contradictions that may yet be resolved.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// What was found since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Whether there is any.
    pub fn has_findings(&self) -> bool {
        !self.findings.is_empty()
    }

    /// Whether a fetch at `va` would hit level 1, or isn't translated.
    pub fn has_fetched(&mut self, va: u64) -> bool {
        let va = canonical(va);
        let asid = self.regime.asid();
        !self.regime.is_on() || va >> 12 == self.last[0].0 || self.micro[0].find(va, asid).is_some()
    }

    /// One access.
    #[inline]
    pub fn access(&mut self, access: Access, memory: &impl Memory) {
        if !self.regime.is_on() {
            return;
        }
        let va = canonical(access.va);
        self.counters.add(Count::Accesses(is_upper(va), access.side), 1);
        let (page, writable) = self.last[access.side as usize];
        if va >> 12 == page && (writable || !access.write) {
            return;
        }
        self.look_up(Access { va, ..access }, memory);
    }

    fn look_up(&mut self, access: Access, memory: &impl Memory) {
        let Access { va, side, .. } = access;
        let (asid, upper) = (self.regime.asid(), is_upper(va));
        let mut found = self.micro[side as usize].find(va, asid);
        if found.is_none() {
            self.counters.add(Count::MicroMisses(upper, side), 1);
            found = self.main.find(va, asid);
            match found {
                Some(slot) => self.fill(side, va, slot.asid, slot.value),
                None => self.counters.add(Count::MainMisses(upper, side), 1),
            }
        }
        let mut mapping = found.map(|slot| slot.value);
        if let Some(slot) = found {
            if self.checks.hits {
                let now = walk(&self.regime, va, None, memory).result;
                if let Some(contradiction) = Contradiction::between(&slot.value, now, va) {
                    self.contradict(access, contradiction, slot, now);
                }
            }
            let refused = access.write && !slot.value.rights.writes()
                || access.side == Side::Fetch && !slot.value.rights.fetches();
            if refused {
                if access.tentative {
                    return;
                }
                // A core would fault, and go on to fault until the entry is gone.
                if self.checks.hits {
                    let now = walk(&self.regime, va, None, memory).result;
                    self.contradict(access, Contradiction::Widened, slot, now);
                }
                let at = |slot: &Slot<Mapping>| slot.meets(va, va) && slot.is_of(asid);
                self.micro.iter_mut().for_each(|micro| micro.take_page(va, at, |_| ()));
                self.main.take_page(va, at, |_| ());
                mapping = None;
            }
        }
        let mapping = match mapping {
            Some(mapping) => mapping,
            None => match self.walk(access, memory) {
                Some(mapping) => mapping,
                None => return,
            },
        };
        self.last[side as usize] = (va >> 12, mapping.rights.writes());
        self.lookups += 1;
        if self.lookups.is_multiple_of(LOOK) && !self.suspects.is_empty() {
            self.judge();
        }
    }

    /// Walks for an access that missed, and keeps what is found.
    fn walk(&mut self, access: Access, memory: &impl Memory) -> Option<Mapping> {
        let Access { va, side, .. } = access;
        let asid = self.regime.asid();
        let held = self.tables.find(va, asid);
        let mut found = walk(&self.regime, va, held.map(|slot| slot.value), memory);
        if let Some(slot) = held
            && (self.checks.hits || found.result.is_err())
        {
            let whole = walk(&self.regime, va, None, memory);
            if whole.result != found.result {
                let slot = Slot { start: slot.start, shift: slot.shift, cover: slot.cover, asid: slot.asid, value: () };
                let outputs = [found.result, whole.result].map(|result| result.ok().map(|found| found.physical(va)));
                self.suspect(access, Contradiction::Table, slot, outputs);
            }
            if found.result.is_err() {
                found = whole;
            }
        }
        let mut mapping = match found.result {
            Ok(mapping) => mapping,
            Err(_) => {
                if !access.tentative {
                    let alone = self.checks.patience.is_none();
                    self.counters.add(if alone { Count::WalkFails } else { Count::WalkRaces }, 1);
                    if alone {
                        self.find(Finding { access, contradiction: None, held: None, tables: None });
                    }
                }
                return None;
            }
        };
        let upper = is_upper(va);
        self.counters.add(Count::Walks(upper, mapping.shift), 1);
        self.counters.add(Count::WalkReads(upper, mapping.shift), found.reads.into());
        if !self.geometry.contiguous && mapping.shift != mapping.leaf {
            mapping = Mapping {
                start: va & !((1 << mapping.leaf) - 1),
                output: mapping.physical(va) & !((1 << mapping.leaf) - 1),
                shift: mapping.leaf,
                ..mapping
            };
        }
        for table in found.tables.into_iter().flatten() {
            if table.level == 3 || !self.geometry.last_tables {
                // A table is for what one descriptor above it is for.
                let size = shift(table.level - 1);
                let start = va & !((1 << size) - 1);
                self.tables.insert(Slot { start, shift: size, cover: size, asid: Some(asid), value: table });
            }
        }
        let space = (!mapping.global).then_some(asid);
        if let Some(cause) = self.removed.refill(space, mapping.start, mapping.shift) {
            self.counters.add(Count::Refills(cause), 1);
        }
        self.main.insert(piece(va, space, mapping, self.geometry.main_sizes));
        self.fill(side, va, space, mapping);
        Some(mapping)
    }

    fn fill(&mut self, side: Side, va: u64, asid: Option<u16>, mapping: Mapping) {
        let sizes = self.geometry.micro_sizes[side as usize];
        self.micro[side as usize].insert(piece(va, asid, mapping, sizes));
    }

    /// A TLBI takes effect. `own`: this core's.
    pub fn invalidate(&mut self, scope: Scope, own: bool) {
        self.last = [NO_PAGE; 2];
        let (kind, cause) = match scope {
            Scope::Pages { range: false, .. } => (0, Cause::Address),
            Scope::Pages { range: true, .. } => (1, Cause::Address),
            Scope::Asid(_) => (2, Cause::Asid),
            Scope::All => (3, Cause::All),
        };
        if own {
            self.counters.add(Count::Invalidations(kind), 1);
        }
        let (removed, counters) = (&mut self.removed, &self.counters);
        let note = |removed: &mut Removed, slot: Slot<Mapping>| {
            removed.note(slot.asid, slot.value.start, slot.value.shift, cause);
        };
        match scope {
            Scope::Pages { first, last, leaves, .. } => {
                // One page, which its address finds; a range is looked for everywhere.
                let page = last - first < 0x1000;
                let concerns = |slot: &Slot<Mapping>| concerns(scope, slot);
                let caches = self.micro.iter_mut().map(|micro| (micro, false)).chain([(&mut self.main, true)]);
                for (cache, main) in caches {
                    let taken = |slot| {
                        note(removed, slot);
                        counters.add(Count::Removed, u64::from(main));
                    };
                    if page { cache.take_page(first, concerns, taken) } else { cache.take(concerns, taken) }
                }
                let concerned = |slot: &Slot<Table>| self::concerns(scope, slot);
                if !leaves {
                    self.tables.take(concerned, |_| ());
                }
            }
            Scope::Asid(_) | Scope::All => {
                let caches = self.micro.iter_mut().map(|micro| (micro, false)).chain([(&mut self.main, true)]);
                for (cache, main) in caches {
                    cache.take(
                        |slot| concerns(scope, slot),
                        |slot| {
                            note(removed, slot);
                            counters.add(Count::Removed, u64::from(main));
                        },
                    );
                }
                self.tables.take(|slot| concerns(scope, slot), |_| ());
            }
        }
        if self.geometry.micro_emptied {
            self.micro.iter_mut().for_each(Cache::clear);
        }
        let leaves = matches!(scope, Scope::Pages { leaves: true, .. });
        self.suspects.retain(|suspect| {
            let is_table = suspect.finding.contradiction == Some(Contradiction::Table);
            is_table && leaves || !concerns(scope, &suspect.slot)
        });
    }

    fn contradict(
        &mut self,
        access: Access,
        contradiction: Contradiction,
        slot: Slot<Mapping>,
        now: Result<Mapping, Fault>,
    ) {
        let outputs = [Some(slot.value.physical(access.va)), now.ok().map(|now| now.physical(access.va))];
        let slot = Slot { start: slot.start, shift: slot.shift, cover: slot.cover, asid: slot.asid, value: () };
        self.suspect(access, contradiction, slot, outputs);
    }

    fn suspect(
        &mut self,
        access: Access,
        contradiction: Contradiction,
        slot: Slot<()>,
        [held, tables]: [Option<u64>; 2],
    ) {
        let finding = Finding { access, contradiction: Some(contradiction), held, tables };
        if self.checks.patience.is_none() {
            self.counters.add(Count::Stale(contradiction), 1);
            return self.find(finding);
        }
        let known = |suspect: &Suspect| {
            suspect.slot.start == slot.start
                && suspect.slot.asid == slot.asid
                && suspect.finding.contradiction == finding.contradiction
        };
        if !self.suspects.iter().any(known) && self.suspects.len() < SUSPECTS {
            let since = (self.clocks)();
            self.suspects.push(Suspect { slot, finding, since });
        }
    }

    /// Counts the suspects that nobody is about to resolve any more.
    fn judge(&mut self) {
        let (patience, now) = (self.checks.patience.unwrap_or(0), (self.clocks)());
        let stands = |suspect: &Suspect| {
            let mut clocks = suspect.since.iter().zip(&now);
            clocks.all(|(&since, &now)| since == IDLE || now == IDLE || now - since >= patience)
        };
        let judged: Vec<_> = self.suspects.extract_if(.., |suspect| stands(suspect)).collect();
        for Suspect { finding, .. } in judged {
            if let Some(contradiction) = finding.contradiction {
                self.counters.add(Count::Stale(contradiction), 1);
            }
            self.find(finding);
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// Whether an invalidation is for an entry.
fn concerns<T>(scope: Scope, slot: &Slot<T>) -> bool {
    match scope {
        Scope::All => true,
        Scope::Asid(asid) => slot.asid == Some(asid),
        Scope::Pages { first, last, asid, .. } => slot.meets(first, last) && asid.is_none_or(|asid| slot.is_of(asid)),
    }
}

/// `mapping`, or the piece of it around `va` that fits the largest of `sizes`.
fn piece(va: u64, asid: Option<u16>, mapping: Mapping, sizes: &[u8]) -> Slot<Mapping> {
    let shift = sizes.iter().copied().filter(|&size| size <= mapping.shift).max().unwrap_or(12);
    // A piece goes with the descriptor it is a piece of; of contiguous ones, each is for itself.
    Slot { start: va & !((1 << shift) - 1), shift, cover: shift.max(mapping.leaf), asid, value: mapping }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Scope;
    use crate::walk::tests::{BLOCK, GROUP, PAGE, Space};
    use std::sync::atomic::{AtomicU64, Ordering};

    const BASE: u64 = 0x10_0000_0000;
    const MEMORY: u64 = 64 << 20;

    struct Machine {
        core: Core,
        space: Space,
        counters: Arc<Counters>,
        /// Instructions of the one other core that runs.
        ticks: Arc<AtomicU64>,
        random: u64,
    }

    impl Machine {
        fn new(geometry: Geometry, checks: Checks) -> Self {
            let counters = Arc::new(Counters::default());
            let ticks = Arc::new(AtomicU64::new(0));
            let clock = ticks.clone();
            let clocks = Box::new(move || vec![clock.load(Ordering::Relaxed), IDLE]);
            let mut core = Core::new(geometry, checks, clocks, counters.clone());
            let space = Space::new();
            core.reset(space.regime);
            Self { core, space, counters, ticks, random: 1 }
        }

        fn access(&mut self, va: u64, write: bool) {
            let access = Access { va, side: Side::Data, write, tentative: false, pc: 0 };
            self.core.access(access, &self.space);
        }

        fn read(&mut self, va: u64) {
            self.access(va, false);
        }

        fn count(&self, count: Count) -> u64 {
            self.counters.now().get(count)
        }

        fn walks(&self) -> u64 {
            self.count(Count::MainMisses(false, Side::Data))
        }

        fn pages(&mut self) {
            (0..MEMORY >> 12)
                .for_each(|page| self.space.set(BASE + (page << 12), 3, (0x8000_0000 + (page << 12)) | PAGE));
        }

        fn random_reads(&mut self, count: u64) -> f64 {
            let before = self.walks();
            for _ in 0..count {
                self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                self.read(BASE + ((self.random >> 32) % (MEMORY >> 3)) * 8);
            }
            (self.walks() - before) as f64 / count as f64
        }

        fn stale(&self) -> u64 {
            self.counters.now().stale()
        }

        fn invalidate_page(&mut self, va: u64, leaves: bool) {
            self.core
                .invalidate(Scope::Pages { first: va, last: va | 0xfff, asid: Some(1), leaves, range: false }, true);
        }
    }

    fn a72() -> Machine {
        Machine::new(Geometry::default(), Checks::default())
    }

    fn checked() -> Machine {
        Machine::new(Geometry::default(), Checks { hits: true, patience: None })
    }

    #[test]
    fn random_reads_of_pages_miss_as_theory_has_it() {
        let mut machine = a72();
        machine.pages();
        let walks = machine.random_reads(2_000_000);
        assert!((walks - (1.0 - 1024.0 / 16384.0)).abs() < 5e-4, "{walks}");
        let micro = machine.count(Count::MicroMisses(false, Side::Data)) as f64 / 2e6;
        assert!((micro - (1.0 - 32.0 / 16384.0)).abs() < 5e-4, "{micro}");
        // The tables of 64 MiB are held: one read a walk.
        let reads = machine.count(Count::WalkReads(false, 12));
        assert!(reads - machine.walks() < 64, "{reads}");
    }

    #[test]
    fn random_reads_of_other_presets() {
        for (name, entries) in [("a53", 512.0), ("a76", 1280.0), ("n1", 1280.0)] {
            let mut machine = Machine::new(Geometry::preset(name).unwrap(), Checks::default());
            machine.pages();
            let walks = machine.random_reads(500_000);
            assert!((walks - (1.0 - entries / 16384.0)).abs() < 2e-3, "{name}: {walks}");
        }
    }

    #[test]
    fn random_reads_of_blocks_and_groups_walk_once_for_each() {
        let mut machine = a72();
        (0..32).for_each(|block| machine.space.set(BASE + (block << 21), 2, (0x8000_0000 + (block << 21)) | BLOCK));
        machine.random_reads(200_000);
        assert_eq!(machine.walks(), 32);
        let micro = machine.count(Count::MicroMisses(false, Side::Data)) as f64 / 2e5;
        assert!((micro - 0.5).abs() < 1e-2, "32 pieces of 1 MiB out of 64: {micro}");

        let mut machine = a72();
        (0..MEMORY >> 12)
            .for_each(|page| machine.space.set(BASE + (page << 12), 3, (0x8000_0000 + (page << 12)) | GROUP));
        machine.random_reads(200_000);
        assert_eq!(machine.walks(), 1024);
        let mut machine = Machine::new(Geometry { contiguous: false, ..Geometry::default() }, Checks::default());
        (0..MEMORY >> 12)
            .for_each(|page| machine.space.set(BASE + (page << 12), 3, (0x8000_0000 + (page << 12)) | GROUP));
        assert!(machine.random_reads(200_000) > 0.93);
    }

    #[test]
    fn walks_read_fewer_descriptors_where_tables_are_held() {
        let mut machine = a72();
        machine.pages();
        machine.read(BASE);
        assert_eq!(machine.count(Count::WalkReads(false, 12)), 3);
        machine.read(BASE + 0x1000);
        assert_eq!(machine.count(Count::WalkReads(false, 12)), 4);
        let mut machine = Machine::new(Geometry { tables: (0, 1), ..Geometry::default() }, Checks::default());
        machine.pages();
        machine.read(BASE);
        machine.read(BASE + 0x1000);
        assert_eq!(machine.count(Count::WalkReads(false, 12)), 6);
    }

    #[test]
    fn an_invalidation_by_address_takes_the_page_and_all_levels_its_tables() {
        let mut machine = a72();
        machine.pages();
        for (leaves, reads) in [(true, 1), (false, 3)] {
            machine.read(BASE);
            machine.invalidate_page(BASE, leaves);
            let before = (machine.walks(), machine.count(Count::WalkReads(false, 12)));
            machine.read(BASE);
            assert_eq!(machine.walks() - before.0, 1);
            assert_eq!(machine.count(Count::WalkReads(false, 12)) - before.1, reads);
        }
        assert_eq!(machine.count(Count::Refills(Cause::Address)), 2);
        assert_eq!(machine.count(Count::Removed), 2);
    }

    #[test]
    fn any_address_takes_a_whole_block() {
        let mut machine = a72();
        machine.space.set(BASE, 2, 0x8000_0000 | BLOCK);
        machine.read(BASE);
        machine.read(BASE + (1 << 20));
        machine.invalidate_page(BASE + 0x1f_f000, true);
        machine.read(BASE);
        assert_eq!(machine.walks(), 2);
        assert_eq!(machine.count(Count::Refills(Cause::Address)), 1);
    }

    #[test]
    fn address_spaces_share_what_is_global() {
        let mut machine = a72();
        let global = PAGE & !(1 << 11);
        machine.space.set(BASE, 3, 0x8000_0000 | PAGE);
        machine.space.set(BASE + 0x1000, 3, 0x8000_1000 | global);
        for asid in [1, 2, 1, 2] {
            machine.core.write_register(Register::Ttbr0, 0x1000 | asid << 48);
            machine.read(BASE);
            machine.read(BASE + 0x1000);
        }
        assert_eq!(machine.walks(), 3);
        machine.core.invalidate(Scope::Asid(1), true);
        for asid in [1, 2] {
            machine.core.write_register(Register::Ttbr0, 0x1000 | asid << 48);
            machine.read(BASE);
            machine.read(BASE + 0x1000);
        }
        assert_eq!((machine.walks(), machine.count(Count::Refills(Cause::Asid))), (4, 1));
        machine.core.invalidate(Scope::All, true);
        machine.read(BASE);
        machine.read(BASE + 0x1000);
        assert_eq!((machine.walks(), machine.count(Count::Refills(Cause::All))), (6, 2));
    }

    #[test]
    fn a_range_takes_its_pages() {
        let mut machine = a72();
        machine.pages();
        (0..8).for_each(|page| machine.read(BASE + (page << 12)));
        let scope = Scope::Pages { first: BASE + 0x2000, last: BASE + 0x3fff, asid: None, leaves: true, range: true };
        machine.core.invalidate(scope, true);
        (0..8).for_each(|page| machine.read(BASE + (page << 12)));
        assert_eq!((machine.walks(), machine.count(Count::Invalidations(1))), (10, 1));
    }

    #[test]
    fn a_split_costs_a_walk_for_each_page_and_a_promotion_one() {
        let mut machine = checked();
        machine.space.set(BASE, 2, 0x8000_0000 | BLOCK);
        machine.read(BASE);
        machine.space.set(BASE, 2, 0);
        machine.invalidate_page(BASE, false);
        (0..512).for_each(|page| machine.space.set(BASE + (page << 12), 3, (0x8000_0000 + (page << 12)) | PAGE));
        (0..512).for_each(|page| machine.read(BASE + (page << 12)));
        assert_eq!(machine.count(Count::Refills(Cause::Address)), 512);
        machine.space.set(BASE, 2, 0);
        (0..512).for_each(|page| machine.invalidate_page(BASE + (page << 12), false));
        machine.space.set(BASE, 2, 0x8000_0000 | BLOCK);
        (0..512).for_each(|page| machine.read(BASE + (page << 12)));
        assert_eq!(machine.count(Count::Refills(Cause::Address)), 513);
        assert_eq!(machine.stale(), 0);
    }

    #[test]
    fn a_missing_invalidation_is_noticed() {
        let other = BASE + 0x5000;
        let read_only = PAGE | 1 << 7;
        for (before, after, kind) in [
            (0x8000_0000 | PAGE, 0, Contradiction::Gone),
            (0x8000_0000 | PAGE, 0x9000_0000 | PAGE, Contradiction::Moved),
            (0x8000_0000 | PAGE, 0x8000_0000 | read_only, Contradiction::Narrowed),
            (0x8000_0000 | PAGE, 0x8000_0000 | PAGE | 1 << 2, Contradiction::Attributes),
            (0x8000_0000 | PAGE, 0x8000_0000 | GROUP, Contradiction::Size),
        ] {
            let mut machine = checked();
            machine.space.set(BASE, 3, before);
            machine.space.set(other, 3, 0xa000_0000 | PAGE);
            machine.read(BASE);
            machine.read(other);
            machine.space.set(BASE, 3, after);
            machine.read(BASE);
            assert_eq!((machine.stale(), machine.count(Count::Stale(kind))), (1, 1), "{kind:?}");
            assert_eq!(machine.core.take_findings().len(), 1);
            if after != 0 {
                machine.invalidate_page(BASE, true);
                machine.read(BASE);
                assert_eq!(machine.stale(), 1);
            }
        }
    }

    #[test]
    fn a_store_that_the_entry_refuses_is_noticed() {
        let mut machine = checked();
        machine.space.set(BASE, 3, 0x8000_0000 | PAGE | 1 << 7);
        machine.read(BASE);
        machine.space.set(BASE, 3, 0x8000_0000 | PAGE);
        machine.access(BASE, true);
        assert_eq!((machine.stale(), machine.count(Count::Stale(Contradiction::Widened))), (1, 1));
        machine.access(BASE, true);
        assert_eq!((machine.stale(), machine.count(Count::Walks(false, 12))), (1, 2));
    }

    #[test]
    fn a_table_that_was_replaced_is_noticed() {
        let mut machine = checked();
        machine.pages();
        machine.read(BASE);
        let (first, second) = (machine.space.slot(BASE, 2), machine.space.slot(BASE + (1 << 21), 2));
        let entries = [first, second].map(|at| machine.space.read(at).unwrap());
        machine.space.set(BASE, 2, entries[1]);
        // Only the last level is taken out: the table stays.
        machine.invalidate_page(BASE, true);
        machine.read(BASE);
        assert_eq!(machine.count(Count::Stale(Contradiction::Table)), 1);
    }

    #[test]
    fn a_failed_walk_counts_unless_the_access_may_fault() {
        let mut machine = a72();
        let access = Access { va: BASE, side: Side::Data, write: true, tentative: true, pc: 0 };
        machine.core.access(access, &machine.space);
        assert_eq!(machine.count(Count::WalkFails), 0);
        machine.read(BASE);
        assert_eq!(machine.count(Count::WalkFails), 1);
    }

    #[test]
    fn several_cores_give_each_other_time() {
        let mut machine = Machine::new(Geometry::default(), Checks { hits: true, patience: Some(10) });
        machine.pages();
        machine.read(BASE);
        machine.read(BASE + 0x1000);
        machine.space.set(BASE, 3, 0);
        machine.read(BASE);
        assert_eq!((machine.stale(), machine.core.suspects()), (0, 1));
        machine.invalidate_page(BASE, true);
        assert_eq!(machine.core.suspects(), 0);

        machine.space.set(BASE + 0x1000, 3, 0);
        machine.read(BASE + 0x2000);
        machine.read(BASE + 0x1000);
        let look = |machine: &mut Machine| (2..2 * LOOK).for_each(|page| machine.read(BASE + (page << 12)));
        look(&mut machine);
        assert_eq!((machine.stale(), machine.core.suspects()), (0, 1));
        machine.ticks.store(10, Ordering::Relaxed);
        look(&mut machine);
        assert_eq!((machine.stale(), machine.core.suspects()), (1, 0));
    }

    #[test]
    fn maintenance_empties_an_a53s_micro_tlbs() {
        let mut machine = Machine::new(Geometry::preset("a53").unwrap(), Checks::default());
        machine.pages();
        machine.read(BASE);
        machine.invalidate_page(BASE + 0x10_0000, true);
        machine.read(BASE);
        assert_eq!(machine.count(Count::MicroMisses(false, Side::Data)), 2);
        assert_eq!(machine.walks(), 1);
    }
}
