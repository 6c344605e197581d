//! What is on record of one message: its attempts, the deliveries that have begun, its skipped items, its dead letter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::run_row::Row;
use crate::core::attempts::{LEFT_OUT, MOST_ITEMS, count, failed_as_a_whole, fit, keep_highest};
use crate::scratchpad::{
    Attempt, Beginning, DeadLetterId, Deliveries, Failure, FailureLog, FailureReport, ItemAttempts,
    Verdict,
};

/// How many attempts are kept per message.
const ATTEMPTS: usize = 100;

/// As it is stored, in JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct MessageRecord {
    attempts: Vec<Attempt>,
    /// Redeliveries that began, and have neither failed nor been withdrawn, each with the item that it is at.
    unfinished: BTreeMap<u64, Option<u64>>,
    /// The highest number of a failed attempt without an item.
    failed: u32,
    /// The highest number of a failed attempt at each item.
    items: BTreeMap<u64, u32>,
    /// The last attempt at each item that was left out. Counted but not listed while the message stands as a dead letter.
    skipped: BTreeMap<u64, Attempt>,
    dead: Option<Dead>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Dead {
    id: DeadLetterId,
    item: Option<u64>,
    label: Option<String>,
    error: String,
}

/// What a message contributes to its run's counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    dead: u64,
    dead_items: u64,
    skipped: u64,
}

impl Counts {
    /// Counts this in place of what the message contributed before.
    pub(super) fn replace(self, before: Self, run: &mut Row) {
        run.dead = (run.dead + self.dead).saturating_sub(before.dead);
        run.dead_items = (run.dead_items + self.dead_items).saturating_sub(before.dead_items);
        run.skipped = (run.skipped + self.skipped).saturating_sub(before.skipped);
    }
}

/// Where a failure stands in a list. At one item, the dead letter is listed before the skipped item.
#[derive(Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) stage: String,
    pub(super) message: String,
    item: Option<u64>,
    skipped: bool,
}

impl Position {
    pub(super) fn of(failure: &Failure) -> Self {
        Self {
            stage: failure.stage.clone(),
            message: failure.message.clone(),
            item: failure.item,
            skipped: failure.is_skipped(),
        }
    }
}

