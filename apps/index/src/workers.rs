//! Who does the work: the library makes no threads, it hands its jobs to those that it is given.

use crate::{IndexError, reserve};
use alloc::vec::Vec;
use core::ops::Range;
use spin::Mutex;

/// How many parts the work of each thread is in: they take unlike times, and who is done early takes another one.
const PARTS: usize = 4;

/// Threads that work on the same thing at once.
pub trait Workers {
    /// How many they are; with one the work is not divided.
    fn count(&self) -> usize;

    /// Calls `work` at the same time in `calls` threads or as many as there are, the calling one among them, and returns
    /// when all calls have returned. One call does all that others have left, so fewer calls do, and more do no harm.
    fn run(&self, calls: usize, work: &(dyn Fn() + Sync));
}

/// The calling thread, and no other.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Workers for Alone {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, _calls: usize, work: &(dyn Fn() + Sync)) {
        work();
    }
}

/// One input and what becomes of it.
struct Job<I, O> {
    input: Option<I>,
    output: Option<Result<O, IndexError>>,
}

/// What `work` makes of each of the inputs, in their order, or the first error in that order.
pub(crate) fn map<I: Send, O: Send>(
    workers: &dyn Workers,
    inputs: Vec<I>,
    work: impl Fn(I) -> Result<O, IndexError> + Sync,
) -> Result<Vec<O>, IndexError> {
    let (mut jobs, mut outputs) = (Vec::new(), Vec::new());
    reserve(&mut jobs, inputs.len(), "the parts")?;
    reserve(&mut outputs, inputs.len(), "the parts")?;
    jobs.extend(inputs.into_iter().map(|input| Job { input: Some(input), output: None }));
    let calls = jobs.len();
    let queue = Mutex::new(jobs.iter_mut());
    let work_off = || {
        while let Some(job) = { queue.lock().next() } {
            job.output = job.input.take().map(&work);
        }
    };
    if calls > 1 {
        workers.run(calls, &work_off);
    }
    work_off();
    for job in jobs {
        outputs.extend(job.output.transpose()?);
    }
    Ok(outputs)
}

/// Into how many parts to cut what `workers` are to do.
pub(crate) fn parts(workers: &dyn Workers) -> usize {
    match workers.count() {
        0 | 1 => 1,
        count => count.saturating_mul(PARTS),
    }
}

/// Cuts a row of things of these sizes into at most `count` pieces of about the same size, none of them without a thing.
pub(crate) fn cut(
    sizes: impl ExactSizeIterator<Item = usize> + Clone,
    count: usize,
) -> Result<Vec<Range<usize>>, IndexError> {
    let count = count.clamp(1, sizes.len().max(1));
    let mut pieces = Vec::new();
    reserve(&mut pieces, count, "the parts")?;
    // Every thing has a size, so the last one ends a piece.
    let sizes = sizes.map(|size| size + 1);
    let total: usize = sizes.clone().sum();
    let (mut start, mut sum, mut mark) = (0, 0, 1);
    for (at, size) in sizes.enumerate() {
        sum += size;
        if sum * count >= total * mark {
            pieces.push(start..at + 1);
            start = at + 1;
            mark = sum * count / total + 1;
        }
    }
    Ok(pieces)
}
