//! renoir, a dataflow engine, with its local configuration, as its benchmarks use it. "In place" is what it is best at: a
//! parallel source whose replicas map and fold where they are, so that only their sums meet. "Exchanged" has one source,
//! as catchment has: items are shuffled to the replicas in batches of 1,024, or one by one in the job `single`. Within a
//! process it exchanges vectors of items, not bytes. Its environment is made for each run, since a run consumes it.
//! Where items block, it has as many replicas as are to wait at once.

use std::sync::Arc;

use anyhow::{Context, Result};
use renoir::operator::{Operator, sink::StreamOutput};
use renoir::{BatchMode, RuntimeConfig, Stream, StreamContext};

use super::{CHUNK, IN_FLIGHT, Run, with_task};
use crate::input::Input;
use crate::job::{Job, Kind};
use crate::task::Task;

pub(super) fn in_place(job: &Job) -> Result<Run> {
    let config = match job.kind {
        Kind::Sleep => RuntimeConfig::local(IN_FLIGHT as u64)?,
        _ => RuntimeConfig::default(),
    };
    let batches = batches(job);
    with_task!(job, |task| Ok(run_in_place(task, config, batches)))
}

pub(super) fn exchanged(job: &Job) -> Result<Run> {
    let batches = batches(job);
    with_task!(job, |task| Ok(run_exchanged(task, batches)))
}

fn batches(job: &Job) -> BatchMode {
    match job.kind {
        Kind::Single => BatchMode::single(),
        _ => BatchMode::fixed(CHUNK),
    }
}

fn run_in_place<T: Task>(task: T, config: RuntimeConfig, batches: BatchMode) -> Run {
    let config = Arc::new(config);
    Box::new(move |input| {
        let shared = Arc::new(Input {
            n: input.n,
            lines: std::mem::take(&mut input.lines),
            records: Vec::new(),
        });
        let borrowed = Arc::clone(&shared);
        let environment = StreamContext::new(Arc::clone(&config));
        let sum = add(environment
            .stream_par_iter(0..input.n)
            .batch_mode(batches)
            .map(move |index| task.apply_at(&borrowed, index as usize)));
        environment.execute_blocking();
        // So that they are not dropped while the clock runs.
        if let Some(shared) = Arc::into_inner(shared) {
            input.lines = shared.lines;
        }
        value(sum)
    })
}

fn run_exchanged<T: Task>(task: T, batches: BatchMode) -> Run {
    Box::new(move |input| {
        let environment = StreamContext::new_local();
        let sum = add(environment
            .stream_iter(T::items(input))
            .batch_mode(batches)
            .shuffle()
            .map(move |item| task.apply(item)));
        environment.execute_blocking();
        value(sum)
    })
}

/// Sums where the items are, then sums the sums.
fn add<O: Operator<Out = i64> + 'static>(values: Stream<O>) -> StreamOutput<Vec<i64>> {
    values
        .fold_assoc(
            0_i64,
            |sum, value| *sum = sum.wrapping_add(value),
            |sum, value| *sum = sum.wrapping_add(value),
        )
        .collect_vec()
}

fn value(sum: StreamOutput<Vec<i64>>) -> Result<i64> {
    let sums = sum.get().context("no result")?;
    sums.first().copied().context("an empty result")
}
