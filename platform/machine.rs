//! What the device tree says about the machine: plain data, without a heap.
#![forbid(unsafe_code)]

use super::tree::{NodePath, TreeError};
use crate::mm::address::{PAGE_SIZE, PhysAddr};
use crate::mm::frame::{MemoryMap, MemoryMapFull};
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;

/// First physical address that the kernel's linear map cannot reach: 384 GiB. RAM from there on is ignored.
pub const LINEAR_REACH: PhysAddr = PhysAddr(384 << 30);

/// The bits of `MPIDR_EL1` that tell cores apart: Aff3, and Aff2 to Aff0.
pub const AFFINITY: u64 = 0xff_00ff_ffff;

/// RAM banks kept.
pub const MAX_BANKS: usize = 32;
/// Reserved ranges kept.
pub const MAX_RESERVED: usize = 64;
/// Cores kept.
pub const MAX_CPUS: usize = 64;
/// Redistributor ranges of a GICv3 kept.
pub const MAX_REDISTRIBUTORS: usize = 4;
/// Warnings kept; what comes after is counted only.
pub const MAX_WARNINGS: usize = 16;

/// The machine. Text borrows from the tree, which stays reserved.
#[derive(Clone, Debug)]
pub struct Machine<'t> {
    /// The root's `model`, or its first `compatible`.
    pub model: &'t str,
    /// `/chosen/bootargs`; empty without it.
    pub bootargs: &'t str,
    /// RAM: ascending, not empty, apart from each other (no two touch), below [`LINEAR_REACH`].
    pub banks: ArrayVec<Range<PhysAddr>, MAX_BANKS>,
    /// What may not be used as free memory although it lies in a bank, in no order; ranges may overlap.
    pub reserved: ArrayVec<Reserved, MAX_RESERVED>,
    /// The initrd, which is reserved as well.
    pub initrd: Option<Range<PhysAddr>>,
    /// The console's UART.
    pub console: Option<Uart>,
    /// The interrupt controller.
    pub gic: Option<Gic>,
    /// How the firmware is called; `None` without PSCI 0.2 or later.
    pub psci: Option<Conduit>,
    /// Cores, as the tree lists them, each once.
    pub cpus: ArrayVec<Cpu, MAX_CPUS>,
    /// INTID of the virtual timer's PPI; `None` if the tree does not say, of which there is a warning.
    pub timer: Option<u32>,
    /// The registers of the clock that knows the date, a PL031, 4 KiB.
    pub rtc: Option<PhysAddr>,
    /// What only a Raspberry Pi has.
    pub raspberry: Raspberry,
    /// What was odd and could be lived with.
    pub warnings: Warnings,
}

/// A range that is not free memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reserved {
    /// The range.
    pub range: Range<PhysAddr>,
    /// Why.
    pub reason: Reason,
}

/// Why a range is reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The tree's memory reservation block.
    Firmware,
    /// A static child of `/reserved-memory`.
    Node {
        /// It may not even be mapped, since the processor could read from it speculatively.
        no_map: bool,
    },
    /// The initrd.
    Initrd,
    /// The device tree.
    Tree,
}

/// A UART that can be the console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uart {
    /// What it is.
    pub kind: UartKind,
    /// Its registers.
    pub base: PhysAddr,
    /// Frequency of its clock in Hz, if a fixed clock feeds it.
    pub clock: Option<u32>,
}

/// The kinds of UART.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UartKind {
    /// A PL011.
    Pl011,
    /// A Raspberry Pi's mini UART.
    Mini,
}

/// Where the registers of what only a Raspberry Pi has are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Raspberry {
    /// The mailbox through which the VideoCore's firmware is asked.
    pub mailbox: Option<PhysAddr>,
    /// The power manager with its watchdog.
    pub watchdog: Option<PhysAddr>,
    /// The functions of the pins.
    pub pins: Option<PhysAddr>,
}

/// The interrupt controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gic {
    /// GICv2.
    V2 {
        /// The distributor's registers.
        distributor: Range<PhysAddr>,
        /// The CPU interface's registers.
        cpu_interface: Range<PhysAddr>,
    },
    /// GICv3 or v4.
    V3 {
        /// The distributor's registers.
        distributor: Range<PhysAddr>,
        /// The redistributors' registers.
        redistributors: ArrayVec<Range<PhysAddr>, MAX_REDISTRIBUTORS>,
    },
}

/// The instruction that calls the firmware (SMC Calling Convention, DEN0028).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `HVC`.
    Hvc,
    /// `SMC`.
    Smc,
}

/// A core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Its affinity, as in `MPIDR_EL1`.
    pub mpidr: u64,
    /// How it is started.
    pub enable: EnableMethod,
}

/// How a core is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnableMethod {
    /// By PSCI `CPU_ON`.
    Psci,
    /// By writing an entry address to this address.
    SpinTable {
        /// `cpu-release-addr`.
        release: PhysAddr,
    },
    /// The tree does not say, or says something unknown.
    Unknown,
}

