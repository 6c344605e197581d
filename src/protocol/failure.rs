//! What becomes of work that failed: another attempt, left-out items, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use super::attempt_log::FailedItem;
use super::reason::Reason;
use super::{Answer, Protocol, Task, refused};
use crate::compute::step::{Failures, ItemFailure};
use crate::core::backoff::Backoff;
use crate::core::clock::now;
use crate::core::error::{Result as OurResult, describe};
use crate::packet::carrier::Carrier;
use crate::packet::{Malformed, MapWork, Message};
use crate::pipeline::definition::StageDefinition;
use crate::queue::Delivery;
use crate::scratchpad::{Attempt, DeadLetterId, FailureLog, FailureReport, Verdict};

/// Characters of an error that are kept.
const LONGEST_ERROR: usize = 2_000;
/// Before a message comes back whose failure the scratchpad refuses to keep, whatever the stage's backoff is.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// Failed items of one message that are listed.
const MOST_ITEMS: usize = 100;

impl Protocol {
    /// What becomes of a delivery that is no message of this deployment.
    pub(super) async fn refuse(
        &self,
        stage: &StageDefinition,
        delivery: &Delivery,
        malformed: &Malformed,
    ) -> Answer {
        match malformed {
            Malformed::Foreign(foreign) => self.foreign(stage, delivery, foreign).await,
            _ => self.unreadable(stage, delivery, malformed),
        }
    }

    /// Buries bytes that are not a message: without one, there is no run whose failures could be recorded.
    fn unreadable(
        &self,
        stage: &StageDefinition,
        delivery: &Delivery,
        malformed: &Malformed,
    ) -> Answer {
        let problem = describe(malformed);
        tracing::error!(stage = %stage.name, bytes = delivery.body.len(), problem, "a message cannot be read, and becomes a dead letter");
        let error = shorten(&format!("the message cannot be read: {problem}"));
        Answer::Bury(Reason::new(error).write())
    }

    /// Writes the failure down, then says what becomes of the message.
    pub(super) async fn failed(
        &self,
        task: &Task<'_>,
        message: &Message,
        failures: Failures,
    ) -> Answer {
        let last = task.attempt >= task.stage.options.queue.attempts;
        let dead = last || failures.iter().any(|failure| failure.permanent);
        let id = DeadLetterId::random();
        let verdict = match dead {
            true => Verdict::Dead(id),
            false => Verdict::Retry,
        };
        let attempts = attempts(task, &failures);
        let (item, error) = attempts
            .last()
            .map(|attempt| (attempt.item, attempt.error.clone()))
            .unwrap_or_default();
        let run = message.run();
        let name = message.name_at(&task.stage.name);
        let stage = Arc::clone(&task.stage.name);
        let mut report = FailureReport::new(run, stage, name.as_str(), attempts, verdict);
        report.delivery = task.delivery();
        let recorded = match self.record(&report).await {
            Ok(recorded) => recorded,
            Err(refusal) => {
                // As a dead letter its run would never be told, and whoever waits for it would wait for ever.
                let wait = self.backoff(task.stage).draw(u32::MAX).max(LEAST_WAIT);
                self.withdraw(std::iter::once(task)).await;
                tracing::error!(%run, work = name, error, refusal = %describe(&refusal), ?wait, "a failure could not be written down: the message comes back");
                return Answer::Nack(wait);
            }
        };
        let log = &self.seam.site.attempt_log;
        if dead {
            if let Some(last) = failed_items(task, &failures, None).last() {
                log.dead(task.index, run, &name, last);
            }
            let reason = Reason {
                id: Some(id),
                item,
                error,
                attempts: recorded.attempts,
            };
            Answer::Bury(reason.write())
        } else {
            let wait = self.backoff(task.stage).draw(task.attempt);
            let items = failed_items(task, &failures, Some(wait));
            log.retried(task.index, run, &name, items);
            Answer::Nack(wait)
        }
    }

    /// Writes down a failed attempt at a packet that was part of a bundle.
    pub(super) async fn note_attempt(&self, task: &Task<'_>, name: String, failures: &Failures) {
        let run = task.message.run();
        let attempts = attempts(task, failures);
        let stage = Arc::clone(&task.stage.name);
        let report = FailureReport::new(run, stage, name.as_str(), attempts, Verdict::Retry);
        if let Err(error) = self.record(&report).await {
            tracing::error!(%run, work = name, error = %describe(&error), "a failure could not be written down");
        }
    }

    /// Writes down the items that are left out, unless that would be more than are tolerated.
    pub(super) async fn skip(
        &self,
        task: &Task<'_>,
        work: &MapWork,
        skipped: &[ItemFailure],
    ) -> Result<(), Failures> {
        let report = FailureReport::new(
            &work.packet.run,
            Arc::clone(&task.stage.name),
            work.name(),
            all_attempts(task, skipped),
            Verdict::Skip,
        );
        let log = self.record(&report).await.map_err(refused)?;
        let policy = task.stage.options.on_failure;
        if policy.tolerates(log.skipped, work.packet.array_length) {
            let (run, name) = (&work.packet.run, work.name());
            let items = failed_items(task, skipped, None);
            self.seam
                .site
                .attempt_log
                .left_out(task.index, run, &name, items);
            return Ok(());
        }
        let first = skipped.first();
        let error = first.map_or_else(String::new, |failure| describe(&failure.error));
        Err(vec![ItemFailure {
            item: first.and_then(|failure| failure.item),
            ..ItemFailure::permanent(format!(
                "{error} (with it {} items would be left out, more than are tolerated)",
                log.skipped
            ))
        }])
    }

    /// How long failed items of the stage wait.
    pub(super) fn backoff(&self, stage: &StageDefinition) -> Backoff {
        let in_process = matches!(self.seam.site.carrier, Carrier::Local(_));
        stage.options.backoff(in_process)
    }

    async fn record(&self, report: &FailureReport) -> OurResult<FailureLog> {
        let scratchpad = self.seam.site.scratchpad();
        self.seam
            .scratchpad("record_failure", || scratchpad.record(report))
            .await
    }
}

/// The failures as they are logged. Another attempt may begin after `next`.
fn failed_items<'a>(
    task: &Task<'_>,
    failures: &'a [ItemFailure],
    next: Option<Duration>,
) -> impl DoubleEndedIterator<Item = FailedItem<'a>> {
    let attempt = task.attempt;
    failures.iter().map(move |failure| FailedItem {
        item: failure.item,
        label: None,
        error: &failure.error,
        attempt,
        next,
    })
}

fn attempts(task: &Task<'_>, failures: &[ItemFailure]) -> Vec<Attempt> {
    let listed = failures.len().min(MOST_ITEMS);
    all_attempts(task, failures.split_at(listed).0)
}

fn all_attempts(task: &Task<'_>, failures: &[ItemFailure]) -> Vec<Attempt> {
    let at = now();
    let entry = |failure: &ItemFailure| {
        let mut attempt = Attempt::new(task.attempt, at, shorten(&describe(&failure.error)));
        attempt.item = failure.item;
        attempt
    };
    failures.iter().map(entry).collect()
}

pub(super) fn shorten(error: &str) -> String {
    match error.char_indices().nth(LONGEST_ERROR) {
        None => error.to_owned(),
        Some((end, _)) => format!("{}…", error.split_at(end).0),
    }
}
