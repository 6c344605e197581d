//! The handle on a run: its result, how far it is, and what to do when it failed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::dead_letter::{DeadLetter, Queued};
use super::listing::Listing;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::one_of::OneOf;
use crate::core::retry::{Policy, retry};
use crate::core::tree::Tree;
use crate::packet::Packet;
use crate::pipeline::Extract;
use crate::protocol::site::Site;
use crate::queue::Queue;
use crate::scratchpad::{DeadLetterId, Failure, GroupId, RunSnapshot, RunState, Verdict};

/// One wait on the scratchpad; it is repeated.
const WAIT: Duration = Duration::from_secs(60 * 60);
/// Groups asked for in one call when a run's progress is looked up.
const GROUPS_AT_ONCE: u64 = 1_000;
/// How long a dead letter may take to get into its place after its failure is on record.
const BURIAL: Duration = Duration::from_secs(5);
/// Dead letters redriven per call; finding them may require scanning the whole dead-letter queue.
const REDRIVEN_AT_ONCE: usize = 500;
/// Dead letters of a run that are looked for in one search of a queue.
const MOST_LETTERS: usize = 10_000;
/// Failures that are read in one call when a run is redriven, and those whose dead letters it waits
/// for.
const FAILURES_AT_ONCE: usize = 1_000;
const MOST_AWAITED: usize = 10_000;

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

