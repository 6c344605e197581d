//! Where a queue's next message is, so that a claim need not step over what earlier ones have left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A message counts as visible from when its sender's statement began, and is seen when that has committed. Most commit
/// within this time.
const LATE: Duration = Duration::from_millis(250);
/// How often a claim begins from the beginning, for messages that were later than that.
const SWEEP: Duration = Duration::from_secs(1);
/// A sweep takes at most this part of the time.
const PART: u32 = 20;

/// Bytes of messages that are received at once at most, if they are like those before them.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The bytes of a message, as long as nothing is known of them.
const UNKNOWN: usize = 1024 * 1024;

/// The front of one queue, as this process knows it.
pub(super) struct Front(Mutex<State>);

struct State {
    low: SystemTime,
    /// When the next claim has to begin from the beginning.
    sweep: Instant,
    /// The bytes of the largest message of late.
    largest: usize,
}

/// Where a claim begins.
pub(super) struct Bound {
    /// Messages that became visible before this time are not looked for.
    pub(super) low: SystemTime,
    /// Whether it looks for all of them; then [`Front::swept`] takes how long that took.
    pub(super) is_sweep: bool,
}

impl Default for Front {
    fn default() -> Self {
        Self(Mutex::new(State {
            low: SystemTime::UNIX_EPOCH,
            sweep: Instant::now(),
            largest: UNKNOWN,
        }))
    }
}

impl Front {
    pub(super) fn bound(&self) -> Bound {
        let mut state = self.lock();
        let now = Instant::now();
        if now < state.sweep {
            return Bound {
                low: state.low,
                is_sweep: false,
            };
        }
        state.sweep = now + SWEEP;
        Bound {
            low: SystemTime::UNIX_EPOCH,
            is_sweep: true,
        }
    }

    pub(super) fn swept(&self, took: Duration) {
        let mut state = self.lock();
        let next = Instant::now() + SWEEP.max(took * PART);
        state.sweep = state.sweep.max(next);
    }

    /// A claim at `now`, by the server's clock, took messages of which the last became visible at `last`, and left others if
    /// `is_full`.
    pub(super) fn claimed(&self, last: SystemTime, now: SystemTime, is_full: bool) {
        let settled = now.checked_sub(LATE).unwrap_or(SystemTime::UNIX_EPOCH);
        self.lock().low = match is_full {
            true => last.min(settled),
            false => settled,
        };
    }

    /// How many messages may be received at once.
    pub(super) fn room(&self) -> usize {
        (MOST_BYTES / self.lock().largest.max(1)).max(1)
    }

    /// Messages were received, of which the largest has this many bytes.
    pub(super) fn received(&self, largest: usize) {
        let mut state = self.lock();
        state.largest = largest.max(state.largest / 2);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + SECOND * u32::try_from(seconds).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_begins_where_the_last_one_ended() {
        let front = Front::default();
        let first = front.bound();
        assert!(first.is_sweep && first.low == SystemTime::UNIX_EPOCH);
        // A backlog: the front is long ago.
        front.claimed(at(100), at(500), true);
        let next = front.bound();
        assert!(!next.is_sweep);
        assert_eq!(next.low, at(100));
        // Nothing is left: later senders may still commit.
        front.claimed(at(499), at(500), false);
        assert_eq!(front.bound().low, at(500) - LATE);
        front.claimed(at(500), at(500), true);
        assert_eq!(
            front.bound().low,
            at(500) - LATE,
            "the front is not settled yet"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn large_messages_are_received_one_by_one() {
        let front = Front::default();
        assert_eq!(front.room(), 64);
        (0..12).for_each(|_| front.received(200));
        assert!(front.room() > 10_000);
        front.received(MOST_BYTES / 2);
        assert_eq!(front.room(), 2);
        front.received(usize::MAX);
        assert_eq!(front.room(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_looked_at_now_and_then() {
        let front = Front::default();
        assert!(front.bound().is_sweep);
        front.claimed(at(500), at(500), false);
        tokio::time::advance(SECOND / 2).await;
        assert!(!front.bound().is_sweep);
        tokio::time::advance(SECOND / 2).await;
        assert!(front.bound().is_sweep);
        front.swept(SECOND);
        tokio::time::advance(SECOND * 19).await;
        assert!(!front.bound().is_sweep, "one that takes long is rare");
        tokio::time::advance(SECOND).await;
        assert!(front.bound().is_sweep);
    }
}
