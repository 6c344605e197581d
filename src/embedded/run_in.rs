//! A run inside this process whose progress outlives it, in a file.

use std::path::Path;
use std::pin::{Pin, pin};
use std::time::Duration;

use twox_hash::XxHash3_128;

use super::run::value;
use crate::backends::sqlite::SqliteFile;
use crate::core::error::{BoxError, Error, Result};
use crate::core::id::RunId;
use crate::core::runtime;
use crate::core::{name, retry};
use crate::deployment::Deployment;
use crate::deployment::run::Run;
use crate::pipeline::{Answer, Pipeline};
use crate::scratchpad::Failure;
use crate::stage::Data;
use crate::submit::{IterSource, Opening, Source};
use crate::worker::RunningWorker;

/// How long a run that has failed goes on with what it has begun.
const GRACE: Duration = Duration::from_secs(2);

impl<I: Data, O: Data, S: Answer<O>> Pipeline<I, O, S> {
    /// As [`run`](Self::run), but the run's progress survives this process, in a SQLite file that is made if it is missing.
    /// Called again with the same file, id and items, after the process was killed or the machine lost power, it goes on
    /// where it was: what has been done is not done again, but for packets that were being worked on. A run that is done
    /// returns its result at once, for 14 days.
    ///
    /// An id stands for its items: they are pulled again, and refused if they are others. A file may have any number of
    /// runs. Several processes may call this with the same id at the same time: they share the work, and each gets the
    /// result. Values are written to the file as a deployment does, by the pipeline's [`codec`](Self::codec), so that their
    /// types have to survive that.
    ///
    /// If an item has used up its attempts, the run fails as in [`run`](Self::run). Called again, perhaps after the cause is
    /// fixed, it tries what had failed once more, with all attempts.
    ///
    /// Dropping the future stops the run until the next call. The callback of [`on_progress`](Self::on_progress) is given what
    /// [`Run::progress`](crate::Run::progress) knows of a run, which counts what earlier calls have done.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("pages.db");
    /// let words = Pipeline::new()
    ///     .map(|page: String| page.split_whitespace().count())
    ///     .reduce(|| 0, |a, b| a + b);
    /// let pages = || ["one two", "three"].map(String::from);
    /// assert_eq!(words.run_in(&path, "november", pages()).await?, 3);
    /// // The same run: it is done.
    /// assert_eq!(words.run_in(&path, "november", pages()).await?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run); [`Error::Submission`] if the id was used for other items, or by a pipeline with other stages;
    /// [`Error::Cancelled`] if the run was cancelled; [`Error::InvalidRunId`];
    /// [`Error::Backend`] if the file cannot be [opened](crate::backends::sqlite::SqliteOptions::open) or written to.
    pub async fn run_in<V>(
        &self,
        path: impl AsRef<Path>,
        id: impl Into<RunId>,
        items: V,
    ) -> Result<S::Value>
    where
        V: IntoIterator<Item = I>,
    {
        let id = id.into();
        id.validate()?;
        runtime::check()?;
        let path = path.as_ref().to_owned();
        let opened = tokio::task::spawn_blocking(move || SqliteFile::open(path));
        let file = opened.await.map_err(interrupted)??;
        let deployment = self.deploy(&deployment_of(&id), file)?;
        let submission = deployment.begin(id, IterSource::new(items)).await?;
        let run = deployment.attach(submission.run());
        work(&deployment, submission, &run).await?;
        let value = value(run).await?;
        remove_queues(&deployment).await;
        Ok(value)
    }
}

/// The name under which a run has its queues: each run has some of its own, so that no pipeline meets the messages of
/// another one.
fn deployment_of(id: &RunId) -> String {
    let hash = XxHash3_128::oneshot(id.as_str().as_bytes());
    format!("run-{:016x}", hash as u64)
}

/// Sends what has not been sent, and works until the run has ended.
async fn work<I, R, S>(
    deployment: &Deployment<I, R>,
    submission: Opening<S>,
    run: &Run<R>,
) -> Result<()>
where
    I: Data,
    R: Send + 'static,
    S: Source<Item = I>,
{
    let known = run.status().await?.failure;
    let worker = super::worker(deployment).grace_period(GRACE);
    let mut worker = worker.start();
    let ended = match known {
        None => {
            let sent = pin!(submission.send());
            follow(deployment, run, &mut worker, sent, pin!(run.done())).await
        }
        Some(known) => {
            let again = async {
                submission.send().await?;
                run.redrive().await
            };
            tokio::select! {
                biased;
                redriven = again => drop(redriven?),
                Err(error) = worker.finished() => return Err(error),
            }
            let sent = pin!(std::future::ready(Ok(())));
            let done = pin!(done_this_time(run, &known));
            follow(deployment, run, &mut worker, sent, done).await
        }
    };
    if ended.is_err() {
        // The message that has failed is to become a dead letter.
        worker.shutdown().await;
    }
    // Before the caller goes on.
    deployment.site.attempt_log.flush();
    ended
}

/// Waits for the end of a run, and reports its progress.
async fn follow<I, R: Send + 'static>(
    deployment: &Deployment<I, R>,
    run: &Run<R>,
    worker: &mut RunningWorker,
    sent: Pin<&mut impl Future<Output = Result<()>>>,
    done: Pin<&mut impl Future<Output = Result<()>>>,
) -> Result<()> {
    let listener = &deployment.site.definition.listener;
    let updates = run.progress().every(listener.interval());
    let end = pin!(super::until_its_end(worker, sent, done));
    listener.follow(updates, end).await
}

/// Waits until a run is done that had failed before it was redriven. If the process was killed between recording a failure
/// and burying its message, there was no dead letter to redrive, and the message comes back by itself: the record is
/// outdated then, and is redriven once nothing is under way.
async fn done_this_time<R: Send + 'static>(run: &Run<R>, known: &Failure) -> Result<()> {
    match run.done().await {
        Err(Error::Failed { failure, .. }) if failure.verdict == known.verdict => {
            run.redrive_settled().await?;
            run.done().await
        }
        ended => ended,
    }
}

/// What is left on the queues of a run that is done are copies. If they cannot be removed, they take some room.
async fn remove_queues<I, R>(deployment: &Deployment<I, R>) {
    for stage in deployment.stages() {
        let queue = name::queue(deployment.name(), stage);
        let queues = &deployment.backend.queues;
        let removed = retry::retry("deprovision", retry::Policy::times(3), || {
            queues.deprovision(&queue)
        });
        if let Err(error) = removed.await {
            tracing::debug!(queue, %error, "the queue of a run that is done could not be removed");
        }
    }
}

fn interrupted(error: impl Into<BoxError>) -> Error {
    Error::unavailable("sqlite", "opening the file", error)
}
