//! The order of locks, which debug builds check.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use ashlar::sync::{Mutex, Rank, Ranked, RankedRw, RwLock, Sleeping};

fn ascending_ranks_and_addresses_are_allowed() {
    common::threads_are_contexts();
    let (space, slots, frames) =
        (Ranked::new(Rank::Space, 1), [2, 3].map(|value| Ranked::new(Rank::Slot, value)), Ranked::new(Rank::Frames, 4));
    let regions = RankedRw::new(Rank::Region, 5);
    let sum = *space.lock() + *regions.read() + *slots[0].lock();
    assert_eq!(sum, 8);
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
fn readers_and_writers_have_a_rank() {
    common::threads_are_contexts();
    let twice = message(|| {
        let regions = RankedRw::new(Rank::Region, ());
        let _held = regions.read();
        drop(regions.read());
    });
    assert!(twice.contains("out of address order, or twice"), "{twice}");
    let late = message(|| {
        let (slot, regions) = (Ranked::new(Rank::Slot, ()), RankedRw::new(Rank::Region, ()));
        let _held = slot.lock();
        drop(regions.write());
    });
    assert!(late.contains("lock of rank Region taken while"), "{late}");
    let released = RankedRw::new(Rank::Region, 1);
    *released.write() += 1;
    assert_eq!(*released.read(), 2);
}

/// One reads, one waits to write, and one who comes then to read waits for the writer.
#[cfg(not(target_os = "none"))]
fn a_writer_that_waits_goes_first() {
    use ashlar::sync::{lock_waits, lock_waits_of};
    common::threads_are_contexts();
    let regions = RankedRw::new(Rank::Region, 0);
    let before = (lock_waits_of(Rank::Region), lock_waits());
    let waits = || lock_waits_of(Rank::Region) - before.0;
    std::thread::scope(|scope| {
        let first = regions.read();
        scope.spawn(|| *regions.write() += 1);
        while waits() < 1 {
            std::thread::yield_now();
        }
        let last = scope.spawn(|| *regions.read());
        while waits() < 2 && !last.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!((*first, regions.try_read().map(|value| *value)), (0, Some(0)), "readers share");
        drop(first);
        assert_eq!(last.join().expect("it reads"), 1);
    });
    assert!(lock_waits() - before.1 >= 2);
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
    readers_and_writers_have_a_rank,
    #[cfg(not(target_os = "none"))]
    a_writer_that_waits_goes_first,
    #[cfg(not(target_os = "none"))]
    a_lower_address_of_the_same_rank_is_refused,
}