impl MessageRecord {
    pub(super) fn counts(&self) -> Counts {
        let dead = self.dead.as_ref();
        Counts {
            dead: u64::from(dead.is_some()),
            dead_items: u64::from(dead.is_some_and(|dead| dead.item.is_some())),
            skipped: self.skipped.len() as u64,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    /// Whether the list of failures has something of it.
    pub(super) fn is_listed(&self) -> bool {
        self.is_dead() || !self.skipped.is_empty()
    }

    pub(super) fn begin(&mut self, beginning: &Beginning) -> Deliveries {
        let delivery = beginning.delivery.as_u64();
        let at = self.unfinished.entry(delivery).or_default();
        *at = beginning.item.or(*at);
        self.deliveries()
    }

    pub(super) fn withdraw(&mut self, beginning: &Beginning) {
        self.unfinished.remove(&beginning.delivery.as_u64());
    }

    fn deliveries(&self) -> Deliveries {
        // Of a dead letter's message no item is left out, though it may have been before.
        let is_dead = self.is_dead();
        let counts = self.items.iter();
        let counts = counts.filter(|(_, failed)| !(is_dead && **failed == LEFT_OUT));
        let mut items: BTreeMap<u64, ItemAttempts> = counts
            .map(|(item, failed)| (*item, ItemAttempts::new(*item, *failed, 0)))
            .collect();
        for item in self.unfinished.values().flatten() {
            let attempts = items.entry(*item);
            let attempts = attempts.or_insert_with(|| ItemAttempts::new(*item, 0, 0));
            attempts.unfinished += 1;
        }
        let unfinished = u32::try_from(self.unfinished.len()).unwrap_or(u32::MAX);
        Deliveries::new(unfinished, self.failed).items(items.into_values().collect())
    }

    pub(super) fn record(&mut self, report: &FailureReport) {
        if let Some(delivery) = report.delivery {
            self.unfinished.remove(&delivery.as_u64());
        }
        self.add(&report.attempts, report.verdict);
        match report.verdict {
            Verdict::Retry => {}
            Verdict::Skip => {
                for attempt in &report.attempts {
                    if let Some(item) = attempt.item {
                        self.skipped.insert(item, attempt.clone());
                    }
                }
            }
            Verdict::Dead(id) => {
                let last = report.attempts.last();
                let error = last.map(|attempt| attempt.error.clone());
                self.dead = Some(Dead {
                    id,
                    item: last.and_then(|attempt| attempt.item),
                    label: last.and_then(|attempt| attempt.label.clone()),
                    error: error.unwrap_or_default(),
                });
            }
        }
    }

    /// Appends failed attempts, and counts them.
    fn add(&mut self, attempts: &[Attempt], verdict: Verdict) {
        self.failed = self.failed.max(failed_as_a_whole(attempts));
        count(&mut self.items, attempts, verdict);
        keep_highest(&mut self.items, MOST_ITEMS);
        self.attempts.extend_from_slice(attempts);
        if self.attempts.len() > ATTEMPTS {
            self.attempts = fit(&self.attempts, ATTEMPTS, usize::MAX, |_| 0);
        }
    }

    /// The log, in a run with this many skipped items.
    pub(super) fn log(&self, skipped: u64) -> FailureLog {
        FailureLog::new(self.attempts.clone(), skipped)
    }

    /// Removes the dead letter of this id, and all but the log. Returns whether it was there.
    pub(super) fn clear(&mut self, id: DeadLetterId) -> bool {
        let is_there = self.dead.take_if(|dead| dead.id == id).is_some();
        if is_there {
            *self = Self {
                attempts: std::mem::take(&mut self.attempts),
                ..Self::default()
            };
        }
        is_there
    }

    /// The dead letter; `None` if the message is none.
    pub(super) fn dead_letter(&self, stage: &str, message: &str) -> Option<Failure> {
        let dead = self.dead.as_ref()?;
        Some(Failure {
            stage: stage.to_owned(),
            message: message.to_owned(),
            item: dead.item,
            label: dead.label.clone(),
            error: dead.error.clone(),
            verdict: Verdict::Dead(dead.id),
            attempts: self.attempts.clone(),
        })
    }

    /// The dead letter and the skipped items after a position in this message, in the order of the items, at most about
    /// `count`.
    pub(super) fn failures(
        &self,
        stage: &str,
        message: &str,
        after: Option<&Position>,
        count: usize,
    ) -> Vec<Failure> {
        let is_after =
            |item, skipped| after.is_none_or(|after| (item, skipped) > (after.item, after.skipped));
        let from = after.and_then(|after| after.item).unwrap_or(0);
        let skipped = self.skipped.range(from..);
        let skipped = skipped.filter(|(item, _)| !self.is_dead() && is_after(Some(**item), true));
        let dead = self.dead_letter(stage, message);
        let dead = dead.filter(|dead| is_after(dead.item, false)).into_iter();
        let mut failures: Vec<Failure> = dead
            .chain(skipped.take(count).map(|(item, last)| Failure {
                stage: stage.to_owned(),
                message: message.to_owned(),
                item: Some(*item),
                label: last.label.clone(),
                error: last.error.clone(),
                verdict: Verdict::Skip,
                attempts: self.attempts_at(*item, last),
            }))
            .collect();
        failures.sort_by_key(|failure| (failure.item, failure.is_skipped()));
        failures
    }

    /// The attempts at an item, whose last one a full log may lack.
    fn attempts_at(&self, item: u64, last: &Attempt) -> Vec<Attempt> {
        let attempts = self.attempts.iter();
        let attempts: Vec<Attempt> = attempts
            .filter(|attempt| attempt.item == Some(item))
            .cloned()
            .collect();
        match attempts.is_empty() {
            true => vec![last.clone()],
            false => attempts,
        }
    }
}
