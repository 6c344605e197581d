//! Runs: for each its record, its tree and its outcome.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, timeout_at};

use super::MemoryScratchpad;
use super::failures::FailureRecords;
use super::groups::Stages;
use crate::backends::memory::lock;
use crate::core::clock::after;
use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::scratchpad::{
    Begun, Checkpoint, Cursor, Page, Place, RunFilter, RunOutline, RunRecord, RunSnapshot,
    RunState, RunSummary, Runs,
};

/// How long a run that has not ended is kept after its last write.
const OPEN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a run is kept after its result has been read.
const FORGOTTEN: Duration = Duration::from_secs(60);

#[async_trait]
impl Runs for MemoryScratchpad {
    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        let now = Instant::now();
        self.sweep(now);
        let id = &record.run;
        let due = match self.shard(id).entry(id.clone()) {
            Entry::Occupied(run) => return Ok(Begun::Existing(Box::new(run.get().snapshot()))),
            Entry::Vacant(vacant) => {
                let run = vacant.insert(Run::new(record.clone(), now));
                lock(&self.store.index).update(run.place(), None, Some(run.state()));
                run.due
            }
        };
        lock(&self.store.due).push(Reverse((due, id.clone())));
        Ok(Begun::New)
    }

    async fn checkpoint(&self, key: &RunKey, reached: &Checkpoint) -> Result<()> {
        self.write_key(key, |run| run.checkpoint(*reached))
            .unwrap_or(Ok(()))
    }

    async fn measure(&self, key: &RunKey, end: &Checkpoint) -> Result<()> {
        let measured = self.write_key(key, |run| run.measure(*end));
        measured.unwrap_or_else(|| {
            Err(Error::NoSuchRun {
                run: key.id.clone(),
            })
        })
    }

    async fn submitted(&self, key: &RunKey) -> Result<()> {
        self.write_key(key, Run::submitted);
        Ok(())
    }

    async fn complete(&self, key: &RunKey, result: Bytes) -> Result<bool> {
        let completed = self.write_key(key, |run| run.complete(result));
        Ok(completed.is_some_and(|(is_first, _groups)| is_first))
    }

    async fn cancel(&self, id: &RunId) -> Result<bool> {
        let cancelled = self.write(id, Run::cancel);
        Ok(cancelled.is_some_and(|(is_cancelled, _groups)| is_cancelled))
    }

    async fn status(&self, id: &RunId) -> Result<Option<RunSnapshot>> {
        Ok(self.read(id, Run::snapshot))
    }

    async fn outline(&self, id: &RunId) -> Result<Option<RunOutline>> {
        Ok(self.read(id, |run| RunOutline::of(&run.record)))
    }

    async fn is_over(&self, key: &RunKey) -> Result<bool> {
        let is_over = self.read(&key.id, |run| run.is_over() || !run.is(key));
        Ok(is_over.unwrap_or(false))
    }

    async fn wait(&self, id: &RunId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        let until = Instant::now().checked_add(up_to);
        loop {
            // Waiting begins under the lock, so that no change can slip in between.
            let looked = self.read(id, |run| (run.snapshot(), run.changed.wait()));
            let Some((snapshot, changed)) = looked else {
                return Ok(None);
            };
            let is_late = until.is_some_and(|until| until <= Instant::now());
            if snapshot.has_ended() || is_late {
                return Ok(Some(snapshot));
            }
            // The run changed or was removed, or the time is over: the loop checks again.
            match until {
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
            }
        }
    }

    async fn list_runs(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        self.sweep(Instant::now());
        self.list(filter, cursor, limit)
    }

    async fn forget(&self, id: &RunId) -> Result<()> {
        let now = Instant::now();
        self.write(id, |run| run.forget(now));
        Ok(())
    }
}

/// Wakes waiting calls in the order in which they began to wait, because a random order would make
/// simulations differ.
#[derive(Debug, Default)]
pub(super) struct Changed(Arc<Notify>);

impl Changed {
    pub(super) fn tell(&self) {
        self.0.notify_waiters();
    }

    /// Completes at the next [`tell`](Self::tell) after this call.
    pub(super) fn wait(&self) -> OwnedNotified {
        Arc::clone(&self.0).notified_owned()
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.tell();
    }
}

