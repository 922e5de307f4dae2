//! The memory manager's machine: tables in the linear map, TLB and cache maintenance, `DC ZVA`.

use super::cache::CacheType;
use super::{descriptor, layout};
use crate::mm::address::{Frame, PAGE_SIZE, PAGES_PER_GROUP, PAGES_PER_SLOT, PhysAddr};
use crate::mm::mmu::{Entry, Invalidation, Level, Mmu};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::DAIF;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use tock_registers::interfaces::{Readable, Writeable};

/// The application's ASID. `boot.s` puts it in TTBR0_EL1.
pub(super) const ASID: u64 = 1;

/// Lines that are zeroed, with `DC ZVA`, between two looks at how far it is.
const LINES: usize = 16;

/// This machine. There is one, so it has no state: what it works on is in the tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine(());

impl Machine {
    /// The machine, once the linear map stands.
    pub(super) const fn new() -> Self {
        Machine(())
    }

    #[inline]
    fn entries(self, table: Frame) -> &'static [AtomicU64; PAGES_PER_SLOT] {
        let at = linear_pointer(table.start()).cast::<[AtomicU64; PAGES_PER_SLOT]>();
        // SAFETY: the linear map covers all RAM and a table is a frame of 512 aligned words. Walkers read them and others
        // write them, so they are atomic.
        unsafe { &*at }
    }
}

#[inline]
fn linear_pointer(at: PhysAddr) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(layout::linear(at).0 as usize)
}

/// The operand of a TLBI by address: VA[55:12] and the ASID.
fn operand(page: u64) -> u64 {
    page & ((1 << 44) - 1) | ASID << 48
}

// SAFETY: this is the machine itself. The linear map covers all RAM for good; every invalidation ends with the DSB that
// waits for all cores (Arm ARM D8.13.5).
unsafe impl Mmu for Machine {
    #[inline]
    fn read_entry(&self, table: Frame, index: usize, level: Level) -> Entry {
        descriptor::decode(self.entries(table)[index].load(Ordering::Relaxed), level)
    }

    // Callers write 16 entries that differ by the frame alone: inlined, the rest of them is worked out once.
    #[inline(always)]
    unsafe fn write_entry(&self, table: Frame, index: usize, level: Level, entry: Entry) {
        self.entries(table)[index].store(descriptor::encode(entry, level), Ordering::Relaxed);
    }

    unsafe fn write_entries(&self, table: Frame, range: Range<usize>, level: Level, first: Entry) {
        let step = if first.is_valid() { PAGE_SIZE as u64 } else { 0 };
        let mut raw = descriptor::encode(first, level);
        let mut write = |entry: &AtomicU64| {
            entry.store(raw, Ordering::Relaxed);
            raw += step;
        };
        let (groups, rest) = self.entries(table)[range].as_chunks::<PAGES_PER_GROUP>();
        groups.iter().flatten().for_each(&mut write);
        rest.iter().for_each(&mut write);
    }

    #[inline]
    fn publish(&self) {
        barrier::dsb(barrier::ISHST);
        barrier::isb(barrier::SY);
    }

    fn invalidate(&self, what: &Invalidation) {
        barrier::dsb(barrier::ISHST);
        match what {
            Invalidation::Pages(pages) => {
                for page in pages.clone() {
                    // SAFETY: an invalidation changes no memory; translations are walked again.
                    unsafe { asm!("tlbi vale1is, {}", in(reg) operand(page), options(nostack, preserves_flags)) };
                }
            }
            Invalidation::PagesAndTables(pages) => {
                for page in pages.clone() {
                    // SAFETY: as above.
                    unsafe { asm!("tlbi vae1is, {}", in(reg) operand(page), options(nostack, preserves_flags)) };
                }
            }
            Invalidation::All => {
                // SAFETY: as above.
                unsafe { asm!("tlbi aside1is, {}", in(reg) ASID << 48, options(nostack, preserves_flags)) };
            }
        }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
    }

