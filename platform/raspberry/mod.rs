//! What only a Raspberry Pi 4 has (BCM2711).
//!
//! | file | what |
//! | --- | --- |
//! | `mailbox.rs` | asks the VideoCore's firmware |
//! | `revision.rs` | what a board's revision code says |
//! | `pins.rs` | puts the console on the header's pins |
//! | `watchdog.rs` | switches off, and starts anew |
//!
//! Not by crates: those for this board have its addresses built in as they are without an MMU.

pub mod mailbox;
pub mod pins;
pub mod revision;
pub mod watchdog;
