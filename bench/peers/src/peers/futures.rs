//! The combinators of `futures` over tokio's tasks: a stream of chunks, or of items, each spawned, so many at once. What
//! only waits needs no task of its own. Nothing is encoded.

use std::future::ready;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use super::{IN_FLIGHT, Run, chunks, runtime, with_task};
use crate::job::{Job, Kind};
use crate::task::{Fetch, Task, nap};

/// Chunks under way at once: enough that no core waits, and few enough to stay in the caches.
const CHUNKS_IN_FLIGHT: usize = 64;

pub(super) fn prepare(job: &Job, chunk: usize) -> Result<Run> {
    match (job.kind, chunk) {
        (Kind::Sleep, _) => sleep(),
        (Kind::Fetch, _) => fetch(),
        (_, 1) => with_task!(job, |task| each(task)),
        _ => with_task!(job, |task| chunked(task, chunk)),
    }
}

fn each<T: Task>(task: T) -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        let sums = stream::iter(T::items(input))
            .map(|item| tokio::spawn(async move { task.apply(item) }))
            .buffer_unordered(IN_FLIGHT)
            .try_fold(0_i64, |sum, value| ready(Ok(sum.wrapping_add(value))));
        Ok(runtime.block_on(sums)?)
    }))
}

fn chunked<T: Task>(task: T, chunk: usize) -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        let sums = stream::iter(chunks(T::items(input), chunk))
            .map(|items| tokio::spawn(async move { task.sum(items) }))
            .buffer_unordered(CHUNKS_IN_FLIGHT)
            .try_fold(0_i64, |sum, value| ready(Ok(sum.wrapping_add(value))));
        Ok(runtime.block_on(sums)?)
    }))
}

fn sleep() -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        let sums = stream::iter(1..=input.n)
            .map(nap)
            .buffer_unordered(IN_FLIGHT)
            .fold(0_i64, |sum, value| ready(sum.wrapping_add(value)));
        Ok(runtime.block_on(sums))
    }))
}

/// What was fetched is mapped where it arrives: it costs less than a task.
fn fetch() -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        let sums = stream::iter(1..=input.n)
            .map(nap)
            .buffer_unordered(IN_FLIGHT)
            .map(Fetch::then)
            .fold(0_i64, |sum, value| ready(sum.wrapping_add(value)));
        Ok(runtime.block_on(sums))
    }))
}
