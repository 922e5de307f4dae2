//! Locks. Every lock of the memory manager has a rank, and debug builds check the order:
//! space → region → slot → slabs → a core's caches → frames → threads → console; locks of one rank by ascending address.

pub mod parking;
mod rank;
mod ranked;

pub use rank::{Held, Rank};
pub use ranked::{Guard, Ranked, Waiting, core, relax};
