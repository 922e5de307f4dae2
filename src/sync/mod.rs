//! Locks. Every lock of the memory manager has a rank, and debug builds check the order:
//! space → region → slot → directory → slabs → a core's caches → frames → threads → console; locks of one rank by ascending address.

pub mod parking;
mod ranked;
mod ranked_rw;

pub use ranked::{Guard, Held, Rank, Ranked, Waiting, breathe, core, lock_waits, lock_waits_of, relax};
pub use ranked_rw::{RankedRw, ReadGuard, WriteGuard};
