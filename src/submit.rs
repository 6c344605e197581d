//! Submitting: an array is cut into packets, the packets go on the first stage's queue, and the tree is
//! told its size.

mod source;
mod together;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
pub(crate) use source::{FromIterator, FromStream, Source};
use tokio::time::Instant;

use crate::core::clock::now;
use crate::core::error::{Error, Result, describe};
use crate::core::id::{ArrayId, PacketId};
use crate::core::retry::retry;
use crate::core::tree::Tree;
use crate::packet::codec::{self, Codec, Form, Payload};
use crate::packet::local;
use crate::packet::{MapWork, Message, Packet, Work};
use crate::protocol::site::Site;
use crate::queue::Queue;
use crate::scratchpad::{
    Attempt, Begun, DeadLetterId, FailureReport, GroupId, PacketPlan, RunRecord, Verdict,
};
use crate::stage::{Data, Execution};
use together::Cuts;

/// Messages and bytes that go to the queue in one call, where it does not say how many it takes.
const BATCH_MESSAGES: usize = 10;
const BATCH_BYTES: usize = 256 * 1024;
/// Full requests that go to a service in one call, where it says how many messages a request takes.
const REQUESTS_AT_ONCE: usize = 8;
/// Tries of a call whose error may pass; with the backoff between them about two minutes.
const ATTEMPTS: u32 = 12;
/// How long packets wait for others while input takes its time; and where requests are billed.
const LINGER: Duration = Duration::from_millis(2);
const BILLED_LINGER: Duration = Duration::from_secs(1);
/// How often a submitter looks whether the run was cancelled.
const CANCEL_CHECK: Duration = Duration::from_secs(2);

const ADVICE: &str = "submit references to the data instead, such as the key of a stored object, or use a smaller packet_size";

/// What stands in for a message where the submission itself failed.
const SUBMISSION: &str = "submission";

/// A run that has begun, and the items that it still has to be sent.
pub(crate) struct Submission<S: Source> {
    shared: Arc<Site>,
    queue: Arc<dyn Queue>,
    record: RunRecord,
    first_stage: Arc<str>,
    source: S,
    /// What was pulled and has not been sent.
    items: Vec<S::Item>,
    /// Nothing is to be sent: all was sent before, or the run is over.
    sent_before: bool,
    /// A failure of an earlier submission stands.
    failed_before: bool,
    /// Whether this submission began the run.
    new: bool,
    offset: u64,
    packets: u64,
    batch: Vec<Bytes>,
    batch_bytes: usize,
    /// Inside the process: where items that stay as they are are cut into packets.
    cuts: Cuts,
    queue_was_full: bool,
    /// Whether items are of a type that stays as it is inside the process.
    is_kept: bool,
    /// Whether nothing leaves the process.
    is_local: bool,
    /// When the last packet was pulled, or was looked at.
    now: Instant,
    flushed: Instant,
    checked: Instant,
}

