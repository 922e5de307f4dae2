//! Which changes of a live descriptor need break-before-make: a pure predicate (Arm ARM D8.16.1).
#![forbid(unsafe_code)]

use crate::mm::mmu::Entry;

/// How a descriptor gets from one value to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The values are equal: nothing is written.
    None,
    /// Invalid to valid: no TLB holds an invalid entry, so a write and a publication suffice.
    Install,
    /// Permissions or the access flag change: written over, then invalidated.
    InPlace,
    /// Valid to invalid: written, then invalidated before the frame has another use.
    Remove,
    /// Anything else between two valid values: invalid, invalidated, then the new value.
    Break,
}

/// What leads from `old` to `new`. Output address, size, table or leaf, and the contiguous bit change only by a break;
/// Cortex-A72 has no FEAT_BBM, so a block and a table never follow each other directly.
pub fn change(old: Entry, new: Entry) -> Change {
    match (old, new) {
        _ if old == new => Change::None,
        (Entry::Invalid, _) => Change::Install,
        (_, Entry::Invalid) => Change::Remove,
        (Entry::Block { frame: a, .. }, Entry::Block { frame: b, .. }) if a == b => Change::InPlace,
        (Entry::Page { frame: a, contiguous: c, .. }, Entry::Page { frame: b, contiguous: d, .. })
            if a == b && c == d =>
        {
            Change::InPlace
        }
        _ => Change::Break,
    }
}
