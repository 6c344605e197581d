//! Whether a submission makes progress, for a caller that gives up on one that does not.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::core::clock::after;
use crate::core::error::Result;
use crate::queue::Depth;

/// How often a full queue is looked at. It is no progress if that takes as long again.
const LOOK: Duration = Duration::from_secs(5);

/// How long a submission may take. Only `total` counts while it makes progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Without an answer of the backend.
    pub(crate) silence: Duration,
    /// Without a message that leaves the full queue.
    pub(crate) full_queue: Duration,
    pub(crate) total: Option<Instant>,
}

/// Why a submission was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    Silence,
    FullQueue,
    Total,
}

/// When a submission last made progress. A clone is of the same submission.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    limits: Limits,
    last: Arc<Mutex<Last>>,
    is_cancelled: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: Instant,
    /// Whether the submission has been waiting for room on its queue since then.
    waits_for_room: bool,
}

impl Pulse {
    pub(crate) fn new(limits: Limits) -> Self {
        let last = Last {
            at: Instant::now(),
            waits_for_room: false,
        };
        Self {
            limits,
            last: Arc::new(Mutex::new(last)),
            is_cancelled: Arc::default(),
        }
    }

    /// The run was cancelled: nothing was sent, or not all of it.
    pub(super) fn set_cancelled(&self) {
        self.is_cancelled.store(true, Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Relaxed)
    }

    /// There was progress: the backend has answered.
    pub(crate) fn beat(&self) {
        self.set(false);
    }

    fn set(&self, waits_for_room: bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Last {
            at: Instant::now(),
            waits_for_room,
        };
    }

    /// Waits for room on a full queue, whose depth is what `depth` returns. A message that leaves it, or returns to it, is
    /// progress.
    pub(super) async fn during<D>(
        &self,
        depth: impl Fn() -> D,
        room: impl Future<Output = Result<()>>,
    ) -> Result<()>
    where
        D: Future<Output = Result<Depth>>,
    {
        let mut room = pin!(room);
        let mut seen = None;
        self.set(true);
        loop {
            if let Ok(room) = timeout(LOOK, room.as_mut()).await {
                self.beat();
                return room;
            }
            let depth: Option<Depth> = match timeout(LOOK, depth()).await {
                Ok(Ok(depth)) => Some(depth),
                Ok(Err(_)) | Err(_) => None,
            };
            if depth.is_some() && seen.replace(depth) != Some(depth) {
                self.set(true);
            }
        }
    }

    /// When to give up, and why, if there is no progress until then.
    fn deadline(&self) -> (Instant, GivenUp) {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (limit, reason) = match last.waits_for_room {
            true => (self.limits.full_queue, GivenUp::FullQueue),
            false => (self.limits.silence, GivenUp::Silence),
        };
        let deadline = after(last.at, limit);
        match self.limits.total {
            Some(total) if total <= deadline => (total, GivenUp::Total),
            _ => (deadline, reason),
        }
    }

    /// Does a submission's work until it is done, or makes no progress any more. It is dropped then.
    pub(crate) async fn watch<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> std::result::Result<T, GivenUp> {
        let mut work = pin!(work);
        loop {
            let (deadline, _) = self.deadline();
            if let Ok(done) = timeout_at(deadline, work.as_mut()).await {
                return Ok(done);
            }
            let (deadline, reason) = self.deadline();
            if deadline <= Instant::now() {
                return Err(reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pulse(total: Option<Duration>) -> Pulse {
        Pulse::new(Limits {
            silence: 10 * SECOND,
            full_queue: 100 * SECOND,
            total: total.map(|total| Instant::now() + total),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_makes_progress_is_not_given_up() {
        let pulse = pulse(None);
        let begin = Instant::now();
        let done = pulse.watch(async {
            for _ in 0..1_000 {
                sleep(9 * SECOND).await;
                pulse.beat();
            }
            7
        });
        assert_eq!(done.await, Ok(7));
        assert_eq!(begin.elapsed(), 9_000 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_makes_none_is() {
        let pulse = pulse(None);
        let begin = Instant::now();
        let done = pulse.watch(async {
            sleep(9 * SECOND).await;
            pulse.beat();
            std::future::pending::<()>().await;
        });
        assert_eq!(done.await, Err(GivenUp::Silence));
        assert_eq!(begin.elapsed(), 19 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_total_counts_progress_or_not() {
        let pulse = pulse(Some(25 * SECOND));
        let begin = Instant::now();
        let done = pulse.watch(async {
            loop {
                sleep(9 * SECOND).await;
                pulse.beat();
            }
        });
        let done: std::result::Result<(), _> = done.await;
        assert_eq!(done, Err(GivenUp::Total));
        assert_eq!(begin.elapsed(), 25 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_has_its_own_limit_from_its_last_change_on() {
        let ready = AtomicU64::new(2);
        let depth = async || Ok(Depth::new().ready(ready.load(Relaxed)));
        let pulse = pulse(None);
        let begin = Instant::now();
        let consumer = async {
            for _ in 0..2 {
                sleep(60 * SECOND).await;
                ready.fetch_sub(1, Relaxed);
            }
        };
        let room = pulse.during(depth, std::future::pending());
        let (done, ()) = tokio::join!(pulse.watch(room), consumer);
        assert!(matches!(done, Err(GivenUp::FullQueue)), "{done:?}");
        let waited = begin.elapsed();
        assert!(waited >= 220 * SECOND && waited <= 220 * SECOND + 2 * LOOK);
    }
}
