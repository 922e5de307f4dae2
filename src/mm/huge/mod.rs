//! The verbs on a slot: split, promote, migrate, dissolve; collapse, which is made of them; and what memory they give back under
//! pressure.
//!
//! | verb | what it does | can it fail? |
//! | --- | --- | --- |
//! | split | block descriptor → table onto the same frames; the home stays | never |
//! | promote | table → block descriptor when all 512 pages are at home | refused otherwise |
//! | migrate | copies a page or a group to other frames | refused while pinned, and without a frame |
//! | dissolve | the home ends, its absent frames become free | refused while a page at home is pinned |
//! | collapse | a home, migrate, fill, promote: a step at a time | as those; what was done stays |
//!
//! # Locking, references and counts
//!
//! What `transhuge.rst` says of these, for one address space: invariants with names. Debug builds check what a slot says of itself,
//! its level-2 descriptor and its home (SL) after every operation, when its lock is let go; `MemoryManager::check` checks every
//! descriptor, frame and pin against each other after every step of the tests:
//!
//! | question | answer | where |
//! | --- | --- | --- |
//! | What makes a walk stable? | the slot's lock: under it no block is split, none made, no page moved | WA-1 of [`crate::mm::walk`] |
//! | How does one get from a frame to its page? | the frame names a slot, whose lock is tried and whose descriptor is asked | WA-2, WA-3 |
//! | What is in a slot's bits, and when? | what its descriptors say, but for the time between a break and its make | SL-1 to SL-10 of [`crate::mm::slot`] |
//! | What may regions do meanwhile? | change; each step looks them up again and compares the slot's epoch | SP-1 to SP-4 of [`crate::mm::space`], SP-5 of `remap` |
//! | What of frames that are not the slot's own? | the zero block counts who borrows of it; a snapshot gives back before the page moves; a slot with several places is broken at all of them | ZE-1, ZE-2 of `zeros`; SN-1 to SN-5 of `snapshot`; AL-1 to AL-3 of `alias` |
//! | What do a frame's pins and its map count say at each moment? | the table there | PI-1 to PI-4 of [`crate::mm::pin`] |
//! | What is counted of frames, by which lock? | the tables there | FR-1 to FR-10 of [`crate::mm::frame`] |
#![forbid(unsafe_code)]

mod adopt;
mod background;
mod candidates;
mod collapse;
mod compact;
mod dissolve;
mod heat;
mod migrate;
mod policy;
mod promote;
mod reclaim;
mod split;

pub(super) use background::Background;
pub use background::Rest;
pub use collapse::Collapsed;
pub use migrate::Unit;
pub(super) use policy::Effort;
pub use policy::{Defrag, Enabled, FaultMode, HugePolicy, KNOBS, Knob, Mechanism, Policy, PolicyError, Settings};
pub(super) use reclaim::Shortage;
pub use split::SplitCause;
