//! The failures of each run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryScratchpad;
use crate::core::error::Result;
use crate::core::id::RunId;
use crate::scratchpad::{
    Attempt, DeadLetterId, Failure, FailureLog, FailureReport, Failures, Verdict,
};

/// How many attempts are kept per message.
const ATTEMPTS: usize = 100;

#[async_trait]
impl Failures for MemoryScratchpad {
    /// A run that is over records no more failures: its outcome is final.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog> {
        let log = self.write(&report.run, |run| {
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

    async fn clear(&self, run: &RunId, stage: &str, message: &str, id: DeadLetterId) -> Result<()> {
        self.write(run, |run| run.failures.clear(stage, message, id));
        Ok(())
    }

    async fn list(&self, run: &RunId, limit: usize) -> Result<Vec<Failure>> {
        let failures = self.read(run, |run| run.failures.list(limit));
        Ok(failures.unwrap_or_default())
    }
}

/// The failures of one run.
#[derive(Debug, Default)]
pub(super) struct FailureRecords {
    /// By stage and message.
    messages: BTreeMap<Arc<str>, BTreeMap<String, Message>>,
    /// The dead letters on record, in the order in which the first one of their message was
    /// recorded.
    dead: BTreeMap<u64, (Arc<str>, String)>,
    /// The last number issued to a dead letter.
    numbers: u64,
    skipped: u64,
}

/// The record of one message.
#[derive(Debug, Default)]
struct Message {
    attempts: VecDeque<Attempt>,
    /// The last error of each item that was left out.
    skipped: BTreeMap<u64, String>,
    dead: Option<Dead>,
}

#[derive(Debug)]
struct Dead {
    id: DeadLetterId,
    number: u64,
    item: Option<u64>,
    error: String,
}

impl FailureRecords {
    pub(super) fn record(&mut self, report: &FailureReport) -> FailureLog {
        let message = self
            .messages
            .entry(Arc::clone(&report.stage))
            .or_default()
            .entry(report.message.clone())
            .or_default();
        for attempt in &report.attempts {
            if message.attempts.len() == ATTEMPTS {
                message.attempts.pop_front();
            }
            message.attempts.push_back(attempt.clone());
        }
        match report.verdict {
            Verdict::Retry => {}
            Verdict::Skip => {
                for attempt in &report.attempts {
                    let Some(item) = attempt.item else { continue };
                    let known = message.skipped.insert(item, attempt.error.clone());
                    self.skipped += u64::from(known.is_none());
                }
            }
            Verdict::Dead(id) => {
                let number = message.dead.as_ref().map(|dead| dead.number);
                let number = number.unwrap_or_else(|| {
                    self.numbers += 1;
                    let key = (Arc::clone(&report.stage), report.message.clone());
                    self.dead.insert(self.numbers, key);
                    self.numbers
                });
                let last = report.attempts.last();
                message.dead = Some(Dead {
                    id,
                    number,
                    item: last.and_then(|attempt| attempt.item),
                    error: last
                        .map(|attempt| attempt.error.clone())
                        .unwrap_or_default(),
                });
            }
        }
        FailureLog {
            attempts: message.attempts.iter().cloned().collect(),
            skipped: self.skipped,
        }
    }

    /// The record of a message, unchanged.
    pub(super) fn log(&self, stage: &str, message: &str) -> FailureLog {
        FailureLog {
            attempts: self
                .message(stage, message)
                .map(|message| message.attempts.iter().cloned().collect())
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
            self.dead.remove(&dead.number);
            self.skipped -= message.skipped.len() as u64;
            message.skipped.clear();
        }
    }

    pub(super) fn list(&self, limit: usize) -> Vec<Failure> {
        self.messages
            .iter()
            .flat_map(|(stage, messages)| {
                messages
                    .iter()
                    .map(move |(name, message)| (stage, name, message))
            })
            .flat_map(|(stage, name, message)| message.failures(stage, name))
            .take(limit)
            .collect()
    }

    /// The oldest dead letter.
    pub(super) fn first(&self) -> Option<Failure> {
        let (stage, name) = self.dead.values().next()?;
        let message = self.message(stage, name)?;
        Some(message.failure(stage, name, message.dead.as_ref()?))
    }

    pub(super) fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    pub(super) fn dead(&self) -> u64 {
        self.dead.len() as u64
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn message(&self, stage: &str, message: &str) -> Option<&Message> {
        self.messages.get(stage)?.get(message)
    }
}

impl Message {
    /// The dead letter and the skipped items, ordered by item.
    fn failures(&self, stage: &str, name: &str) -> Vec<Failure> {
        let dead = self.dead.iter();
        let skipped = self.skipped.iter();
        let mut failures: Vec<Failure> = dead
            .map(|dead| self.failure(stage, name, dead))
            .chain(skipped.map(|(item, error)| Failure {
                stage: stage.to_owned(),
                message: name.to_owned(),
                item: Some(*item),
                error: error.clone(),
                verdict: Verdict::Skip,
                attempts: self.attempts_at(*item),
            }))
            .collect();
        failures.sort_by_key(|failure| failure.item);
        failures
    }

    fn failure(&self, stage: &str, name: &str, dead: &Dead) -> Failure {
        Failure {
            stage: stage.to_owned(),
            message: name.to_owned(),
            item: dead.item,
            error: dead.error.clone(),
            verdict: Verdict::Dead(dead.id),
            attempts: self.attempts.iter().cloned().collect(),
        }
    }

    fn attempts_at(&self, item: u64) -> Vec<Attempt> {
        let attempts = self.attempts.iter();
        attempts
            .filter(|attempt| attempt.item == Some(item))
            .cloned()
            .collect()
    }
}
