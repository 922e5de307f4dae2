//! When blocks are used, and what is done to have some: the global policy, and each region's own.
//!
//! The global policy is a handful of *knobs*, under Linux's names where it has them. Each is a boot argument, and can be set at
//! any time. Where the default is not Linux's, that is a promise of this system: nothing is compacted while a fault waits, and
//! what nobody touched is not filled for the sake of a block.
//!
//! | knob | takes | default | Linux has | and there |
//! | --- | --- | --- | --- | --- |
//! | `transparent_hugepage` | always, madvise, never | always | `enabled` | the same |
//! | `defrag` | always, defer, defer+madvise, madvise, never | never | `defrag` | madvise |
//! | `max_ptes_none` | 0 to 511 | 64 | `khugepaged/max_ptes_none` | 511 |
//! | `max_ptes_shared` | 0 to 511 | 256 | `khugepaged/max_ptes_shared` | 256 |
//! | `shrink_underused` | 0, 1 | 1 | `shrink_underused` | 1, and without effect while `max_ptes_none` is 511 |
//! | `use_zero_page` | 0, 1 | 1 | `use_zero_page` | 1 |
//! | `khugepaged` | off, on | on | a thread that is there while huge pages are | |
//! | `khugepaged_budget` | 0 to 100 | 5 | `pages_to_scan` pages every `scan_sleep_millisecs` | 1.6 MiB a second |
//! | `fault` | adaptive, eager | adaptive | – | eager |
//! | `without` | nothing, pool, groups, promotion, heat | nothing | – | none of these |
#![forbid(unsafe_code)]

use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

/// A region's wish (Linux: `MADV_HUGEPAGE`, `MADV_NOHUGEPAGE`; and a way back to the default).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HugePolicy {
    /// As the global policy says.
    #[default]
    Default,
    /// Blocks, unless the global policy is never.
    Always,
    /// Pages.
    Never,
}

/// `transparent_hugepage`: who gets blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u16)]
pub enum Enabled {
    /// Every region that doesn't say never.
    #[default]
    Always,
    /// Regions that say always.
    Madvise,
    /// None: pages only.
    Never,
}

/// `fault`: what a first touch of a slot does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u16)]
pub enum FaultMode {
    /// Gives the slot a home and maps one group; the slot promotes when it is full.
    #[default]
    Adaptive,
    /// Zeroes and maps the whole block, as Linux does.
    Eager,
}

/// `defrag`: what a first touch does that finds no free block, before it goes on in groups or pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Defrag {
    /// Empties a block, and waits for it.
    Always,
    /// Has a block emptied in the background, for later.
    Defer,
    /// Waits in regions that ask for blocks; elsewhere has one emptied in the background.
    DeferMadvise,
    /// Waits in regions that ask for blocks; elsewhere does nothing.
    Madvise,
    /// Nothing. (The slot is a candidate for background collapse all the same.)
    Never,
}

/// What a first touch without a free block does, by [`Defrag`] and the region's wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::mm) enum Effort {
    /// It waits for a block to be emptied.
    Direct,
    /// It asks for one to be emptied in the background.
    Deferred,
    /// Neither.
    Nothing,
}

/// `without`: a mechanism that can be left out, to measure what it is worth. Promises hold without each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Mechanism {
    /// The pool of zeroed blocks is not filled.
    Pool = 1,
    /// A touch maps its page alone, not the 64 KiB around it; nor is a slot in use by half filled.
    Groups,
    /// A slot whose pages are all at home is not promoted by the touch or the idle time that made it so, but waits for the
    /// background.
    Promotion,
    /// The background takes its candidates in the order they came in.
    Heat,
}

/// A part of the global policy.
pub struct Knob {
    /// Its name: Linux's, or one in its style.
    pub name: &'static str,
    /// The values that it takes, for people.
    pub allowed: &'static str,
    /// The greatest number that it takes; `None` where it takes the words of `allowed`.
    most: Option<u16>,
    default: u16,
}

impl Knob {
    const fn words(name: &'static str, allowed: &'static str, default: u16) -> Self {
        Knob { name, allowed, most: None, default }
    }

    const fn number(name: &'static str, allowed: &'static str, most: u16, default: u16) -> Self {
        Knob { name, allowed, most: Some(most), default }
    }

