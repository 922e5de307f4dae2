//! Jobs side by side, their results one after the other.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Does `work` for every job and hands each result to `done` in the order of the jobs, as soon as it is there. Those that
/// `share` go side by side, at most `most` of them; then the others, each alone.
pub fn run<J: Sync, R: Send>(
    jobs: &[J],
    most: usize,
    share: impl Fn(&J) -> bool,
    work: impl Fn(&J) -> R + Sync,
    mut done: impl FnMut(&J, R),
) {
    let (sharing, alone): (Vec<usize>, Vec<usize>) = (0..jobs.len()).partition(|&index| share(&jobs[index]));
    let (next, work) = (AtomicUsize::new(0), &work);
    let (sender, receiver) = mpsc::channel();
    // Nobody who receives is gone before all have sent.
    let one = move |index: usize| drop(sender.send((index, work(&jobs[index]))));
    thread::scope(|scope| {
        let (next, sharing) = (&next, &sharing);
        scope.spawn(move || {
            thread::scope(|scope| {
                for _ in 0..most.clamp(1, sharing.len().max(1)) {
                    scope.spawn(|| {
                        while let Some(&index) = sharing.get(next.fetch_add(1, Ordering::Relaxed)) {
                            one(index);
                        }
                    });
                }
            });
            alone.into_iter().for_each(one);
        });
        let mut results: Vec<Option<R>> = jobs.iter().map(|_| None).collect();
        let mut told = 0;
        // To the last sender's end.
        for (index, result) in receiver {
            results[index] = Some(result);
            while let Some(result) = results.get_mut(told).and_then(Option::take) {
                done(&jobs[told], result);
                told += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    /// A job's length in milliseconds, and whether it shares. Returns how many ran beside each, itself included, at most.
    fn beside(jobs: &[(u64, bool)], most: usize) -> Vec<usize> {
        let (running, beside) = (Mutex::new(Vec::new()), Mutex::new(vec![0; jobs.len()]));
        let mut order = Vec::new();
        let numbered: Vec<_> = jobs.iter().enumerate().collect();
        let work = |&(index, &(length, _)): &(usize, &(u64, bool))| {
            let mut running_now = running.lock().unwrap();
            running_now.push(index);
            for &other in running_now.iter() {
                let count = &mut beside.lock().unwrap()[other];
                *count = running_now.len().max(*count);
            }
            drop(running_now);
            thread::sleep(Duration::from_millis(length));
            running.lock().unwrap().retain(|&other| other != index);
            index
        };
        run(
            &numbered,
            most,
            |(_, (_, shares))| *shares,
            work,
            |&(index, _), result| {
                assert_eq!(index, result);
                order.push(result);
            },
        );
        assert!(order.iter().copied().eq(0..jobs.len()), "{order:?}");
        beside.into_inner().unwrap()
    }

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        assert!(beside(&[], 2).is_empty());
        assert_eq!(beside(&[(1, true)], 0), [1]);
        beside(&[(60, true), (1, true), (30, true), (1, true)], 4);
    }

    #[test]
    fn no_more_than_allowed_run_at_once() {
        assert_eq!(beside(&[(20, true); 6], 2), [2; 6]);
        assert_eq!(beside(&[(5, true); 3], 1), [1; 3]);
    }

    #[test]
    fn those_that_do_not_share_run_alone() {
        let counts = beside(&[(10, false), (20, true), (10, false), (20, true), (10, false)], 4);
        assert_eq!(counts, [1, 2, 1, 2, 1]);
    }
}
