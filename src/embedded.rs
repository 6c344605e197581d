//! A run inside this process: a backend of its own, a worker of its own, gone when it ends.

mod bundle;
mod packer;
mod run;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::Stream;

use crate::core::error::Result;
use crate::core::id::RunId;
use crate::deployment::Deployment;
use crate::stage::Data;
use crate::submit::{IterSource, Opening, Source, StreamSource};
use crate::worker::Worker;

/// Messages that the worker holds beyond those that run.
const PREFETCH: usize = 128;

async fn run<I, R, V>(deployment: Deployment<I, R>, items: V) -> Result<R>
where
    I: Data,
    R: Send + 'static,
    V: IntoIterator<Item = I>,
{
    let items = IterSource::new(items);
    let submission = deployment.begin(RunId::random(), items).await?;
    drive(deployment, submission).await
}

async fn run_stream<I, R, V>(deployment: Deployment<I, R>, items: V) -> Result<R>
where
    I: Data,
    R: Send + 'static,
    V: Stream<Item = I>,
{
    let items = StreamSource::new(items);
    let submission = deployment.begin(RunId::random(), items).await?;
    drive(deployment, submission).await
}

/// The run's only worker: prefetching cannot starve others, so it takes as much as it can. If it ends by itself, nothing is
/// left to finish, since the run ends with it.
fn worker<I: Data, R: Send + 'static>(deployment: &Deployment<I, R>) -> Worker {
    let worker = deployment.worker().grace_period(Duration::ZERO);
    worker.prefetch(PREFETCH)
}

/// Submits and waits side by side, and reports the run's progress if there is a listener.
async fn drive<I, R, S>(deployment: Deployment<I, R>, submission: Opening<S>) -> Result<R>
where
    I: Data,
    R: Send + 'static,
    S: Source<Item = I>,
{
    let site = Arc::clone(&deployment.site);
    let run = pin!(drive_to_its_end(deployment, submission));
    let listener = &site.definition.listener;
    listener.watch(&site.counters, run).await
}

/// Submits and waits side by side, so that a run that fails does not pull the rest of its input.
async fn drive_to_its_end<I, R, S>(
    deployment: Deployment<I, R>,
    submission: Opening<S>,
) -> Result<R>
where
    I: Data,
    R: Send + 'static,
    S: Source<Item = I>,
{
    let run = deployment.attach(submission.run());
    let mut submitted = pin!(submission.send());
    let mut result = pin!(run.result());
    if let Poll::Ready(sent) = futures::poll!(submitted.as_mut()) {
        // A small input is on the queue by now, and most of a small run's time would go into waking
        // up.
        sent?;
        return tokio::select! {
            biased;
            result = result => result,
            Err(error) = worker(&deployment).run_inline() => Err(error),
        };
    }
    let mut worker = worker(&deployment).start();
    let result = tokio::select! {
        biased;
        early = &mut result => match early {
            // The input may turn out to be longer than it said.
            Ok(value) => submitted.await.map(|()| value),
            Err(error) => Err(error),
        },
        sent = &mut submitted => match sent {
            Ok(()) => tokio::select! {
                biased;
                result = result => result,
                Err(error) = worker.finished() => Err(error),
            },
            Err(error) => Err(error),
        },
        Err(error) = worker.finished() => Err(error),
    };
    // Nothing is left to hand back: the queues go with it.
    drop(worker);
    result
}
