//! VMSAv8-64 stage-1 descriptors, 4 KiB granule (Arm ARM D8.3). Pure: both machines use it.
#![forbid(unsafe_code)]

use crate::mm::address::{Frame, PAGE_SHIFT, PAGES_PER_SLOT, PhysAddr};
use crate::mm::mmu::{Access, Attributes, Entry, Level};
use tock_registers::LocalRegisterCopy;

#[allow(missing_docs)] // The macro documents fields, not what it makes of them.
mod fields {
    use tock_registers::register_bitfields;
    register_bitfields! {u64,
        /// The fields of a block, page or table descriptor.
        pub DESCRIPTOR [
            /// The descriptor translates.
            VALID OFFSET(0) NUMBITS(1) [],
            /// Table (levels 1, 2) or page (level 3), as against block.
            TABLE_OR_PAGE OFFSET(1) NUMBITS(1) [],
            /// Which byte of MAIR_EL1 says what memory this is.
            ATTRIBUTE_INDEX OFFSET(2) NUMBITS(3) [
                Normal = 0,
                Device = 1
            ],
            /// AP[2]: stores fault.
            READ_ONLY OFFSET(7) NUMBITS(1) [],
            /// Shareability.
            SHAREABILITY OFFSET(8) NUMBITS(2) [
                InnerShareable = 0b11
            ],
            /// The access flag.
            ACCESSED OFFSET(10) NUMBITS(1) [],
            /// Belongs to one ASID.
            NOT_GLOBAL OFFSET(11) NUMBITS(1) [],
            /// Output address, bits 47:12.
            OUTPUT OFFSET(12) NUMBITS(36) [],
            /// One of 16 that the TLB may hold as one.
            CONTIGUOUS OFFSET(52) NUMBITS(1) [],
            /// No instruction fetches at EL1.
            PXN OFFSET(53) NUMBITS(1) [],
            /// No instruction fetches at EL0.
            UXN OFFSET(54) NUMBITS(1) [],
            /// Software's own (bits 58:55): the page is there but nothing may touch it. With the access flag clear
            /// every access faults and no TLB holds the entry (Arm ARM D8.4.5), so the frame can stay in the table.
            NO_ACCESS OFFSET(55) NUMBITS(1) []
        ]
    }
}
pub use fields::DESCRIPTOR;

/// The descriptor of `entry` in a table of `level`, for the application's half: Normal memory, inner shareable, not global.
///
/// # Panics
///
/// When the entry cannot stand at that level (a page at level 2, a misaligned block), or allows nothing: kernel bugs.
#[inline]
pub fn encode(entry: Entry, level: Level) -> u64 {
    match entry {
        Entry::Invalid => 0,
        Entry::Table(frame) if level != Level::Three => {
            (DESCRIPTOR::VALID::SET + DESCRIPTOR::TABLE_OR_PAGE::SET + DESCRIPTOR::OUTPUT.val(frame.0)).value
        }
        Entry::Block { frame, attributes } if level == Level::Two && frame.0.is_multiple_of(PAGES_PER_SLOT as u64) => {
            leaf(frame, attributes)
        }
        Entry::Page { frame, attributes, contiguous } if level == Level::Three => {
            let contiguous = DESCRIPTOR::CONTIGUOUS.val(contiguous as u64).value;
            leaf(frame, attributes) | DESCRIPTOR::TABLE_OR_PAGE::SET.value | contiguous
        }
        _ => misplaced(entry, level),
    }
}

/// Apart, so that what is formatted does not have to be in memory where nothing is wrong.
#[cold]
#[inline(never)]
fn misplaced(entry: Entry, level: Level) -> ! {
    panic!("{entry:?} cannot stand at {level:?}")
}

#[cold]
#[inline(never)]
fn impossible(access: Access) -> ! {
    panic!("a leaf for {access:?}")
}

