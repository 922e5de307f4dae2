//! What the memory manager counts, under the names Linux users know where they mean the same.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

/// A count that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Events since boot. Names that Linux has in `/proc/vmstat` mean what they mean there.
        #[derive(Default, Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// All counters with their names, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Faults that mapped something or changed a permission.
    pgfault,
    /// Faults that mapped a whole block at once.
    pgfault_block,
    /// Faults that mapped groups of 64 KiB.
    pgfault_group,
    /// Faults that mapped single pages.
    pgfault_page,
    /// Reads of untouched memory that were mapped to the zero block, of any size.
    pgfault_zero,
    /// … a whole slot of it at once.
    thp_zero_page_fault,
    /// Times that the zero block was made.
    thp_zero_page_alloc,
    /// Faults that found the access already permitted: another core was faster, or the entry was in its break.
    spurious_fault,
    /// Faults that started again, because a region changed meanwhile or another core is filling the slot.
    fault_retry,
    /// Access flags set by software.
    access_flag_fault,
    /// First touches that gave their slot a block: a home, or a block mapped at once.
    thp_fault_alloc,
    /// First touches that found no free block and went on in groups or pages.
    thp_fault_fallback,
    /// First touches that got no block because the region does not cover the slot.
    thp_fault_fallback_unaligned,
    /// First touches that got no block because the policy says so.
    thp_fault_fallback_policy,
    /// Group faults that found no free 64 KiB and mapped a page.
    group_fault_fallback,
    /// Block descriptors replaced by tables, all causes.
    thp_split_pmd,
    /// … because part of a block was released.
    thp_split_pmd_release,
    /// … because part of a block was unmapped.
    thp_split_pmd_unmap,
    /// … because part of a block was protected differently.
    thp_split_pmd_protect,
    /// … to give back its zero pages.
    thp_split_pmd_underused,
    /// … of the zero block, to be written to.
    thp_split_pmd_zeros,
    /// … of which a snapshot shows pages, or parts.
    thp_split_pmd_snapshot,
    /// … for code that knows pages only.
    thp_split_pmd_pages,
    /// Homes that were dissolved: their absent frames were taken back.
    thp_split_page,
    /// Homes that were not dissolved because a frame of theirs is pinned.
    thp_split_page_failed,
    /// Homes that were queued for dissolving because part of them became absent.
    thp_deferred_split_page,
    /// Homes of which zero pages were given back under pressure.
    thp_underused_split_page,
    /// Zero pages that were given back under pressure.
    zero_pages_released,
    /// Tables replaced by block descriptors, in place.
    promote,
    /// … by idle time, which filled what was never touched.
    promote_idle,
    /// Pages that the application said it can do without.
    pglazyfree,
    /// … that were taken back.
    pglazyfreed,
    /// Pages that the application said are cold.
    pgdeactivate,
    /// Bytes that faults filled with zeros for the application.
    zeroed_bytes,
    /// Bytes that idle time filled with zeros, to spare faults that.
    zeroed_idle_bytes,
    /// Faults that mapped a block which idle time had zeroed.
    zeroed_pool_hit,
    /// Groups or pages that faults mapped without zeroing them: idle time had.
    zeroed_group_hit,
    /// Pages that moved to other frames.
    migrate_pages,
    /// Slots that collapsed into a block, those that only promoted among them.
    collapse,
    /// Blocks that a collapse took as a home.
    thp_collapse_alloc,
    /// Collapses that found no block to take.
    thp_collapse_alloc_failed,
    /// Blocks that a collapse made the home of the slot which has most pages in them.
    collapse_adopt,
    /// Slots that background collapse looked at (Linux: `pages_to_scan` by the slot).
    khugepaged_slots_scanned,
    /// Slots that it made blocks of.
    khugepaged_collapsed,
    /// Slots that it did not, because more than `max_ptes_none` of their pages are absent.
    thp_scan_exceed_none_pte,
    /// … because a snapshot shows more than `max_ptes_shared` of them.
    thp_scan_exceed_share_pte,
    /// Pages that were copied because a snapshot shows them.
    snapshot_pages_copied,
    /// Translations whose access flags were cleared, to see which are used.
    heat_samples,
    /// Faults that waited for compaction.
    compact_stall,
    /// … and got a block by it.
    compact_success,
    /// … and did not.
    compact_fail,
    /// Times that compaction in the background began.
    compact_daemon_wake,
    /// Blocks that compaction emptied.
    compact_blocks,
    /// Blocks that it could not empty.
    compact_blocks_failed,
    /// Blocks that it looked at (Linux: pages).
    compact_migrate_scanned,
    /// Frames pinned.
    pin_frames,
    /// Pins dropped, by the frame.
    unpin_frames,
    /// Refused: not all of the slot is mapped.
    refused_not_covered,
    /// … regions with different attributes share it.
    refused_mixed_attributes,
    /// … its region asks for pages.
    refused_policy,
    /// … no page of it is present.
    refused_empty,
    /// … a page of it is absent.
    refused_absent,
    /// … a page of it was released by the application.
    refused_released,
    /// … the application can do without a page of it.
    refused_freed,
    /// … the application said that it is cold.
    refused_cold,
    /// … a snapshot shows it, or is made of it.
    refused_shared,
    /// … a page of it is away from home.
    refused_away,
    /// … it has no home that could end.
    refused_no_home,
    /// … a frame is pinned.
    refused_pinned,
    /// … no block was free.
    refused_no_free_block,
    /// … no frame was free.
    refused_no_free_frame,
    /// … another core worked on it.
    refused_busy,
    /// … the time was up.
    refused_deadline,
    /// Translations invalidated by address.
    tlb_flush_page,
    /// Invalidations of everything of the application.
    tlb_flush_all,
    /// Times that memory was given back in the background, because it was low.
    kswapd_steal,
    /// Faults that found no frame and took memory back.
    reclaim,
    /// Faults that found no frame at all.
    out_of_memory,
}
