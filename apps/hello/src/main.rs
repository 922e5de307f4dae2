//! The smallest application: what it takes is what the kernel takes.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar::entry!(main);

#[cfg(target_os = "none")]
fn main() {
    ashlar::println!("Hello from Ashlar.");
}
