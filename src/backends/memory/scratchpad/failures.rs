//! The failures of each run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::MemoryScratchpad;
use crate::core::attempts::{LEFT_OUT, MOST_ITEMS, count, failed_as_a_whole, fit, keep_highest};
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::core::natural;
use crate::scratchpad::{
    Attempt, Beginning, Cursor, DeadLetterId, Deliveries, DeliveryId, Failure, FailureLog,
    FailureReport, Failures, ItemAttempts, Page, Verdict,
};

/// The name of the list in its cursors.
const LIST: &str = "memory-failures";
/// How many attempts are kept per message.
const ATTEMPTS: usize = 100;

#[async_trait]
impl Failures for MemoryScratchpad {
    /// A run that is over counts no more deliveries.
    async fn note_beginning(&self, beginning: &Beginning) -> Result<Deliveries> {
        let begun = self.write_key(&beginning.run, |run| {
            let is_over = run.is_over();
            (!is_over).then(|| run.failures.begin(beginning))
        });
        Ok(begun.flatten().unwrap_or_default())
    }

    async fn withdraw_beginning(&self, beginning: &Beginning) -> Result<()> {
        self.write_key(&beginning.run, |run| run.failures.withdraw(beginning));
        Ok(())
    }

    /// A run that is over records no more failures: its outcome is final.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog> {
        let log = self.write_key(&report.run, |run| {
            if run.is_over() {
                return run.failures.log(&report.stage, &report.message);
            }
            let log = run.failures.record(report);
            if run.failures.has_dead() {
                run.changed.tell();
            }
            log
        });
        Ok(log.unwrap_or_default())
    }

    async fn clear(
        &self,
        run: &RunKey,
        stage: &str,
        message: &str,
        id: DeadLetterId,
    ) -> Result<()> {
        self.write_key(run, |run| run.failures.clear(stage, message, id));
        Ok(())
    }

    async fn list_failures(
        &self,
        run: &RunId,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Failure>> {
        let after: Option<Position> = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        let limit = limit.max(1);
        // One more shows whether there is another page.
        let count = limit.saturating_add(1);
        let failures = self.read(run, |run| run.failures.list(after.as_ref(), count));
        let mut failures = failures.unwrap_or_default();
        let has_more = failures.len() > limit;
        failures.truncate(limit);
        let next = match failures.last() {
            Some(last) if has_more => Some(Cursor::encode(LIST, &Position::of(last))?),
            _ => None,
        };
        Ok(Page::new(failures, next))
    }
}

/// The failures of one run.
#[derive(Debug, Default)]
pub(super) struct FailureRecords {
    /// By stage and message.
    messages: BTreeMap<Arc<str>, BTreeMap<String, Message>>,
    /// Those messages that have a dead letter or skipped items, so that a list need not pass over
    /// the others.
    listed: BTreeSet<Place>,
    /// The dead letters on record, in the order in which the first one of their message was
    /// recorded.
    dead: BTreeMap<u64, Place>,
    /// The last number issued to a dead letter.
    numbers: u64,
    /// How many of the dead letters name an item.
    dead_items: u64,
    skipped: u64,
}

/// A message, ordered as the list of failures is: by stage and by the numbers in the message's name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    stage: Arc<str>,
    key: String,
    message: String,
}

impl Place {
    fn new(stage: impl Into<Arc<str>>, message: &str) -> Self {
        Self {
            stage: stage.into(),
            key: natural::sort_key(message),
            message: message.to_owned(),
        }
    }
}

/// Where a failure stands in a list. At one item, the dead letter is listed before the skipped item.
#[derive(Serialize, Deserialize)]
struct Position {
    stage: String,
    message: String,
    item: Option<u64>,
    skipped: bool,
}

impl Position {
    fn of(failure: &Failure) -> Self {
        Self {
            stage: failure.stage.clone(),
            message: failure.message.clone(),
            item: failure.item,
            skipped: failure.is_skipped(),
        }
    }
}

/// What is on record for one message.
#[derive(Debug, Default)]
struct Message {
    attempts: Vec<Attempt>,
    /// Redeliveries that began, and have neither failed nor been withdrawn, each with the item that it is at.
    unfinished: BTreeMap<DeliveryId, Option<u64>>,
    /// The highest number of a failed attempt without an item.
    failed: u32,
    /// The highest number of a failed attempt at each item.
    items: BTreeMap<u64, u32>,
    /// The last attempt at each item that was left out. Counted but not listed while the message stands as a dead letter.
    skipped: BTreeMap<u64, Attempt>,
    dead: Option<Dead>,
}

#[derive(Debug)]
struct Dead {
    id: DeadLetterId,
    number: u64,
    item: Option<u64>,
    label: Option<String>,
    error: String,
}

impl FailureRecords {
    fn begin(&mut self, beginning: &Beginning) -> Deliveries {
        let messages = self.messages.entry(Arc::clone(&beginning.stage));
        let message = messages.or_default().entry(beginning.message.clone());
        let message = message.or_default();
        let at = message.unfinished.entry(beginning.delivery).or_default();
        *at = beginning.item.or(*at);
        message.deliveries()
    }

    fn withdraw(&mut self, beginning: &Beginning) {
        let messages = self.messages.get_mut(&beginning.stage);
        let message = messages.and_then(|messages| messages.get_mut(&beginning.message));
        message.map(|message| message.unfinished.remove(&beginning.delivery));
    }

