//! Linux's `madv_populate`: memory made ready to be read, or to be written, by one call; over pages, groups and blocks.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run memory=128M", "run memory=128M fault=eager", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use super::backing::{huge, is_zero, parts, pointer, readable, writable};
    use alloc::vec::Vec;
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{Access, FaultError, Mapping, VirtAddr, map, usage};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};

    const SLOTS: usize = 4;
    const LENGTH: usize = SLOTS * BLOCK_SIZE;

    fn sparse() -> Mapping {
        map(LENGTH).expect("RAM has room")
    }

    /// Whether every page of `mapping` can be read, or written, without a fault.
    fn all(mapping: &Mapping, can: impl Fn(*mut u8) -> bool) -> bool {
        (0..mapping.len()).step_by(PAGE_SIZE).all(|offset| can(pointer(mapping, offset)))
    }

    fn populate_for(start: VirtAddr, length: usize, access: Access) -> Result<(), FaultError> {
        gate::call(move || manager().populate_for(start, length, access))
    }

    pub fn test_prot_read() {
        let mut mapping = sparse();
        mapping.protect(Access::READ).expect("records");
        assert_eq!(mapping.populate_for(0..LENGTH, Access::READ), Ok(()));
        let denied = FaultError::Denied { address: mapping.start(), wanted: Access::READ_WRITE, allowed: Access::READ };
        assert_eq!(mapping.populate_for(0..LENGTH, Access::READ_WRITE), Err(denied));
    }

    pub fn test_prot_write() {
        let mut mapping = sparse();
        assert_eq!(mapping.populate_for(0..LENGTH, Access::READ), Ok(()), "what can be written can be read here");
        assert_eq!(mapping.populate_for(0..LENGTH, Access::READ_WRITE), Ok(()));
        mapping.protect(Access::NONE).expect("records");
        let denied = FaultError::Denied { address: mapping.start(), wanted: Access::READ, allowed: Access::NONE };
        assert_eq!(mapping.populate_for(0..LENGTH, Access::READ), Err(denied));
    }

    pub fn test_holes() {
        for access in [Access::READ, Access::READ_WRITE] {
            // In the middle, at the end, at the start.
            let [first, hole, last] = parts(map(3 * BLOCK_SIZE).expect("RAM has room"));
            let (start, hole_start) = (first.start(), hole.start());
            drop(hole);
            let error = FaultError::NoRegion { address: hole_start };
            assert_eq!(populate_for(start, 3 * BLOCK_SIZE, access), Err(error));
            assert!(readable(pointer(&first, first.len() - PAGE_SIZE)).is_some(), "those before it are ready");
            assert_eq!(populate_for(start, first.len() + PAGE_SIZE, access), Err(error));
            assert_eq!(populate_for(hole_start, PAGE_SIZE, access), Err(error));
            assert!(readable(pointer(&last, 0)).is_none());
        }
    }

    pub fn test_populate_read() {
        let (mut mapping, before) = (sparse(), usage());
        assert!(!all(&mapping, |at| readable(at).is_some()));
        assert_eq!(mapping.populate_for(0..LENGTH, Access::READ), Ok(()));
        assert!(all(&mapping, |at| readable(at).is_some() && writable(at).is_none()));
        assert_eq!(usage().mapped_bytes(), before.mapped_bytes(), "zeros take no memory");
        assert!(is_zero(mapping.as_slice()));
    }

    pub fn test_populate_write() {
        let mut mapping = sparse();
        // Zeros that were read before make way.
        assert!(is_zero(&mapping.as_slice()[..BLOCK_SIZE]));
        assert_eq!(mapping.populate_for(0..LENGTH, Access::READ_WRITE), Ok(()));
        assert!(all(&mapping, |at| writable(at).is_some()));
        assert_eq!(huge(&mapping), SLOTS);
        assert!(is_zero(mapping.as_slice()));
    }

    /// What is only made ready to be read has not changed, what is made ready to be written may have: where nothing was, and where
    /// there is something.
    pub fn test_softdirty() {
        for written in [false, true] {
            let mut mapping = sparse();
            if written {
                mapping.as_mut_slice().fill(1);
            }
            let since = mapping.snapshot().expect("memory is free");
            assert_eq!(mapping.changed_since(&since), Ok(Vec::new()));
            assert_eq!(mapping.populate_for(0..LENGTH, Access::READ), Ok(()));
            assert_eq!(mapping.changed_since(&since), Ok(Vec::new()));
            assert!(!all(&mapping, |at| writable(at).is_some()));
            assert_eq!(mapping.populate_for(0..LENGTH, Access::READ_WRITE), Ok(()));
            let changed = mapping.changed_since(&since).expect("it is mapped");
            assert_eq!(changed, core::slice::from_ref(&(0..LENGTH)));
            assert!(all(&mapping, |at| writable(at).is_some()), "a write copies nothing any more");
            mapping.as_mut_slice().fill(2);
            assert!(since.iter().all(|&byte| byte == u8::from(written)));
        }
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    test_prot_read,
    #[cfg(target_os = "none")]
    test_prot_write,
    #[cfg(target_os = "none")]
    test_holes,
    #[cfg(target_os = "none")]
    test_populate_read,
    #[cfg(target_os = "none")]
    test_populate_write,
    #[cfg(target_os = "none")]
    test_softdirty,
}
