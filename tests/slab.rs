//! Slabs: records found again, room for many, stale handles that harm nobody, and sources that run dry.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ashlar::mm::slab::{Handle, Slab};
use common::{Frames, Random};
use core::sync::atomic::{AtomicU64, Ordering};

const STEPS: u64 = if cfg!(target_os = "none") { 5_000 } else { 40_000 };
const SEEDS: [u64; 3] = [3, 0xa51a, 0xfeed_f00d];

/// A record of `N` words.
struct Words<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Words<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Words<N> {
    fn fill(&self, value: u64) {
        self.0.iter().for_each(|word| word.store(value, Ordering::Relaxed));
    }

    fn holds(&self, value: u64) -> bool {
        self.0.iter().all(|word| word.load(Ordering::Relaxed) == value)
    }
}

fn against_a_map<const N: usize>(seed: u64) {
    let frames = Frames::plenty();
    let slab = Slab::<Words<N>>::new();
    let mut model = BTreeMap::new();
    let mut random = Random::new(seed);
    for step in 0..STEPS {
        // Growing and shrinking in turn.
        if random.below(10) < if (step / (STEPS / 4)).is_multiple_of(2) { 6 } else { 4 } {
            let handle = slab.allocate(&frames).expect("there is plenty");
            slab.get(handle).fill(step);
            assert_eq!(model.insert(handle.raw(), step), None, "{handle:?} allocated twice");
        } else if let Some(raw) = model.range(random.next() as u32 % 4096..).next().map(|(&raw, _)| raw) {
            let handle = Handle::from_raw(raw).expect("it was a handle");
            let step = model.remove(&raw).expect("just found");
            assert!(slab.get(handle).holds(step));
            slab.free(handle);
        }
        assert_eq!(slab.len(), model.len());
    }
    assert!(slab.handles().map(Handle::raw).eq(model.keys().copied()));
    assert!(slab.handles().all(|handle| slab.get(handle).holds(model[&handle.raw()])));
    assert_eq!(slab.frames(), frames.given());
}

fn random_operations() {
    for seed in SEEDS {
        against_a_map::<1>(seed);
        against_a_map::<7>(seed);
        against_a_map::<32>(seed);
        against_a_map::<300>(seed);
    }
}

/// Enough records for several directories; every frame is full but the directories' and the last.
fn many_records() {
    const MANY: usize = if cfg!(target_os = "none") { 40_000 } else { 300_000 };
    let frames = Frames::plenty();
    let slab = Slab::<Words<3>>::new();
    let handles: Vec<_> = (0..MANY).map(|_| slab.allocate(&frames).expect("there is plenty")).collect();
    for (value, &handle) in handles.iter().enumerate() {
        slab.get(handle).fill(value as u64);
    }
    assert!(handles.iter().enumerate().all(|(value, &handle)| slab.get(handle).holds(value as u64)));
    let records = MANY.div_ceil(4096 / 32) + 1;
    assert!(slab.frames() <= records + records.div_ceil(512) + 1, "{} frames", slab.frames());
    assert!(slab.frames() >= records - 1);
    let before = slab.frames();
    handles.iter().for_each(|&handle| slab.free(handle));
    assert!(slab.is_empty());
    assert!((0..MANY).all(|_| slab.allocate(&frames).is_some()));
    assert_eq!(slab.frames(), before);
}

/// One record in each chunk: the most directories that a number of records can need.
fn large_records() {
    const MANY: usize = 1_200;
    let frames = Frames::plenty();
    let slab = Slab::<Words<500>>::new();
    let handles: Vec<_> = (0..MANY).map(|_| slab.allocate(&frames).expect("there is plenty")).collect();
    handles.iter().zip(0..).for_each(|(&handle, value)| slab.get(handle).fill(value));
    assert!(handles.iter().zip(0..).all(|(&handle, value)| slab.get(handle).holds(value)));
    // Record 0 is none, and there are three directories and the one above them.
    assert_eq!(slab.frames(), MANY + 1 + 3 + 1);
}

/// The source fails after n frames, for every n: what was allocated stays, and no frame is lost.
fn exhaustion() {
    for limit in 0..20 {
        let frames = Frames::new(limit);
        let slab = Slab::<Words<30>>::new();
        let mut handles = Vec::new();
        while let Some(handle) = slab.allocate(&frames) {
            slab.get(handle).fill(handles.len() as u64);
            handles.push(handle);
        }
        assert!(slab.allocate(&frames).is_none());
        assert_eq!(slab.frames(), limit);
        assert_eq!(handles.len(), (limit.saturating_sub(2) * 16).saturating_sub(1));
        assert!(slab.reserve(&frames, 1).is_none());
        frames.set(3);
        let more = slab.allocate(&frames).expect("there are frames again");
        slab.get(more).fill(u64::MAX);
        assert!(handles.iter().zip(0..).all(|(&handle, value)| slab.get(handle).holds(value)));
        handles.iter().for_each(|&handle| slab.free(handle));
        assert_eq!(slab.len(), 1);
    }
}

