//! Locks. Every lock of the memory manager has a rank, and debug builds check the order:
//! space → region → slot → frame pools → console; locks of one rank by ascending address.

mod ranked;

pub use ranked::{Guard, Rank, Ranked, Waiting, relax};
