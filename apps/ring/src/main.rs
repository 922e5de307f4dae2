//! Messages through a ring buffer: they arrive in pieces of any length, as from a network, and each is read as one slice where it
//! lies, also one that lies over the end of the buffer. `messages=N` is how many (100,000).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod application;

ashlar::entry!(application::main);
