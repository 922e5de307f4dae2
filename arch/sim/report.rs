//! What the machine has to say: violations with their culprits, the last operations, counters.
#![forbid(unsafe_code)]

use super::walker::{self, Meaning};
use crate::mm::address::{Frame, PhysAddr, VirtAddr};
use crate::mm::mmu::{Access, Invalidation, Level};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Operations remembered for a report.
const REMEMBERED: usize = 64;
/// Violations kept; a broken program makes any number of them.
const KEPT: usize = 256;

/// The rules. The module's documentation gives each one's source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// A valid descriptor was changed to another valid one that it may not become without a break between them.
    MissingBreak,
    /// A valid descriptor was written where an old translation may still be cached.
    WriteToUnclean,
    /// An access went through a cached translation that the tables no longer give.
    StaleAccess,
    /// One core's TLB holds two translations of one address that differ in size or in place.
    TlbConflict,
    /// The contiguous bit is set, and its 16 descriptors are not alike, consecutive and aligned.
    ContiguousMisprogrammed,
    /// A frame was freed that the tables still map, or that still is one of the tables.
    FreedWhileMapped,
    /// A frame was freed while a TLB may hold a translation to it.
    FreedWhileCached,
    /// A table was freed while a walk cache may lead to it.
    TableFreedWhileCached,
    /// A table was filled, zeroed or copied over while walkers may read it.
    TableOverwritten,
    /// A frame was zeroed or copied to while a TLB may hold a translation to it that the tables no longer give.
    WrittenWhileCached,
    /// A frame was copied while the application may still write to it.
    CopiedWhileWritable,
    /// A core used an address whose descriptor it had written and not published.
    Unpublished,
    /// A descriptor made a table or a frame reachable before what this core had written there was published.
    LinkedUnpublished,
    /// An operation ended with a descriptor not yet published, or with an old translation of it not invalidated.
    Unsettled,
    /// An instruction was fetched from a frame written since its last `sync_code`.
    CodeNotSynchronized,
    /// A descriptor changed that maps memory on which the fault path stands.
    ProtectedBroken,
    /// A table, or what a descriptor names, is not in RAM.
    OutsideRam,
    /// A table, other than one of pages, was linked at two places; or one was written as of another level than it is linked at.
    TableMisplaced,
}

/// A rule broken, and by what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The core that did it.
    pub core: usize,
    /// The address whose translation it is about.
    pub va: Option<VirtAddr>,
    /// The descriptor.
    pub entry: Option<PhysAddr>,
    /// The descriptor before, or as it is cached.
    pub old: u64,
    /// The descriptor after, or as memory has it.
    pub new: u64,
    /// The level of the descriptor.
    pub level: Level,
    /// The frame freed, written, copied or named.
    pub frame: Option<Frame>,
}

impl Violation {
    pub(super) fn new(rule: Rule, core: usize) -> Self {
        Self { rule, core, va: None, entry: None, old: 0, new: 0, level: Level::Three, frame: None }
    }

    pub(super) fn of_frame(rule: Rule, core: usize, frame: Frame) -> Self {
        Self { frame: Some(frame), ..Self::new(rule, core) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by core {}", self.rule, self.core)?;
        if let Some(va) = self.va {
            write!(f, ", address {va}")?;
        }
        if let Some(frame) = self.frame {
            write!(f, ", {frame:?}")?;
        }
        if let Some(entry) = self.entry {
            let (old, new) = (Descriptor(self.old, self.level), Descriptor(self.new, self.level));
            write!(f, ", level {} entry at {entry}: {old} -> {new}", self.level as u8)?;
        }
        Ok(())
    }
}

/// A raw descriptor for people.
struct Descriptor(u64, Level);

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match walker::read(self.0, self.1) {
            Meaning::Invalid => write!(f, "invalid"),
            Meaning::Table(table) => write!(f, "table {}", table.start()),
            Meaning::Leaf(leaf) => {
                let Access { read, write, execute } = leaf.access;
                let flag = |on: bool, letter| if on { letter } else { '-' };
                let (read, write, execute) = (flag(read, 'r'), flag(write, 'w'), flag(execute, 'x'));
                write!(f, "{} {read}{write}{execute}", leaf.output)?;
                f.write_str(if leaf.accessed { "" } else { " not accessed" })?;
                f.write_str(if leaf.contiguous { " contiguous" } else { "" })?;
                f.write_str(if leaf.global { " global" } else { "" })
            }
        }
    }
}

