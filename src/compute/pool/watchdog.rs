//! Finds jobs that make no progress for as long as their timeout.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::clock::after;

/// Checks within a timeout: a stuck job is found at most this part of its timeout late.
const CHECKS_PER_TIMEOUT: u32 = 4;

/// What is known of the progress of some jobs.
pub(super) struct Watchdog {
    timeout: Duration,
    /// For each job that was seen running: its steps then, and since when it has had as many.
    seen: Vec<Option<(usize, Instant)>>,
    next_check: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            seen: Vec::new(),
            next_check: None,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When to check next.
    pub(super) fn next_check(&mut self) -> Instant {
        let interval = self.timeout / CHECKS_PER_TIMEOUT;
        *self
            .next_check
            .get_or_insert_with(|| after(Instant::now(), interval))
    }

    /// The jobs have been checked.
    pub(super) fn checked(&mut self, now: Instant) {
        self.next_check = Some(after(now, self.timeout / CHECKS_PER_TIMEOUT));
    }

    /// Whether this running job has begun nothing new for as long as the timeout. `begun` is its number of steps now.
    pub(super) fn is_stuck(&mut self, job: usize, begun: usize, now: Instant) -> bool {
        if self.seen.len() <= job {
            self.seen.resize(job + 1, None);
        }
        let Some(seen) = self.seen.get_mut(job) else {
            return false;
        };
        match seen {
            Some((steps, since)) if *steps == begun => now.duration_since(*since) >= self.timeout,
            _ => {
                *seen = Some((begun, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    #[test]
    fn a_job_is_stuck_once_it_has_not_moved_for_the_timeout() {
        let mut watchdog = Watchdog::new(TIMEOUT);
        let begin = Instant::now();
        assert!(!watchdog.is_stuck(3, 1, begin));
        assert!(!watchdog.is_stuck(3, 1, begin + TIMEOUT / 2));
        assert!(watchdog.is_stuck(3, 1, begin + TIMEOUT));
    }

    #[test]
    fn a_step_begins_the_timeout_anew() {
        let mut watchdog = Watchdog::new(TIMEOUT);
        let begin = Instant::now();
        assert!(!watchdog.is_stuck(0, 1, begin));
        let moved = begin + TIMEOUT - Duration::from_secs(1);
        assert!(!watchdog.is_stuck(0, 2, moved));
        assert!(!watchdog.is_stuck(0, 2, begin + TIMEOUT));
        assert!(watchdog.is_stuck(0, 2, moved + TIMEOUT));
    }

    #[test]
    fn jobs_are_told_apart() {
        let mut watchdog = Watchdog::new(TIMEOUT);
        let begin = Instant::now();
        assert!(!watchdog.is_stuck(0, 1, begin));
        assert!(!watchdog.is_stuck(1, 1, begin + TIMEOUT));
        assert!(watchdog.is_stuck(0, 1, begin + TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn checks_are_a_part_of_the_timeout_apart() {
        let mut watchdog = Watchdog::new(TIMEOUT);
        let begin = Instant::now();
        let quarter = TIMEOUT / CHECKS_PER_TIMEOUT;
        assert_eq!(watchdog.next_check(), begin + quarter);
        tokio::time::advance(quarter / 2).await;
        assert_eq!(watchdog.next_check(), begin + quarter, "it is set once");
        watchdog.checked(begin + quarter);
        assert_eq!(watchdog.next_check(), begin + 2 * quarter);
    }
}
