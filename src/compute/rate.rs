//! Pacing: at most so many items in a given time, on tokio's clock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::core::clock::after;
use crate::stage::RateLimit;

/// Hands out evenly spaced starts (the leaky-bucket rule: each taker moves the next start on).
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            interval: limit.per / limit.items.max(1),
            next: Mutex::new(None),
        }
    }

    /// Waits until so many items may begin. Dropped, it has used up their share all the same.
    pub(crate) async fn wait(&self, items: u64) {
        let start = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = next.map_or(now, |next| next.max(now));
            let items = u32::try_from(items).unwrap_or(u32::MAX);
            *next = Some(after(start, self.interval.saturating_mul(items)));
            start
        };
        sleep_until(start).await;
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
}
