//! The simulated machine: RAM, cores whose TLBs keep whatever the architecture lets them keep, and a checker.
//!
//! Hardware forgives most mistakes most of the time, and QEMU forgives all of them. This machine forgives none: it
//! stands behind the same [`Mmu`](crate::mm::mmu::Mmu) trait as the hardware and shares no code with what it judges.
//!
//! - `memory`: RAM. `walker`: its own reading of descriptors. `tlb`: what a core caches. `cores`: translation, and
//!   speculation at the whim of a generator with a seed, before and after every step. `checker`: what is known of every
//!   descriptor that is not settled. `frames`: what frames are used for. `access`: what the application does. `report`: rules, violations, counters.
//! - A violation names the rule, the core, the address, the descriptor before and after; a report adds the last operations.
//! - The architecture assumed is the least one: a Cortex-A72, without FEAT_BBM, FEAT_HAFDBS or FEAT_TTL.
//! - Memory written through [`Mmu::linear`](crate::mm::mmu::Mmu::linear) is the memory manager's own and not watched.
//!
//! # Rules, and where they come from
//!
//! Titles are sections of the Arm Architecture Reference Manual (DDI 0487), chapters D8 and B2.
//!
//! | rule | what is punished | source |
//! | --- | --- | --- |
//! | [`MissingBreak`](Rule::MissingBreak) | valid to valid with another output address, block for table or back, another memory type, contiguous bit or nG bit; permissions and access flag may change in place | *Using break-before-make when updating translation table entries* |
//! | [`WriteToUnclean`](Rule::WriteToUnclean) | a make before the break's invalidation is complete: all addresses whose translation may be cached, and the walk caches where a table went away | same; *TLB maintenance instructions* |
//! | [`StaleAccess`](Rule::StaleAccess) | an access that a cached translation allows and the tables do not | *Translation lookaside buffers* |
//! | [`TlbConflict`](Rule::TlbConflict) | two translations of one address, of two sizes or places, in one TLB | *TLB conflict aborts* |
//! | [`ContiguousMisprogrammed`](Rule::ContiguousMisprogrammed) | 16 descriptors of a contiguous group not alike, not consecutive or not aligned, and none of them being changed | *The Contiguous bit* |
//! | [`FreedWhileMapped`](Rule::FreedWhileMapped), [`FreedWhileCached`](Rule::FreedWhileCached), [`WrittenWhileCached`](Rule::WrittenWhileCached) | a frame reused while a core may still reach it | *TLB maintenance instructions*, completion |
//! | [`TableFreedWhileCached`](Rule::TableFreedWhileCached), [`TableOverwritten`](Rule::TableOverwritten) | a table reused while a walk may still read it | *Translation table walk caching*: last-level invalidation does not reach intermediate entries |
//! | [`CopiedWhileWritable`](Rule::CopiedWhileWritable) | a copy that a store may overtake | as for a changed output address |
//! | [`Unpublished`](Rule::Unpublished) | use of a descriptor that this core wrote, without a barrier between | *Ordering of memory accesses from translation table walks* |
//! | [`LinkedUnpublished`](Rule::LinkedUnpublished) | a frame or a table linked by the core that wrote its contents, without a barrier between: another core could see the link first | same |
//! | [`Unsettled`](Rule::Unsettled) | an operation that ends with a publication or an invalidation owing | the two above |
//! | [`CodeNotSynchronized`](Rule::CodeNotSynchronized) | a fetch from a frame written since its last `sync_code` | *Concurrent modification and execution of instructions*; *Cache maintenance* |
//! | [`ProtectedBroken`](Rule::ProtectedBroken) | a change to what maps the fault path: in the window it could not run | break-before-make, for the running code's own memory |
//! | [`OutsideRam`](Rule::OutsideRam), [`TableMisplaced`](Rule::TableMisplaced) | a descriptor or table where none can be | *Translation table descriptor formats* |
//!
//! # What the machine does by itself
//!
//! - After each step, and before each change of a descriptor, any core may walk for an address of late interest and cache
//!   the translation and the tables on the way, or forget one; translations without access flag are never cached.
//! - A walk may start from any cached table, and may read any value of a descriptor since it was last published.
//! - Of a contiguous group, a core caches a page or the whole.
//! - Without a scheduler nobody runs between two steps of an operation, so each stale access is a violation. With one
//!   ([`SimMachine::set_yield`]) another core's accesses in the window between a change and its invalidation are the
//!   architecture's own business, and [`SimMachine::check_settled`] tells where the window should have ended.