#[derive(Debug)]
pub(super) struct Run {
    record: RunRecord,
    checkpoint: Option<Checkpoint>,
    submitted: bool,
    cancelled: bool,
    forgotten: Option<Instant>,
    result: Option<Bytes>,
    pub(super) groups: Stages,
    pub(super) failures: FailureRecords,
    /// Notified when the run may have ended, or was removed.
    pub(super) changed: Changed,
    /// The time of the last write.
    pub(super) written: Instant,
    /// When the next check of its age is due.
    pub(super) due: Instant,
}

impl Run {
    pub(super) fn new(record: RunRecord, now: Instant) -> Self {
        Self {
            record,
            checkpoint: None,
            submitted: false,
            cancelled: false,
            forgotten: None,
            result: None,
            groups: Stages::default(),
            failures: FailureRecords::default(),
            changed: Changed::default(),
            written: now,
            due: after(now, OPEN),
        }
    }

    pub(super) fn snapshot(&self) -> RunSnapshot {
        RunSnapshot {
            record: self.record.clone(),
            checkpoint: self.checkpoint,
            submitted: self.submitted,
            cancelled: self.cancelled,
            failure: self.failures.first(),
            dead: self.failures.dead(),
            dead_items: self.failures.dead_items(),
            skipped: self.failures.skipped(),
            result: self.result.clone(),
        }
    }

    pub(super) fn summary(&self) -> RunSummary {
        RunSummary::new(self.record.clone(), self.state())
    }

    /// As [`RunSnapshot::state`], which costs more.
    pub(super) fn state(&self) -> RunState {
        if self.result.is_some() {
            RunState::Done
        } else if self.cancelled {
            RunState::Cancelled
        } else if self.failures.has_dead() {
            RunState::Failed
        } else if self.submitted {
            RunState::Running
        } else {
            RunState::Open
        }
    }

    pub(super) fn place(&self) -> Place {
        Place::of(&self.record)
    }

    /// Whether it is of this generation.
    pub(super) fn is(&self, key: &RunKey) -> bool {
        self.record.generation == key.generation
    }

    /// Done or cancelled: writes to its tree change nothing.
    pub(super) fn is_over(&self) -> bool {
        self.cancelled || self.result.is_some()
    }

    /// When it may be removed.
    pub(super) fn expires(&self, retention: Duration) -> Instant {
        let has_ended = self.is_over() || self.failures.has_dead();
        let kept = if has_ended { retention } else { OPEN };
        let expires = after(self.written, kept);
        match self.forgotten {
            Some(forgotten) => expires.min(after(forgotten, FORGOTTEN)),
            None => expires,
        }
    }

    /// Moves forward only.
    pub(super) fn checkpoint(&mut self, reached: Checkpoint) -> Result<()> {
        match &self.checkpoint {
            Some(recorded) if recorded.packets > reached.packets => {}
            Some(recorded) if recorded.packets == reached.packets && *recorded != reached => {
                return Err(reached.differs(&self.record.run));
            }
            _ => self.checkpoint = Some(reached),
        }
        Ok(())
    }

    pub(super) fn measure(&mut self, end: Checkpoint) -> Result<()> {
        let record = &self.record;
        let sent = self.checkpoint.map_or(0, |recorded| recorded.packets);
        let length = record.array_length.unwrap_or(end.items);
        let count = record.packets.unwrap_or(end.packets).max(sent);
        if (length, count) != (end.items, end.packets) {
            return Err(Error::Submission {
                run: record.run.clone(),
                problem: format!(
                    "{} items in {} packets, but {length} items in {count} packets are on record",
                    end.items, end.packets
                ),
            });
        }
        self.checkpoint(end)?;
        self.record.array_length = Some(length);
        self.record.packets = Some(count);
        Ok(())
    }

    pub(super) fn submitted(&mut self) {
        self.submitted = true;
    }

    /// Returns whether this call wrote the result, and the groups, which are no longer needed.
    pub(super) fn complete(&mut self, result: Bytes) -> (bool, Stages) {
        if self.is_over() {
            return (false, Stages::default());
        }
        self.result = Some(result);
        (true, self.end())
    }

    /// Returns whether the run is cancelled now, and the groups, which are no longer needed.
    pub(super) fn cancel(&mut self) -> (bool, Stages) {
        if self.is_over() {
            return (self.cancelled, Stages::default());
        }
        self.cancelled = true;
        (true, self.end())
    }

    /// Has no effect before the run is over, because its result has not been read then.
    pub(super) fn forget(&mut self, now: Instant) {
        if self.is_over() {
            self.forgotten.get_or_insert(now);
        }
    }

    fn end(&mut self) -> Stages {
        self.changed.tell();
        std::mem::take(&mut self.groups)
    }
}