impl<S: Source> Submission<S> {
    /// Writes the run's record, or finds the one that stands.
    pub(crate) async fn begin(
        shared: &Arc<Site>,
        array_id: ArrayId,
        source: S,
        length: Option<u64>,
    ) -> Result<Self> {
        array_id.validate()?;
        let missing = || Error::InvalidPipeline {
            problem: "it has no stage that takes items".into(),
        };
        let definition = &shared.definition;
        let first = definition.stage(0).ok_or_else(missing)?;
        let reduction = definition.reductions().next().ok_or_else(missing)?;
        let queue = open(shared, 0).await?;
        let plan = PacketPlan::new(first.options.packet_size, length);
        // Where messages have a limit, packets may have to be cut by their bytes, and only the end tells how
        // many there are.
        let packets = match queue.max_body() {
            None => length.map(|length| plan.packets(length)),
            Some(_) => None,
        };
        let mut record = RunRecord::new(
            array_id,
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
        let begun = patiently("begin", || shared.scratchpad().begin(&record)).await?;
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

    pub(crate) fn array_id(&self) -> &ArrayId {
        &self.record.array_id
    }

    fn refuse(&self, problem: String) -> Error {
        Error::Submission {
            array_id: self.record.array_id.clone(),
            problem,
        }
    }

    /// Sends what is to be sent.
    pub(crate) async fn send(mut self) -> Result<()> {
        if self.sent_before {
            return Ok(());
        }
        match self.send_all().await {
            Ok(()) if self.failed_before => {
                let Self { shared, record, .. } = &self;
                patiently("clear_failure", || {
                    let scratchpad = shared.scratchpad();
                    let (array_id, stage) = (&record.array_id, &record.first_stage);
                    scratchpad.clear(array_id, stage, SUBMISSION, DeadLetterId::UNQUEUED)
                })
                .await
            }
            Err(error) if self.new && !error.is_retryable() => {
                // Nobody will send the rest: who waits for the result must hear of it.
                let report = FailureReport::new(
                    &self.record.array_id,
                    self.record.first_stage.as_str(),
                    SUBMISSION,
                    vec![Attempt::new(1, now(), describe(&error))],
                    Verdict::Dead(DeadLetterId::UNQUEUED),
                );
                if let Err(problem) = self.shared.scratchpad().record(&report).await {
                    tracing::error!(array_id = %self.record.array_id, %problem, "a failed submission could not be written down");
                }
                Err(error)
            }
            outcome => outcome,
        }
    }

    async fn send_all(&mut self) -> Result<()> {
        tracing::debug!(array_id = %self.record.array_id, items = self.record.array_length, packets = self.record.packets, "submitting");
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
                // Input that is always ready must not keep who waits for the run from seeing it fail.
                tokio::task::yield_now().await;
                // What others did meanwhile is not the input's time.
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
        let array_id = &record.array_id;
        patiently("measure", || {
            scratchpad.measure(array_id, *offset, *packets)
        })
        .await?;
        if record.packets.is_none() {
            seal(shared, record, Some(*packets)).await?;
        }
        let scratchpad = self.shared.scratchpad();
        let array_id = &self.record.array_id;
        patiently("submitted", || scratchpad.submitted(array_id)).await
    }

    /// Pulls the next packet's items. What is ready to go does not wait for a slow stream. Returns false when the
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
            // One item more than there should be shows that there are too many, before the run can be done without it.
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
                // What was flushed is gone from the items.
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
        // Inside the process there is nobody who could cancel the run.
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
            // The end came early. Sent, the last packet could complete the tree, and a worker find out first.
            let came = self.offset + came;
            let problem = format!("the array was to have {length} items, and {came} came");
            return Err(self.refuse(problem));
        }
        Ok(true)
    }

    /// How many items have been pulled for the next packet.
    fn pulled(&self) -> usize {
        self.items.len() - self.cuts.end()
    }

    /// Whether enough has come together for a call on the queue.
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

