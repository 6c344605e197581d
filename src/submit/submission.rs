//! Sending a run's items: from their source to the first stage's queue.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::Handle;

use super::cancel_check::CancelCheck;
use super::cutter::{Cutter, Position};
use super::linger::Linger;
use super::progress::Progress;
use super::pulse::Pulse;
use super::seal::{seal, sign_length};
use super::{RETRY, Source};
use crate::core::error::{BoxError, Error, Result};
use crate::core::retry::retry;
use crate::packet::codec::Form;
use crate::protocol::site::Site;
use crate::queue::Queue;
use crate::scratchpad::{Checkpoint, RunRecord};

/// A run that has begun, and the items that are still to be sent.
pub(crate) struct Submission<S: Source> {
    pub(super) site: Arc<Site>,
    pub(super) record: RunRecord,
    queue: Arc<dyn Queue>,
    source: S,
    cutter: Box<dyn Cutter<S::Item>>,
    /// Where the next packet begins.
    next: Position,
    linger: Linger,
    /// How far an earlier submission of the run was. Up to there, packets are compared with its packets, and not sent.
    /// `None` after that.
    repeats: Option<Checkpoint>,
    /// `None` inside the process, where a run is never submitted again.
    progress: Option<Progress>,
    /// Whether another submission turned out to have sent other packets, while this one was sending its own.
    is_mixed: bool,
    /// `None` inside the process, where a run cannot be cancelled.
    cancel_check: Option<CancelCheck>,
    /// Whether the queue had no room at the last call on it.
    queue_was_full: bool,
    /// For a caller that gives up on a submission without progress.
    pub(super) pulse: Option<Pulse>,
}

/// What came for the next packet.
enum Pulled {
    Items,
    /// Nothing: the input has ended.
    End,
    /// The run was cancelled meanwhile.
    Cancelled,
}

impl<S: Source> Submission<S> {
    pub(super) fn new(
        site: &Arc<Site>,
        record: RunRecord,
        queue: Arc<dyn Queue>,
        source: S,
        cutter: Box<dyn Cutter<S::Item>>,
    ) -> Self {
        let form = site.carrier.form();
        Self {
            site: Arc::clone(site),
            record,
            linger: Linger::new(queue.batch(), form),
            queue,
            source,
            cutter,
            next: Position::default(),
            repeats: None,
            progress: match form {
                Form::Wire(_) => Some(Progress::new()),
                Form::Local => None,
            },
            is_mixed: false,
            cancel_check: match form {
                Form::Wire(_) => Some(CancelCheck::new()),
                Form::Local => None,
            },
            queue_was_full: false,
            pulse: None,
        }
    }

    /// Continues an earlier submission, which had come this far.
    pub(super) fn repeats(mut self, recorded: Option<Checkpoint>) -> Self {
        self.repeats = recorded.filter(|recorded| recorded.packets > 0);
        self
    }

    /// Whether packets of two submissions with other items may be on the queue.
    pub(super) fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    /// Sends all items that no earlier submission has sent, and seals the tree: before sending if the number of packets
    /// is known, else at the end. Ends early, without an error, if the run is cancelled. Safe to repeat: packet i is
    /// packet i each time.
    pub(super) async fn send(&mut self) -> Result<()> {
        let sent = self.send_all().await;
        if let Some(progress) = self.progress.take()
            && sent.is_err()
            && !self.is_mixed
        {
            progress.leave(&self.site, &self.record.key()).await;
        }
        sent
    }

    async fn send_all(&mut self) -> Result<()> {
        tracing::debug!(run = %self.record.run, items = self.record.array_length, packets = self.record.packets, "submitting");
        let Self { site, record, .. } = &*self;
        site.counters.measured(record.array_length, record.packets);
        if let Some(length) = record.array_length {
            sign_length(site, record, length).await?;
        }
        seal(site, record, record.packets).await?;
        self.beat();
        loop {
            match self.next_packets().await? {
                Pulled::Items => {}
                Pulled::End => break,
                Pulled::Cancelled => {
                    if let Some(pulse) = &self.pulse {
                        pulse.set_cancelled();
                    }
                    return Ok(());
                }
            }
        }
        self.flush().await?;
        self.has_repeated_all()?;
        self.finish().await
    }

