//! The order of locks, which debug builds check.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use ashlar::sync::{Mutex, Rank, Ranked, RwLock, Sleeping};

fn ascending_ranks_and_addresses_are_allowed() {
    common::threads_are_contexts();
    let (space, slots, frames) =
        (Ranked::new(Rank::Space, 1), [2, 3].map(|value| Ranked::new(Rank::Slot, value)), Ranked::new(Rank::Frames, 4));
    let sum = *space.lock() + *slots[0].lock();
    assert_eq!(sum, 3);
    let (a, b) = (slots[0].lock(), slots[1].lock());
    let c = frames.lock();
    assert_eq!(*a + *b + *c, 9);
}

fn a_lock_may_be_tried_whatever_is_held() {
    common::threads_are_contexts();
    let (slot, frames) = (Ranked::new(Rank::Slot, 1), Ranked::new(Rank::Frames, 2));
    let held = frames.lock();
    let tried = slot.try_lock().expect("nobody has it");
    assert!(slot.try_lock().is_none() && frames.try_lock().is_none());
    assert_eq!(*held + *tried, 3);
}

fn sleeping_locks_need_no_scheduler_while_they_are_free() {
    common::threads_are_contexts();
    static SPACE: Sleeping<u32> = Sleeping::new(Rank::Space, 1);
    static MUTEX: Mutex<u32> = Mutex::new(2);
    static LOCK: RwLock<u32> = RwLock::new(3);
    for _ in 0..2 {
        let (space, slot) = (SPACE.lock(), Ranked::new(Rank::Slot, 4));
        let (a, b) = (LOCK.read().expect("whole"), LOCK.read().expect("whole"));
        assert_eq!(*space + *MUTEX.lock().expect("whole") + *a + *b + *slot.lock(), 13);
        assert!(SPACE.try_lock().is_none());
    }
    assert_eq!(*LOCK.write().expect("whole"), 3);
}

#[cfg(not(target_os = "none"))]
fn message(program: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let payload = std::panic::catch_unwind(program).expect_err("the order is checked");
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string()))
        .expect("a message")
}

#[cfg(not(target_os = "none"))]
fn a_lower_rank_is_refused() {
    common::threads_are_contexts();
    let text = message(|| {
        let (slot, frames) = (Ranked::new(Rank::Slot, ()), Ranked::new(Rank::Frames, ()));
        let _held = frames.lock();
        drop(slot.lock());
    });
    assert!(text.contains("lock of rank Slot taken while"), "{text}");
}

#[cfg(not(target_os = "none"))]
fn a_lower_address_of_the_same_rank_is_refused() {
    common::threads_are_contexts();
    let text = message(|| {
        let slots = [(), ()].map(|()| Ranked::new(Rank::Slot, ()));
        let _held = slots[1].lock();
        drop(slots[0].lock());
    });
    assert!(text.contains("out of address order"), "{text}");
}

ashlar_test::tests! {
    ascending_ranks_and_addresses_are_allowed,
    a_lock_may_be_tried_whatever_is_held,
    sleeping_locks_need_no_scheduler_while_they_are_free,
    #[cfg(not(target_os = "none"))]
    a_lower_rank_is_refused,
    #[cfg(not(target_os = "none"))]
    a_lower_address_of_the_same_rank_is_refused,
}
