//! What is on record of one message, and what a report does to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::attempts::{LEFT_OUT, MOST_ITEMS, count, failed_as_a_whole, fit, keep_highest};
use crate::core::error::{Error, Result};
use crate::scratchpad::{
    Attempt, Beginning, DeadLetterId, Deliveries, Failure, FailureReport, ItemAttempts, Verdict,
};

/// How many attempts are kept per message.
const ATTEMPTS: usize = 100;

/// The record of one message. In JSON, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Document {
    attempts: Vec<Attempt>,
    /// Deliveries that began, and have neither failed nor been withdrawn, each with the item that it is at.
    unfinished: BTreeMap<u64, Option<u64>>,
    /// The highest number of a failed attempt without an item.
    failed: u32,
    /// The highest number of a failed attempt at each item.
    items: BTreeMap<u64, u32>,
    /// The last attempt at each item that was left out. None of a message that stands as a dead letter.
    skipped: BTreeMap<u64, Attempt>,
    dead: Option<Dead>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Dead {
    id: DeadLetterId,
    item: Option<u64>,
    label: Option<String>,
    error: String,
}

/// What a run counts, and what one message adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) dead: i64,
    pub(super) dead_items: i64,
    pub(super) skipped: i64,
    /// Of those, the ones of messages that stand as dead letters.
    pub(super) replaced: i64,
}

impl Counts {
    pub(super) fn less(self, before: Self) -> Self {
        Self {
            dead: self.dead - before.dead,
            dead_items: self.dead_items - before.dead_items,
            skipped: self.skipped - before.skipped,
            replaced: self.replaced - before.replaced,
        }
    }
}

impl Document {
    pub(super) fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|source| Error::decode("the failures of a message", source))
    }

    pub(super) fn write(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|source| Error::encode("the failures of a message", source))
    }

    pub(super) fn counts(&self) -> Counts {
        let skipped = i64::try_from(self.skipped.len()).unwrap_or(i64::MAX);
        Counts {
            dead: i64::from(self.dead.is_some()),
            dead_items: i64::from(self.dead.as_ref().is_some_and(|dead| dead.item.is_some())),
            skipped,
            replaced: if self.is_dead() { skipped } else { 0 },
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    /// Whether a list of failures has something of it.
    pub(super) fn is_listed(&self) -> bool {
        self.dead.is_some() || !self.skipped.is_empty()
    }

    pub(super) fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    pub(super) fn begin(&mut self, beginning: &Beginning) {
        let at = self
            .unfinished
            .entry(beginning.delivery.as_u64())
            .or_default();
        *at = beginning.item.or(*at);
    }

    pub(super) fn withdraw(&mut self, beginning: &Beginning) {
        self.unfinished.remove(&beginning.delivery.as_u64());
    }

    pub(super) fn record(&mut self, report: &FailureReport) {
        if let Some(delivery) = report.delivery {
            self.unfinished.remove(&delivery.as_u64());
        }
        self.add(&report.attempts, report.verdict);
        match report.verdict {
            Verdict::Skip => {
                for attempt in &report.attempts {
                    if let Some(item) = attempt.item {
                        self.skipped.insert(item, attempt.clone());
                    }
                }
            }
            Verdict::Dead(id) => {
                let last = report.attempts.last();
                self.dead = Some(Dead {
                    id,
                    item: last.and_then(|attempt| attempt.item),
                    label: last.and_then(|attempt| attempt.label.clone()),
                    error: last
                        .map(|attempt| attempt.error.clone())
                        .unwrap_or_default(),
                });
            }
            Verdict::Retry => {}
        }
    }

    /// Returns whether it was the dead letter of this id.
    pub(super) fn clear(&mut self, id: DeadLetterId) -> bool {
        let is_this = self.dead.take_if(|dead| dead.id == id).is_some();
        if is_this {
            let attempts = std::mem::take(&mut self.attempts);
            *self = Self {
                attempts,
                ..Self::default()
            };
        }
        is_this
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

    pub(super) fn deliveries(&self) -> Deliveries {
        // Of a dead letter's message no item is left out, though it may have been before.
        let counts = self.items.iter();
        let counts = counts.filter(|(_, failed)| !(self.is_dead() && **failed == LEFT_OUT));
        let mut items: BTreeMap<u64, ItemAttempts> = counts
            .map(|(item, failed)| (*item, ItemAttempts::new(*item, *failed, 0)))
            .collect();
        for item in self.unfinished.values().flatten() {
            let attempts = items
                .entry(*item)
                .or_insert_with(|| ItemAttempts::new(*item, 0, 0));
            attempts.unfinished += 1;
        }
        let unfinished = u32::try_from(self.unfinished.len()).unwrap_or(u32::MAX);
        Deliveries::new(unfinished, self.failed).items(items.into_values().collect())
    }

    /// The dead letter, or the skipped items in the order of the items.
    pub(super) fn failures(&self, stage: &str, message: &str) -> Vec<Failure> {
        let skipped = self.skipped.iter().map(|(item, last)| {
            let mut failure = Failure::new(stage, message, last.error.clone(), Verdict::Skip);
            failure.item = Some(*item);
            failure.label = last.label.clone();
            failure.attempts = self.attempts_at(*item, last);
            failure
        });
        match self.dead_letter(stage, message) {
            Some(dead) => vec![dead],
            None => skipped.collect(),
        }
    }

    pub(super) fn dead_letter(&self, stage: &str, message: &str) -> Option<Failure> {
        let dead = self.dead.as_ref()?;
        let mut failure = Failure::new(stage, message, dead.error.clone(), Verdict::Dead(dead.id));
        failure.item = dead.item;
        failure.label = dead.label.clone();
        failure.attempts = self.attempts.clone();
        Some(failure)
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