/// One operation of the machine, for the record.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write { entry: PhysAddr, level: Level, va: Option<VirtAddr>, old: u64, new: u64 },
    Publish,
    Invalidate(Invalidation),
    Zero(Frame, usize),
    Copy(Frame, Frame, usize),
    SyncCode(Frame, usize),
    Access { va: VirtAddr, access: Access, to: Option<PhysAddr> },
    Freed(Frame, usize),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Write { entry, level, va, old, new } => {
                write!(f, "write level {} entry at {entry}", *level as u8)?;
                match va {
                    Some(va) => write!(f, " for {va}: ")?,
                    None => write!(f, ", not linked: ")?,
                }
                write!(f, "{} -> {}", Descriptor(*old, *level), Descriptor(*new, *level))
            }
            Operation::Publish => write!(f, "publish"),
            Operation::Invalidate(what) => write!(f, "invalidate {what:x?}"),
            Operation::Zero(first, count) => write!(f, "zero {count} from {first:?}"),
            Operation::Copy(from, to, count) => write!(f, "copy {count} from {from:?} to {to:?}"),
            Operation::SyncCode(first, count) => write!(f, "sync code of {count} from {first:?}"),
            Operation::Access { va, access, to: Some(to) } => write!(f, "{} {va} at {to}", kind(*access)),
            Operation::Access { va, access, to: None } => write!(f, "{} {va} faults", kind(*access)),
            Operation::Freed(first, count) => write!(f, "{count} from {first:?} freed"),
        }
    }
}

fn kind(access: Access) -> &'static str {
    match access {
        Access { execute: true, .. } => "execute",
        Access { write: true, .. } => "store",
        _ => "load",
    }
}

/// How often the machine did what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SimCounters {
    /// Descriptors written, in linked tables and others.
    pub entry_writes: u64,
    /// Valid descriptors of linked tables made invalid.
    pub breaks: u64,
    /// Data synchronization barriers: one a publication, two an invalidation.
    pub barriers: u64,
    /// Last-level invalidations by address, one a page.
    pub invalidated_pages: u64,
    /// Invalidations of all levels by address, one a page.
    pub invalidated_pages_and_tables: u64,
    /// Invalidations of the whole ASID.
    pub invalidated_all: u64,
    /// Bytes zeroed.
    pub zeroed_bytes: u64,
    /// Bytes copied.
    pub copied_bytes: u64,
    /// Frames whose code was synchronized.
    pub synchronized_frames: u64,
}

/// The record.
#[derive(Default)]
pub(super) struct Log {
    pub violations: Vec<Violation>,
    pub counters: SimCounters,
    operations: VecDeque<(usize, Operation)>,
}

impl Log {
    pub(super) fn operation(&mut self, core: usize, operation: Operation) {
        if self.operations.len() == REMEMBERED {
            self.operations.pop_front();
        }
        self.operations.push_back((core, operation));
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        if self.violations.len() < KEPT {
            self.violations.push(violation);
        }
    }

    /// The violations and the operations that led to them.
    pub(super) fn report(&self) -> String {
        let mut report = String::new();
        for violation in &self.violations {
            let _ = writeln!(report, "{violation}");
        }
        let _ = writeln!(report, "the last {} operations:", self.operations.len());
        for (core, operation) in &self.operations {
            let _ = writeln!(report, "  core {core}: {operation}");
        }
        report
    }
}
