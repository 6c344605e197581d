//! What becomes of work that failed: another attempt, left-out items, or a dead letter.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::attempt_log::FailedItem;
use super::reason::Reason;
use super::{Answer, Protocol, Task, refused};
use crate::compute::step::{Failures, ItemFailure};
use crate::core::attempts::LEFT_OUT;
use crate::core::backoff::Backoff;
use crate::core::clock::now;
use crate::core::error::{Result as OurResult, describe};
use crate::packet::carrier::Carrier;
use crate::packet::{Malformed, MapWork, Message, Work};
use crate::pipeline::definition::StageDefinition;
use crate::queue::Delivery;
use crate::scratchpad::{Attempt, DeadLetterId, FailureLog, FailureReport, Verdict};

/// Characters of an error that are kept.
const LONGEST_ERROR: usize = 2_000;
/// Before a message comes back whose failure the scratchpad refuses to keep, whatever the stage's backoff is.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// Failed attempts that are written down with a dead letter: the last ones.
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
            Malformed::Contradicts(it) => self.contradicts(stage, delivery, it).await,
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
        self.bury(stage, delivery, &Reason::new(error))
    }

    /// The answer that makes the delivery a dead letter of this stage.
    pub(super) fn bury(
        &self,
        stage: &StageDefinition,
        delivery: &Delivery,
        reason: &Reason,
    ) -> Answer {
        let carrier = &self.seam.site.carrier;
        Answer::Bury(carrier.write_reason(&stage.name, &delivery.body, reason.write()))
    }

    /// Writes the failure down, then says what becomes of the message.
    pub(super) async fn failed(
        &self,
        task: &Task<'_>,
        message: &Message,
        failures: Failures,
    ) -> Answer {
        // Items have attempts of their own.
        let of_message = failures.iter().all(|failure| failure.attempt.is_none());
        let last = of_message && task.attempt >= task.stage.options.queue.attempts;
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
                let wait = self.wait_for_the_record(task.stage);
                self.withdraw(std::iter::once(task)).await;
                tracing::error!(run = %run.id, work = name, error, refusal = %describe(&refusal), ?wait, "a failure could not be written down: the message comes back");
                return Answer::Nack(wait);
            }
        };
        let log = &self.seam.site.attempt_log;
        if dead {
            if let Some(last) = failed_items(task, &failures, None).last() {
                log.dead(task.index, &run.id, &name, last);
            }
            let reason = Reason {
                id: Some(id),
                item,
                error,
                attempts: recorded.attempts,
            };
            self.bury(task.stage, &task.received.delivery, &reason)
        } else {
            let wait = self.backoff(task.stage).draw(task.attempt);
            let items = failed_items(task, &failures, Some(wait));
            log.retried(task.index, &run.id, &name, items);
            Answer::Nack(wait)
        }
    }

    /// Writes down the failed attempts of a packet's items, and gives it back until they are to be tried again.
    ///
    /// # Errors
    /// If more items have failed for good than are tolerated.
    pub(super) async fn go_back(
        &self,
        task: &Task<'_>,
        failures: Failures,
        wait: Duration,
    ) -> Result<Answer, Failures> {
        if let Some(most) = self.most_receives(task).await
            && task.received.delivery.receive_count >= most
        {
            // It would not come back.
            let mut failures = failures;
            match failures.last_mut() {
                Some(last) => last.permanent = true,
                None => failures = refused(format!("received {most} times and not done")),
            }
            return Err(failures);
        }
        let is_final: BTreeSet<_> = failures
            .iter()
            .filter(|failure| failure.permanent)
            .map(|failure| failure.item)
            .collect();
        let (left_out, open): (Failures, Failures) = failures
            .into_iter()
            .partition(|failure| is_final.contains(&failure.item));
        if let (Work::Map(work), false) = (&task.message.work, left_out.is_empty()) {
            self.skip(task, work, &left_out).await?;
        }
        let (run, name) = (task.message.run(), task.message.name());
        if !open.is_empty() || task.delivery().is_some() {
            let stage = Arc::clone(&task.stage.name);
            let attempts = all_attempts(task, &open);
            let mut report =
                FailureReport::new(run, stage, name.as_str(), attempts, Verdict::Retry);
            report.delivery = task.delivery();
            self.try_record(&report).await;
        }
        Ok(Answer::Nack(wait))
    }

    /// Writes down failed attempts of a packet's items, while others are under way.
    pub(super) async fn note(&self, task: &Task<'_>, failures: Failures) {
        if failures.is_empty() {
            return;
        }
        let (run, name) = (task.message.run(), task.message.name());
        let stage = Arc::clone(&task.stage.name);
        let attempts = all_attempts(task, &failures);
        let report = FailureReport::new(run, stage, name, attempts, Verdict::Retry);
        self.try_record(&report).await;
    }

    async fn try_record(&self, report: &FailureReport) {
        if let Err(refusal) = self.record(report).await {
            tracing::error!(run = %report.run.id, work = report.message, refusal = %describe(&refusal), "failed attempts could not be written down: the items may have them once more");
        }
    }

    /// Writes down a failed attempt at a packet that was part of a bundle.
    pub(super) async fn note_attempt(&self, task: &Task<'_>, name: String, failures: &Failures) {
        let run = task.message.run();
        let attempts = attempts(task, failures);
        let stage = Arc::clone(&task.stage.name);
        let report = FailureReport::new(run, stage, name.as_str(), attempts, Verdict::Retry);
        if let Err(error) = self.record(&report).await {
            tracing::error!(run = %run.id, work = name, error = %describe(&error), "a failure could not be written down");
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
            let last = skipped.iter().filter(|failure| failure.permanent);
            let items = last.map(|failure| failed_item(failure, task.attempt, None));
            self.seam
                .site
                .attempt_log
                .left_out(task.index, &run.id, &name, items);
            return Ok(());
        }
        if self.is_done(task, &task.message).await? {
            // They were tolerated when its outputs arrived, and are left out for good.
            return Ok(());
        }
        // The attempt after which its item had no other one, if not an earlier delivery has left them all out.
        let last = skipped.iter().find(|failure| failure.permanent);
        let last = last.or(skipped.last());
        let (item, label, error) = match last {
            Some(last) => (last.item, last.label.clone(), describe(&last.error)),
            None => left_out_before(task, &log.attempts),
        };
        Err(vec![ItemFailure {
            item,
            label,
            attempt: last.and_then(|failure| failure.attempt),
            at: last.and_then(|failure| failure.at),
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

    /// How long a message stays away whose failure could not be written down.
    pub(super) fn wait_for_the_record(&self, stage: &StageDefinition) -> Duration {
        self.backoff(stage).draw(u32::MAX).max(LEAST_WAIT)
    }

    pub(super) async fn record(&self, report: &FailureReport) -> OurResult<FailureLog> {
        let scratchpad = self.seam.site.scratchpad();
        self.seam
            .scratchpad("record_failure", || scratchpad.record(report))
            .await
    }
}

/// The last of a packet's items that an earlier delivery has left out, with its label and error.
fn left_out_before(task: &Task<'_>, log: &[Attempt]) -> (Option<u64>, Option<String>, String) {
    let before = task.before.iter();
    let left_out = before.filter(|before| before.failed == LEFT_OUT);
    let left_out: BTreeSet<_> = left_out.filter_map(|one| task.item(one.unit)).collect();
    let is_left_out =
        |attempt: &&Attempt| attempt.item.is_some_and(|item| left_out.contains(&item));
    match log.iter().rfind(is_left_out) {
        Some(last) => (last.item, last.label.clone(), last.error.clone()),
        None => (left_out.last().copied(), None, String::new()),
    }
}

/// The failures as they are logged. Another attempt may begin after `next`.
fn failed_items<'a>(
    task: &Task<'_>,
    failures: &'a [ItemFailure],
    next: Option<Duration>,
) -> impl DoubleEndedIterator<Item = FailedItem<'a>> {
    let attempt = task.attempt;
    failures
        .iter()
        .map(move |failure| failed_item(failure, attempt, next))
}

/// A failure as it is logged; `attempt` is the message's.
pub(super) fn failed_item(
    failure: &ItemFailure,
    attempt: u32,
    next: Option<Duration>,
) -> FailedItem<'_> {
    FailedItem {
        item: failure.item,
        label: failure.label.as_deref(),
        error: &failure.error,
        attempt: failure.attempt.unwrap_or(attempt),
        next,
    }
}

fn attempts(task: &Task<'_>, failures: &[ItemFailure]) -> Vec<Attempt> {
    let unlisted = failures.len().saturating_sub(MOST_ITEMS);
    all_attempts(task, failures.split_at(unlisted).1)
}

fn all_attempts(task: &Task<'_>, failures: &[ItemFailure]) -> Vec<Attempt> {
    let now = now();
    let entry = |failure: &ItemFailure| {
        let number = failure.attempt.unwrap_or(task.attempt);
        let at = failure.at.unwrap_or(now);
        let mut attempt = Attempt::new(number, at, shorten(&describe(&failure.error)));
        attempt.item = failure.item;
        attempt.label = failure.label.clone();
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