/// Reserved records are nobody else's, and come back when they are not used.
fn reservations() {
    let frames = Frames::plenty();
    let slab = Slab::<Words<30>>::new();
    let mut reservation = slab.reserve(&frames, 40).expect("there is plenty");
    frames.set(0);
    let mut others = 0;
    while slab.allocate(&frames).is_some() {
        others += 1;
    }
    // Three chunks of 16, without record 0.
    assert_eq!(others, 47 - 40);
    assert!(slab.reserve(&frames, 1).is_none());
    for left in (10..40).rev() {
        let handle = reservation.allocate();
        slab.get(handle).fill(left as u64);
        assert_eq!(reservation.len(), left);
    }
    assert!(slab.allocate(&frames).is_none());
    drop(reservation);
    assert!((0..10).all(|_| slab.allocate(&frames).is_some()));
    assert!(slab.allocate(&frames).is_none());
    assert_eq!(slab.len(), 47);
}

/// The only user's way: prepared, then taken.
fn exclusive_use() {
    let frames = Frames::new(3);
    let mut slab = Slab::<u64>::new();
    assert!(!slab.prepare(&frames, 100_000));
    frames.set(2);
    assert!(slab.prepare(&frames, 300));
    frames.set(0);
    assert!(slab.prepare(&frames, 300));
    let handles: Vec<_> = (0..300).map(|_| slab.take()).collect();
    handles.iter().zip(0..).for_each(|(&handle, value)| *slab.get_mut(handle) = value);
    let (one, other) = slab.pair_mut(handles[17], handles[200]);
    core::mem::swap(one, other);
    assert_eq!((*slab.get(handles[17]), *slab.get(handles[200])), (200, 17));
}

/// A record keeps what its last user left: its memory never becomes anything else.
fn records_are_type_stable() {
    let frames = Frames::plenty();
    let slab = Slab::<Words<4>>::new();
    let handle = slab.allocate(&frames).expect("there is plenty");
    let record = slab.get(handle);
    assert!(record.holds(0));
    record.fill(9);
    slab.free(handle);
    assert!(record.holds(9));
    let again = slab.allocate(&frames).expect("there is plenty");
    assert_eq!(again, handle);
    assert!(slab.get(again).holds(9));
}

fn numbers_that_are_no_handles() {
    assert_eq!(Handle::<Words<30>>::from_raw(0), None);
    // 248 bytes: 16 in a chunk. 7 words: 64 bytes, 64 in a chunk. 32 words: 264 bytes, 15 in a chunk.
    assert!((1..64).all(|raw| Handle::<Words<30>>::from_raw(raw).is_some_and(|handle| handle.raw() == raw)));
    assert!((1..64).all(|raw| Handle::<Words<32>>::from_raw(raw).is_some() == (raw % 16 != 15)));
}

#[cfg(not(target_os = "none"))]
fn bad_handles_are_refused() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let frames = Frames::plenty();
    let slab = Slab::<Words<30>>::new();
    let handle = slab.allocate(&frames).expect("there is plenty");
    let panics = |action: &dyn Fn()| catch_unwind(AssertUnwindSafe(action)).is_err();
    let wild = Handle::from_raw(16).expect("a number that a handle may have");
    assert!(panics(&|| slab.get(wild).fill(1)));
    assert!(panics(&|| slab.get(Handle::from_raw(u32::MAX - 15).expect("index 0")).fill(1)));
    slab.free(handle);
    assert_eq!(panics(&|| slab.get(handle).fill(1)), cfg!(debug_assertions));
    assert!(panics(&|| slab.free(handle)));
    assert!(panics(&|| assert_ne!(slab.reserve(&frames, 0).expect("none is always there").allocate().raw(), 0)));
}

/// Several contexts allocate and free at once; nobody gets what another has.
#[cfg(not(target_os = "none"))]
fn shared_use() {
    let frames = Frames::plenty();
    let slab = Slab::<Words<5>>::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (slab, frames) = (&slab, &frames);
            scope.spawn(move || {
                let mut random = Random::new(thread);
                let mut mine = Vec::new();
                for step in 0..STEPS / 10 {
                    if random.below(2) == 0 || mine.is_empty() {
                        let handle = slab.allocate(frames).expect("there is plenty");
                        slab.get(handle).fill(thread << 32 | step);
                        mine.push((handle, thread << 32 | step));
                    } else {
                        let (handle, value) = mine.swap_remove(random.below(mine.len() as u64) as usize);
                        assert!(slab.get(handle).holds(value));
                        slab.free(handle);
                    }
                }
                mine.iter().for_each(|&(handle, _)| slab.free(handle));
            });
        }
    });
    assert!(slab.is_empty());
}

ashlar_test::tests! {
    random_operations,
    many_records,
    large_records,
    exhaustion,
    reservations,
    exclusive_use,
    records_are_type_stable,
    numbers_that_are_no_handles,
    #[cfg(not(target_os = "none"))] bad_handles_are_refused,
    #[cfg(not(target_os = "none"))] shared_use,
}
