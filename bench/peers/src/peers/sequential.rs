//! The standard library's iterators on one thread: what all the others have to be worth it against.

use anyhow::Result;

use super::{Run, with_task};
use crate::job::{Job, Kind};
use crate::task::Task;

pub(super) fn prepare(job: &Job) -> Result<Run> {
    match job.kind {
        Kind::Records | Kind::Chain => with_task!(job, |task| Ok(run_owned(task))),
        _ => with_task!(job, |task| Ok(run(task))),
    }
}

/// Takes the items, since mapping a record does.
fn run_owned<T: Task>(task: T) -> Run {
    Box::new(move |input| Ok(task.sum(T::items(input))))
}

fn run<T: Task>(task: T) -> Run {
    Box::new(move |input| {
        let results = (0..input.n as usize).map(|index| task.apply_at(input, index));
        Ok(results.fold(0, i64::wrapping_add))
    })
}
