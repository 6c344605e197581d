//! catchment, as its front page shows it. Embedded, each run has a backend and a worker of its own. Deployed, one
//! deployment and one worker serve all runs. The options are the defaults, except where the job asks for one: packets of
//! one item in the job `single`, 256 items in flight in the job `sleep`.

use std::convert::Infallible;

use anyhow::Result;
use catchment::pipeline::One;
use catchment::{Backend, Data, Deployment, Pipeline, RunningWorker, Stage};
use futures::stream;

use super::{IN_FLIGHT, Run, runtime, with_task};
use crate::input::Input;
use crate::job::{Job, Kind};
use crate::task::{Double, Nap, Task, nap};

/// What packets travel as.
#[derive(Clone, Copy)]
pub(super) enum Travel {
    Json,
    #[cfg(feature = "compact")]
    Postcard,
}

pub(super) fn embedded(job: &Job, travel: Travel, concurrency: Option<usize>) -> Result<Run> {
    let runtime = runtime()?;
    match job.kind {
        Kind::Sleep => {
            let pipeline = sleeping(travel);
            Ok(Box::new(move |input| {
                Ok(runtime.block_on(pipeline.run(Nap::items(input)))?)
            }))
        }
        Kind::Stream => {
            let pipeline = computing(Double, job, travel, None);
            Ok(Box::new(move |input| {
                let numbers = stream::iter(Double::items(input));
                Ok(runtime.block_on(pipeline.run_stream(numbers))?)
            }))
        }
        _ => with_task!(job, |task| {
            let pipeline = computing(task, job, travel, concurrency);
            Ok(Box::new(move |input: &mut Input| {
                Ok(runtime.block_on(pipeline.run(items(task, input)))?)
            }))
        }),
    }
}

pub(super) fn deployed(job: &Job, travel: Travel, concurrency: Option<usize>) -> Result<Run> {
    match job.kind {
        Kind::Sleep => submitting(Nap, &sleeping(travel), concurrency),
        _ => with_task!(job, |task| {
            submitting(task, &computing(task, job, travel, None), concurrency)
        }),
    }
}

fn submitting<T: Task>(
    task: T,
    pipeline: &Pipeline<T::Item, i64, One>,
    concurrency: Option<usize>,
) -> Result<Run> {
    let runtime = runtime()?;
    let deployment = pipeline.deploy("bench", Backend::memory())?;
    let worker = runtime.block_on(async { start(&deployment, concurrency) });
    Ok(Box::new(move |input| {
        // It works as long as it is not dropped.
        let _ = &worker;
        runtime.block_on(async {
            let run = deployment.submit(items(task, input)).await?;
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

fn items<T: Task>(_: T, input: &mut Input) -> T::Items {
    T::items(input)
}

fn computing<T: Task>(
    task: T,
    job: &Job,
    travel: Travel,
    concurrency: Option<usize>,
) -> Pipeline<T::Item, i64, One> {
    let stage = match (job.kind, concurrency) {
        (Kind::Single, _) => Stage::new().packet_size(1),
        (_, Some(concurrency)) => Stage::new().concurrency(concurrency),
        _ => Stage::new(),
    };
    let pipeline = Pipeline::new()
        .map(move |item: T::Item| task.apply(item))
        .with(stage)
        .reduce(|| 0, i64::wrapping_add);
    encoded(pipeline, travel)
}

fn sleeping(travel: Travel) -> Pipeline<i64, i64, One> {
    let pipeline = Pipeline::new()
        .then(|n: i64| async move { Ok::<_, Infallible>(nap(n).await) })
        .with(Stage::new().concurrency(IN_FLIGHT))
        .reduce(|| 0, i64::wrapping_add);
    encoded(pipeline, travel)
}

fn encoded<I: Data>(pipeline: Pipeline<I, i64, One>, travel: Travel) -> Pipeline<I, i64, One> {
    match travel {
        Travel::Json => pipeline,
        #[cfg(feature = "compact")]
        Travel::Postcard => pipeline.codec(catchment::Codec::Postcard),
    }
}
