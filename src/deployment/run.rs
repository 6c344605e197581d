//! The handle on a run: its result, how far it is, and what to do when it failed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::dead_letter::DeadLetter;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::one_of::OneOf;
use crate::core::retry::persist;
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
/// Dead letters that go back in one call: a service may have to look through all of them to find these.
const REDRIVEN_AT_ONCE: usize = 500;
/// Failures that [`Run::failures`] lists.
const MOST_FAILURES: usize = 10_000;

/// A run, here or elsewhere: `R` is what it answers with. Dropping the handle does not touch the run.
pub struct Run<R> {
    shared: Arc<Site>,
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
    /// Items that have gone through every stage before the first reduction. Where packets had to be cut
    /// short for a backend's size limit, an estimate from the packets.
    pub items_done: u64,
    /// Packets the array makes; `None` while that is not known.
    pub packets: Option<u64>,
    /// Packets that have gone through every stage before the first reduction.
    pub packets_done: u64,
    /// Items left out under a skip policy.
    pub skipped: u64,
    /// Messages that stand as dead letters; none once the run is done, since everything is in its result.
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
    pub(crate) fn new(shared: Arc<Site>, run: RunId, extract: Extract<R>) -> Self {
        Self {
            shared,
            run,
            extract,
            result: OnceCell::new(),
        }
    }

    /// The run's id, by which any process can [attach](crate::Deployment::attach).
    pub fn id(&self) -> &RunId {
        &self.run
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// At once where the run has failed ([`Error::Failed`], with the first failure) or was cancelled;
    /// [`Error::NoSuchRun`] where nobody knows it; [`Error::Decode`] where the result is no `R`.
    pub async fn result(&self) -> Result<R> {
        (self.extract)(self.packet().await?)
    }

    /// Waits for the result, and says what it stands for.
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

    /// As [`wait`](Self::wait), with the outcome where there is one. The backend is not told that the result has been
    /// taken: whoever asks over a network may ask again because the answer got lost.
    #[cfg(feature = "http")]
    pub(crate) async fn look(&self, timeout: Duration) -> Result<(Status, Option<Outcome<R>>)> {
        let snapshot = self.ended(timeout).await?;
        let outcome = match &snapshot.result {
            Some(result) => {
                let packet = self.shared.carrier.read_packet(result)?;
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
                    // Who waits for hours does not lose the result to an answer that got lost.
                    let snapshot = persist("wait", || self.snapshot(WAIT)).await?;
                    if let Some(result) = &snapshot.result {
                        let packet = self.shared.carrier.read_packet(result)?;
                        if let Err(error) = self.shared.scratchpad().forget(&self.run).await {
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
        let snapshot = self.shared.scratchpad().wait(&self.run, up_to).await?;
        snapshot.ok_or_else(|| Error::NoSuchRun {
            run: self.run.clone(),
        })
    }

    /// Waits until the run has ended (done, failed or cancelled), at most this long, and returns its status
    /// then.
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
        // A process that died between writing a failure down and burying its message leaves the mark of a dead letter that
        // never came to be.
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
            let arrived = self.shared.scratchpad().arrived(&ids).await?;
            for (group, slots) in (first..end).zip(arrived) {
                leaves.extend(
                    slots
                        .into_iter()
                        .map(|slot| group * fan_in + u64::from(slot)),
                );
            }
            // Of an open run nobody knows where it ends: a stretch without arrivals is taken for it.
            if groups.is_none() && leaves.len() == before {
                return Ok(leaves);
            }
            first = end;
        }
    }

    /// Cancels the run: waiting for its result ends at once, and workers drop its messages within seconds. A
    /// finished run stays finished. Returns whether the run is cancelled now.
    ///
    /// # Errors
    /// [`Error::Backend`] where the scratchpad cannot be reached.
    pub async fn cancel(&self) -> Result<bool> {
        self.run.validate()?;
        self.shared.scratchpad().cancel(&self.run).await
    }

    /// Failures on record: messages that became dead letters, and items that were left out, by stage and
    /// item; at most 10,000.
    ///
    /// # Errors
    /// [`Error::Backend`] where the scratchpad cannot be reached.
    pub async fn failures(&self) -> Result<Vec<Failure>> {
        self.run.validate()?;
        let scratchpad = self.shared.scratchpad();
        let mut failures = scratchpad
            .list_failures(&self.run, None, MOST_FAILURES)
            .await?
            .items;
        let definition = &self.shared.definition;
        failures.sort_by_key(|failure| {
            let stage = definition.position(&failure.stage);
            (stage, failure.item.unwrap_or(u64::MAX))
        });
        Ok(failures)
    }

    /// This run's dead letters.
    ///
    /// # Errors
    /// [`Error::Backend`] where a queue cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let letters = self.own_dead_letters().await?;
        Ok(letters.into_iter().map(|(_, letter)| letter).collect())
    }

    async fn own_dead_letters(&self) -> Result<Vec<(Arc<dyn Queue>, DeadLetter)>> {
        let mut letters = self.shared.dead_letters().await?;
        letters.retain(|(_, letter)| letter.run.as_ref() == Some(&self.run));
        Ok(letters)
    }

    /// Puts this run's dead letters back on their queues with all their attempts, after their cause was mended. What was
    /// done stays done: the run goes on from where it stopped. Returns how many messages went back.
    ///
    /// # Errors
    /// [`Error::Backend`] where a queue or the scratchpad cannot be reached; repeating the call does the rest.
    /// [`Error::NoSuchRun`] where nobody knows the run.
    pub async fn redrive(&self) -> Result<usize> {
        let begin = Instant::now();
        let failures = self.failures().await?;
        let mut awaited: HashSet<DeadLetterId> = failures
            .iter()
            .filter_map(|failure| match failure.verdict {
                Verdict::Dead(id) if id != DeadLetterId::UNQUEUED => Some(id),
                _ => None,
            })
            .collect();
        let mut count = 0;
        let mut letters = self.own_dead_letters().await?;
        loop {
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
            if awaited.is_empty() || begin.elapsed() >= BURIAL {
                if count == 0 {
                    // There is nothing to redrive, unless there is no such run.
                    self.snapshot(Duration::ZERO).await?;
                }
                return Ok(count);
            }
            tokio::time::sleep(BURIAL / 20).await;
            letters = self.own_dead_letters().await?;
            // What has failed again meanwhile is another failure.
            letters.retain(|(_, letter)| letter.id.is_some_and(|id| awaited.contains(&id)));
        }
    }

    /// First the messages, then the marks: the other way round, a crash in between would leave a run that looks healthy
    /// and never ends. A mark only goes if it is its letter's.
    async fn redrive_batch(&self, queue: &Arc<dyn Queue>, letters: Vec<DeadLetter>) -> Result<()> {
        let messages = letters.iter().map(|letter| letter.buried.clone());
        queue.redrive(messages.collect()).await?;
        let scratchpad = self.shared.scratchpad();
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
