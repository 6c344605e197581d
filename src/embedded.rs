//! A run inside this process: a backend of its own, a worker of its own, gone when it ends.

use futures::Stream;

use crate::deployment::Deployment;
use crate::error::Result;
use crate::packet::ArrayId;
use crate::stage::Data;
use crate::submit::{Source, Submission};

pub(crate) async fn run<I, R, V>(deployment: Deployment<I, R>, items: V) -> Result<R>
where
    I: Data,
    R: Send + 'static,
    V: IntoIterator<Item = I>,
{
    let submission = deployment.begin(ArrayId::random(), items).await?;
    drive(deployment, submission).await
}

pub(crate) async fn run_stream<I, R, V>(deployment: Deployment<I, R>, items: V) -> Result<R>
where
    I: Data,
    R: Send + 'static,
    V: Stream<Item = I>,
{
    let submission = deployment.begin_stream(ArrayId::random(), items).await?;
    drive(deployment, submission).await
}

/// Submits and waits side by side, so that a run that fails does not pull the rest of its input.
async fn drive<I, R, S>(deployment: Deployment<I, R>, submission: Submission<S>) -> Result<R>
where
    I: Data,
    R: Send + 'static,
    S: Source<Item = I>,
{
    let worker = deployment.worker().start();
    let run = deployment.attach(submission.array_id());
    let result = async {
        tokio::select! {
            biased;
            result = run.result() => result,
            error = async {
                match submission.send().await {
                    // All is sent: what is left is to wait for the result.
                    Ok(()) => std::future::pending().await,
                    Err(error) => error,
                }
            } => Err(error),
        }
    };
    let result = result.await;
    // Nothing is left to hand back: the queues go with it.
    drop(worker);
    result
}