    fn read(&self, value: &str) -> Option<u16> {
        match self.most {
            // A sign is no digit.
            Some(most) if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                value.parse().ok().filter(|&number| number <= most)
            }
            Some(_) => None,
            None => self.choices().position(|word| word == value).map(|position| position as u16),
        }
    }

    /// The words that it takes.
    fn choices(&self) -> impl Iterator<Item = &'static str> {
        self.allowed.split(',').map(|word| word.strip_prefix(' ').unwrap_or(word))
    }
}

/// How many knobs there are.
const COUNT: usize = 10;
const ENABLED: usize = 0;
const DEFRAG: usize = 1;
const MAX_PTES_NONE: usize = 2;
const SHRINK_UNDERUSED: usize = 3;
const KHUGEPAGED: usize = 4;
const BUDGET: usize = 5;
const FAULT: usize = 6;
const USE_ZERO_PAGE: usize = 7;
const MAX_PTES_SHARED: usize = 8;
const WITHOUT: usize = 9;

/// All knobs.
pub const KNOBS: [Knob; COUNT] = [
    Knob::words("transparent_hugepage", "always, madvise, never", Enabled::Always as u16),
    Knob::words("defrag", "always, defer, defer+madvise, madvise, never", Defrag::Never as u16),
    Knob::number("max_ptes_none", "0 to 511", 511, 64),
    Knob::words("shrink_underused", "0, 1", 1),
    Knob::words("khugepaged", "off, on", 1),
    Knob::number("khugepaged_budget", "0 to 100", 100, 5),
    Knob::words("fault", "adaptive, eager", FaultMode::Adaptive as u16),
    Knob::words("use_zero_page", "0, 1", 1),
    Knob::number("max_ptes_shared", "0 to 511", 511, 256),
    Knob::words("without", "nothing, pool, groups, promotion, heat", 0),
];

/// Why a knob was not set. Its value is what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyError {
    /// There is no knob of that name.
    Unknown,
    /// It does not take that value.
    Value {
        /// The knob.
        name: &'static str,
        /// What it takes.
        allowed: &'static str,
    },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Unknown => {
                f.write_str("no such policy; there are")?;
                KNOBS.iter().try_for_each(|knob| write!(f, " {}", knob.name))
            }
            PolicyError::Value { name, allowed } => write!(f, "{name} takes {allowed}"),
        }
    }
}

impl core::error::Error for PolicyError {}

/// Values of all knobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings([u16; COUNT]);

impl Settings {
    /// The defaults.
    pub const DEFAULT: Settings = {
        let mut values = [0; COUNT];
        let mut knob = 0;
        while knob < COUNT {
            values[knob] = KNOBS[knob].default;
            knob += 1;
        }
        Settings(values)
    };

    /// Sets the knob `name`.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it does not take `value`; nothing is changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PolicyError> {
        let index = KNOBS.iter().position(|knob| knob.name == name).ok_or(PolicyError::Unknown)?;
        let Knob { name, allowed, .. } = KNOBS[index];
        self.0[index] = KNOBS[index].read(value).ok_or(PolicyError::Value { name, allowed })?;
        Ok(())
    }

    /// Each knob's name with its value, a number or the place of a word among those allowed.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u16)> + '_ {
        KNOBS.iter().map(|knob| knob.name).zip(self.0)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (knob, value) in KNOBS.iter().zip(self.0) {
            write!(f, "{separator}{}=", knob.name)?;
            separator = " ";
            match knob.most {
                Some(_) => write!(f, "{value}")?,
                None => f.write_str(knob.choices().nth(value.into()).unwrap_or("?"))?,
            }
        }
        Ok(())
    }
}

/// The global policy. Changing it affects later faults, and what is done in the background from then on.
#[derive(Debug)]
pub struct Policy([AtomicU16; COUNT]);

impl Default for Policy {
    fn default() -> Self {
        Policy(Settings::DEFAULT.0.map(AtomicU16::new))
    }
}

impl Policy {
    #[inline]
    fn get(&self, knob: usize) -> u16 {
        self.0[knob].load(Ordering::Relaxed)
    }

    fn put(&self, knob: usize, value: u16) {
        self.0[knob].store(value, Ordering::Relaxed);
    }

    /// The values of all knobs.
    pub fn settings(&self) -> Settings {
        Settings(core::array::from_fn(|knob| self.get(knob)))
    }

    /// Sets all knobs.
    pub fn apply(&self, settings: &Settings) {
        settings.0.iter().enumerate().for_each(|(knob, &value)| self.put(knob, value));
    }

