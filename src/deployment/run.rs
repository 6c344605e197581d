//! The handle on a run: its result, its end, and what went wrong in it.

mod discard;
mod pending;
mod progress;
mod redrive;
mod settled;
mod status;
mod under_way;
mod why;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

pub use self::progress::ProgressStream;
pub use self::redrive::Redriven;
pub use self::status::Status;
use super::dead_letter::DeadLetter;
use super::listing::Listing;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::one_of::OneOf;
use crate::core::retry::{Policy, retry};
use crate::core::runtime;
use crate::packet::Packet;
use crate::pipeline::Extract;
use crate::protocol::site::Site;
use crate::scratchpad::{Failure, RunSnapshot};

/// One wait on the scratchpad; it is repeated.
const WAIT: Duration = Duration::from_secs(60 * 60);

/// A run, here or elsewhere: `R` is what it answers with. Dropping the handle does not touch the
/// run.
pub struct Run<R> {
    site: Arc<Site>,
    run: RunId,
    extract: Extract<R>,
    result: OnceCell<OneOf<Packet>>,
}

impl<R> std::fmt::Debug for Run<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Run")
            .field("id", &self.run)
            .finish_non_exhaustive()
    }
}

/// A result, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<R> {
    /// The result.
    pub value: R,
    /// Items in the array.
    pub items: u64,
    /// Items that the result stands for: all, but for those skipped.
    pub contains: u64,
    /// Items left out under a skip policy.
    pub skipped: u64,
    /// Why items were left out, one failure per item, of the first hundred of them in the order of [`Run::failures`]. Which
    /// items these are travels with the result. Their errors and attempts are read from the scratchpad, and are missing if
    /// it has them no longer.
    pub failures: Vec<Failure>,
    /// How many more items were left out than [`failures`](Self::failures) has: 0 if it has all. For a deployment's run,
    /// [`Run::failures`] lists them.
    pub more_failures: u64,
}

/// The outcome without its failures.
fn outcome_of<R>(extract: Extract<R>, packet: &Packet) -> Result<Outcome<R>> {
    Ok(Outcome {
        value: extract(packet)?,
        items: packet
            .array_length
            .unwrap_or(packet.contains + packet.skipped),
        contains: packet.contains,
        skipped: packet.skipped,
        failures: Vec::new(),
        more_failures: 0,
    })
}

impl<R> Run<R> {
    pub(crate) fn new(site: Arc<Site>, run: RunId, extract: Extract<R>) -> Self {
        Self {
            site,
            run,
            extract,
            result: OnceCell::new(),
        }
    }

