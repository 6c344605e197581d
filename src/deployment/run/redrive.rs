//! Dead letters of a run, back on their queues.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::Run;
use crate::core::error::Result;
use crate::deployment::dead_letter::Redriving;
use crate::scratchpad::{DeadLetterId, Verdict};

/// How long a dead letter may take to get into its place after its failure is on record.
const BURIAL: Duration = Duration::from_secs(5);
/// Failures that are read in one call when a run is redriven, and those whose dead letters it waits
/// for.
const FAILURES_AT_ONCE: usize = 1_000;
const MOST_AWAITED: usize = 10_000;

impl<R> Run<R> {
    /// Puts this run's dead letters back on their queues with all their attempts, after their cause
    /// was mended. What was done stays done: the run goes on from where it stopped. Returns how
    /// many messages went back. Letters are read and put back page by page, so that memory is bounded however many there
    /// are, and a message that fails again meanwhile does not go back a second time.
    ///
    /// For a dead letter that is on record and not found, it waits five seconds: it may be on its way, or have been
    /// [discarded](Self::discard).
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
    ///     .try_map(move |n: u64| match n == 1 || is_fixed.load(SeqCst) {
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
    /// [`Error::Backend`](crate::Error::Backend) if a queue or the scratchpad cannot be reached; repeating the call
    /// does the rest. [`Error::NoSuchRun`](crate::Error::NoSuchRun) if the run is unknown.
    pub async fn redrive(&self) -> Result<usize> {
        let begin = Instant::now();
        let failures = self.failures().limit(FAILURES_AT_ONCE).stream();
        let awaited = failures.try_filter_map(async |failure| {
            Ok(match failure.verdict {
                Verdict::Dead(id) if id != DeadLetterId::UNQUEUED => Some(id),
                _ => None,
            })
        });
        let awaited = awaited.take(MOST_AWAITED).try_collect().await?;
        let mut redriving = Redriving::new(awaited);
        loop {
            self.site.redrive(Some(&self.run), &mut redriving).await?;
            // A failure is on record a moment before its dead letter is in its place.
            if redriving.awaited.is_empty() || begin.elapsed() >= BURIAL {
                if redriving.count == 0 {
                    // There is nothing to redrive, unless there is no such run.
                    self.snapshot(Duration::ZERO).await?;
                }
                return Ok(redriving.count);
            }
            tokio::time::sleep(BURIAL / 20).await;
        }
    }
}
