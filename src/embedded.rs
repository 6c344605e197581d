//! A run inside this process: a backend of its own, a worker of its own, gone when it ends.

mod bundle;
mod fallible;
mod outcome;
mod packer;
mod run;
#[cfg(feature = "sqlite")]
mod run_in;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::core::error::Result;
use crate::core::id::RunId;
use crate::deployment::Deployment;
use crate::deployment::run::Run;
use crate::stage::Data;
use crate::submit::{Opening, Source};
use crate::worker::{RunningWorker, Worker};

/// Messages that the worker holds beyond those that run.
const PREFETCH: usize = 128;

/// Runs the pipeline over the items of a source. The run that is returned is done.
async fn run<I, R, S>(deployment: Deployment<I, R>, items: S) -> Result<Run<R>>
where
    I: Data,
    R: Send + 'static,
    S: Source<Item = I>,
{
    let submission = deployment.begin(RunId::random(), items).await?;
    let run = deployment.attach(submission.run());
    drive(&deployment, submission, &run).await?;
    Ok(run)
}

/// The run's only worker: prefetching cannot starve others, so it takes as much as it can. If it ends by itself, nothing is
/// left to finish, since the run ends with it.
fn worker<I: Data, R: Send + 'static>(deployment: &Deployment<I, R>) -> Worker {
    let worker = deployment.worker().grace_period(Duration::ZERO);
    worker.prefetch(PREFETCH)
}

/// Submits and waits side by side, and reports the run's progress if there is a listener.
async fn drive<I, R, S>(
    deployment: &Deployment<I, R>,
    submission: Opening<S>,
    run: &Run<R>,
) -> Result<()>
where
    I: Data,
    R: Send + 'static,
    S: Source<Item = I>,
{
    let site = Arc::clone(&deployment.site);
    let work = pin!(drive_to_its_end(deployment, submission, run));
    let listener = &site.definition.listener;
    listener.watch(&site.counters, work).await
}

/// Submits and waits side by side, so that a run that fails does not pull the rest of its input.
async fn drive_to_its_end<I, R, S>(
    deployment: &Deployment<I, R>,
    submission: Opening<S>,
    run: &Run<R>,
) -> Result<()>
where
    I: Data,
    R: Send + 'static,
    S: Source<Item = I>,
{
    let mut submitted = pin!(submission.send());
    let done = pin!(run.done());
    if let Poll::Ready(sent) = futures::poll!(submitted.as_mut()) {
        // A small input is on the queue by now, and most of a small run's time would go into waking
        // up.
        sent?;
        return tokio::select! {
            biased;
            done = done => done,
            Err(error) = worker(deployment).run_inline() => Err(error),
        };
    }
    let mut worker = worker(deployment).start();
    let ended = until_its_end(&mut worker, submitted, done).await;
    // Nothing is left to hand back: the queues go with it.
    drop(worker);
    // Before the caller goes on.
    deployment.site.attempt_log.flush();
    ended
}

/// Waits until everything was sent and the run is done, or either fails, or the worker ends by itself.
async fn until_its_end(
    worker: &mut RunningWorker,
    mut submitted: Pin<&mut impl Future<Output = Result<()>>>,
    mut done: Pin<&mut impl Future<Output = Result<()>>>,
) -> Result<()> {
    tokio::select! {
        biased;
        early = &mut done => match early {
            // The input may turn out to be longer than it said.
            Ok(()) => submitted.await,
            Err(error) => Err(error),
        },
        sent = &mut submitted => match sent {
            Ok(()) => tokio::select! {
                biased;
                done = done => done,
                Err(error) = worker.finished() => Err(error),
            },
            Err(error) => Err(error),
        },
        Err(error) = worker.finished() => Err(error),
    }
}