#[inline]
fn leaf(frame: Frame, Attributes { access, accessed }: Attributes) -> u64 {
    let fixed = LEAVES[access.read as usize | (access.write as usize) << 1 | (access.execute as usize) << 2];
    if fixed == 0 {
        impossible(access);
    }
    let accessed = DESCRIPTOR::ACCESSED.val((accessed && access.read) as u64).value;
    fixed | accessed | DESCRIPTOR::OUTPUT.val(frame.0).value
}

/// What a leaf says by what may be done: bit 0 read, bit 1 write, bit 2 execute. 0 is an access that no leaf can give.
const LEAVES: [u64; 8] = {
    const ALL: u64 = DESCRIPTOR::VALID::SET.value
        | DESCRIPTOR::ATTRIBUTE_INDEX::Normal.value
        | DESCRIPTOR::SHAREABILITY::InnerShareable.value
        | DESCRIPTOR::NOT_GLOBAL::SET.value
        | DESCRIPTOR::UXN::SET.value;
    const READ_ONLY: u64 = DESCRIPTOR::READ_ONLY::SET.value;
    const PXN: u64 = DESCRIPTOR::PXN::SET.value;
    let mut leaves = [0; 8];
    leaves[0b000] = ALL | READ_ONLY | PXN | DESCRIPTOR::NO_ACCESS::SET.value;
    leaves[0b001] = ALL | READ_ONLY | PXN;
    leaves[0b011] = ALL | PXN;
    leaves[0b101] = ALL | READ_ONLY;
    leaves
};

/// What `raw` means in a table of `level`. A reserved encoding reads as [`Entry::Invalid`], as the walker takes it.
#[inline]
pub fn decode(raw: u64, level: Level) -> Entry {
    let descriptor: LocalRegisterCopy<u64, DESCRIPTOR::Register> = LocalRegisterCopy::new(raw);
    if !descriptor.is_set(DESCRIPTOR::VALID) {
        return Entry::Invalid;
    }
    let frame = PhysAddr(descriptor.read(DESCRIPTOR::OUTPUT) << PAGE_SHIFT).frame();
    let there = !descriptor.is_set(DESCRIPTOR::NO_ACCESS);
    let attributes = Attributes {
        access: Access {
            read: there,
            write: there && !descriptor.is_set(DESCRIPTOR::READ_ONLY),
            execute: there && !descriptor.is_set(DESCRIPTOR::PXN),
        },
        accessed: descriptor.is_set(DESCRIPTOR::ACCESSED),
    };
    match (level, descriptor.is_set(DESCRIPTOR::TABLE_OR_PAGE)) {
        (Level::Three, true) => {
            Entry::Page { frame, attributes, contiguous: descriptor.is_set(DESCRIPTOR::CONTIGUOUS) }
        }
        (Level::Three, false) => Entry::Invalid,
        (_, true) => Entry::Table(frame),
        (_, false) => Entry::Block { frame, attributes },
    }
}

/// What the kernel's half maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelMemory {
    /// Normal memory, read and written.
    Data,
    /// Device-nGnRE registers.
    Device,
}

/// The descriptor that maps `at` for the kernel in a table of `level`: global, never executable. (What is
/// executable in the kernel's half, `boot.s` maps.)
///
/// # Panics
///
/// When `at` is not aligned to what an entry at `level` maps: a kernel bug.
pub fn kernel_leaf(memory: KernelMemory, at: PhysAddr, level: Level) -> u64 {
    assert!(at.is_aligned(1 << level.shift()), "{at:?} mapped for the kernel at {level:?}");
    let page = (level == Level::Three) as u64;
    let kind = match memory {
        KernelMemory::Data => DESCRIPTOR::ATTRIBUTE_INDEX::Normal + DESCRIPTOR::SHAREABILITY::InnerShareable,
        KernelMemory::Device => DESCRIPTOR::ATTRIBUTE_INDEX::Device,
    };
    (DESCRIPTOR::VALID::SET
        + DESCRIPTOR::TABLE_OR_PAGE.val(page)
        + kind
        + DESCRIPTOR::ACCESSED::SET
        + DESCRIPTOR::OUTPUT.val(at.frame().0)
        + DESCRIPTOR::PXN::SET
        + DESCRIPTOR::UXN::SET)
        .value
}
