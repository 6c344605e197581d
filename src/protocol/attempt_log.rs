//! What a process logs of failed attempts: the first ones of a stage by themselves, further ones in sums.

mod commonest;
mod tally;
#[cfg(test)]
mod tests;
mod waiting;

use std::error::Error as StdError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::core::error::describe;
use crate::core::id::RunId;
use tally::{Sum, Tally};
use waiting::Waiting;

/// How long failures are summed up before a line tells of them.
const SUMMED_UP_FOR: Duration = Duration::from_secs(5);
/// After this time without a failure, the next one is logged by itself again.
const QUIET: Duration = Duration::from_secs(60);
/// Dead letters of a stage that are logged by themselves.
const DEAD_LETTERS: u32 = 10;
/// Characters of an error that are logged.
const LONGEST_ERROR: usize = 500;

/// What the stages of one deployment in this process log of attempts that failed. However many there are, each stage logs a
/// few lines every five seconds, and takes a bounded amount of memory.
pub(crate) struct AttemptLog {
    stages: Vec<StageLog>,
    /// Notified when failures begin to be summed up.
    begun: Notify,
    watches: AtomicUsize,
}

/// A failed attempt at an item, or at a message as a whole.
pub(crate) struct FailedItem<'a> {
    /// Its index in the array. `None` is the message as a whole.
    pub(crate) item: Option<u64>,
    pub(crate) label: Option<&'a str>,
    pub(crate) error: &'a (dyn StdError + 'static),
    /// The number of this attempt at the item, from 1.
    pub(crate) attempt: u32,
    /// The time until its next attempt, if there is one.
    pub(crate) next: Option<Duration>,
}

struct StageLog {
    name: Arc<str>,
    /// How many attempts an item has.
    attempts: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    retried: Tally,
    left_out: Tally,
    dead: Tally,
    waiting: Waiting,
}

#[derive(Clone, Copy)]
enum Kind {
    Retried,
    LeftOut,
    Dead,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Retried, Self::LeftOut, Self::Dead];

    /// How many are logged by themselves before they are summed up.
    fn singly(self) -> u32 {
        match self {
            Self::Retried | Self::LeftOut => 1,
            Self::Dead => DEAD_LETTERS,
        }
    }
}

impl AttemptLog {
    /// For the stages of these names, each with the number of attempts that an item has.
    pub(crate) fn new(stages: impl IntoIterator<Item = (Arc<str>, u32)>) -> Self {
        let stages = stages.into_iter().map(|(name, attempts)| StageLog {
            name,
            attempts,
            state: Mutex::default(),
        });
        Self {
            stages: stages.collect(),
            begun: Notify::new(),
            watches: AtomicUsize::new(0),
        }
    }