/// A run's progress, read off the reduction tree: nothing that is delivered twice counts twice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How far it is.
    pub state: RunState,
    /// Items in the array; `None` while a stream is still open.
    pub items: Option<u64>,
    /// Items that have gone through every stage before the first reduction. Where packets had to be
    /// cut short for a backend's size limit, an estimate from the packets.
    pub items_done: u64,
    /// Packets the array makes; `None` while that is not known.
    pub packets: Option<u64>,
    /// Packets that have gone through every stage before the first reduction.
    pub packets_done: u64,
    /// Items left out under a skip policy.
    pub skipped: u64,
    /// Messages that stand as dead letters; none once the run is done, since everything is in its
    /// result.
    pub failures: u64,
    /// The first of those failures.
    pub failure: Option<Failure>,
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
    /// Items left out under a skip policy. [`Run::failures`] lists them.
    pub skipped: u64,
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

    /// Waits for the result, and says what it stands for.
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
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub async fn outcome(&self) -> Result<Outcome<R>> {
        self.outcome_of(self.packet().await?)
    }

    fn outcome_of(&self, packet: &Packet) -> Result<Outcome<R>> {
        Ok(Outcome {
            value: (self.extract)(packet)?,
            items: packet
                .array_length
                .unwrap_or(packet.contains + packet.skipped),
            contains: packet.contains,
            skipped: packet.skipped,
        })
    }

    /// As [`wait`](Self::wait), with the outcome where there is one. The backend is not told that
    /// the result has been taken: whoever asks over a network may ask again because the answer got
    /// lost.
    #[cfg(feature = "http")]
    pub(crate) async fn look(&self, timeout: Duration) -> Result<(Status, Option<Outcome<R>>)> {
        let snapshot = self.ended(timeout).await?;
        let outcome = match &snapshot.result {
            Some(result) => {
                let packet = self.site.carrier.read_packet(result)?;
                Some(self.outcome_of(&packet)?)
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
                        let packet = self.site.carrier.read_packet(result)?;
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
        let snapshot = self.site.scratchpad().wait(&self.run, up_to).await?;
        snapshot.ok_or_else(|| Error::NoSuchRun {
            run: self.run.clone(),
        })
    }

    /// Waits until the run has ended (done, failed or cancelled), at most this long, and returns
    /// its status then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use catchment::{Backend, Pipeline, RunState};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::memory())?;
    /// let run = adder.submit(1..=5).await?;
    /// let status = run.wait(Duration::ZERO).await?; // nobody works yet
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

    /// How far the run is.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, RunState};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::memory())?;
    /// let run = adder.submit(1..=5).await?;
    /// let status = run.status().await?;
    /// assert_eq!((status.state, status.items, status.items_done), (RunState::Running, Some(5), 0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchRun`] where nobody knows the run.
    pub async fn status(&self) -> Result<Status> {
        let snapshot = self.snapshot(Duration::ZERO).await?;
        self.status_of(snapshot).await
    }

    async fn status_of(&self, snapshot: RunSnapshot) -> Result<Status> {
        let state = snapshot.state();
        let record = &snapshot.record;
        let (items, packets) = (record.array_length, record.packets);
        let (items_done, packets_done) = match (state, items, packets) {
            (RunState::Done, Some(items), Some(packets)) => (items, packets),
            _ => {
                let leaves = self.arrived_leaves(&snapshot).await?;
                let done = leaves.len() as u64;
                let length = items.unwrap_or(u64::MAX);
                let as_planned = packets.is_none_or(|packets| {
                    items.is_none_or(|items| record.plan.packets(items) == packets)
                });
                let items_done = match (as_planned, items, packets) {
                    (false, Some(items), Some(packets)) if packets > 0 => {
                        (u128::from(items) * u128::from(done) / u128::from(packets)) as u64
                    }
                    _ => record.plan.items(leaves, length),
                };
                (items_done, done)
            }
        };
        // If a process died between recording a failure and burying the message, the record names a
        // dead letter that does not exist.
        let stands = state != RunState::Done;
        Ok(Status {
            state,
            items,
            items_done,
            packets,
            packets_done,
            skipped: snapshot.skipped,
            failures: if stands { snapshot.dead } else { 0 },
            failure: snapshot.failure.filter(|_| stands),
        })
    }

    /// The packets that have arrived at the first reduction, in ascending order.
    async fn arrived_leaves(&self, snapshot: &RunSnapshot) -> Result<Vec<u64>> {
        let record = &snapshot.record;
        let fan_in = u64::from(record.fan_in);
        let stage: Arc<str> = record.reduce_stage.as_str().into();
        let groups = record
            .packets
            .map(|packets| Tree::new(packets, record.fan_in).first_level_groups());
        let mut leaves = Vec::new();
        let mut first = 0;
        loop {
            let end = groups.map_or(first + GROUPS_AT_ONCE, |groups| {
                groups.min(first + GROUPS_AT_ONCE)
            });
            if first >= end {
                return Ok(leaves);
            }
            let ids: Vec<GroupId> = (first..end)
                .map(|index| GroupId::new(self.run.clone(), Arc::clone(&stage), 1, index))
                .collect();
            let before = leaves.len();
            let arrived = self.site.scratchpad().arrived(&ids).await?;
            for (group, slots) in (first..end).zip(arrived) {
                leaves.extend(
                    slots
                        .into_iter()
                        .map(|slot| group * fan_in + u64::from(slot)),
                );
            }
            // Of an open run nobody knows where it ends: a stretch without arrivals is taken for
            // it.
            if groups.is_none() && leaves.len() == before {
                return Ok(leaves);
            }
            first = end;
        }
    }

    /// Cancels the run: waiting for its result ends at once, and workers drop its messages within
    /// seconds. A finished run stays finished. Returns whether the run is cancelled now.
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
                scratchpad.list_failures(&run, cursor.as_ref(), limit).await
            }
        })
    }

    /// This run's dead letters, stage after stage, in pages of 100 unless [set
    /// otherwise](Listing::limit). They are found among the deployment's: a page reads at most a
    /// thousand of those, and may have fewer letters than its limit.
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
                let letters = site
                    .dead_letters(Some(&run), cursor.as_ref(), limit)
                    .await?;
                Ok(letters.map(|(_, letter)| letter))
            }
        })
    }

    /// All of this run's dead letters that a search finds, with the queues that redrive them, and
    /// whether there may be more.
    async fn own_dead_letters(&self) -> Result<(Vec<Queued>, bool)> {
        let (mut letters, mut truncated) = (Vec::new(), false);
        let mut cursor = None;
        loop {
            let page = self
                .site
                .dead_letters(Some(&self.run), cursor.as_ref(), MOST_LETTERS);
            let page = page.await?;
            letters.extend(page.items);
            truncated |= page.truncated;
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok((letters, truncated)),
            }
        }
    }

    /// Puts this run's dead letters back on their queues with all their attempts, after their cause
    /// was mended. What was done stays done: the run goes on from where it stopped. Returns how
    /// many messages went back.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    /// use catchment::{Backend, Pipeline, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let fixed = Arc::new(AtomicBool::new(false));
    /// let is_fixed = Arc::clone(&fixed);
    /// let sum = Pipeline::new()
    ///     .try_map(move |n: u64| match is_fixed.load(SeqCst) {
    ///         true => Ok(n),
    ///         false => Err(permanent("the price list is missing")),
    ///     })
    ///     .reduce(|| 0, |a, b| a + b);
    /// let sum = sum.deploy("sum", Backend::memory())?;
    /// let worker = sum.worker().start();
    /// let run = sum.submit([1, 2]).await?;
    /// assert!(run.result().await.is_err());
    /// fixed.store(true, SeqCst);
    /// assert!(run.redrive().await? > 0);
    /// assert_eq!(run.result().await?, 3);
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`] where a queue or the scratchpad cannot be reached; repeating the call
    /// does the rest. [`Error::NoSuchRun`] where nobody knows the run.
    pub async fn redrive(&self) -> Result<usize> {
        let begin = Instant::now();
        let failures = self.failures().limit(FAILURES_AT_ONCE).stream();
        let awaited = failures.try_filter_map(async |failure| {
            Ok(match failure.verdict {
                Verdict::Dead(id) if id != DeadLetterId::UNQUEUED => Some(id),
                _ => None,
            })
        });
        let mut awaited: HashSet<DeadLetterId> = awaited.take(MOST_AWAITED).try_collect().await?;
        let mut count = 0;
        let (mut letters, mut truncated) = self.own_dead_letters().await?;
        loop {
            // Of a queue that cannot list all of its letters at once, these were some: the next
            // search finds others.
            let is_cut_short = truncated && !letters.is_empty();
            let mut found = letters.into_iter().peekable();
            while let Some((queue, letter)) = found.next() {
                let mut batch = vec![letter];
                while batch.len() < REDRIVEN_AT_ONCE
                    && let Some((_, letter)) = found.next_if(|(next, _)| Arc::ptr_eq(next, &queue))
                {
                    batch.push(letter);
                }
                for letter in &batch {
                    letter.id.map(|id| awaited.remove(&id));
                }
                count += batch.len();
                self.redrive_batch(&queue, batch).await?;
            }
            // A failure is on record a moment before its dead letter is in its place.
            if awaited.is_empty() || (begin.elapsed() >= BURIAL && !is_cut_short) {
                if count == 0 {
                    // There is nothing to redrive, unless there is no such run.
                    self.snapshot(Duration::ZERO).await?;
                }
                return Ok(count);
            }
            tokio::time::sleep(BURIAL / 20).await;
            (letters, truncated) = self.own_dead_letters().await?;
            // What has failed again meanwhile is another failure.
            letters.retain(|(_, letter)| letter.id.is_some_and(|id| awaited.contains(&id)));
        }
    }

    /// First the messages, then the marks: the other way round, a crash in between would leave a
    /// run that looks healthy and never ends. A mark only goes if it is its letter's.
    async fn redrive_batch(&self, queue: &Arc<dyn Queue>, letters: Vec<DeadLetter>) -> Result<()> {
        let messages = letters.iter().map(|letter| letter.buried.clone());
        queue.redrive(messages.collect()).await?;
        let scratchpad = self.site.scratchpad();
        for letter in letters {
            if let (Some(message), Some(id)) = (letter.message, letter.id) {
                let stage = &letter.stage;
                let cleared = scratchpad.clear(&self.run, stage, &message, id);
                cleared.await?;
            }
        }
        Ok(())
    }
}
