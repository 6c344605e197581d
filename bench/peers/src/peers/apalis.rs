//! apalis with its memory storage: tasks are pushed, and a worker runs them, each spawned on tokio, as its front page
//! shows it. It has no reduction: tasks add to a shared number, and the one that is the last ends the worker. A worker is
//! made for each run, since it ends with it. Memory storage encodes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Result;
use apalis::prelude::{
    MemoryStorage, ParallelizeExt, TaskSink, WorkerBuilder, WorkerBuilderExt, WorkerError,
};
use futures::stream;
use tokio::sync::Notify;

use super::{IN_FLIGHT, Run, chunks, runtime, with_task};
use crate::job::{Job, Kind};
use crate::task::{Fetch, Task, nap};

/// What the tasks of a run have come to.
struct Tally {
    sum: AtomicI64,
    left: AtomicI64,
    done: Notify,
}

impl Tally {
    fn of(items: i64) -> Arc<Self> {
        Arc::new(Self {
            sum: AtomicI64::new(0),
            left: AtomicI64::new(items),
            done: Notify::new(),
        })
    }

    fn add(&self, value: i64, items: i64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        if self.left.fetch_sub(items, Ordering::AcqRel) == items {
            self.done.notify_one();
        }
    }
}

pub(super) fn prepare(job: &Job, chunk: usize) -> Result<Run> {
    match (job.kind, chunk) {
        (Kind::Sleep, _) => sleep(|n| n),
        (Kind::Fetch, _) => sleep(Fetch::then),
        (_, 1) => with_task!(job, |task| each(task)),
        _ => with_task!(job, |task| chunked(task, chunk)),
    }
}

/// Pushes the tasks, and runs a worker until they are done. A macro, since the worker's type is no one's to write down.
macro_rules! work_off {
    ($runtime:expr, $tally:expr, $tasks:expr, |$worker:ident| $build:expr) => {
        $runtime.block_on(async {
            let tally = Arc::clone(&$tally);
            let mut storage = MemoryStorage::new();
            storage.push_stream(stream::iter($tasks)).await?;
            let $worker = WorkerBuilder::new("bench").backend(storage);
            let ended = async move {
                tally.done.notified().await;
                Ok::<(), WorkerError>(())
            };
            $build.run_until(ended).await?;
            Ok($tally.sum.load(Ordering::Acquire))
        })
    };
}

fn each<T: Task>(task: T) -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        let tally = Tally::of(input.n);
        let shared = Arc::clone(&tally);
        let handler = move |item: T::Item| {
            let tally = Arc::clone(&shared);
            async move { tally.add(task.apply(item), 1) }
        };
        work_off!(runtime, tally, T::items(input), |worker| worker
            .concurrency(IN_FLIGHT)
            .parallelize(tokio::spawn)
            .build(handler))
    }))
}

fn chunked<T: Task>(task: T, chunk: usize) -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        let tally = Tally::of(input.n);
        let shared = Arc::clone(&tally);
        let handler = move |items: Vec<T::Item>| {
            let tally = Arc::clone(&shared);
            async move {
                let length = items.len() as i64;
                tally.add(task.sum(items), length);
            }
        };
        let tasks = chunks(T::items(input), chunk);
        work_off!(runtime, tally, tasks, |worker| worker
            .concurrency(IN_FLIGHT)
            .parallelize(tokio::spawn)
            .build(handler))
    }))
}

/// Waits, and adds what `then` makes of the number.
fn sleep(then: fn(i64) -> i64) -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        let tally = Tally::of(input.n);
        let shared = Arc::clone(&tally);
        let handler = move |n: i64| {
            let tally = Arc::clone(&shared);
            async move { tally.add(then(nap(n).await), 1) }
        };
        work_off!(runtime, tally, 1..=input.n, |worker| worker
            .concurrency(IN_FLIGHT)
            .build(handler))
    }))
}
