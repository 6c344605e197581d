//! Dead letters of a run, back on their queues.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::Run;
use crate::core::error::{Error, Result};
use crate::core::runtime;
use crate::deployment::dead_letter::Redriving;
use crate::scratchpad::{DeadLetterId, Verdict};

/// How long a dead letter may take to get into its place after its failure is on record.
const BURIAL: Duration = Duration::from_secs(5);
/// Failures that are read in one call when a run is redriven, and those whose dead letters it waits
/// for.
const FAILURES_AT_ONCE: usize = 1_000;
const MOST_AWAITED: usize = 10_000;

/// What a [redrive](Run::redrive) has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redriven {
    /// Messages that are back on their queues.
    pub redriven: usize,
    /// Messages of the run that were neither done nor dead letters when the redrive began, and so were not redriven. An
    /// open submission counts as one more. If any of these fail, the run fails again, and needs another redrive.
    pub under_way: u64,
}

impl<R> Run<R> {
    /// Puts this run's dead letters back on their queues with all their attempts, after their cause
    /// was fixed. What was done stays done: the run goes on from where it stopped. Letters are read and put back page by
    /// page, so that memory is bounded however many there are, and a message that fails again meanwhile does not go back a
    /// second time.
    ///
    /// A dead letter is a whole packet, and all of its items run again, also those that had succeeded beside the one that
    /// failed. If calls cost money or must not be repeated, set [`packet_size`](crate::Stage::packet_size) to 1.
    ///
    /// It does not wait for messages that are still under way, since a run may take hours after its first failure:
    /// [`under_way`](Redriven::under_way) says how many there were. Those that began before the cause was fixed may fail
    /// yet, and then the run fails again. [`redrive_settled`](Self::redrive_settled) waits for them first.
    ///
    /// For a dead letter that is on record and not found, it waits five seconds: it may be on its way, or have been
    /// [discarded](Self::discard).
    ///
    /// If the future is dropped, some letters have gone back, and repeating the call does the rest.
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
    /// assert_eq!(run.redrive().await?.redriven, 1);
    /// assert_eq!(run.result().await?, 3);
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if a queue or the scratchpad cannot be reached; repeating the call
    /// does the rest. [`Error::NoSuchRun`](crate::Error::NoSuchRun) if the run is unknown.
    pub async fn redrive(&self) -> Result<Redriven> {
        self.run.validate()?;
        runtime::check()?;
        // Dead letters outlive a record that has expired.
        let snapshot = self.site.scratchpad().status(&self.run).await?;
        let under_way = match &snapshot {
            Some(snapshot) => self.under_way(snapshot, u64::MAX).await?,
            None => 0,
        };
        let redriven = self.redrive_now().await?;
        if redriven == 0 && snapshot.is_none() {
            return Err(Error::NoSuchRun {
                run: self.run.clone(),
            });
        }
        Ok(Redriven {
            redriven,
            under_way,
        })
    }

    /// Waits until the run is [settled](Self::settled), and then redrives it, as [`redrive`](Self::redrive) does: every
    /// message that fails is a dead letter by then, and goes back. A run that is done or was cancelled has nothing to
    /// redrive.
    ///
    /// That may take as long as the run does, and it never ends if no worker works on the rest. Dead letters must be kept
    /// for that long: in memory, that is an hour unless [`MemoryQueues::retention`] says otherwise.
    ///
    /// [`MemoryQueues::retention`]: crate::backends::memory::MemoryQueues::retention
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
    /// let run = sum.submit([1, 2, 3]).await?;
    /// run.settled().await?;
    /// fixed.store(true, SeqCst);
    /// let outcome = run.redrive_settled().await?;
    /// assert_eq!((outcome.redriven, outcome.under_way), (2, 0));
    /// assert_eq!(run.result().await?, 6);
    /// # worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`settled`](Self::settled) and [`redrive`](Self::redrive).
    pub async fn redrive_settled(&self) -> Result<Redriven> {
        self.settled().await?;
        self.redrive().await
    }

    /// Redrives, and returns how many messages went back.
    async fn redrive_now(&self) -> Result<usize> {
        let begin = Instant::now();
        let failures = self.failures().limit(FAILURES_AT_ONCE).stream();
        let awaited = failures.try_filter_map(async |failure| {
            Ok(match failure.verdict {
                Verdict::Dead(id) if id != DeadLetterId::UNQUEUED => Some(id),
                _ => None,
            })
        });
        let awaited = awaited.take(MOST_AWAITED).try_collect().await?;
        let whose = self.site.whose(&self.run).await?;
        let mut redriving = Redriving::new(awaited);
        loop {
            self.site.redrive(Some(&whose), &mut redriving).await?;
            // A failure is on record a moment before its dead letter is in its place.
            if redriving.awaited.is_empty() || begin.elapsed() >= BURIAL {
                return Ok(redriving.count);
            }
            tokio::time::sleep(BURIAL / 20).await;
        }
    }
}
