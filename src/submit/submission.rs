//! Sending a run's items: from their source to the first stage's queue.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::cancel_check::CancelCheck;
use super::cutter::{Cutter, Position};
use super::linger::Linger;
use super::seal::seal;
use super::{RETRY, Source};
use crate::core::error::{Error, Result};
use crate::core::retry::retry;
use crate::packet::codec::Form;
use crate::protocol::site::Site;
use crate::queue::Queue;
use crate::scratchpad::RunRecord;

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
    /// `None` inside the process, where a run cannot be cancelled.
    cancel_check: Option<CancelCheck>,
    /// Whether the queue had no room at the last call on it.
    queue_was_full: bool,
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
            cancel_check: match form {
                Form::Wire(_) => Some(CancelCheck::new()),
                Form::Local => None,
            },
            queue_was_full: false,
        }
    }

    /// Sends all items, from the first on, and seals the tree: before sending if the number of packets is known, else
    /// at the end. Ends early, without an error, if the run is cancelled. Safe to repeat: packet i is packet i each
    /// time.
    pub(super) async fn send(&mut self) -> Result<()> {
        tracing::debug!(run = %self.record.run, items = self.record.array_length, packets = self.record.packets, "submitting");
        seal(&self.site, &self.record, self.record.packets).await?;
        loop {
            match self.pull().await? {
                Pulled::Items => {}
                Pulled::End => break,
                Pulled::Cancelled => return Ok(()),
            }
            let items = self.cutter.cut(self.next)?;
            self.next.advance(items);
            if self.cutter.is_full(self.queue_was_full)
                || self.linger.is_over(self.cutter.packets())
            {
                self.flush().await?;
                // Input that is always ready must not keep a waiter for the run from seeing it fail.
                tokio::task::yield_now().await;
                // Time that other tasks took does not count as slow input.
                self.linger.restart();
            }
        }
        self.flush().await?;
        self.finish().await
    }

    /// Records the run's length and that everything is on the queue.
    async fn finish(&mut self) -> Result<()> {
        let Self {
            site, record, next, ..
        } = self;
        let (scratchpad, run) = (site.scratchpad(), &record.run);
        let Position { packet, offset } = *next;
        retry("measure", RETRY, || scratchpad.measure(run, offset, packet)).await?;
        if record.packets.is_none() {
            seal(site, record, Some(packet)).await?;
        }
        retry("submitted", RETRY, || scratchpad.submitted(run)).await
    }

    /// Pulls the next packet's items. Packets that are ready do not wait for a slow stream.
    async fn pull(&mut self) -> Result<Pulled> {
        let wanted = self.wanted();
        let up_to = self.cutter.items_in_packets().saturating_add(wanted);
        let is_pending = {
            let mut fill = pin!(self.source.fill(self.cutter.items(), up_to));
            futures::poll!(fill.as_mut()).is_pending()
        };
        if is_pending {
            self.flush().await?;
            loop {
                // The items of the packets that were flushed are gone: all are the next packet's.
                let fill = self.source.fill(self.cutter.items(), wanted);
                if tokio::time::timeout(CancelCheck::INTERVAL, fill)
                    .await
                    .is_ok()
                {
                    break;
                }
                if self.is_cancelled().await? {
                    return Ok(Pulled::Cancelled);
                }
            }
            self.linger.restart();
        }
        if self.is_cancelled().await? {
            return Ok(Pulled::Cancelled);
        }
        let pulled = self.cutter.pulled();
        self.check_length(pulled, wanted)?;
        Ok(match pulled {
            0 => Pulled::End,
            _ => Pulled::Items,
        })
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
        let came = if came > left {
            "more".to_owned()
        } else if came < left && pulled < wanted {
            // The input ended early. If the last packet were sent, a worker could complete the tree with it.
            (self.next.offset + came).to_string()
        } else {
            return Ok(());
        };
        Err(Error::Submission {
            run: self.record.run.clone(),
            problem: format!("the array was to have {length} items, and {came} came"),
        })
    }

    async fn is_cancelled(&mut self) -> Result<bool> {
        match &mut self.cancel_check {
            Some(check) => check.is_cancelled(&self.site, &self.record.run).await,
            None => Ok(false),
        }
    }

    /// Sends the waiting packets once the queue has room.
    async fn flush(&mut self) -> Result<()> {
        let messages = self.cutter.take()?;
        if messages.is_empty() {
            return Ok(());
        }
        let Self { site, queue, .. } = self;
        self.queue_was_full = {
            let mut room = pin!(async {
                site.carrier.room().await;
                retry("ask for room", RETRY, || queue.room()).await
            });
            match futures::poll!(room.as_mut()) {
                Poll::Ready(asked) => asked.map(|()| false)?,
                Poll::Pending => room.await.map(|()| true)?,
            }
        };
        retry("send", RETRY, || queue.send(messages.clone())).await
    }
}