    /// Attempts failed that have a next one, at items of one message: `work` is its name within its stage.
    pub(crate) fn retried<'a>(
        &self,
        stage: usize,
        run: &RunId,
        work: &str,
        items: impl IntoIterator<Item = FailedItem<'a>>,
    ) {
        self.note(Kind::Retried, stage, run, work, items);
    }

    /// Items are left out, after these last attempts.
    pub(crate) fn left_out<'a>(
        &self,
        stage: usize,
        run: &RunId,
        work: &str,
        items: impl IntoIterator<Item = FailedItem<'a>>,
    ) {
        self.note(Kind::LeftOut, stage, run, work, items);
    }

    /// The message has become a dead letter, because of this item.
    pub(crate) fn dead(&self, stage: usize, run: &RunId, work: &str, item: FailedItem<'_>) {
        self.note(Kind::Dead, stage, run, work, [item]);
    }

    fn note<'a>(
        &self,
        kind: Kind,
        stage: usize,
        run: &RunId,
        work: &str,
        items: impl IntoIterator<Item = FailedItem<'a>>,
    ) {
        let Some(stage) = self.stages.get(stage) else {
            return;
        };
        let now = Instant::now();
        for item in items {
            let error = shorten(describe(item.error));
            let mut state = stage.state();
            if let Some(next) = item.next {
                state.waiting.add(now, next);
            }
            let tally = state.tally(kind);
            let ended = tally.end_if_quiet(now);
            let is_single = tally.is_single(kind.singly());
            let begins = !is_single && tally.add(now, run, work, item.item, &error);
            let full = tally.take_if(|since| now >= since + SUMMED_UP_FOR);
            let waiting = match ended.is_some() || full.is_some() {
                true => state.waiting.count(now),
                false => 0,
            };
            drop(state);
            // A subscriber may be slow, so that nothing is locked here.
            if let Some(sum) = ended {
                stage.log_sum(kind, &sum, waiting);
            }
            if is_single {
                stage.log_single(kind, run, work, &item, &error);
            }
            if let Some(sum) = full {
                stage.log_sum(kind, &sum, waiting);
            } else if begins {
                self.begun.notify_waiters();
            }
        }
    }

    /// Logs what has been summed up so far.
    pub(crate) fn flush(&self) {
        self.sum_up(|_| true);
    }

    /// While a watch is held, somebody works on the deployment's messages. The last one that is dropped logs what has been summed
    /// up until then.
    pub(crate) fn watch(&self) -> Watch<'_> {
        self.watches.fetch_add(1, Ordering::Relaxed);
        Watch(self)
    }

    /// Logs sums as they are due, also if no further attempt fails. Never returns. It holds a [`watch`](Self::watch) from its
    /// first poll on, so that the last of these futures logs what is left when it is dropped.
    pub(crate) async fn log_sums(&self) {
        let _watch = self.watch();
        loop {
            // Created before the tallies are read: what begins after that is not missed.
            let begun = self.begun.notified();
            match self.earliest() {
                Some(since) => sleep_until(since + SUMMED_UP_FOR).await,
                None => begun.await,
            }
            let now = Instant::now();
            self.sum_up(|since| now >= since + SUMMED_UP_FOR);
        }
    }

    /// Since when the oldest failures wait that are being summed up.
    fn earliest(&self) -> Option<Instant> {
        let earliest = self.stages.iter().filter_map(|stage| {
            let mut state = stage.state();
            let since = Kind::ALL.map(|kind| state.tally(kind).since());
            since.into_iter().flatten().min()
        });
        earliest.min()
    }

    /// Logs the sums that began at an instant which `is_due`.
    fn sum_up(&self, is_due: impl Fn(Instant) -> bool) {
        let now = Instant::now();
        for stage in &self.stages {
            for kind in Kind::ALL {
                let mut state = stage.state();
                let Some(sum) = state.tally(kind).take_if(&is_due) else {
                    continue;
                };
                let waiting = state.waiting.count(now);
                drop(state);
                stage.log_sum(kind, &sum, waiting);
            }
        }
    }
}

/// See [`AttemptLog::watch`].
pub(crate) struct Watch<'a>(&'a AttemptLog);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.0.watches.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.flush();
        }
    }
}

impl State {
    fn tally(&mut self, kind: Kind) -> &mut Tally {
        match kind {
            Kind::Retried => &mut self.retried,
            Kind::LeftOut => &mut self.left_out,
            Kind::Dead => &mut self.dead,
        }
    }
}

impl StageLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no other attempt although the item has some left.
    fn is_permanent(&self, kind: Kind, failed: &FailedItem<'_>) -> bool {
        match kind {
            Kind::Retried => false,
            Kind::LeftOut | Kind::Dead => failed.attempt < self.attempts,
        }
    }

    fn log_single(
        &self,
        kind: Kind,
        run: &RunId,
        work: &str,
        failed: &FailedItem<'_>,
        error: &str,
    ) {
        let stage = &self.name;
        let FailedItem {
            item,
            label,
            attempt,
            ..
        } = *failed;
        let of = Some(self.attempts).filter(|_| !self.is_permanent(kind, failed));
        let permanent = of.is_none().then_some(true);
        match kind {
            Kind::Retried => {
                let next_in = failed.next.map(in_milliseconds).map(tracing::field::debug);
                tracing::warn!(%run, %stage, work, item, label, attempt, of, next_in, error, "an attempt failed");
            }
            Kind::LeftOut => {
                tracing::warn!(%run, %stage, work, item, label, attempt, of, permanent, error, "an item is left out");
            }
            Kind::Dead => {
                tracing::error!(%run, %stage, work, item, label, attempt, of, permanent, error, "a dead letter");
            }
        }
    }

    fn log_sum(&self, kind: Kind, sum: &Sum, waiting: u64) {
        let stage = &self.name;
        let run = sum.only_run().map(tracing::field::display);
        let (items, count) = (sum.items(), sum.count());
        let (error, times) = sum.commonest();
        match kind {
            Kind::Retried => {
                tracing::warn!(run, %stage, attempts = count, %items, waiting, error, times, "more attempts failed");
            }
            Kind::LeftOut => {
                tracing::warn!(run, %stage, items = count, error, times, "more items are left out");
            }
            Kind::Dead => {
                tracing::error!(run, %stage, messages = count, error, times, "more dead letters");
            }
        }
    }
}

fn in_milliseconds(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn shorten(mut error: String) -> String {
    if let Some((end, _)) = error.char_indices().nth(LONGEST_ERROR) {
        error.truncate(end);
        error.push('…');
    }
    error
}
