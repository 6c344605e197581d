//! How many items wait for their next attempt, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A wait counts as ended early by at most twice this part of it: an item that runs again does not count as waiting.
const PARTS: u64 = 16;
/// Longer waits count as this long.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Counts waits that have not ended, without being told of their ends. It keeps a few dozen numbers for each doubling of the
/// waits, however many there are.
#[derive(Default)]
pub(super) struct Waiting {
    began: Option<Instant>,
    /// How many waits end at these times, in milliseconds since it began.
    ends: BTreeMap<u64, u64>,
}

impl Waiting {
    pub(super) fn add(&mut self, now: Instant, wait: Duration) {
        let elapsed = self.elapsed(now);
        let wait = milliseconds(wait.min(LONGEST));
        // Waits of about the same length share their ends.
        let step = (wait.next_power_of_two() / PARTS).max(1);
        let end = elapsed + wait;
        let end = end - end % step;
        *self.ends.entry(end).or_default() += 1;
    }

    pub(super) fn count(&mut self, now: Instant) -> u64 {
        let elapsed = self.elapsed(now);
        self.ends = self.ends.split_off(&(elapsed + 1));
        self.ends.values().sum()
    }

    fn elapsed(&mut self, now: Instant) -> u64 {
        let began = *self.began.get_or_insert(now);
        milliseconds(now.saturating_duration_since(began))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_on_time_or_a_little_earlier() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for wait in [0, 10, 1_000, 300_000] {
            waiting.add(now, Duration::from_millis(wait));
        }
        let mut count = |after| waiting.count(now + Duration::from_millis(after));
        assert_eq!([count(0), count(9), count(10)], [3, 3, 2]);
        assert_eq!([count(900), count(1_000)], [2, 1]);
        assert_eq!([count(262_500), count(300_000)], [1, 0]);
    }

    #[test]
    fn memory_is_bounded_however_many_wait() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        for number in 0..100_000 {
            let now = start + Duration::from_millis(number);
            waiting.add(now, Duration::from_millis(number * 7919 % 300_000));
            waiting.count(now);
        }
        assert!(
            waiting.ends.len() <= 20 * 2 * PARTS as usize,
            "{}",
            waiting.ends.len()
        );
        waiting.add(start, Duration::MAX);
    }
}
