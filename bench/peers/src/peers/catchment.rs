//! catchment, as its front page shows it. Embedded, each run has a backend and a worker of its own. Deployed, one
//! deployment and one worker serve all runs. The options are the defaults, except where the job asks for one: packets of
//! one item in the job `single`, 256 items in flight in the jobs `sleep` and `fetch`.

mod pipelines;

use anyhow::Result;
use catchment::pipeline::One;
use catchment::{Backend, Data, Deployment, Pipeline, RunningWorker, Stage};
use futures::stream;

use super::{Run, runtime, with_task};
use crate::job::{Job, Kind};
use crate::task::{Double, Task};
use pipelines::{Pipelined, apart};

/// What packets travel as.
#[derive(Clone, Copy)]
pub(super) enum Travel {
    Json,
    #[cfg(feature = "compact")]
    Postcard,
}

pub(super) fn embedded(job: &Job, travel: Travel, concurrency: Option<usize>) -> Result<Run> {
    let options = options(job, concurrency);
    match job.kind {
        Kind::Stream => {
            let runtime = runtime()?;
            let pipeline = encoded(Double.pipeline(options), travel);
            Ok(Box::new(move |input| {
                let numbers = stream::iter(Double::items(input));
                Ok(runtime.block_on(pipeline.run_stream(numbers))?)
            }))
        }
        _ => with_task!(job, |task| running(
            task,
            encoded(task.pipeline(options), travel)
        )),
    }
}

pub(super) fn deployed(job: &Job, travel: Travel, concurrency: Option<usize>) -> Result<Run> {
    with_task!(job, |task| {
        let pipeline = encoded(task.pipeline(options(job, None)), travel);
        submitting(task, &pipeline, concurrency)
    })
}

/// As `deployed`, with a key.
#[cfg(feature = "signed")]
pub(super) fn signed(job: &Job, travel: Travel) -> Result<Run> {
    with_task!(job, |task| {
        let pipeline = encoded(task.pipeline(options(job, None)), travel);
        let deployment = pipeline.deploy("bench", Backend::memory())?;
        let key = catchment::Key::new([7; 32]);
        serving(task, deployment.signed(key), None)
    })
}

/// The job `apart` in two stages; in one it is as every other job.
pub(super) fn embedded_apart(travel: Travel) -> Result<Run> {
    running(Double, encoded(apart(), travel))
}

pub(super) fn deployed_apart(travel: Travel) -> Result<Run> {
    submitting(Double, &encoded(apart(), travel), None)
}

fn running<T: Task>(_: T, pipeline: Pipeline<T::Item, i64, One>) -> Result<Run> {
    let runtime = runtime()?;
    Ok(Box::new(move |input| {
        Ok(runtime.block_on(pipeline.run(T::items(input)))?)
    }))
}

fn submitting<T: Task>(
    task: T,
    pipeline: &Pipeline<T::Item, i64, One>,
    concurrency: Option<usize>,
) -> Result<Run> {
    serving(task, pipeline.deploy("bench", Backend::memory())?, concurrency)
}

fn serving<T: Task>(
    _: T,
    deployment: Deployment<T::Item, i64>,
    concurrency: Option<usize>,
) -> Result<Run> {
    let runtime = runtime()?;
    let worker = runtime.block_on(async { start(&deployment, concurrency) });
    Ok(Box::new(move |input| {
        // It works as long as it is not dropped.
        let _ = &worker;
        runtime.block_on(async {
            let run = deployment.submit(T::items(input)).await?;
            Ok(run.result().await?)
        })
    }))
}

fn start<I, R>(deployment: &Deployment<I, R>, concurrency: Option<usize>) -> RunningWorker {
    match concurrency {
        Some(concurrency) => deployment.worker().concurrency(concurrency).start(),
        None => deployment.worker().start(),
    }
}

/// The options of the first stage.
fn options(job: &Job, concurrency: Option<usize>) -> Stage {
    match (job.kind, concurrency) {
        (Kind::Single, _) => Stage::new().packet_size(1),
        (_, Some(concurrency)) => Stage::new().concurrency(concurrency),
        _ => Stage::new(),
    }
}

fn encoded<I: Data>(pipeline: Pipeline<I, i64, One>, travel: Travel) -> Pipeline<I, i64, One> {
    match travel {
        Travel::Json => pipeline,
        #[cfg(feature = "compact")]
        Travel::Postcard => pipeline.codec(catchment::Codec::Postcard),
    }
}
