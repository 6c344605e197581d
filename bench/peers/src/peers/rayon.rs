//! rayon, as its front page shows it: a parallel iterator over a range, mapped and reduced. Nothing is copied or
//! encoded. It has as many threads as the machine has cores, except where its items block: there it gets one thread
//! for each of those that are to wait at once. In the job `single` it may not put items together.

use anyhow::Result;
use rayon::ThreadPoolBuilder;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::{IN_FLIGHT, Run, with_task};
use crate::job::{Job, Kind};
use crate::task::Task;

pub(super) fn prepare(job: &Job, threads: Option<usize>) -> Result<Run> {
    let threads = match job.kind {
        Kind::Sleep => IN_FLIGHT,
        // As many as there are cores.
        _ => threads.unwrap_or(0),
    };
    let longest = match job.kind {
        Kind::Single | Kind::Sleep => 1,
        _ => usize::MAX,
    };
    with_task!(job, |task| run(task, threads, longest))
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