/// Warnings, in the order found.
#[derive(Clone, Debug, Default)]
pub struct Warnings {
    kept: ArrayVec<Warning, MAX_WARNINGS>,
    dropped: usize,
}

impl Warnings {
    /// Adds one; past [`MAX_WARNINGS`] it is only counted.
    pub fn push(&mut self, warning: Warning) {
        if self.kept.try_push(warning).is_err() {
            self.dropped += 1;
        }
    }

    /// Those kept.
    pub fn iter(&self) -> impl Iterator<Item = &Warning> {
        self.kept.iter()
    }

    /// How many were not kept.
    pub fn dropped(&self) -> usize {
        self.dropped
    }
}

/// Something odd in the tree that can be lived with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warning {
    /// RAM that the linear map does not reach.
    BeyondReach {
        /// The node.
        node: NodePath,
        /// First address ignored.
        start: PhysAddr,
        /// Bytes ignored.
        size: u64,
    },
    /// A bank without bytes.
    EmptyBank {
        /// The node.
        node: NodePath,
    },
    /// Banks of which some bytes were said twice.
    OverlappingBanks {
        /// First address said twice.
        start: PhysAddr,
        /// Bytes said twice.
        size: u64,
    },
    /// More than this reader keeps; the rest is not used.
    Ignored {
        /// The node.
        node: NodePath,
        /// What there is too much of.
        what: Limit,
    },
    /// `/chosen`'s initrd ends before it starts, has only one end, or is outside of RAM: it is ignored.
    Initrd,
    /// A PSCI node whose method is neither `hvc` nor `smc`: it is ignored.
    PsciMethod {
        /// The node.
        node: NodePath,
    },
    /// A core whose affinity has bits that no affinity has: it is ignored.
    Mpidr {
        /// The node.
        node: NodePath,
        /// Its `reg`.
        mpidr: u64,
    },
    /// A core with the affinity of one before it: it is ignored.
    SecondCpu {
        /// The node.
        node: NodePath,
        /// The affinity.
        mpidr: u64,
    },
    /// A core that is started in a way that is not known: it is not started.
    EnableMethod {
        /// The node.
        node: NodePath,
    },
    /// No node of the architecture's timer.
    NoTimer,
    /// A timer of which the virtual timer's PPI cannot be told.
    Timer {
        /// The node.
        node: NodePath,
    },
    /// A device that has no address: it is ignored.
    Device {
        /// The node.
        node: NodePath,
    },
    /// The boot argument `console=` names no UART that is known: it is ignored.
    Console {
        /// What it names.
        node: NodePath,
    },
    /// RAM where a bus has its devices: it is not used.
    RamOfDevices {
        /// First address.
        start: PhysAddr,
        /// Bytes.
        size: u64,
    },
    /// A text property that is not UTF-8: it is ignored.
    Text {
        /// The node.
        node: NodePath,
        /// The property.
        property: &'static str,
    },
}

/// What there can be too much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// [`MAX_BANKS`].
    Banks,
    /// [`MAX_RESERVED`].
    Reserved,
    /// [`MAX_CPUS`].
    Cpus,
    /// [`MAX_REDISTRIBUTORS`].
    Redistributors,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Banks => write!(f, "{MAX_BANKS} RAM banks"),
            Self::Reserved => write!(f, "{MAX_RESERVED} reserved ranges"),
            Self::Cpus => write!(f, "{MAX_CPUS} cores"),
            Self::Redistributors => write!(f, "{MAX_REDISTRIBUTORS} redistributor ranges"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondReach { node, start, size } => {
                write!(f, "{node}: RAM from {start}, {size:#x} bytes, is ignored: past {LINEAR_REACH}")
            }
            Self::EmptyBank { node } => write!(f, "{node}: bank of 0 bytes"),
            Self::OverlappingBanks { start, size } => write!(f, "RAM from {start}, {size:#x} bytes, is listed twice"),
            Self::Ignored { node, what } => write!(f, "{node} and what follows is ignored: more than {what}"),
            Self::Initrd => f.write_str("/chosen: the initrd's range is not in RAM; ignored"),
            Self::PsciMethod { node } => write!(f, "{node}: method is neither hvc nor smc; ignored"),
            Self::Mpidr { node, mpidr } => write!(f, "{node}: {mpidr:#x} is no core's affinity; ignored"),
            Self::SecondCpu { node, mpidr } => write!(f, "{node}: a second core with MPIDR {mpidr:#x}; ignored"),
            Self::EnableMethod { node } => {
                write!(f, "{node}: enable-method is neither psci nor spin-table with a cpu-release-addr; not started")
            }
            Self::NoTimer => f.write_str("no node is an arm,armv8-timer"),
            Self::Timer { node } => write!(f, "{node}: interrupts do not tell the virtual timer's PPI; ignored"),
            Self::Device { node } => write!(f, "{node}: reg is malformed or leads nowhere; ignored"),
            Self::Console { node } => write!(f, "console= names {node}, which is no UART that is known; ignored"),
            Self::RamOfDevices { start, size } => {
                write!(f, "RAM from {start}, {size:#x} bytes, is not used: a bus has its devices there")
            }
            Self::Text { node, property } => write!(f, "{node}: {property} is not UTF-8 text; ignored"),
        }
    }
}