mod access;
mod checker;
mod cores;
mod frames;
mod memory;
mod mmu;
mod random;
mod report;
mod tlb;
mod walker;

pub use access::{AccessError, FaultKind, SimFault};
pub use report::{Rule, SimCounters, Violation};
pub use walker::Mapping;

use crate::mm::address::{Frame, PhysAddr, VirtAddr};
use crate::mm::mmu::Level;
use alloc::vec;
use alloc::vec::Vec;
use checker::Checker;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use cores::Recent;
use memory::Memory;
use random::Random;
use report::Log;
use spin::Mutex;
use tlb::Tlb;

/// What machine to make.
#[derive(Clone, Copy, Debug)]
pub struct SimConfig<'a> {
    /// Banks of RAM: address and bytes, both multiples of 4 KiB; they do not overlap.
    pub banks: &'a [(PhysAddr, usize)],
    /// Number of cores.
    pub cores: usize,
    /// Seed of the machine's whim.
    pub seed: u64,
    /// Whether the first violation panics, with a report; else they are collected.
    pub panics: bool,
}

impl Default for SimConfig<'_> {
    /// Two cores, 64 MiB of RAM at 1 GiB, seed 1; the first violation panics.
    fn default() -> Self {
        Self { banks: &[(PhysAddr(0x4000_0000), 64 << 20)], cores: 2, seed: 1, panics: true }
    }
}

/// A machine to run the memory manager on.
pub struct SimMachine {
    memory: Memory,
    cores: usize,
    /// The core that runs, unless a scheduler's hook says.
    core: AtomicUsize,
    hooks: Mutex<Hooks>,
    state: Mutex<State>,
}

/// How a scheduler takes part.
#[derive(Clone, Copy, Default)]
struct Hooks {
    step: Option<fn()>,
    core: Option<fn() -> usize>,
}

struct State {
    /// The application's level-1 table.
    root: Option<Frame>,
    random: Random,
    /// One a core.
    tlbs: Vec<Tlb>,
    checker: Checker,
    recent: Recent,
    log: Log,
    /// Other cores may run between two steps of one operation.
    concurrent: bool,
    /// The next violation panics.
    panics: bool,
}

impl SimMachine {
    /// A machine as `config` says; all RAM reads as zero.
    pub fn new(config: SimConfig<'_>) -> Self {
        assert!(config.cores > 0, "a machine without a core");
        let memory = Memory::new(config.banks);
        let state = State {
            root: None,
            random: Random::new(config.seed),
            tlbs: vec![Tlb::default(); config.cores],
            checker: Checker::new(memory.frames(), config.cores),
            recent: Recent::new(),
            log: Log::default(),
            concurrent: false,
            panics: config.panics,
        };
        let (hooks, state) = (Mutex::new(Hooks::default()), Mutex::new(state));
        Self { memory, cores: config.cores, core: AtomicUsize::new(0), hooks, state }
    }

    /// Goes on as core `core`: operations and accesses that follow are that core's.
    pub fn on_core(&self, core: usize) -> &Self {
        assert!(core < self.cores, "core {core} of {}", self.cores);
        self.core.store(core, Ordering::Relaxed);
        self
    }

    /// Has `step` called before every operation of the machine and every access, outside the machine's own lock. From
    /// then on an access by another core than the one that is changing a translation may meet the old one.
    pub fn set_yield(&self, step: fn()) {
        self.hooks.lock().step = Some(step);
        self.state.lock().concurrent = true;
    }

    /// Has `core` say which core runs, in place of [`SimMachine::on_core`].
    pub fn set_current_core(&self, core: fn() -> usize) {
        self.hooks.lock().core = Some(core);
    }

