//! Submitting: an array is cut into packets, the packets are sent to the first stage's queue, and the size of the tree is
//! recorded.

mod packing;
mod source;
mod together;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

pub(crate) use source::{FromIterator, FromStream, Source};
use tokio::time::Instant;

use crate::core::clock::now;
use crate::core::error::{Error, Result, describe};
use crate::core::id::RunId;
use crate::core::retry::{Policy, retry};
use crate::core::tree::Tree;
use crate::packet::Message;
use crate::packet::codec::Form;
use crate::packet::local;
use crate::protocol::site::Site;
use crate::queue::{Outgoing, Queue};
use crate::scratchpad::{
    Attempt, Begun, DeadLetterId, FailureReport, GroupId, PacketPlan, RunRecord, Verdict,
};
use crate::stage::Execution;
use together::Cuts;

/// Messages and bytes per call, for a queue without a batch size of its own.
const BATCH_MESSAGES: usize = 10;
const BATCH_BYTES: usize = 256 * 1024;
/// Full requests per call, for a queue whose service has a maximum of messages per request.
const REQUESTS_AT_ONCE: usize = 8;
/// With the backoff between the attempts about two minutes.
const RETRY: Policy = Policy::times(12);
/// How long packets wait for others while input is slow; and the same if requests are billed.
const LINGER: Duration = Duration::from_millis(2);
const BILLED_LINGER: Duration = Duration::from_secs(1);
/// How often a submitter checks whether the run was cancelled.
const CANCEL_CHECK: Duration = Duration::from_secs(2);

/// Recorded in place of a message's name if the submission itself failed.
const SUBMISSION: &str = "submission";

/// A run that has begun, and the items that are still to be sent.
pub(crate) struct Submission<S: Source> {
    shared: Arc<Site>,
    queue: Arc<dyn Queue>,
    record: RunRecord,
    first_stage: Arc<str>,
    source: S,
    /// Items pulled and not yet sent.
    items: Vec<S::Item>,
    /// Nothing is to be sent: everything was sent before, or the run is over.
    sent_before: bool,
    /// An earlier submission of this run recorded a failure that has not been cleared.
    failed_before: bool,
    /// Whether this submission began the run.
    new: bool,
    offset: u64,
    packets: u64,
    batch: Vec<Outgoing>,
    batch_bytes: usize,
    /// Inside the process: the cuts between packets of items that are not encoded.
    cuts: Cuts,
    queue_was_full: bool,
    /// Whether the items' type need not be encoded inside the process.
    is_kept: bool,
    /// Whether nothing leaves the process.
    is_local: bool,
    /// The time as last read: when the last packet was pulled or checked.
    now: Instant,
    flushed: Instant,
    checked: Instant,
}

impl<S: Source> Submission<S> {
    /// Writes the run's record, or finds the existing one.
    pub(crate) async fn begin(
        shared: &Arc<Site>,
        run: RunId,
        source: S,
        length: Option<u64>,
    ) -> Result<Self> {
        run.validate()?;
        let missing = || Error::InvalidPipeline {
            problem: "it has no stage that takes items".into(),
        };
        let definition = &shared.definition;
        let first = definition.stage(0).ok_or_else(missing)?;
        let reduction = definition.reductions().next().ok_or_else(missing)?;
        let queue = open(shared, 0).await?;
        let plan = PacketPlan::new(first.options.packet_size, length);
        // If messages have a limit, packets may have to be cut by their bytes, and their number is known only at the end.
        let packets = match queue.max_body() {
            None => length.map(|length| plan.packets(length)),
            Some(_) => None,
        };
        let mut record = RunRecord::new(
            run,
            now(),
            &*first.name,
            &*reduction.name,
            reduction.options.fan_in,
            plan,
        );
        record.array_length = length;
        record.packets = packets;
        let is_kept = local::keep(Vec::<S::Item>::new()).is_ok();
        let is_local = shared.carrier.form() == Form::Local;
        if first.execution == Execution::Async {
            let items = plan.size_at(0).max(1) as usize;
            let at_once = first.options.concurrency.div_ceil(items);
            shared.carrier.have_room_for(at_once);
        }
        let may_go_together = is_kept && is_local && first.goes_together_into(reduction);
        let cuts = Cuts::new(packets, reduction.options.fan_in, may_go_together);
        let begun = retry("begin", RETRY, || shared.scratchpad().begin(&record)).await?;
        let mut submission = Self {
            shared: Arc::clone(shared),
            queue,
            record,
            first_stage: Arc::clone(&first.name),
            source,
            items: Vec::new(),
            sent_before: false,
            failed_before: false,
            new: true,
            offset: 0,
            packets: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            cuts,
            queue_was_full: false,
            is_kept,
            is_local,
            now: Instant::now(),
            flushed: Instant::now(),
            checked: Instant::now(),
        };
        if let Begun::Existing(snapshot) = begun {
            let existing = snapshot.record;
            let ours = &submission.record;
            if (&existing.first_stage, &existing.reduce_stage)
                != (&ours.first_stage, &ours.reduce_stage)
            {
                return Err(submission.refuse(format!(
                    "it was begun by a pipeline that goes from stage `{}` to reduction `{}`, and this one goes from `{}` to `{}`",
                    existing.first_stage, existing.reduce_stage, ours.first_stage, ours.reduce_stage
                )));
            }
            if let (Some(stands), Some(given)) = (existing.array_length, ours.array_length)
                && stands != given
            {
                return Err(submission.refuse(format!(
                    "this id was used for an array of {stands} items, and this one has {given}"
                )));
            }
            submission.new = false;
            submission.sent_before =
                snapshot.submitted || snapshot.cancelled || snapshot.result.is_some();
            submission.failed_before = snapshot
                .failure
                .is_some_and(|failure| failure.message == SUBMISSION);
            submission.record = existing;
        }
        Ok(submission)
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.record.run
    }