/// Why a tree describes no machine that Ashlar can run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MachineError {
    /// The tree itself is malformed.
    Tree(TreeError),
    /// No RAM that can be used.
    NoMemory,
    /// A range whose end lies past the last address.
    Wraps {
        /// The node.
        node: NodePath,
        /// Its start.
        start: PhysAddr,
        /// Its size in bytes.
        size: u64,
    },
    /// Addresses or sizes of other than one or two cells.
    Cells {
        /// The node whose `reg` or `ranges` is read.
        node: NodePath,
        /// Cells of an address.
        address: usize,
        /// Cells of a size.
        size: usize,
    },
    /// A `reg` that is missing, or whose length is no multiple of an entry's.
    Reg {
        /// The node.
        node: NodePath,
        /// Its length in bytes.
        length: usize,
    },
    /// A `ranges` whose length is no multiple of an entry's.
    Ranges {
        /// The node.
        node: NodePath,
        /// Its length in bytes.
        length: usize,
    },
    /// An address that no entry of a parent's `ranges` covers.
    Untranslated {
        /// The node.
        node: NodePath,
        /// The address, as its parent's bus has it.
        address: u64,
    },
    /// Reserved ranges that this reader has no room for: using them could destroy something.
    TooManyReserved {
        /// The node.
        node: NodePath,
    },
}

impl From<TreeError> for MachineError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::NoMemory => f.write_str("device tree: no usable RAM in any memory node"),
            Self::Wraps { node, start, size } => {
                write!(f, "device tree: {node}: {size:#x} bytes from {start} reach past the last address")
            }
            Self::Cells { node, address, size } => {
                write!(f, "device tree: {node}: {address} address cells and {size} size cells instead of 1 or 2 each")
            }
            Self::Reg { node, length } => {
                write!(f, "device tree: {node}: reg of {length} bytes is not a whole number of entries")
            }
            Self::Ranges { node, length } => {
                write!(f, "device tree: {node}: ranges of {length} bytes is not a whole number of entries")
            }
            Self::Untranslated { node, address } => {
                write!(f, "device tree: {node}: no ranges of its parents cover {address:#x}")
            }
            Self::TooManyReserved { node } => {
                write!(f, "device tree: {node}: more than {} are reserved", Limit::Reserved)
            }
        }
    }
}

impl core::error::Error for MachineError {}

impl Machine<'_> {
    /// Bytes of RAM in all banks, reserved ones included.
    pub fn ram(&self) -> u64 {
        self.banks.iter().map(|bank| bank.end - bank.start).sum()
    }

    fn all_memory(&self) -> Result<MemoryMap, MemoryMapFull> {
        let mut map = MemoryMap::new();
        self.banks.iter().try_for_each(|bank| map.add(bank.clone()))?;
        Ok(map)
    }

    /// The RAM to use when it may be `limit` bytes at most: what is in use already, wherever it lies (the image, the tree,
    /// the initrd, and where other cores wait), then the lowest, as with Linux's `mem=`.
    ///
    /// # Errors
    ///
    /// [`MemoryMapFull`] when that is more pieces than a map holds.
    pub fn ram_within(&self, limit: u64, image: Range<PhysAddr>) -> Result<MemoryMap, MemoryMapFull> {
        let mut ram = self.all_memory()?;
        if limit >= ram.total() {
            return Ok(ram);
        }
        let reserved = self.reserved.iter().filter(|reserved| matches!(reserved.reason, Reason::Initrd | Reason::Tree));
        let spins = self.cpus.iter().filter_map(|cpu| match cpu.enable {
            EnableMethod::SpinTable { release } => Some(release..PhysAddr(release.0 | 7)),
            _ => None,
        });
        let mut unused = ram.clone();
        for used in reserved.map(|reserved| reserved.range.clone()).chain(spins).chain([image]) {
            unused.remove(used)?;
        }
        let mut spare = limit.saturating_sub(ram.total() - unused.total()) & !(PAGE_SIZE as u64 - 1);
        for range in unused.iter() {
            let taken = spare.min(range.end - range.start);
            spare -= taken;
            ram.remove(range.start + taken..range.end)?;
        }
        Ok(ram)
    }

    /// The RAM that is free: the banks without the reserved ranges. The image is not in the tree, and not taken out.
    ///
    /// # Errors
    ///
    /// [`MemoryMapFull`] when reserved ranges cut the banks into more pieces than a map holds.
    pub fn free_memory(&self) -> Result<MemoryMap, MemoryMapFull> {
        let mut map = self.all_memory()?;
        for reserved in &self.reserved {
            map.remove(reserved.range.clone())?;
        }
        Ok(map)
    }
}