    /// Whether input takes its time, and what came before should not wait for it.
    fn is_late(&mut self) -> bool {
        // Looking at the clock for each packet would be a good part of a small one's time.
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

    /// Makes a packet of the next items, and moves on behind it. It has as many as the plan says, or fewer where they
    /// would not fit.
    fn next_packet(&mut self) -> Result<()> {
        if self.is_local && self.is_kept {
            self.next_cut();
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let codec = match shared.carrier.form() {
            Form::Wire(codec) => codec,
            Form::Local => Codec::default(),
        };
        let limit = self.queue.max_body().unwrap_or(usize::MAX);
        let limit = match codec {
            Codec::Json => limit,
            // A service that takes text makes four characters of three bytes.
            #[cfg(feature = "postcard")]
            Codec::Postcard => limit / 4 * 3 - (limit / 4 * 3).min(16),
        };
        let mut count = self.items.len();
        loop {
            let (items, _) = self.items.split_at(count);
            let value = encode_items(items, codec, self.packets, self.offset)?;
            let size = value.size();
            let message = self.message(value, self.packets, self.offset, count);
            let body = shared.carrier.write_message(message)?;
            if body.len() <= limit {
                self.items.drain(..count);
                self.move_on(count);
                // Inside the process, a body is only a ticket.
                self.batch_bytes += size.max(body.len());
                self.batch.push(body);
                return Ok(());
            }
            if count == 1 {
                return Err(Error::TooLarge {
                    what: name_packet(self.packets, self.offset, count),
                    size: body.len(),
                    limit,
                    advice: ADVICE,
                });
            }
            count /= 2;
        }
    }

    fn message(&self, value: Payload, packet: u64, offset: u64, count: usize) -> Message {
        Message {
            stage: Arc::clone(&self.first_stage),
            fan_in: self.record.fan_in,
            work: Work::Map(MapWork {
                packet: Packet {
                    array_id: self.record.array_id.clone(),
                    packet_id: PacketId::leaf(packet),
                    value,
                    array_length: self.record.array_length,
                    contains: count as u64,
                    skipped: 0,
                },
                offset,
                yields: None,
                together: Vec::new(),
                tried: 0,
            }),
        }
    }

    fn move_on(&mut self, count: usize) {
        self.offset += count as u64;
        self.packets += 1;
    }

    /// Puts what has come together on the queue, once the queue wants more.
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
                patiently("ask for room", || queue.room()).await
            });
            match futures::poll!(room.as_mut()) {
                Poll::Ready(asked) => asked.map(|()| false)?,
                Poll::Pending => room.await.map(|()| true)?,
            }
        };
        let bodies = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        patiently("send", || queue.send(bodies.clone())).await
    }

    /// Looks now and then whether somebody cancelled the run.
    async fn is_cancelled(&mut self) -> Result<bool> {
        if self.now.duration_since(self.checked) < CANCEL_CHECK {
            return Ok(false);
        }
        self.checked = self.now;
        let scratchpad = self.shared.scratchpad();
        let array_id = &self.record.array_id;
        let status = patiently("status", || scratchpad.status(array_id)).await?;
        Ok(status.is_none_or(|run| run.cancelled))
    }
}

/// Tells the right-hand edges of the trees their size: of the first reduction's where the number of packets
/// is known, and of each later one's, which has a single leaf.
async fn seal(shared: &Site, record: &RunRecord, packets: Option<u64>) -> Result<()> {
    for (place, stage) in shared.definition.reductions().enumerate() {
        let leaves = match (place, packets) {
            (0, None) => continue,
            (0, Some(packets)) => packets,
            _ => 1,
        };
        for edge in Tree::new(leaves, record.fan_in).edges() {
            let group = GroupId::new(
                record.array_id.clone(),
                Arc::clone(&stage.name),
                edge.level,
                edge.index,
            );
            let scratchpad = shared.scratchpad();
            let state = patiently("expect", || {
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
                patiently("send", || queue.send(vec![body.clone()])).await?;
            }
        }
    }
    Ok(())
}

async fn open(shared: &Site, stage: usize) -> Result<Arc<dyn Queue>> {
    patiently("open", || async { shared.queue(stage).await.cloned() }).await
}

/// A call that is tried again for a while.
async fn patiently<T, F>(what: &str, call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    retry(what, Some(ATTEMPTS), call).await
}

fn name_packet(packet: u64, offset: u64, count: usize) -> String {
    match count {
        1 => format!("packet {packet} (item {offset})"),
        count => format!(
            "packet {packet} (items {offset} to {})",
            offset + count as u64 - 1
        ),
    }
}

fn encode_items<T: Data>(items: &[T], codec: Codec, packet: u64, offset: u64) -> Result<Payload> {
    codec::write(items, codec, "").map_err(|error| {
        let bad = items
            .iter()
            .position(|item| codec::write(item, codec, "").is_err());
        let what = match bad {
            Some(position) => format!("packet {packet}, item {}", offset + position as u64),
            None => name_packet(packet, offset, items.len()),
        };
        match error {
            Error::Encode { source, .. } => Error::Encode { what, source },
            other => other,
        }
    })
}