    /// Compares the items with those of an earlier submission that has sent all of them, or whose run is over. Sends
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Submission`] if they are other items. What is not on record cannot be compared.
    pub(super) async fn compare(&mut self) -> Result<()> {
        self.cancel_check = None;
        let recorded = self.repeats.map_or(0, |recorded| recorded.packets);
        // If so, the number of items is on record too, and is compared while they are pulled.
        let is_whole = self.record.packets == Some(recorded);
        while is_whole || self.repeats.is_some() {
            if !matches!(self.next_packets().await?, Pulled::Items) {
                break;
            }
        }
        self.flush().await?;
        self.has_repeated_all()
    }

    /// Pulls items and cuts packets until those that wait need not wait for more, and sends these.
    async fn next_packets(&mut self) -> Result<Pulled> {
        loop {
            let pulled = self.pull().await?;
            if !matches!(pulled, Pulled::Items) {
                return Ok(pulled);
            }
            let items = self.cutter.cut(self.next)?;
            self.next.advance(items);
            if self.need_not_wait() {
                self.flush().await?;
                // Input that is always ready must not keep a waiter for the run from seeing it fail.
                tokio::task::yield_now().await;
                // Time that other tasks took does not count as slow input.
                self.linger.restart();
                return Ok(pulled);
            }
        }
    }

    /// Whether the packets that wait should not wait for more.
    fn need_not_wait(&self) -> bool {
        let recorded = self.repeats.map(|recorded| recorded.packets);
        recorded == Some(self.next.packet)
            || self.cutter.is_full(self.queue_was_full)
            || self.linger.is_over(self.cutter.packets())
    }

    /// Records the run's length and that everything is on the queue.
    async fn finish(&mut self) -> Result<()> {
        let end = self.reached();
        let Self { site, record, .. } = self;
        let (scratchpad, run) = (site.scratchpad(), record.key());
        let measured = retry("measure", RETRY, || scratchpad.measure(&run, &end)).await;
        self.is_mixed = is_mixed(&measured, self.progress.as_ref());
        measured?;
        site.counters.has_submitted(end.items, end.packets);
        self.beat();
        let Self { site, record, .. } = &*self;
        if record.array_length.is_none() {
            sign_length(site, record, end.items).await?;
        }
        if record.packets.is_none() {
            seal(site, record, Some(end.packets)).await?;
            self.beat();
        }
        let scratchpad = site.scratchpad();
        retry("submitted", RETRY, || scratchpad.submitted(&run)).await
    }

    /// The backend has answered.
    fn beat(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.beat();
        }
    }

    /// The packets that were cut.
    fn reached(&self) -> Checkpoint {
        let Position { packet, offset } = self.next;
        let fingerprint = self.cutter.fingerprint().unwrap_or_default();
        Checkpoint::new(packet, offset, fingerprint)
    }

    /// Pulls the next packet's items. Packets that are ready do not wait for a slow stream.
    #[inline]
    async fn pull(&mut self) -> Result<Pulled> {
        let wanted = self.wanted();
        let up_to = self.cutter.items_in_packets().saturating_add(wanted);
        let filled = {
            let mut fill = pin!(self.source.fill(self.cutter.items(), up_to));
            futures::poll!(fill.as_mut())
        };
        let filled = match filled {
            Poll::Ready(filled) => filled,
            Poll::Pending => {
                self.flush().await?;
                let Some(filled) = self.fill_slowly(wanted).await? else {
                    return Ok(Pulled::Cancelled);
                };
                self.linger.restart();
                filled
            }
        };
        if let Err(source) = filled {
            let item = self.next.offset + self.cutter.pulled() as u64;
            return Err(Error::Input { item, source });
        }
        // Inside the process, nothing is awaited for a small packet whose items are there: it costs a noticeable share.
        if self.cancel_check.is_some() && self.is_cancelled().await? {
            return Ok(Pulled::Cancelled);
        }
        let pulled = self.cutter.pulled();
        self.check_length(pulled, wanted)?;
        Ok(match pulled {
            0 => Pulled::End,
            _ => Pulled::Items,
        })
    }

    /// Waits for the next packet's items, no packet being left to flush. Returns `None` if the run is cancelled meanwhile,
    /// else what the source has returned.
    async fn fill_slowly(
        &mut self,
        wanted: usize,
    ) -> Result<Option<std::result::Result<(), BoxError>>> {
        loop {
            // The items of the packets that were flushed are gone: all are the next packet's.
            let fill = self.source.fill(self.cutter.items(), wanted);
            if let Ok(filled) = tokio::time::timeout(CancelCheck::INTERVAL, fill).await {
                return Ok(Some(filled));
            }
            self.record_progress().await?;
            if self.is_cancelled().await? {
                return Ok(None);
            }
        }
    }

    /// Number of items to pull for the next packet: those of the plan. Of the last packet, one more, so that too many
    /// items are seen before the run can complete without them.
    fn wanted(&self) -> usize {
        let size = u64::from(self.record.plan.size_at(self.next.offset));
        let wanted = match self.left() {
            Some(left) if left <= size => left.saturating_add(1),
            _ => size,
        };
        usize::try_from(wanted).unwrap_or(usize::MAX)
    }

    /// Number of items that are not in a packet yet, if the array's length is known.
    fn left(&self) -> Option<u64> {
        let length = self.record.array_length?;
        Some(length.saturating_sub(self.next.offset))
    }

    /// Holds the number of items `pulled`, of those `wanted`, against the array's length.
    fn check_length(&self, pulled: usize, wanted: usize) -> Result<()> {
        let (Some(length), Some(left)) = (self.record.array_length, self.left()) else {
            return Ok(());
        };
        let came = pulled as u64;
        // If the input ended early and the last packet were sent, a worker could complete the tree with it.
        let ended_early = came < left && pulled < wanted;
        if came <= left && !ended_early {
            return Ok(());
        }
        Err(self.other_length(length, (came <= left).then_some(self.next.offset + came)))
    }

    /// The array was to have `length` items: `came` did, or more.
    #[cold]
    fn other_length(&self, length: u64, came: Option<u64>) -> Error {
        let came = came.map_or("more".to_owned(), |came| came.to_string());
        Error::Submission {
            run: self.record.run.clone(),
            problem: format!("the array was to have {length} items, and {came} came"),
        }
    }

    async fn is_cancelled(&mut self) -> Result<bool> {
        match &mut self.cancel_check {
            Some(check) => check.is_cancelled(&self.site, &self.record.key()).await,
            None => Ok(false),
        }
    }

    /// Sends the waiting packets once the queue has room, unless they are on it already.
    async fn flush(&mut self) -> Result<()> {
        let messages = self.cutter.take()?;
        if messages.is_empty() {
            return Ok(());
        }
        self.beat();
        if let Some(recorded) = self.repeats {
            return self.repeat(&recorded);
        }
        self.record_progress().await?;
        let reached = self.reached();
        let Self {
            site,
            queue,
            record,
            pulse,
            ..
        } = self;
        let mut was_full = false;
        let sent = async {
            was_full = {
                let mut room = pin!(async {
                    site.carrier.room().await;
                    retry("ask for room", RETRY, || queue.room()).await
                });
                match futures::poll!(room.as_mut()) {
                    Poll::Ready(asked) => asked.map(|()| false)?,
                    Poll::Pending => {
                        match pulse {
                            Some(pulse) => pulse.during(|| queue.depth(), room).await?,
                            None => room.await?,
                        }
                        true
                    }
                }
            };
            retry("send", RETRY, || queue.send(messages.clone())).await
        };
        let Some(progress) = &mut self.progress else {
            sent.await?;
            site.counters.submitted(reached.items);
            self.queue_was_full = was_full;
            self.beat();
            return Ok(());
        };
        let sent = progress.record_during(site, &record.key(), sent).await;
        self.is_mixed = is_mixed(&sent, Some(progress));
        sent?;
        self.queue_was_full = was_full;
        progress.has_sent(reached);
        self.beat();
        Ok(())
    }

    async fn record_progress(&mut self) -> Result<()> {
        if let Some(progress) = &mut self.progress {
            let recorded = progress.record(&self.site, &self.record.key()).await;
            self.is_mixed = is_mixed(&recorded, Some(progress));
            recorded?;
            self.beat();
        }
        Ok(())
    }

    /// Packets were cut that an earlier submission has sent: are they the same?
    fn repeat(&mut self, recorded: &Checkpoint) -> Result<()> {
        if self.next.packet < recorded.packets {
            return Ok(());
        }
        if self.reached() != *recorded {
            return Err(recorded.differs(&self.record.run));
        }
        self.repeats = None;
        if let Some(progress) = &mut self.progress {
            progress.has_repeated(recorded);
        }
        Ok(())
    }

    /// At the end of the items: whether there were as many as an earlier submission has sent.
    fn has_repeated_all(&self) -> Result<()> {
        let Some(recorded) = &self.repeats else {
            return Ok(());
        };
        Err(Error::Submission {
            run: self.record.run.clone(),
            problem: format!(
                "{} items came, and {} or more were submitted under this id before; \
                 use another id, or the same items in the same order",
                self.next.offset, recorded.items
            ),
        })
    }
}

/// Whether the run's record was refused to a submission that has put packets on the queue: another one has put other
/// packets there.
fn is_mixed(recorded: &Result<()>, progress: Option<&Progress>) -> bool {
    let is_refused = matches!(recorded, Err(Error::Submission { .. }));
    is_refused && progress.is_some_and(Progress::has_any)
}

impl<S: Source> Drop for Submission<S> {
    /// A submission whose future is dropped records how far it was, by a task of the runtime.
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take()
            && progress.has_any()
            && !self.is_mixed
            && let Ok(runtime) = Handle::try_current()
        {
            let (site, run) = (Arc::clone(&self.site), self.record.key());
            runtime.spawn(async move { progress.leave(&site, &run).await });
        }
    }
}
