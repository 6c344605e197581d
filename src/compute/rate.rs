//! Pacing: at most so many items in a given time, on tokio's clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::core::clock;
use crate::stage::RateLimit;

/// The most that one start makes up for of the one before, which came late: timers have a resolution of a millisecond.
const LATE: Duration = Duration::from_millis(2);
const NANOSECONDS: u128 = 1_000_000_000;

/// Hands out evenly spaced starts (the leaky-bucket rule: each taker moves the next start on).
#[derive(Debug)]
pub(crate) struct Pace {
    limit: RateLimit,
    schedule: Mutex<Schedule>,
}

#[derive(Debug, Default)]
struct Schedule {
    next: Option<Instant>,
    /// What the division left over, in nanoseconds times [`RateLimit::items`]: intervals are not rounded.
    remainder: u128,
    /// How late the last start was.
    late: Duration,
}

impl Pace {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            schedule: Mutex::default(),
        }
    }

    /// Waits until `items` may begin. Dropped, it has used up their share all the same.
    pub(crate) async fn wait(&self, items: u64) {
        let now = Instant::now();
        let start = self.lock().take(self.limit, items, now);
        if start > now {
            sleep_until(start).await;
        }
        let late = Instant::now().saturating_duration_since(start);
        self.lock().late = late.min(LATE);
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    /// When `items` may begin, which moves the next start on. A start in the past is one that makes up for a late one
    /// before it; a time in which nothing was to do is not made up for.
    fn take(&mut self, limit: RateLimit, items: u64, now: Instant) -> Instant {
        let earliest = now.checked_sub(self.late).unwrap_or(now);
        let start = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(clock::after(start, self.share(limit, items)));
        start
    }

    /// The time that is for these items.
    fn share(&mut self, limit: RateLimit, items: u64) -> Duration {
        let rate = u128::from(limit.items.max(1));
        let all = limit.per.as_nanos().checked_mul(u128::from(items));
        // The product is out of range only if the quotient is.
        let Some(all) = all.and_then(|all| all.checked_add(self.remainder)) else {
            return Duration::MAX;
        };
        self.remainder = all % rate;
        let (seconds, rest) = (all / rate / NANOSECONDS, all / rate % NANOSECONDS);
        match (u64::try_from(seconds), u32::try_from(rest)) {
            (Ok(seconds), Ok(rest)) => Duration::new(seconds, rest),
            _ => Duration::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_interval_that_is_too_long_for_the_clock_is_no_freedom() {
        let pace = Pace::new(RateLimit {
            items: 1,
            per: Duration::MAX,
        });
        pace.wait(1).await;
        let hour = Duration::from_secs(60 * 60);
        assert!(tokio::time::timeout(hour, pace.wait(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn starts_are_evenly_spaced() {
        let pace = Pace::new(RateLimit {
            items: 10,
            per: Duration::from_secs(1),
        });
        let begin = Instant::now();
        for _ in 0..21 {
            pace.wait(1).await;
        }
        assert_eq!(begin.elapsed().as_millis(), 2_000);
        pace.wait(50).await;
        assert_eq!(begin.elapsed().as_millis(), 2_100);
        pace.wait(1).await;
        assert_eq!(begin.elapsed().as_millis(), 7_100);
    }

    async fn wait_often(limit: RateLimit, times: u32) -> Duration {
        let pace = Pace::new(limit);
        let begin = Instant::now();
        for _ in 0..times {
            pace.wait(1).await;
        }
        begin.elapsed()
    }

    /// A timer wakes up to a millisecond late, which is longer than many an interval.
    #[tokio::test(start_paused = true)]
    async fn a_fast_pace_is_kept_by_one_taker() {
        for per_second in [100, 1_000, 7_000, 100_000] {
            let limit = RateLimit {
                items: per_second,
                per: Duration::from_secs(1),
            };
            let took = wait_often(limit, 3 * per_second + 1).await;
            assert!(took >= Duration::from_secs(3), "{per_second}: {took:?}");
            assert!(
                took <= Duration::from_millis(3_002),
                "{per_second}: {took:?}"
            );
        }
    }

    /// What was not used up while nothing was to do is no credit.
    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_up_for() {
        let pace = Pace::new(RateLimit {
            items: 10_000,
            per: Duration::from_secs(1),
        });
        pace.wait(1).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begin = Instant::now();
        for _ in 0..10_001 {
            pace.wait(1).await;
        }
        assert!(
            begin.elapsed() >= Duration::from_millis(999),
            "{:?}",
            begin.elapsed()
        );
    }

    /// A quotient that is rounded to nanoseconds would be up to twice as fast, or no limit at all.
    #[tokio::test(start_paused = true)]
    async fn the_interval_is_not_rounded() {
        for (items, nanoseconds, takes) in [
            (7, 10, 700_000_000),
            (4_000_000_000, 1_000_000_000, 4_000_000_000),
            (3, 1_000_000_000, 3),
        ] {
            let pace = Pace::new(RateLimit {
                items,
                per: Duration::from_nanos(nanoseconds),
            });
            let begin = Instant::now();
            pace.wait(takes).await;
            pace.wait(1).await;
            let took = begin.elapsed();
            assert!(took >= Duration::from_secs(1), "{items}: {took:?}");
            assert!(took <= Duration::from_millis(1_001), "{items}: {took:?}");
        }
    }

    /// A time that is out of range is no reason to go without a limit.
    #[tokio::test(start_paused = true)]
    async fn the_longest_period_is_a_limit() {
        for per in [Duration::MAX, Duration::from_secs(u64::MAX / 2)] {
            let pace = Pace::new(RateLimit { items: 1, per });
            pace.wait(u64::MAX).await;
            let year = Duration::from_secs(365 * 24 * 60 * 60);
            let second = tokio::time::timeout(year, pace.wait(1)).await;
            assert!(second.is_err(), "{per:?}");
        }
    }
}
