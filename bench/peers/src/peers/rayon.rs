//! rayon, as its front page shows it: a parallel iterator over a range, mapped and reduced. Nothing is copied or
//! encoded. It has as many threads as the machine has cores, except where its items block: there it gets one thread
//! for each of those that are to wait at once. In the job `single` it may not put items together. In `records` it owns the
//! vector, and in `chain` the functions stand in a row.

use anyhow::Result;
use rayon::ThreadPoolBuilder;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::{IN_FLIGHT, Run, with_task};
use crate::job::{Job, Kind};
use crate::task::{Chain, Records, Task};

pub(super) fn prepare(job: &Job, threads: Option<usize>) -> Result<Run> {
    let threads = match job.kind {
        Kind::Sleep | Kind::Fetch => IN_FLIGHT,
        // As many as there are cores.
        _ => threads.unwrap_or(0),
    };
    let longest = match job.kind {
        Kind::Single | Kind::Sleep | Kind::Fetch => 1,
        _ => usize::MAX,
    };
    match job.kind {
        Kind::Records => records(threads),
        Kind::Chain => chain(threads),
        _ => with_task!(job, |task| run(task, threads, longest)),
    }
}

fn run<T: Task>(task: T, threads: usize, longest: usize) -> Result<Run> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(Box::new(move |input| {
        let input = &*input;
        Ok(pool.install(|| {
            (0..input.n as usize)
                .into_par_iter()
                .with_max_len(longest)
                .map(|index| task.apply_at(input, index))
                .reduce(|| 0, i64::wrapping_add)
        }))
    }))
}

fn records(threads: usize) -> Result<Run> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(Box::new(move |input| {
        let records = std::mem::take(&mut input.records);
        Ok(pool.install(|| {
            records
                .into_par_iter()
                .map(Records::scale)
                .fold(|| 0, Records::add)
                .reduce(|| 0, i64::wrapping_add)
        }))
    }))
}

fn chain(threads: usize) -> Result<Run> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(Box::new(move |input| {
        let n = input.n as usize;
        Ok(pool.install(|| {
            (0..n)
                .into_par_iter()
                .map(|index| Chain::first(index as i64 + 1))
                .filter(Chain::keeps)
                .map(Chain::last)
                .reduce(|| 0, i64::wrapping_add)
        }))
    }))
}
