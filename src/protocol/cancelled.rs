//! What is known of runs: that they are on record, read once, and which are over, looked up seldom: a mark that workers see
//! within a few seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, OnceCell, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::core::error::describe;
use crate::core::generation::RunKey;
use crate::scratchpad::Scratchpad;

/// Runs remembered before those not looked up lately are dropped.
const REMEMBERED: usize = 1_024;
/// The shortest time between two looks for waiters.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a worker knows of the run that a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// With the length of its array, if that was on record when its first message came.
    UnderWay(Option<u64>),
    /// It was cancelled, or has its result.
    Over,
    /// There is no run of this id and generation: what bears them is a leftover, or made up.
    Unknown,
}

/// Whether the record of a run has the generation that messages bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    /// The run, of this length.
    Has(Option<u64>),
    Lacks,
    /// It could not be read.
    Unread,
}

impl Record {
    fn standing(self, is_over: bool) -> Standing {
        match self {
            Self::Lacks => Standing::Unknown,
            _ if is_over => Standing::Over,
            Self::Has(length) => Standing::UnderWay(length),
            Self::Unread => Standing::UnderWay(None),
        }
    }
}

pub(super) struct Cancelled {
    interval: Duration,
    /// Whether generations are held against the record. What never left the process bears that of its own run.
    reads_records: bool,
    scratchpad: Arc<dyn Scratchpad>,
    runs: Mutex<Runs>,
    /// Of the waiters, one at a time looks for all of them.
    watch: Semaphore,
    /// Notified when a run turns out to be over.
    changed: Notify,
}

#[derive(Default)]
struct Runs {
    known: HashMap<RunKey, Known>,
    /// How many runs there may be before those not looked up lately are dropped again. It grows with the number of runs
    /// that are left, so that not every new run goes through all of them.
    most: usize,
    /// When the waiters' runs are looked up again.
    due: Option<Instant>,
}

struct Known {
    /// Read by whichever message comes first, while the others wait for it.
    record: Arc<OnceCell<Record>>,
    over: bool,
    checked: Instant,
    /// Waiters for this run.
    waiting: usize,
}

impl Runs {
    /// What is known of a run, from now on if nothing was.
    fn entry(&mut self, run: &RunKey, now: Instant, interval: Duration) -> &mut Known {
        if !self.known.contains_key(run) && self.known.len() >= self.most.max(REMEMBERED) {
            let is_recent = |known: &Known| now.duration_since(known.checked) < interval;
            self.known
                .retain(|_, known| known.waiting > 0 || is_recent(known));
            self.most = self.known.len().saturating_mul(2);
        }
        self.known.entry(run.clone()).or_insert_with(|| Known {
            record: Arc::default(),
            over: false,
            checked: now,
            waiting: 0,
        })
    }
}

impl Cancelled {
    pub(super) fn new(
        interval: Duration,
        reads_records: bool,
        scratchpad: Arc<dyn Scratchpad>,
    ) -> Self {
        Self {
            interval,
            reads_records,
            scratchpad,
            runs: Mutex::default(),
            watch: Semaphore::new(1),
            changed: Notify::new(),
        }
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What [`check`](Self::check) would answer; `None` if it would look something up first.
    pub(super) fn known(&self, run: &RunKey) -> Option<Standing> {
        let now = Instant::now();
        let runs = self.runs();
        let known = runs.known.get(run)?;
        let is_recent = now.duration_since(known.checked) < self.interval;
        let record = match self.reads_records {
            true => known.record.get().copied(),
            false => Some(Record::Unread),
        };
        record
            .filter(|_| is_recent)
            .map(|record| record.standing(known.over))
    }

    /// Whether the run is on record, and goes on, as of the last look.
    ///
    /// The record is read when a run's first message comes, once however many come together, and not again while it is
    /// remembered. If that is not possible, the run counts as known until the check interval is over: nothing that
    /// functions compute for a made-up generation counts, so that an outage of the record is no reason to hold up all runs.
    /// Whether the run was cancelled is not looked up for its first message, so that a short run costs no request for it.
    pub(super) async fn check(&self, run: &RunKey) -> Standing {
        let now = Instant::now();
        let (record, is_due) = {
            let mut runs = self.runs();
            let known = runs.entry(run, now, self.interval);
            let is_due = now.duration_since(known.checked) >= self.interval;
            if is_due {
                // Others that come meanwhile need not ask as well.
                known.checked = now;
                if let Some(Record::Lacks | Record::Unread) = known.record.get() {
                    known.record = Arc::default();
                }
            }
            (Arc::clone(&known.record), is_due)
        };
        let record = match self.reads_records {
            true => *record.get_or_init(|| self.read_record(run)).await,
            false => Record::Unread,
        };
        let is_over = match is_due && record != Record::Lacks {
            true => self.look(run).await.unwrap_or(false),
            false => self.is_over(run),
        };
        record.standing(is_over)
    }

    async fn read_record(&self, run: &RunKey) -> Record {
        match self.scratchpad.outline(&run.id).await {
            Ok(Some(found)) if found.generation == run.generation => {
                Record::Has(found.array_length)
            }
            Ok(_) => {
                tracing::warn!(run = %run.id, "messages of a run that is not on record are dropped: its time is up, or they are made up");
                Record::Lacks
            }
            Err(error) => {
                tracing::warn!(run = %run.id, error = %describe(&error), "could not look up whether messages are of a run that is on record");
                Record::Unread
            }
        }
    }

    /// Completes once the run is known to be cancelled, or to have its result: what is still computed for it is in vain.
    ///
    /// While there are waiters, one of them looks up every check interval all runs that are waited for, except those
    /// that were looked up a moment ago; so it takes at most one and a half intervals. Without a waiter there is no
    /// request. After an error of the backend it is not known yet. The other waiters have no timer and allocate nothing.
    /// Cancel safe: if the waiter that looks is dropped, another one goes on.
    pub(super) async fn when(&self, run: &RunKey) {
        let _waiting = Waiting::new(self, run);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.is_over(run) {
                return;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = self.watch(run) => return,
            }
        }
    }