    fn zero(&self, first: Frame, count: usize) {
        let start = linear_pointer(first.start());
        let bytes = count * PAGE_SIZE;
        let Some(line) = zva_bytes().filter(|line| line * LINES <= PAGE_SIZE) else {
            // SAFETY: the frames are RAM, mapped, and the caller's.
            unsafe { core::ptr::write_bytes(start, 0, bytes) };
            return;
        };
        let mut at = start;
        let end = at.wrapping_add(bytes);
        while at != end {
            // SAFETY: `LINES` lines (naturally aligned powers of two, at most a page together) inside the caller's frames.
            unsafe {
                asm!(
                    ".rept {lines}",
                    "dc zva, {at}",
                    "add {at}, {at}, {line}",
                    ".endr",
                    at = inout(reg) at, line = in(reg) line, lines = const LINES,
                    options(nostack, preserves_flags)
                );
            }
        }
    }

    fn copy(&self, from: Frame, to: Frame, count: usize) {
        let (mut from, mut to) = (linear_pointer(from.start()), linear_pointer(to.start()));
        let end = from.wrapping_add(count * PAGE_SIZE);
        while from != end {
            // SAFETY: 512 bytes inside mapped frames of the caller's, which do not overlap.
            unsafe {
                asm!(
                    ".irp at, 0, 64, 128, 192, 256, 320, 384, 448",
                    "ldp {a:q}, {b:q}, [{from}, #\\at]",
                    "ldp {c:q}, {d:q}, [{from}, #\\at + 32]",
                    "stp {a:q}, {b:q}, [{to}, #\\at]",
                    "stp {c:q}, {d:q}, [{to}, #\\at + 32]",
                    ".endr",
                    "add {from}, {from}, #512",
                    "add {to}, {to}, #512",
                    a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _,
                    from = inout(reg) from, to = inout(reg) to, options(nostack, preserves_flags)
                );
            }
        }
    }

    fn is_zero(&self, frame: Frame) -> bool {
        let words = linear_pointer(frame.start()).cast::<u64>();
        // Eight at a time: the answer is mostly no, at once.
        (0..PAGE_SIZE / 8).step_by(8).all(|word| {
            // SAFETY: aligned words of a mapped frame. Volatile, since the application may write at the same time.
            (word..word + 8).fold(0, |sum, word| sum | unsafe { words.add(word).read_volatile() }) == 0
        })
    }

    fn sync_code(&self, first: Frame, count: usize) {
        let cache = CacheType::read();
        let start = layout::linear(first.start()).0 as usize;
        let range = start..start + count * PAGE_SIZE;
        if !cache.data_coherent {
            for at in range.clone().step_by(cache.data_line) {
                // SAFETY: cleaning a mapped line changes no memory.
                unsafe { asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) };
            }
        }
        barrier::dsb(barrier::ISH);
        if !cache.instruction_coherent {
            // The application fetches these bytes at other addresses, which caches by virtual index tell apart.
            if cache.physically_indexed {
                for at in range.step_by(cache.instruction_line) {
                    // SAFETY: as above.
                    unsafe { asm!("ic ivau, {}", in(reg) at, options(nostack, preserves_flags)) };
                }
            } else {
                // SAFETY: as above.
                unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) };
            }
        }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn without_interrupts<R>(&self, section: impl FnOnce() -> R) -> R {
        let before = DAIF.get();
        DAIF.write(DAIF::D::Masked + DAIF::A::Masked + DAIF::I::Masked + DAIF::F::Masked);
        let result = section();
        DAIF.set(before);
        result
    }

    #[inline]
    fn linear(&self, at: PhysAddr) -> *mut u8 {
        linear_pointer(at)
    }
}

/// Bytes that `DC ZVA` zeroes (DCZID_EL0); `None` where it is prohibited.
#[inline]
fn zva_bytes() -> Option<usize> {
    let id: usize;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) id, options(pure, nomem, nostack, preserves_flags)) };
    let prohibited = id & 1 << 4 != 0;
    (!prohibited).then_some(4 << (id & 0xf))
}