    /// Who gets blocks.
    #[inline]
    pub fn enabled(&self) -> Enabled {
        match self.get(ENABLED) {
            0 => Enabled::Always,
            1 => Enabled::Madvise,
            _ => Enabled::Never,
        }
    }

    /// Sets who gets blocks.
    pub fn set_enabled(&self, enabled: Enabled) {
        self.put(ENABLED, enabled as u16);
    }

    /// What a first touch does.
    #[inline]
    pub fn fault_mode(&self) -> FaultMode {
        match self.get(FAULT) {
            0 => FaultMode::Adaptive,
            _ => FaultMode::Eager,
        }
    }

    /// Sets what a first touch does.
    pub fn set_fault_mode(&self, mode: FaultMode) {
        self.put(FAULT, mode as u16);
    }

    /// What a first touch does that finds no free block, in a region that wishes `wish`.
    pub(in crate::mm) fn effort(&self, wish: HugePolicy) -> Effort {
        const ALWAYS: u16 = Defrag::Always as u16;
        const DEFER: u16 = Defrag::Defer as u16;
        const DEFER_MADVISE: u16 = Defrag::DeferMadvise as u16;
        const MADVISE: u16 = Defrag::Madvise as u16;
        match (self.get(DEFRAG), wish) {
            (ALWAYS, _) | (DEFER_MADVISE | MADVISE, HugePolicy::Always) => Effort::Direct,
            (DEFER | DEFER_MADVISE, _) => Effort::Deferred,
            _ => Effort::Nothing,
        }
    }

    /// Sets what a first touch does that finds no free block.
    pub fn set_defrag(&self, defrag: Defrag) {
        self.put(DEFRAG, defrag as u16);
    }

    /// How many absent pages of a slot background collapse may fill; and no more may be zero in a block that is not underused.
    pub fn max_ptes_none(&self) -> usize {
        self.get(MAX_PTES_NONE).into()
    }

    /// Sets that number, 511 at most.
    ///
    /// # Panics
    ///
    /// Above 511.
    pub fn set_max_ptes_none(&self, pages: u16) {
        assert!(pages < 512, "max_ptes_none of {pages}");
        self.put(MAX_PTES_NONE, pages);
    }

    /// How many pages of a slot that a snapshot shows background collapse may copy.
    pub fn max_ptes_shared(&self) -> usize {
        self.get(MAX_PTES_SHARED).into()
    }

    /// Sets that number, 511 at most.
    ///
    /// # Panics
    ///
    /// Above 511.
    pub fn set_max_ptes_shared(&self, pages: u16) {
        assert!(pages < 512, "max_ptes_shared of {pages}");
        self.put(MAX_PTES_SHARED, pages);
    }

    /// Whether the zero pages of blocks are given back under pressure.
    pub fn shrinks_underused(&self) -> bool {
        self.get(SHRINK_UNDERUSED) != 0
    }

    /// Whether memory that is only read is mapped to the zero block.
    #[inline]
    pub fn uses_zero_page(&self) -> bool {
        self.get(USE_ZERO_PAGE) != 0
    }

    /// Sets whether memory that is only read is mapped to the zero block.
    pub fn set_use_zero_page(&self, on: bool) {
        self.put(USE_ZERO_PAGE, on.into());
    }

    /// Whether anything is done in the background, but by idle cores for the next faults.
    pub fn khugepaged(&self) -> bool {
        self.get(KHUGEPAGED) != 0
    }

    /// Sets whether anything is done in the background.
    pub fn set_khugepaged(&self, on: bool) {
        self.put(KHUGEPAGED, on.into());
    }

    /// The share of a core that background work gets while the application could use it, in percent.
    pub fn budget(&self) -> u64 {
        self.get(BUDGET).into()
    }

    /// Whether `mechanism` is there.
    #[inline]
    pub fn has(&self, mechanism: Mechanism) -> bool {
        self.get(WITHOUT) != mechanism as u16
    }

    /// Leaves a mechanism out, or none.
    pub fn set_without(&self, mechanism: Option<Mechanism>) {
        self.put(WITHOUT, mechanism.map_or(0, |mechanism| mechanism as u16));
    }

    /// Whether a region that wishes `wish` gets blocks and groups.
    #[inline]
    pub fn allows(&self, wish: HugePolicy) -> bool {
        match (self.enabled(), wish) {
            (Enabled::Never, _) | (_, HugePolicy::Never) => false,
            (Enabled::Always, _) => true,
            (Enabled::Madvise, wish) => wish == HugePolicy::Always,
        }
    }
}
