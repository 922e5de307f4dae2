//! Why something was not done for huge pages: one list of reasons for all verbs, each with a counter of its own.
#![forbid(unsafe_code)]

use super::stats::{Counter, Counters};
use core::fmt;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident, $counter:ident, $text:literal;)*) => {
        /// Why a slot was not promoted, collapsed or dissolved, or a page not moved. What was refused changed nothing; a collapse
        /// is refused after steps of its own, each of which leaves the slot as it reads.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// The counter of those refusals.
            pub(super) fn counter(self, counters: &Counters) -> &Counter {
                match self {
                    $(Refusal::$name => &counters.$counter,)*
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Refusal::$name => $text,)*
                })
            }
        }
    };
}

refusals! {
    /// No region, or no page of one, is at a part of the slot (Linux: `SCAN_VMA_CHECK`, `SCAN_ADDRESS_RANGE`).
    NotCovered, refused_not_covered, "not all of the slot is mapped";
    /// Regions of different kinds share the slot.
    MixedAttributes, refused_mixed_attributes, "regions with different attributes share the slot";
    /// The region wishes for pages (Linux: `MADV_NOHUGEPAGE`).
    Policy, refused_policy, "the region asks for pages";
    /// No page of the slot is present (Linux: `SCAN_PMD_NULL`).
    Empty, refused_empty, "no page is present";
    /// A page is absent, and is not to be filled.
    Absent, refused_absent, "a page is absent";
    /// A page was released by the application, and is not to be filled unless it asks for that.
    Released, refused_released, "a page was released";
    /// A page was said to be one that may be taken back (Linux: `SCAN_PAGE_LAZYFREE`).
    Freed, refused_freed, "the application can do without a page";
    /// The application said so, and has not touched it since (Linux: `SCAN_LACK_REFERENCED_PAGE`).
    Cold, refused_cold, "it was not used since the application said that it is cold";
    /// A snapshot shows a page, or is what the page is of (Linux: `SCAN_EXCEED_SHARED_PTE`).
    Shared, refused_shared, "a snapshot shares a page";
    /// A page is not at home.
    Away, refused_away, "a page is away from home";
    /// The slot has no home (or, to one that must not split it, is mapped as a block): there is nothing to give up.
    NoHome, refused_no_home, "the slot has no home that could end";
    /// A frame that would have to move, or be given up, is pinned (Linux: `SCAN_PAGE_COUNT`, `EAGAIN`).
    Pinned, refused_pinned, "a frame is pinned";
    /// No block is free, and none can be made the home (Linux: `SCAN_ALLOC_HUGE_PAGE_FAIL`).
    NoFreeBlock, refused_no_free_block, "no block is free";
    /// No frame is free to move a page to.
    NoFreeFrame, refused_no_free_frame, "no frame is free";
    /// Another core works on the slot, or changed its regions again and again.
    Busy, refused_busy, "another core works on the slot";
    /// The time was up.
    Deadline, refused_deadline, "the time was up";
}

impl core::error::Error for Refusal {}