    fn refuse(&self, problem: String) -> Error {
        Error::Submission {
            run: self.record.run.clone(),
            problem,
        }
    }

    /// Sends whatever has not been sent.
    pub(crate) async fn send(mut self) -> Result<()> {
        if self.sent_before {
            return Ok(());
        }
        match self.send_all().await {
            Ok(()) if self.failed_before => {
                let Self { shared, record, .. } = &self;
                retry("clear_failure", RETRY, || {
                    let scratchpad = shared.scratchpad();
                    let (run, stage) = (&record.run, &record.first_stage);
                    scratchpad.clear(run, stage, SUBMISSION, DeadLetterId::UNQUEUED)
                })
                .await
            }
            Err(error) if self.new && !error.is_retryable() => {
                // The rest will not be sent: a waiter for the result must learn of it.
                let report = FailureReport::new(
                    &self.record.run,
                    self.record.first_stage.as_str(),
                    SUBMISSION,
                    vec![Attempt::new(1, now(), describe(&error))],
                    Verdict::Dead(DeadLetterId::UNQUEUED),
                );
                if let Err(problem) = self.shared.scratchpad().record(&report).await {
                    tracing::error!(run = %self.record.run, %problem, "a failed submission could not be written down");
                }
                Err(error)
            }
            outcome => outcome,
        }
    }

    async fn send_all(&mut self) -> Result<()> {
        tracing::debug!(run = %self.record.run, items = self.record.array_length, packets = self.record.packets, "submitting");
        seal(&self.shared, &self.record, self.record.packets).await?;
        loop {
            if !self.fill().await? {
                return Ok(());
            }
            if self.pulled() == 0 {
                break;
            }
            self.next_packet()?;
            if self.is_full() || self.is_late() {
                self.flush().await?;
                // Input that is always ready must not keep a waiter for the run from seeing it fail.
                tokio::task::yield_now().await;
                // Time that other tasks took does not count as slow input.
                self.flushed = Instant::now();
            }
        }
        self.flush().await?;
        let Self {
            shared,
            record,
            offset,
            packets,
            ..
        } = self;
        let scratchpad = shared.scratchpad();
        let run = &record.run;
        retry("measure", RETRY, || {
            scratchpad.measure(run, *offset, *packets)
        })
        .await?;
        if record.packets.is_none() {
            seal(shared, record, Some(*packets)).await?;
        }
        let scratchpad = self.shared.scratchpad();
        let run = &self.record.run;
        retry("submitted", RETRY, || scratchpad.submitted(run)).await
    }

