//! A model of a core's TLBs, as a plugin for QEMU: it sees every access of the guest's, walks the guest's own tables
//! where its TLBs miss, and counts. `docs/tlb-model.md` says what is modelled and how to read a report.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`decode`] | instructions that have to do with translation |
//! | [`walk`] | translation tables, as a walker reads them |
//! | [`cache`] | what holds entries: sets, ways, the least recently used |
//! | [`tlb`] | one core's TLBs: accesses, invalidations, contradictions |
//! | [`removed`] | what invalidations took out, and who walks for it again |
//! | [`presets`] | the TLBs of some processors, and words that change them |
//! | [`report`] | counters, and the lines made of them |
//! | `plugin` | QEMU's side of it, and the only unsafe code |
//!
//! All but `plugin` knows nothing of QEMU, and is tested without it.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
// The harness of unit tests is a program, which has no QEMU to take the plugin interface from.
#![cfg_attr(test, allow(dead_code))]

mod cache;
mod decode;
#[cfg(not(test))]
mod plugin;
mod presets;
mod removed;
mod report;
mod tlb;
mod walk;
