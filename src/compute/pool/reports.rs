//! Completions of jobs, reported in bulk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The waiter is notified after this many completions, if not sooner …
const REPORT_AFTER_JOBS: usize = 256;
/// … of the first completion this long after the last notification, of the last job's, and of the one after which there are
/// only as many left as run at once: the waiter can fetch others meanwhile.
const REPORT_INTERVAL: Duration = Duration::from_millis(5);

/// The outcome of a job.
pub(crate) enum Ended<T> {
    Done(T),
    /// It was never started: the worker is about to end, or the job was abandoned.
    NotBegun,
}

/// Completed jobs on their way to the task that waits for them.
pub(super) struct Reports<T> {
    completions: Mutex<Completions<T>>,
    due: Notify,
    /// Nothing waits for the jobs any more.
    abandoned: AtomicBool,
}

struct Completions<T> {
    /// Each with the job's position.
    untaken: Vec<(usize, Ended<T>)>,
    unfinished_jobs: usize,
    /// Jobs left at which the waiter is notified.
    few: usize,
    last_report: Instant,
}

impl<T> Reports<T> {
    /// The waiter is notified when `few` of the jobs are left, and when none is.
    pub(super) fn new(jobs: usize, few: usize) -> Self {
        Self {
            completions: Mutex::new(Completions {
                untaken: Vec::new(),
                unfinished_jobs: jobs,
                few,
                last_report: Instant::now(),
            }),
            due: Notify::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    fn completions(&self) -> MutexGuard<'_, Completions<T>> {
        self.completions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The completions so far; with `all`, none until every job has ended.
    pub(super) fn take(&self, all: bool) -> Vec<(usize, Ended<T>)> {
        let mut completions = self.completions();
        match all && completions.unfinished_jobs > 0 {
            true => Vec::new(),
            false => std::mem::take(&mut completions.untaken),
        }
    }

    /// Adds a completion, and notifies the waiting task if a report is due.
    pub(super) fn add(&self, position: usize, outcome: Ended<T>) {
        let now = Instant::now();
        let mut completions = self.completions();
        completions.untaken.push((position, outcome));
        completions.unfinished_jobs = completions.unfinished_jobs.saturating_sub(1);
        let is_due = completions.unfinished_jobs == 0
            || completions.unfinished_jobs == completions.few
            || completions.untaken.len() >= REPORT_AFTER_JOBS
            || now - completions.last_report >= REPORT_INTERVAL;
        if is_due {
            completions.last_report = now;
        }
        drop(completions);
        if is_due {
            self.due.notify_one();
        }
    }

    /// Waits until a report is due. A notification that nothing waited for is kept for the next call.
    pub(super) async fn due(&self) {
        self.due.notified().await;
    }

    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}
