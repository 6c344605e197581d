//! The standard library's iterators on one thread: what all the others have to be worth it against.

use anyhow::Result;

use super::{Run, with_task};
use crate::job::Job;
use crate::task::Task;

pub(super) fn prepare(job: &Job) -> Result<Run> {
    with_task!(job, |task| Ok(run(task)))
}

fn run<T: Task>(task: T) -> Run {
    Box::new(move |input| {
        let results = (0..input.n as usize).map(|index| task.apply_at(input, index));
        Ok(results.fold(0, i64::wrapping_add))
    })
}
