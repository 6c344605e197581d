//! Where a queue's next message is, so that a claim need not step over what earlier ones have left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A message counts as visible from when its sender's transaction began, and is seen when that has committed. Every claim
/// allows for this much time in between. It is short, because a claim steps over what earlier ones have left in that time.
const LATE: Duration = Duration::from_millis(20);
/// Some claims look further back, for messages that were later than that: this often, and this far.
const RECENT_EVERY: Duration = Duration::from_millis(100);
const RECENT: Duration = Duration::from_secs(1);
/// How often a claim begins from the beginning, for messages that were later still.
const ALL_EVERY: Duration = Duration::from_secs(1);
/// Claims of each of these two kinds take at most this part of the time.
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
    /// When the next claim has to look at what is recent, and when at everything.
    recent: Instant,
    all: Instant,
    /// The bytes of the largest message of late.
    largest: usize,
    /// When the next claim should begin.
    next: Instant,
}

/// How far back a claim looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Front,
    Recent,
    All,
}

/// Where a claim begins.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// Messages that became visible before this time are not looked for.
    pub(super) low: SystemTime,
    reach: Reach,
}

impl Default for Front {
    fn default() -> Self {
        Self(Mutex::new(State {
            low: SystemTime::UNIX_EPOCH,
            recent: Instant::now(),
            all: Instant::now(),
            largest: UNKNOWN,
            next: Instant::now(),
        }))
    }
}

impl Front {
    /// Where the next claim begins. [`looked`](Self::looked) takes how long it took.
    pub(super) fn bound(&self) -> Bound {
        let mut state = self.lock();
        let now = Instant::now();
        if now >= state.all {
            state.all = now + ALL_EVERY;
            state.recent = state.recent.max(now + RECENT_EVERY);
            return Bound {
                low: SystemTime::UNIX_EPOCH,
                reach: Reach::All,
            };
        }
        if now >= state.recent {
            state.recent = now + RECENT_EVERY;
            return Bound {
                low: before(state.low, RECENT),
                reach: Reach::Recent,
            };
        }
        Bound {
            low: state.low,
            reach: Reach::Front,
        }
    }

    pub(super) fn looked(&self, bound: &Bound, took: Duration) {
        let mut state = self.lock();
        let next = Instant::now() + took * PART;
        match bound.reach {
            Reach::Front => {}
            Reach::Recent => state.recent = state.recent.max(next),
            Reach::All => state.all = state.all.max(next),
        }
    }

    /// A look that takes nothing has found messages within `bound`: the next claim begins there as well.
    pub(super) fn found(&self, bound: &Bound) {
        let mut state = self.lock();
        state.low = state.low.min(bound.low);
    }

    /// A claim at `now`, by the server's clock, took messages of which the last became visible at `last`, and left others if
    /// `is_full`.
    pub(super) fn claimed(&self, last: SystemTime, now: SystemTime, is_full: bool) {
        let mut state = self.lock();
        if !is_full {
            state.next = Instant::now() + PACE;
        }
        let settled = before(now, LATE);
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

fn before(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH)
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
        assert_eq!(
            (first.reach, first.low),
            (Reach::All, SystemTime::UNIX_EPOCH)
        );
        // A backlog: the front is long ago.
        front.claimed(at(100), at(500), true);
        let next = front.bound();
        assert_eq!((next.reach, next.low), (Reach::Front, at(100)));
        // Nothing is left: later senders may still commit.
        front.claimed(at(499), at(500), false);
        assert_eq!(front.bound().low, at(500) - LATE);
        front.claimed(at(500), at(500), true);
        assert_eq!(
            front.bound().low,
            at(500) - LATE,
            "the front is not settled yet"
        );
        front.found(&first);
        assert_eq!(front.bound().low, SystemTime::UNIX_EPOCH);
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
    async fn what_came_late_is_looked_for_now_and_then() {
        let front = Front::default();
        let mut reaches = Vec::new();
        for _ in 0..40 {
            let bound = front.bound();
            front.claimed(at(500), at(500), false);
            reaches.push(bound.reach);
            if bound.reach == Reach::Recent {
                assert_eq!(bound.low, at(500) - LATE - RECENT);
            }
            tokio::time::advance(SECOND / 20).await;
        }
        let count = |reach| reaches.iter().filter(|one| **one == reach).count();
        assert_eq!((count(Reach::All), count(Reach::Recent)), (2, 18));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_take_long_are_rare() {
        let front = Front::default();
        let all = front.bound();
        front.looked(&all, SECOND);
        tokio::time::advance(SECOND * 19).await;
        let recent = front.bound();
        assert_eq!(recent.reach, Reach::Recent);
        front.looked(&recent, SECOND);
        tokio::time::advance(SECOND).await;
        assert_eq!(front.bound().reach, Reach::All);
        assert_eq!(front.bound().reach, Reach::Front);
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(front.bound().reach, Reach::Front);
    }
}