    pub(super) fn record(&mut self, report: &FailureReport) -> FailureLog {
        let messages = self.messages.entry(Arc::clone(&report.stage)).or_default();
        let message = messages.entry(report.message.clone()).or_default();
        if let Some(delivery) = report.delivery {
            message.unfinished.remove(&delivery);
        }
        message.add(&report.attempts, report.verdict);
        match report.verdict {
            Verdict::Retry => {}
            Verdict::Skip => {
                for attempt in &report.attempts {
                    let Some(item) = attempt.item else { continue };
                    let known = message.skipped.insert(item, attempt.clone());
                    self.skipped += u64::from(known.is_none());
                }
            }
            Verdict::Dead(id) => {
                let number = message.dead.as_ref().map(|dead| dead.number);
                let number = number.unwrap_or_else(|| {
                    self.numbers += 1;
                    let place = Place::new(Arc::clone(&report.stage), &report.message);
                    self.dead.insert(self.numbers, place);
                    self.numbers
                });
                let last = report.attempts.last();
                let item = last.and_then(|attempt| attempt.item);
                let former = message.dead.as_ref().and_then(|dead| dead.item);
                self.dead_items += u64::from(item.is_some());
                self.dead_items -= u64::from(former.is_some());
                message.dead = Some(Dead {
                    id,
                    number,
                    item,
                    label: last.and_then(|attempt| attempt.label.clone()),
                    error: last
                        .map(|attempt| attempt.error.clone())
                        .unwrap_or_default(),
                });
            }
        }
        if message.dead.is_some() || !message.skipped.is_empty() {
            let place = Place::new(Arc::clone(&report.stage), &report.message);
            self.listed.insert(place);
        }
        FailureLog {
            attempts: message.attempts.clone(),
            skipped: self.skipped,
        }
    }

    /// The record of a message, unchanged.
    pub(super) fn log(&self, stage: &str, message: &str) -> FailureLog {
        FailureLog {
            attempts: self
                .message(stage, message)
                .map(|message| message.attempts.clone())
                .unwrap_or_default(),
            skipped: self.skipped,
        }
    }

    pub(super) fn clear(&mut self, stage: &str, message: &str, id: DeadLetterId) {
        let message = self
            .messages
            .get_mut(stage)
            .and_then(|messages| messages.get_mut(message));
        let Some(message) = message else { return };
        if let Some(dead) = message.dead.take_if(|dead| dead.id == id) {
            let place = self.dead.remove(&dead.number);
            self.dead_items -= u64::from(dead.item.is_some());
            self.skipped -= message.skipped.len() as u64;
            message.skipped.clear();
            message.unfinished.clear();
            message.failed = 0;
            message.items.clear();
            place.map(|place| self.listed.remove(&place));
        }
    }

    fn list(&self, after: Option<&Position>, count: usize) -> Vec<Failure> {
        let begin = after.map_or(Bound::Unbounded, |after| {
            Bound::Included(Place::new(after.stage.as_str(), &after.message))
        });
        let places = self.listed.range((begin, Bound::Unbounded));
        let failures = places.flat_map(|place| {
            let (stage, name) = (&place.stage, &place.message);
            let message = self.message(stage, name);
            let after = after.filter(|after| *after.stage == **stage && after.message == *name);
            message.map(|message| message.failures(stage, name, after, count))
        });
        failures.flatten().take(count).collect()
    }

    /// The oldest dead letter.
    pub(super) fn first(&self) -> Option<Failure> {
        let Place {
            stage,
            message: name,
            ..
        } = self.dead.values().next()?;
        let message = self.message(stage, name)?;
        Some(message.failure(stage, name, message.dead.as_ref()?))
    }

    pub(super) fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    pub(super) fn dead(&self) -> u64 {
        self.dead.len() as u64
    }

    /// Those that name an item.
    pub(super) fn dead_items(&self) -> u64 {
        self.dead_items
    }

    /// Skipped items, except for those of messages that stand as dead letters.
    pub(super) fn skipped(&self) -> u64 {
        let dead = self.dead.values();
        let dead = dead.filter_map(|place| self.message(&place.stage, &place.message));
        let replaced = dead.map(|message| message.skipped.len() as u64);
        self.skipped - replaced.sum::<u64>()
    }

    fn message(&self, stage: &str, message: &str) -> Option<&Message> {
        self.messages.get(stage)?.get(message)
    }
}

impl Message {
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

    fn deliveries(&self) -> Deliveries {
        // Of a dead letter's message no item is left out, though it may have been before.
        let is_dead = self.dead.is_some();
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

    /// The dead letter and the skipped items after a position in this message, in the order of the items, at most
    /// about `count`.
    fn failures(
        &self,
        stage: &str,
        name: &str,
        after: Option<&Position>,
        count: usize,
    ) -> Vec<Failure> {
        let is_after =
            |item, skipped| after.is_none_or(|after| (item, skipped) > (after.item, after.skipped));
        let from = after.and_then(|after| after.item).unwrap_or(0);
        let skipped = self.skipped.range(from..);
        let skipped =
            skipped.filter(|(item, _)| self.dead.is_none() && is_after(Some(**item), true));
        let dead = self.dead.iter().filter(|dead| is_after(dead.item, false));
        let mut failures: Vec<Failure> = dead
            .map(|dead| self.failure(stage, name, dead))
            .chain(skipped.take(count).map(|(item, last)| Failure {
                stage: stage.to_owned(),
                message: name.to_owned(),
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

    fn failure(&self, stage: &str, name: &str, dead: &Dead) -> Failure {
        Failure {
            stage: stage.to_owned(),
            message: name.to_owned(),
            item: dead.item,
            label: dead.label.clone(),
            error: dead.error.clone(),
            verdict: Verdict::Dead(dead.id),
            attempts: self.attempts.clone(),
        }
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
