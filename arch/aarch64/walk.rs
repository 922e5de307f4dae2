//! Walks the tables in software, as the processor would, without ever faulting.

use super::{descriptor, layout, linear_map, percore};
use crate::mm::address::{LOWER_END, PhysAddr, VirtAddr};
use crate::mm::mmu::{Entry, Level};
use aarch64_cpu::registers::TTBR0_EL1;
use core::sync::atomic::{AtomicU64, Ordering};

/// The descriptors that a walk reads, from level 1 on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Walk {
    /// The descriptors, and at which level each stands.
    pub steps: [Option<(u8, u64)>; 3],
    /// Where the address is, if it is mapped with the access flag set.
    pub physical: Option<PhysAddr>,
}

/// Walks to `address`, of either half. Nothing is read before the linear map stands.
pub fn walk(address: VirtAddr) -> Walk {
    let mut walk = Walk::default();
    let root = match address.0 {
        ..LOWER_END => PhysAddr(TTBR0_EL1.get_baddr()),
        address if address >= layout::LINEAR.0 => layout::image_physical(layout::__kernel_root.address()),
        _ => return walk,
    };
    if !linear_map::stands() {
        return walk;
    }
    let page = VirtAddr(address.0 & (LOWER_END - 1)).page();
    let mut table = root;
    for (step, level) in walk.steps.iter_mut().zip([Level::One, Level::Two, Level::Three]) {
        let Some(raw) = read_linear(table + level.index(page) as u64 * 8) else { return walk };
        *step = Some((level as u8, raw));
        match raw_leaf(raw, level) {
            Step::Table(next) => table = next,
            Step::Leaf(start) => {
                walk.physical = Some(start + (address.0 & ((1 << level.shift()) - 1)));
                return walk;
            }
            Step::End => return walk,
        }
    }
    walk
}

enum Step {
    Table(PhysAddr),
    Leaf(PhysAddr),
    End,
}

fn raw_leaf(raw: u64, level: Level) -> Step {
    const ACCESSED: u64 = 1 << 10;
    let output = |level: Level| PhysAddr(raw & ((1 << 48) - 1) & !((1 << level.shift()) - 1));
    match (raw & 0b11, level) {
        (0b11, Level::Three) | (0b01, Level::One | Level::Two) if raw & ACCESSED != 0 => Step::Leaf(output(level)),
        (0b11, Level::One | Level::Two) => match descriptor::decode(raw, level) {
            Entry::Table(frame) => Step::Table(frame.start()),
            _ => Step::End,
        },
        _ => Step::End,
    }
}

/// The word at physical address `at`, through the linear map, if the kernel's tables map it there: RAM apart from the
/// kernel's text, and no device.
fn read_linear(at: PhysAddr) -> Option<u64> {
    if at >= layout::LINEAR_REACH || !at.is_aligned(8) {
        return None;
    }
    let page = layout::linear(at).page();
    let mut table: &[AtomicU64; 512] = linear_map::kernel_root();
    for level in [Level::One, Level::Two, Level::Three] {
        match raw_leaf(table[level.index(page)].load(Ordering::Relaxed), level) {
            Step::End => return None,
            Step::Leaf(_) => {
                let word = core::ptr::with_exposed_provenance::<AtomicU64>(layout::linear(at).0 as usize);
                // SAFETY: mapped, as just read; the linear map never shrinks. Others may write to it: it is atomic.
                return Some(unsafe { &*word }.load(Ordering::Relaxed));
            }
            Step::Table(next) => {
                let next = core::ptr::with_exposed_provenance(layout::linear(next).0 as usize);
                // SAFETY: the kernel's tables are RAM in the linear map.
                table = unsafe { &*next };
            }
        }
    }
    None
}

/// The word at `address`, a multiple of 8, of either half, if it is mapped to RAM.
pub fn read_word(address: VirtAddr) -> Option<u64> {
    if !address.is_aligned(8) {
        return None;
    }
    let core = percore::current();
    if [core.stack(), core.overflow_stack()].iter().any(|stack| stack.contains(&address)) {
        let word = core::ptr::with_exposed_provenance::<AtomicU64>(address.0 as usize);
        // SAFETY: the core's own stacks are mapped, even before the linear map stands.
        return Some(unsafe { &*word }.load(Ordering::Relaxed));
    }
    read_linear(walk(address).physical?)
}
