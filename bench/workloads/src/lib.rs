//! The laboratory's workloads, written once for all systems that are compared.
//!
//! A system gives the little that [`Platform`] asks for; what is compiled over it is the same everywhere, so that what differs
//! is the system. Nothing allocates: all memory is mapped, and is the system's to back. All seeds are fixed, and every
//! workload verifies what it has computed.
//!
//! Output is in lines: `figure NAME VALUE UNIT`, `histogram NAME BOUND=COUNT …`, and before them what surrounds a median. A
//! name is the workload's with the size of what it works on.
//!
//! | part | is |
//! | --- | --- |
//! | `populate` | the first touch of every page, as a whole; also with what idle time prepared |
//! | `latency` | the first touch of every page, one by one, in order and at random |
//! | `churn` | a heap that fills, shrinks to a fifth and fills again |
//! | `chase` | a chain of pointers through all cache lines: how far the TLB reaches |
//! | `gups` | random updates, as HPC Challenge's RandomAccess |
//! | `triad` | STREAM's triad: the control, which no TLB slows |
//! | `join` | a hash join: build and probe |
//! | `btree` | lookups in a static B+tree |
//! | `spmv` | a sparse matrix times a vector |
//! | `bfs` | breadth-first search of a Kronecker graph, as Graph500 |
#![no_std]

mod bfs;
mod btree;
mod chase;
mod churn;
mod faults;
mod gups;
mod join;
mod lab;
pub mod machine;
mod plan;
mod platform;
mod random;
mod spmv;
mod triad;

pub use lab::{Failure, run};
pub use plan::{KEYS, Plan, PlanError};
pub use platform::{Counts, OutOfMemory, Platform, Usage};
