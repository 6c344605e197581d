//! Dead letters of a run, back on their queues.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::Run;
use crate::core::error::Result;
use crate::deployment::dead_letter::{DeadLetter, Queued};
use crate::queue::Queue;
use crate::scratchpad::{DeadLetterId, Verdict};

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

impl<R> Run<R> {
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
