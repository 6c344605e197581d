//! Completions of jobs, reported in bulk.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Completions are reported in bulk: after `MANY` jobs, after `SOON` since the last report, or when the last job ends.
const MANY: usize = 256;
const SOON: Duration = Duration::from_millis(5);

/// The outcome of a job.
pub(crate) enum Ended<T> {
    Done(T),
    /// It was never started: the worker is about to end, or the job was abandoned.
    NotBegun,
}

/// Completed jobs on their way to the task that waits for them.
pub(super) struct Reports<T> {
    pub(super) ended: Mutex<EndedJobs<T>>,
    pub(super) told: Notify,
    pub(super) abandoned: AtomicBool,
}

pub(super) struct EndedJobs<T> {
    /// Each with the job's position.
    pub(super) untaken: Vec<(usize, Ended<T>)>,
    /// Jobs that have not ended.
    pub(super) left: usize,
    pub(super) told_at: std::time::Instant,
}

impl<T> Reports<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, EndedJobs<T>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The completions so far; with `all`, none until every job has ended.
    pub(super) fn take(&self, all: bool) -> Vec<(usize, Ended<T>)> {
        let mut ended = self.lock();
        match all && ended.left > 0 {
            true => Vec::new(),
            false => std::mem::take(&mut ended.untaken),
        }
    }

    /// Adds a completion, and notifies the waiting task if a report is due.
    pub(super) fn end(&self, place: usize, outcome: Ended<T>) {
        let now = std::time::Instant::now();
        let mut ended = self.lock();
        ended.untaken.push((place, outcome));
        ended.left = ended.left.saturating_sub(1);
        let is_due = ended.left == 0 || ended.untaken.len() >= MANY || now - ended.told_at >= SOON;
        if is_due {
            ended.told_at = now;
        }
        drop(ended);
        if is_due {
            self.told.notify_one();
        }
    }
}
