//! How far a submission is, for another one that may have to continue it.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::RETRY;
use crate::core::error::{Result, describe};
use crate::core::generation::RunKey;
use crate::core::retry::retry;
use crate::protocol::site::Site;
use crate::scratchpad::Checkpoint;

/// A checkpoint is recorded once this many packets were sent since the last one, or this much time has passed: whichever
/// comes first. A submission that ends before that has none to record, because its end is recorded anyway.
const PACKETS: u64 = 1_000;
const INTERVAL: Duration = Duration::from_secs(1);

/// How long to try to record a checkpoint for a submission that has failed, while the caller waits for the error.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What a submission has sent, and how much of that is on record.
pub(super) struct Progress {
    /// Everything before this is on the queue.
    sent: Option<Checkpoint>,
    /// Number of packets that are on record.
    recorded: u64,
    /// When the last checkpoint was recorded, or the submission began.
    since: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            sent: None,
            recorded: 0,
            since: Instant::now(),
        }
    }

    /// A repeated submission has come to where an earlier one was: this is on record.
    pub(super) fn has_repeated(&mut self, recorded: &Checkpoint) {
        self.recorded = recorded.packets;
        self.since = Instant::now();
    }

    /// Packets were put on the queue. Not before that: what is on record is not sent again.
    pub(super) fn has_sent(&mut self, sent: Checkpoint) {
        self.sent = Some(sent);
    }

    /// Whether this submission itself has put packets on the queue.
    pub(super) fn has_any(&self) -> bool {
        self.sent.is_some()
    }

    /// What was sent and is not on record.
    fn unrecorded(&self) -> Option<&Checkpoint> {
        let sent = self.sent.as_ref();
        sent.filter(|sent| sent.packets > self.recorded)
    }

    /// When to record what was sent, if there is anything to record.
    fn due(&self) -> Option<Instant> {
        let sent = self.unrecorded()?;
        Some(match sent.packets - self.recorded >= PACKETS {
            true => self.since,
            false => self.since + INTERVAL,
        })
    }

    /// Records what was sent, if it is time to.
    pub(super) async fn record(&mut self, site: &Site, run: &RunKey) -> Result<()> {
        match (self.due(), self.unrecorded().copied()) {
            (Some(due), Some(sent)) if due <= Instant::now() => {
                let scratchpad = site.scratchpad();
                retry("checkpoint", RETRY, || scratchpad.checkpoint(run, &sent)).await?;
                self.has_repeated(&sent);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Does `work`, which may have to wait for long, and meanwhile records what was sent before it.
    pub(super) async fn record_during<T>(
        &mut self,
        site: &Site,
        run: &RunKey,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut work = pin!(work);
        while let Some(due) = self.due() {
            match timeout_at(due, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.record(site, run).await?,
            }
        }
        work.await
    }

    /// Records what a submission had sent when it failed. Best effort: without this, a repetition sends more packets
    /// than it would have to.
    pub(super) async fn leave(&self, site: &Site, run: &RunKey) {
        let Some(sent) = self.unrecorded() else {
            return;
        };
        let recorded = timeout(LEAVE_WITHIN, site.scratchpad().checkpoint(run, sent));
        let problem = match recorded.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => describe(&error),
            Err(_) => "the backend takes too long".to_owned(),
        };
        tracing::debug!(run = %run.id, problem, "a failed submission could not record how far it was");
    }
}