    /// Pulls the next packet's items. Packets that are ready do not wait for a slow stream. Returns `false` if the
    /// run was cancelled meanwhile.
    async fn fill(&mut self) -> Result<bool> {
        let mut size = u64::from(self.record.plan.size_at(self.offset));
        let left = self
            .record
            .array_length
            .map(|length| length.saturating_sub(self.offset));
        if let Some(left) = left
            && size >= left
        {
            // Pulling one item too many shows that there are too many before the run can complete without it.
            size = left.saturating_add(1);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let up_to = self.cuts.end().saturating_add(size);
        let pending = {
            let mut fill = pin!(self.source.fill(&mut self.items, up_to));
            futures::poll!(fill.as_mut()).is_pending()
        };
        if pending {
            self.flush().await?;
            loop {
                // Flushed items are no longer in `items`.
                let fill = self.source.fill(&mut self.items, size);
                if tokio::time::timeout(CANCEL_CHECK, fill).await.is_ok() {
                    break;
                }
                self.now = Instant::now();
                if self.is_cancelled().await? {
                    return Ok(false);
                }
            }
            self.flushed = Instant::now();
        }
        // Inside the process the run cannot be cancelled.
        if !self.is_local {
            self.now = Instant::now();
            if self.is_cancelled().await? {
                return Ok(false);
            }
        }
        let (Some(length), Some(left)) = (self.record.array_length, left) else {
            return Ok(true);
        };
        let came = self.pulled() as u64;
        if came > left {
            let problem = format!("the array was to have {length} items, and more came");
            return Err(self.refuse(problem));
        }
        if came < left && self.pulled() < size {
            // The input ended early. If the last packet were sent, a worker could complete the tree with it.
            let came = self.offset + came;
            let problem = format!("the array was to have {length} items, and {came} came");
            return Err(self.refuse(problem));
        }
        Ok(true)
    }

    /// Number of items pulled for the next packet.
    fn pulled(&self) -> usize {
        self.items.len() - self.cuts.end()
    }

    /// Whether enough packets are waiting for a call on the queue.
    fn is_full(&self) -> bool {
        match self.queue.batch() {
            Some(batch) => {
                self.batch.len() >= REQUESTS_AT_ONCE * batch
                    || self.batch_bytes >= REQUESTS_AT_ONCE * BATCH_BYTES
            }
            None => {
                self.batch.len() >= BATCH_MESSAGES
                    || self.cuts.is_full(self.batch_bytes, self.queue_was_full)
                    || self.batch_bytes >= BATCH_BYTES && self.cuts.is_empty()
            }
        }
    }

    /// Whether input is slow, so that the packets before it should not wait.
    fn is_late(&mut self) -> bool {
        // Reading the clock for every packet would be a noticeable share of a small packet's cost.
        if self.is_local {
            let packets = self.batch.len() + self.cuts.len();
            if !packets.is_power_of_two() && !packets.is_multiple_of(8) {
                return false;
            }
            self.now = Instant::now();
        }
        let linger = match self.queue.batch() {
            Some(_) => BILLED_LINGER,
            None => LINGER,
        };
        self.now.duration_since(self.flushed) >= linger
    }

    fn move_on(&mut self, count: usize) {
        self.offset += count as u64;
        self.packets += 1;
    }

    /// Sends the waiting packets once the queue has room.
    async fn flush(&mut self) -> Result<()> {
        if !self.cuts.is_empty() {
            self.write_block()?;
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let Self { shared, queue, .. } = self;
        self.queue_was_full = {
            let mut room = pin!(async {
                shared.carrier.room().await;
                retry("ask for room", RETRY, || queue.room()).await
            });
            match futures::poll!(room.as_mut()) {
                Poll::Ready(asked) => asked.map(|()| false)?,
                Poll::Pending => room.await.map(|()| true)?,
            }
        };
        let messages = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        retry("send", RETRY, || queue.send(messages.clone())).await
    }

    /// Checks, at most once per [`CANCEL_CHECK`], whether the run was cancelled.
    async fn is_cancelled(&mut self) -> Result<bool> {
        if self.now.duration_since(self.checked) < CANCEL_CHECK {
            return Ok(false);
        }
        self.checked = self.now;
        let scratchpad = self.shared.scratchpad();
        let run = &self.record.run;
        let status = retry("status", RETRY, || scratchpad.status(run)).await?;
        Ok(status.is_none_or(|run| run.cancelled))
    }
}

/// Records the sizes of the groups at the right-hand edge of each tree: the first reduction's if the number of packets
/// is known, and every later one's, which has a single leaf.
async fn seal(shared: &Site, record: &RunRecord, packets: Option<u64>) -> Result<()> {
    for (place, stage) in shared.definition.reductions().enumerate() {
        let leaves = match (place, packets) {
            (0, None) => continue,
            (0, Some(packets)) => packets,
            _ => 1,
        };
        for edge in Tree::new(leaves, record.fan_in).edges() {
            let group = GroupId::new(
                record.run.clone(),
                Arc::clone(&stage.name),
                edge.level,
                edge.index,
            );
            let scratchpad = shared.scratchpad();
            let state = retry("expect", RETRY, || {
                scratchpad.expect(&group, edge.expected, edge.root)
            })
            .await?;
            if state.is_ready(record.fan_in) {
                let message = Message::reduce(&group, record.fan_in);
                let body = shared.carrier.write_message(message)?;
                let Some(place) = shared.definition.position(&stage.name) else {
                    continue;
                };
                let queue = open(shared, place).await?;
                retry("send", RETRY, || queue.send(vec![body.clone().into()])).await?;
            }
        }
    }
    Ok(())
}

async fn open(shared: &Site, stage: usize) -> Result<Arc<dyn Queue>> {
    retry("open", RETRY, || async {
        shared.queue(stage).await.cloned()
    })
    .await
}
