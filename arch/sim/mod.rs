//! The simulated machine: RAM, cores with TLBs that keep what they may keep, and a checker of the rules.
mod access;
mod checker;
mod cores;
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
            let held = state.tlbs.iter().find_map(|tlb| tlb.holds_frame(first, count));
            let table = state.tlbs.iter().find_map(|tlb| tlb.holds_table(first, count));
            let held = held.map(|_| Rule::FreedWhileCached).or(table.map(|_| Rule::TableFreedWhileCached));
            if let Some(rule) = held.filter(|&rule| state.log.violations.last().is_none_or(|last| last.rule != rule)) {
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

    /// One step of the core that runs.
    fn step<R>(&self, act: impl FnOnce(usize, &mut State) -> R) -> R {
        let hooks = *self.hooks.lock();
        if let Some(step) = hooks.step {
            step();
        }
        let core = hooks.core.map_or_else(|| self.core.load(Ordering::Relaxed), |core| core());
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
