//! Runs that count instructions do not disturb each other: as many at once as the host has cores.

use anyhow::{Context, Result};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Calls `run` with each of `items`; the results are in their order.
pub fn run<T: Sync, R: Send>(items: &[T], run: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<R>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let jobs: Vec<_> = items.iter().zip(&results).collect();
    thread::scope(|scope| {
        for _ in 0..at_once.min(items.len()) {
            scope.spawn(|| {
                while let Some(&(item, place)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run(item);
                    *place.lock().expect("nobody panics with it") = Some(result);
                }
            });
        }
    });
    let result =
        |place: Mutex<Option<Result<R>>>| place.into_inner().ok().flatten().context("a run without a result")?;
    results.into_iter().map(result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_in_order() {
        let double = |&number: &u32| {
            // The first take longest.
            let sum = (0..(20 - number) * 10_000).fold(0, |sum, turn| std::hint::black_box(sum ^ turn));
            std::hint::black_box(sum);
            Ok(number * 2)
        };
        let items: Vec<u32> = (0..10).collect();
        assert_eq!(super::run(&items, double).unwrap(), (0..20).step_by(2).collect::<Vec<_>>());
        assert!(super::run(&[1], |_| -> anyhow::Result<()> { anyhow::bail!("no") }).is_err());
    }
}
