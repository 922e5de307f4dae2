//! Memory is refused at every step: an error says so, and nothing panics.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Threads, build, generated};
use index::{Alone, IndexError, Workers};

/// Smaller allocations are not refused: a thread's own, and the names of files.
const SMALL: usize = 1024;

/// The host's allocator, which refuses one allocation.
struct Refusing;

/// How many larger allocations are granted before the one that is not.
static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

fn is_refused(bytes: usize) -> bool {
    bytes >= SMALL && LEFT.fetch_sub(1, Ordering::Relaxed) == 0
}

// SAFETY: all that is granted is the host's.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that are asked for.
        if is_refused(layout.size()) { null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `alloc` or `realloc` had it from there.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above.
        if is_refused(bytes) { null_mut() } else { unsafe { System.realloc(pointer, layout, bytes) } }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

// The only test here: what others allocate would count, too.
#[test]
fn every_allocation_is_refused_once() {
    let files = generated(1, 60, 400);
    let expected = build(&files, &Alone).unwrap();
    for workers in [&Alone as &dyn Workers, &Threads(3)] {
        let mut purposes = BTreeSet::new();
        for step in 0.. {
            LEFT.store(step, Ordering::Relaxed);
            let built = build(&files, workers);
            let is_over = LEFT.swap(usize::MAX, Ordering::Relaxed) <= step;
            match built {
                Err(IndexError::OutOfMemory { purpose, .. }) => purposes.insert(purpose),
                Err(error) => panic!("{error}"),
                Ok((summary, index)) => {
                    assert!(is_over, "nobody noticed that allocation {step} was refused");
                    assert_eq!(summary, expected.0);
                    assert!(index.words().eq(expected.1.words()));
                    break;
                }
            };
        }
        let wanted = ["the contents of the files", "the dictionary", "the postings", "the words of the text"];
        assert!(wanted.iter().all(|purpose| purposes.contains(purpose)), "{purposes:?}");
        assert!(purposes.contains("the text of an HTML file"), "{purposes:?}");
    }
}
