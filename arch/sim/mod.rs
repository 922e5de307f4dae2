//! The simulated machine: RAM, cores with TLBs that keep what they may keep, and a checker of the rules.
mod access;
mod memory;
mod mmu;
mod random;
mod walker;

pub use access::{AccessError, FaultKind, SimFault};
pub use walker::Mapping;

use crate::mm::address::{Frame, PhysAddr, VirtAddr};
use crate::mm::mmu::Level;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use memory::Memory;
use random::Random;
use spin::Mutex;

/// What machine to make.
#[derive(Clone, Copy, Debug)]
pub struct SimConfig<'a> {
    /// Banks of RAM: address and bytes, both multiples of 4 KiB; they do not overlap.
    pub banks: &'a [(PhysAddr, usize)],
    /// Number of cores.
    pub cores: usize,
    /// Seed of the machine's whim.
    pub seed: u64,
}

impl Default for SimConfig<'_> {
    /// Two cores, 64 MiB of RAM at 1 GiB, seed 1.
    fn default() -> Self {
        Self { banks: &[(PhysAddr(0x4000_0000), 64 << 20)], cores: 2, seed: 1 }
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
    root: Option<Frame>,
    random: Random,
}

impl SimMachine {
    /// A machine as `config` says; all RAM reads as zero.
    pub fn new(config: SimConfig<'_>) -> Self {
        assert!(config.cores > 0, "a machine without a core");
        Self {
            memory: Memory::new(config.banks),
            cores: config.cores,
            core: AtomicUsize::new(0),
            hooks: Mutex::new(Hooks::default()),
            state: Mutex::new(State { root: None, random: Random::new(config.seed) }),
        }
    }

    /// Goes on as core `core`: operations and accesses that follow are that core's.
    pub fn on_core(&self, core: usize) -> &Self {
        assert!(core < self.cores, "core {core} of {}", self.cores);
        self.core.store(core, Ordering::Relaxed);
        self
    }

    /// Has `step` called before every operation of the machine and every access, outside the machine's own lock.
    pub fn set_yield(&self, step: fn()) {
        self.hooks.lock().step = Some(step);
    }

    /// Has `core` say which core runs, in place of [`SimMachine::on_core`].
    pub fn set_current_core(&self, core: fn() -> usize) {
        self.hooks.lock().core = Some(core);
    }

    /// Makes `root` the application's level-1 table on all cores (TTBR0_EL1).
    pub fn set_root(&self, root: Frame) {
        self.step(|_, state| state.root = Some(root));
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
        act(core, &mut self.state.lock())
    }
}