    /// The run's id, by which any process can [attach](crate::Deployment::attach).
    ///
    /// ```
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::memory())?;
    /// let worker = adder.worker().start();
    /// let id = adder.submit(1..=5).await?.id().clone();
    /// assert_eq!(adder.attach(id).result().await?, 30);
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn id(&self) -> &RunId {
        &self.run
    }

    /// Waits for the result.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::memory())?;
    /// let worker = adder.worker().start();
    /// let run = adder.submit(1..=5).await?;
    /// assert_eq!(run.result().await?, 30);
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// At once where the run has failed ([`Error::Failed`], with the first failure) or was
    /// cancelled; [`Error::NoSuchRun`] if the run is unknown; [`Error::Decode`] if the result is
    /// not an `R`.
    pub async fn result(&self) -> Result<R> {
        (self.extract)(self.packet().await?)
    }

    /// Waits for the result, and returns it with what it stands for and why items were left out of it. That takes one more
    /// call on the scratchpad than [`result`](Self::result) if any were.
    ///
    /// ```
    /// use catchment::{Backend, OnFailure, Pipeline, Stage, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .with(Stage::named("parse").on_failure(OnFailure::Skip))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// let run = numbers.submit(["1", "two", "3"].map(String::from)).await?;
    /// let outcome = run.outcome().await?;
    /// assert_eq!((outcome.value, outcome.contains, outcome.skipped), (4, 2, 1));
    /// assert_eq!((outcome.failures[0].item, outcome.more_failures), (Some(1), 0));
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub async fn outcome(&self) -> Result<Outcome<R>> {
        let packet = self.packet().await?;
        let mut outcome = outcome_of(self.extract, packet)?;
        outcome.failures = self.why(packet).await?;
        outcome.more_failures = outcome
            .skipped
            .saturating_sub(outcome.failures.len() as u64);
        Ok(outcome)
    }

    /// Waits until the run is done.
    ///
    /// # Errors
    /// As [`result`](Self::result), without reading the value.
    pub(crate) async fn done(&self) -> Result<()> {
        self.packet().await.map(drop)
    }

    /// As [`outcome`](Self::outcome), without the failures.
    pub(crate) async fn counted(&self) -> Result<Outcome<R>> {
        outcome_of(self.extract, self.packet().await?)
    }

    /// As [`wait`](Self::wait), with the outcome, without its failures, if there is one. The backend is not told that
    /// the result has been taken: whoever asks over a network may ask again because the answer got
    /// lost.
    #[cfg(feature = "http")]
    pub(crate) async fn look(&self, timeout: Duration) -> Result<(Status, Option<Outcome<R>>)>
    where
        R: Send + 'static,
    {
        let snapshot = self.ended(timeout).await?;
        let outcome = match snapshot.result.clone() {
            Some(result) => {
                let (site, extract) = (Arc::clone(&self.site), self.extract);
                let run = snapshot.record.key();
                let read = runtime::aside(result.len(), move || {
                    let packet = site.carrier.read_result(&run, &result)?;
                    outcome_of(extract, &packet)
                });
                Some(read.await?)
            }
            None => None,
        };
        Ok((self.status_of(snapshot).await?, outcome))
    }

    async fn packet(&self) -> Result<&Packet> {
        let packet: Result<&OneOf<Packet>> = self
            .result
            .get_or_try_init(|| async {
                loop {
                    // Retried, so that one lost response does not end an hours-long wait.
                    let snapshot = retry("wait", Policy::FOREVER, || self.snapshot(WAIT)).await?;
                    if let Some(result) = &snapshot.result {
                        let run = snapshot.record.key();
                        let packet = self.site.carrier.read_result(&run, result)?;
                        if let Err(error) = self.site.scratchpad().forget(&self.run).await {
                            tracing::warn!(run = %self.run, %error, "a taken result could not be let go");
                        }
                        return Ok(packet);
                    }
                    if snapshot.cancelled {
                        return Err(Error::Cancelled {
                            run: self.run.clone(),
                        });
                    }
                    if let Some(failure) = snapshot.failure {
                        return Err(Error::Failed {
                            run: self.run.clone(),
                            failure: Box::new(failure),
                        });
                    }
                }
            })
            .await;
        packet.map(|packet| &**packet)
    }

    /// What is known of the run once it has ended, or after this long.
    async fn snapshot(&self, up_to: Duration) -> Result<RunSnapshot> {
        self.run.validate()?;
        runtime::check()?;
        let mut snapshot = match self.site.scratchpad().wait(&self.run, up_to).await? {
            Some(snapshot) => snapshot,
            None => self.pending(up_to).await?,
        };
        snapshot.failure = snapshot.failure.map(Failure::printable);
        Ok(snapshot)
    }

    /// Waits until the run has ended (done, failed or cancelled), at most this long, and returns
    /// its status then. The other messages of a run that has failed go on: [`settled`](Self::settled) waits for them too.
    ///
    /// ```
    /// use std::time::Duration;
    /// use catchment::{Backend, Pipeline, RunState};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::memory())?;
    /// let run = adder.submit(1..=5).await?;
    /// let status = run.wait(Duration::ZERO).await?; // no worker has started
    /// assert_eq!(status.state, RunState::Running);
    /// let worker = adder.worker().start();
    /// let status = run.wait(Duration::from_secs(60)).await?;
    /// assert_eq!(status.state, RunState::Done);
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchRun`] where nobody knows the run.
    pub async fn wait(&self, timeout: Duration) -> Result<Status> {
        self.status_of(self.ended(timeout).await?).await
    }

    async fn ended(&self, timeout: Duration) -> Result<RunSnapshot> {
        // A wait too long for the clock is one without end.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = deadline.map_or(WAIT, |at| at.saturating_duration_since(Instant::now()));
            let snapshot = self.snapshot(left.min(WAIT)).await?;
            if snapshot.has_ended() || left.is_zero() {
                return Ok(snapshot);
            }
        }
    }

    /// Cancels the run: waiting for its result ends at once, and its status is [`settled`](Status::settled). A worker
    /// notices within one and a half times its [`cancel_check`](crate::Worker::cancel_check), which is 2 s by default, and
    /// goes on with the run's items until then. From then on it drops the run's messages and stops asynchronous calls; a
    /// CPU-bound call that has begun runs to its end. A finished run stays finished. Returns whether the run is cancelled
    /// now.
    ///
    /// ```
    /// use catchment::{Backend, Error, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::memory())?;
    /// let run = adder.submit(1..=5).await?;
    /// assert!(run.cancel().await?);
    /// assert!(matches!(run.result().await, Err(Error::Cancelled { .. })));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`] where the scratchpad cannot be reached.
    pub async fn cancel(&self) -> Result<bool> {
        self.run.validate()?;
        runtime::check()?;
        self.site.scratchpad().cancel(&self.run).await
    }

    /// Failures on record: messages that became dead letters, and items that were left out. Listed
    /// by stage name, message and item, in pages of 100 unless [set otherwise](Listing::limit).
    ///
    /// ```
    /// use catchment::{Backend, OnFailure, Pipeline, Stage};
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let parse = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<i64>())
    ///     .with(Stage::named("parse").attempts(1).on_failure(OnFailure::Skip))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let parse = parse.deploy("parse", Backend::memory())?;
    /// let worker = parse.worker().start();
    /// let run = parse.submit(["1", "two", "3", "four"].map(String::from)).await?;
    /// assert_eq!(run.result().await?, 4);
    /// let page = run.failures().limit(1).await?;
    /// assert_eq!(page[0].item, Some(1));
    /// let items: Vec<_> = run.failures().stream().map_ok(|failure| failure.item).try_collect().await?;
    /// assert_eq!(items, [Some(1), Some(3)]);
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, Stage, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .with(Stage::named("parse"))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// let run = numbers.submit(["1", "two"].map(String::from)).await?;
    /// assert!(run.result().await.is_err());
    /// let failures = run.failures().await?;
    /// assert_eq!((&*failures[0].stage, failures[0].item), ("parse", Some(1)));
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidRunId`] for an id that no run can have, and [`Error::Backend`] if the
    /// scratchpad cannot be reached.
    pub fn failures(&self) -> Listing<Failure> {
        let (site, run) = (Arc::clone(&self.site), self.run.clone());
        Listing::new(move |cursor, limit| {
            let (site, run) = (Arc::clone(&site), run.clone());
            async move {
                run.validate()?;
                let scratchpad = site.scratchpad();
                let page = scratchpad
                    .list_failures(&run, cursor.as_ref(), limit)
                    .await?;
                Ok(page.map(Failure::printable))
            }
        })
    }

    /// This run's dead letters, stage after stage, in pages of 100 unless [set
    /// otherwise](Listing::limit). They are found among the deployment's: a page reads at most a
    /// thousand of those per stage, and may have fewer letters than its limit, even none. Its bytes
    /// are bounded as those of [`Deployment::dead_letters`](crate::Deployment::dead_letters).
    ///
    /// Not every queue service can list dead letters from where an earlier page ended, as
    /// [`Deployment::dead_letters`](crate::Deployment::dead_letters) explains.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, Stage, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .with(Stage::named("parse"))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// let run = numbers.submit(["1", "two"].map(String::from)).await?;
    /// assert!(run.result().await.is_err());
    /// worker.shutdown().await; // the message has been buried then
    /// let letters = run.dead_letters().await?;
    /// assert_eq!((letters.len(), &*letters[0].stage), (1, "parse"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`] if a queue cannot be read.
    pub fn dead_letters(&self) -> Listing<DeadLetter> {
        let (site, run) = (Arc::clone(&self.site), self.run.clone());
        Listing::new(move |cursor, limit| {
            let (site, run) = (Arc::clone(&site), run.clone());
            async move {
                let whose = site.whose(&run).await?;
                let letters = site
                    .dead_letters(Some(&whose), cursor.as_ref(), limit)
                    .await?;
                Ok(letters.map(|(_, letter)| letter))
            }
        })
    }
}