    fn is_over(&self, run: &RunKey) -> bool {
        self.runs().known.get(run).is_some_and(|known| known.over)
    }

    /// Looks up the runs that are waited for, one watcher at a time, until this run is over.
    async fn watch(&self, run: &RunKey) {
        // It is never closed.
        let Ok(_turn) = self.watch.acquire().await else {
            return std::future::pending().await;
        };
        let interval = self.interval.max(SHORTEST);
        while !self.is_over(run) {
            let due = {
                let now = Instant::now();
                let mut runs = self.runs();
                let due = runs.due.filter(|due| *due > now);
                *runs.due.insert(due.unwrap_or(now + interval))
            };
            sleep_until(due).await;
            let due = self.claim(due, interval);
            join_all(due.iter().map(|run| self.look(run))).await;
        }
    }

    /// The runs to look up now, which others need not look up as well: those that are waited for, but for those that
    /// have just begun or were just looked up. The next look is an interval later, also if this one is broken off.
    fn claim(&self, now: Instant, interval: Duration) -> Vec<RunKey> {
        let mut runs = self.runs();
        runs.due = Some(now + interval);
        let mut claimed = Vec::new();
        for (run, known) in &mut runs.known {
            let is_due = now.saturating_duration_since(known.checked) >= interval / 2;
            if known.waiting > 0 && !known.over && is_due {
                known.checked = now;
                claimed.push(run.clone());
            }
        }
        // The map has its keys in another order each time; a simulation must ask in the same order every time.
        claimed.sort_unstable();
        claimed
    }

    /// Looks a run up; `None` if that is not possible now.
    async fn look(&self, run: &RunKey) -> Option<bool> {
        let now = Instant::now();
        let over = match self.scratchpad.is_over(run).await {
            Ok(over) => over,
            Err(error) => {
                tracing::warn!(run = %run.id, %error, "could not look up whether the run was cancelled");
                return None;
            }
        };
        // A store may answer late, so the answer can change back.
        if let Some(known) = self.runs().known.get_mut(run) {
            known.over = over;
            known.checked = known.checked.max(now);
        }
        if over {
            self.changed.notify_waiters();
        }
        Some(over)
    }
}

/// A waiter for a run.
struct Waiting<'a> {
    cancelled: &'a Cancelled,
    run: &'a RunKey,
}

impl<'a> Waiting<'a> {
    fn new(cancelled: &'a Cancelled, run: &'a RunKey) -> Self {
        let now = Instant::now();
        let interval = cancelled.interval;
        cancelled.runs().entry(run, now, interval).waiting += 1;
        Self { cancelled, run }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.cancelled.runs().known.get_mut(self.run) {
            known.waiting = known.waiting.saturating_sub(1);
        }
    }
}

#[cfg(test)]
#[path = "cancelled/tests.rs"]
mod tests;
