//! The verbs on a slot: split, promote, dissolve; and what memory they give back under pressure.
//!
//! | verb | what it does | can it fail? |
//! | --- | --- | --- |
//! | split | block descriptor → table onto the same frames; the home stays | never |
//! | promote | table → block descriptor when all 512 pages are at home | refused otherwise |
//! | dissolve | the home ends, its absent frames become free | refused while a frame is pinned |
#![forbid(unsafe_code)]

mod adopt;
mod collapse;
mod dissolve;
mod migrate;
mod policy;
mod promote;
mod reclaim;
mod split;

pub use collapse::Collapsed;
pub(super) use migrate::Left;
pub use migrate::Unit;
pub use policy::{Enabled, FaultMode, HugePolicy, Policy};
pub use split::SplitCause;
