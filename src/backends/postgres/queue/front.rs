//! Where a queue's next message is, so that a claim need not step over what earlier ones have left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A message counts as visible from when its sender's transaction began, and is seen when that has committed. Claims allow
/// for this much time in between: as little as may be, since they step over what earlier claims have left in that time, and
/// twice as much each time that a message was later.
const LEAST_LATE: Duration = Duration::from_millis(20);
const MOST_LATE: Duration = Duration::from_secs(1);
/// How often a claim begins from the beginning, for messages that were later than that.
const SWEEP: Duration = Duration::from_secs(1);
/// A sweep takes at most this part of the time.
const PART: u32 = 20;

/// The least time from a claim that did not find as many messages as it could have taken to the next one that may wait.
/// Messages that come in a trickle are claimed together.
const PACE: Duration = Duration::from_millis(5);

/// Bytes of messages that are received at once at most, if they are like those before them.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The bytes of a message, as long as nothing is known of them.
const UNKNOWN: usize = 1024 * 1024;

/// The front of one queue, as this process knows it.
pub(super) struct Front(Mutex<State>);

struct State {
    low: SystemTime,
    /// How long ago a message may have become visible that has not been seen yet.
    late: Duration,
    /// When the next claim has to begin from the beginning.
    sweep: Instant,
    /// The bytes of the largest message of late.
    largest: usize,
    /// When the next claim should begin.
    next: Instant,
}

/// Where a claim begins.
pub(super) struct Bound {
    /// Messages that became visible before this time are not looked for.
    pub(super) low: SystemTime,
    /// Whether it looks for all of them; then [`Front::swept`] takes how long that took.
    pub(super) is_sweep: bool,
    /// What `low` is to others meanwhile: messages that became visible before it come late.
    known: SystemTime,
}

impl Default for Front {
    fn default() -> Self {
        Self(Mutex::new(State {
            low: SystemTime::UNIX_EPOCH,
            late: LEAST_LATE,
            sweep: Instant::now(),
            largest: UNKNOWN,
            next: Instant::now(),
        }))
    }
}

impl Front {
    pub(super) fn bound(&self) -> Bound {
        let mut state = self.lock();
        let now = Instant::now();
        let is_sweep = now >= state.sweep;
        if is_sweep {
            state.sweep = now + SWEEP;
        }
        let known = state.low;
        Bound {
            low: match is_sweep {
                true => SystemTime::UNIX_EPOCH,
                false => known,
            },
            is_sweep,
            known,
        }
    }

    pub(super) fn swept(&self, took: Duration) {
        let mut state = self.lock();
        let next = Instant::now() + SWEEP.max(took * PART);
        state.sweep = state.sweep.max(next);
    }

    /// A look from the beginning has found messages, and has taken none: the next claim begins there as well.
    pub(super) fn found(&self) {
        self.lock().low = SystemTime::UNIX_EPOCH;
    }

    /// A claim within `bound`, at `now` by the server's clock, took messages that became visible between `first` and `last`,
    /// and left others if `is_full`.
    pub(super) fn claimed(
        &self,
        bound: &Bound,
        (first, last): (SystemTime, SystemTime),
        now: SystemTime,
        is_full: bool,
    ) {
        let mut state = self.lock();
        if !is_full {
            state.next = Instant::now() + PACE;
        }
        if bound.is_sweep {
            state.late = match first < bound.known {
                true => state.late * 2,
                false => state.late - state.late / 8,
            };
            state.late = state.late.clamp(LEAST_LATE, MOST_LATE);
        }
        let settled = now.checked_sub(state.late);
        let settled = settled.unwrap_or(SystemTime::UNIX_EPOCH);
        state.low = match is_full {
            true => last.min(settled),
            false => settled,
        };
    }

    /// When a claim that may wait should begin.
    pub(super) fn next(&self) -> Instant {
        self.lock().next
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
        front.claimed(&first, (at(90), at(100)), at(500), true);
        let next = front.bound();
        assert!(!next.is_sweep);
        assert_eq!(next.low, at(100));
        // Nothing is left: later senders may still commit.
        front.claimed(&next, (at(100), at(499)), at(500), false);
        assert_eq!(front.bound().low, at(500) - LEAST_LATE);
        front.claimed(&next, (at(499), at(500)), at(500), true);
        let low = front.bound().low;
        assert_eq!(low, at(500) - LEAST_LATE, "the front is not settled yet");
        front.found();
        assert_eq!(front.bound().low, SystemTime::UNIX_EPOCH);
    }

    #[tokio::test(start_paused = true)]
    async fn claims_allow_for_messages_that_come_late_as_long_as_some_do() {
        let front = Front::default();
        front.claimed(&front.bound(), (at(99), at(100)), at(100), false);
        let mut allowed = Vec::new();
        for second in 101..=170 {
            tokio::time::advance(SECOND).await;
            let sweep = front.bound();
            assert!(sweep.is_sweep);
            let first = if second <= 110 { at(50) } else { at(second) };
            front.claimed(&sweep, (first, at(second)), at(second), false);
            allowed.push(at(second).duration_since(front.bound().low).unwrap());
        }
        assert_eq!(allowed[0], LEAST_LATE * 2);
        assert_eq!(allowed[9], MOST_LATE);
        assert_eq!(allowed.last(), Some(&LEAST_LATE));
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
        front.claimed(&front.bound(), (at(500), at(500)), at(500), false);
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
