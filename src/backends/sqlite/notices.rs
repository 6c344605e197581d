//! Who waits for a change: receivers for messages, and calls of `wait` for the end of a run.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// What a transaction has changed, for those who wait.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Queues with messages that are visible now.
    queues: BTreeSet<Arc<str>>,
    /// Whether a run has ended or was removed.
    runs: bool,
    /// Whether there is something to remove little by little.
    pub(super) trash: bool,
}

impl Effects {
    /// Of a transaction that has changed nothing yet.
    pub(super) fn new(trash: bool) -> Self {
        Self {
            trash,
            ..Self::default()
        }
    }

    pub(super) fn queue(&mut self, name: &Arc<str>) {
        if !self.queues.contains(name) {
            self.queues.insert(Arc::clone(name));
        }
    }

    pub(super) fn run(&mut self) {
        self.runs = true;
    }
}

#[derive(Debug, Default)]
pub(super) struct Notices {
    queues: Mutex<HashMap<Arc<str>, Arc<Notify>>>,
    runs: Arc<Notify>,
    waiting: AtomicUsize,
}

impl Notices {
    /// The notices of a queue. A receiver begins to wait before it looks, so that it misses none.
    pub(super) fn queue(&self, name: &Arc<str>) -> Arc<Notify> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(queues.entry(Arc::clone(name)).or_default())
    }

    /// The notices of runs that have ended.
    pub(super) fn runs(&self) -> Arc<Notify> {
        Arc::clone(&self.runs)
    }

    /// Counts a caller that waits until the guard is dropped: other processes' changes are watched for meanwhile.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }

    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Wakes those who wait for what a transaction has changed.
    pub(super) fn tell(&self, effects: &Effects) {
        for name in &effects.queues {
            self.queue(name).notify_waiters();
        }
        if effects.runs {
            self.runs.notify_waiters();
        }
    }

    /// Wakes everybody, since nobody knows what another process has changed.
    pub(super) fn tell_all(&self) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queues: Vec<Arc<Notify>> = queues.values().cloned().collect();
        for queue in queues {
            queue.notify_waiters();
        }
        self.runs.notify_waiters();
    }
}

/// A caller that waits.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Notices>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