    /// Makes `root` the application's level-1 table on all cores (TTBR0_EL1), for the life of the machine.
    ///
    /// # Panics
    ///
    /// When there is one already.
    pub fn set_root(&self, root: Frame) {
        self.step(|core, state| {
            assert!(state.root.is_none(), "the application's tables have a root already");
            state.checker.set_root(&self.memory, &mut state.log, core, root);
            state.root = Some(root);
        })
    }

    /// Declares that the fault path stands on these pages: descriptors that map them may not change any more.
    pub fn protect_range(&self, pages: Range<u64>) {
        self.step(|_, state| state.checker.protected.push(pages))
    }

    /// Says that `count` frames from `first` went back to the allocator: nothing may map them or hold a translation
    /// to them.
    pub fn note_freed(&self, first: Frame, count: usize) {
        self.step(|core, state| {
            state.log.operation(core, report::Operation::Freed(first, count));
            state.checker.freed(&self.memory, &mut state.log, core, first, count);
            for rule in state.tlbs.iter().filter_map(|tlb| tlb.reach(first, count)) {
                state.log.violation(Violation::of_frame(rule, core, first));
            }
        })
    }

    /// Says that the running core's operation has ended (with a scheduler: that core's, else everybody's): all it wrote
    /// must be published, and every old translation invalidated.
    pub fn check_settled(&self) {
        self.step(|core, state| {
            let core = state.concurrent.then_some(core);
            state.checker.check_settled(&self.memory, &mut state.log, core);
        })
    }

    /// The rules broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.state.lock().log.violations.clone()
    }

    /// # Panics
    ///
    /// When a rule was broken, with a report.
    pub fn assert_clean(&self) {
        let state = self.state.lock();
        if !state.log.violations.is_empty() {
            let report = state.log.report();
            drop(state);
            panic!("{report}");
        }
    }

    /// What the machine did so far.
    pub fn counters(&self) -> SimCounters {
        self.state.lock().log.counters
    }

    /// What the tables in memory translate `at` to, whatever TLBs hold.
    pub fn translate(&self, at: VirtAddr) -> Option<PhysAddr> {
        let root = self.state.lock().root?;
        walker::walk(root, Level::One, at, |entry| self.memory.read_entry(entry), |_, _, _| {}).translate(at)
    }

    /// All that the tables in memory map, in order of address, one item per block or page descriptor.
    pub fn mappings(&self) -> Vec<Mapping> {
        let mut all = Vec::new();
        if let Some(root) = self.state.lock().root {
            let fetch = |entry| self.memory.read_entry(entry);
            walker::visit(root, Level::One, VirtAddr(0), &fetch, &mut |mapping| all.push(mapping));
        }
        all
    }

    /// The `bytes` bytes of RAM from `at`.
    pub fn read_physical(&self, at: PhysAddr, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.memory.read(at, &mut read);
        read
    }

    /// Writes `bytes` to RAM from `at` on, within a frame, as a device does: no translation is asked.
    pub fn write_physical(&self, at: PhysAddr, bytes: &[u8]) {
        self.step(|_, state| {
            state.checker.frames.note_code(&self.memory, at.frame(), 1, true);
            self.memory.write(at, bytes);
        })
    }

    /// Lets the scheduler run other cores; then says which core runs.
    fn turn(&self) -> usize {
        let hooks = *self.hooks.lock();
        if let Some(step) = hooks.step {
            step();
        }
        hooks.core.map_or_else(|| self.core.load(Ordering::Relaxed), |core| core())
    }

    /// One step of the core that runs, and what the machine does by itself after it.
    fn step<R>(&self, act: impl FnOnce(usize, &mut State) -> R) -> R {
        let core = self.turn();
        let mut state = self.state.lock();
        let result = act(core, &mut state);
        state.speculate(&self.memory);
        if state.panics && !state.log.violations.is_empty() {
            // Once: what unwinding still does to the machine must not panic again.
            state.panics = false;
            let report = state.log.report();
            drop(state);
            panic!("{report}");
        }
        result
    }
}
