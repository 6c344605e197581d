//! Waiting until nothing of a run is under way any more.

use std::time::Duration;

use super::{Run, Status};
use crate::core::backoff::Backoff;
use crate::core::error::Result;
use crate::core::retry::{Policy, retry};
use crate::scratchpad::RunState;

/// Between two looks at a run that has failed and is not settled.
const WAITS: Backoff = Backoff::exponential(Duration::from_millis(250), Duration::from_secs(30));

impl<R> Run<R> {
    /// Waits until nothing of the run is under way any more, and returns its status then: the run is done, was cancelled,
    /// or has failed and everything else in it has finished too. A run that has failed goes on with its other messages,
    /// and more of them may fail: once it is settled, each of its messages that failed is on record, and a
    /// [redrive](Self::redrive) puts all of them back.
    ///
    /// Under [`OnFailure::Fail`](crate::OnFailure::Fail) a packet fails with the first of its items that fails for good,
    /// which is the one on record. Any other bad item of the packet shows only after a redrive, unless the stage's
    /// [`packet_size`](crate::Stage::packet_size) is 1.
    ///
    /// A failed run is settled once all of these are on record:
    ///
    /// - Its submission is complete, or has failed for good. A submission that broke off may be completed any time under
    ///   its id, so that its run is not settled before it is completed or cancelled.
    /// - Each packet has arrived at the first reduction, or stands as a dead letter of one of the stages before it.
    /// - Each group whose members have all arrived has been reduced and passed on, or stands as a dead letter. A group
    ///   that lacks a member waits for a redrive.
    /// - If the first reduction is complete, its value has gone through all stages after it up to a dead letter.
    ///
    /// What is not on record cannot be known. A dead letter counts as one from its record on, a moment before it is in
    /// its queue ([`redrive`](Self::redrive) waits for that), and stays one if it is [discarded](Self::discard). A
    /// message that the queue service itself has moved to its dead-letter queue, or that has outlived the queue's
    /// retention, leaves no record: its run is not settled until it is cancelled, or the message is redriven. A cancelled
    /// run is settled at once, although workers may go on with its items until they [notice](Self::cancel).
    ///
    /// Until the run has ended it waits as [`wait`](Self::wait) does. After a failure it looks at the record, first four
    /// times per second and ever more seldom, up to every 30 seconds. While much is under way, a look reads the run's
    /// record and some groups of the tree. Once there are as many dead letters as gaps, it reads the failures too, a
    /// thousand per call, and all groups above a gap, up to a thousand per call. Transient errors of the backend are
    /// retried without end.
    ///
    /// Changes nothing, also if the future is dropped.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, RunState, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// let run = numbers.submit(["1", "two", "3", "four"].map(String::from)).await?;
    /// let status = run.settled().await?;
    /// assert_eq!((status.state, status.settled), (RunState::Failed, true));
    /// assert_eq!((status.items_done, status.items_failed), (2, 2));
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchRun`](crate::Error::NoSuchRun) if the run is unknown, and [`Error::Backend`](crate::Error::Backend)
    /// if the scratchpad refuses a call.
    pub async fn settled(&self) -> Result<Status> {
        let mut looks = 0;
        loop {
            let look = retry("wait until a run is settled", Policy::FOREVER, || {
                self.look_once()
            });
            if let Some(status) = look.await? {
                return Ok(status);
            }
            looks += 1;
            tokio::time::sleep(WAITS.longest(looks)).await;
        }
    }

    /// Waits for the run's end, and returns its status if it is settled.
    async fn look_once(&self) -> Result<Option<Status>> {
        let snapshot = self.ended(Duration::MAX).await?;
        let is_settled = match snapshot.state() {
            RunState::Failed => self.under_way(&snapshot, 0).await? == 0,
            _ => true,
        };
        if !is_settled {
            return Ok(None);
        }
        // A redrive meanwhile puts messages back under way.
        let status = self.status().await?;
        Ok(status.settled.then_some(status))
    }
}
