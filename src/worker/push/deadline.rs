//! The times by which a call of the handler must have begun, ended and answered its work.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::clock::after;

const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(10);

/// The times of one call. The last quarter of the margin is left for the answer's way back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// How long the work may take.
    work: Duration,
    /// Nothing more begins from here on, and messages that have not begun are requeued.
    pub(super) cut_off: Instant,
    /// Work that still runs here is stopped.
    pub(super) settled: Instant,
    /// Stopped messages must have been answered by then.
    pub(super) stopped: Instant,
}

impl Deadline {
    pub(super) fn new(now: Instant, remaining: Duration, margin: Option<Duration>) -> Self {
        let margin = margin.unwrap_or_else(|| (remaining / 10).clamp(LEAST, MOST));
        // A margin of all the time would let nothing begin, ever, and nothing would tell why.
        let margin = margin.min(remaining / 2);
        let work = remaining - margin;
        let cut_off = after(now, work);
        Self {
            work,
            cut_off,
            settled: after(cut_off, margin / 2),
            stopped: after(cut_off, margin / 4 * 3),
        }
    }

    /// The error of an attempt that was still at work when its time was over.
    pub(super) fn problem(&self, cause: &Cause) -> String {
        let Cause { name, remedy } = cause;
        format!(
            "cut off after {:?} by {name}: {remedy}, or let each message have less to do (packet_size, fan_in)",
            self.work
        )
    }
}

/// What a deadline is called in errors, and what to do if it is too short.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) name: String,
    pub(super) remedy: String,
}

impl Default for Cause {
    fn default() -> Self {
        Self {
            name: "the handler's deadline".to_owned(),
            remedy: "give the handler more time".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_to_hand_back() {
        let work = |remaining: u64, margin: Option<u64>| {
            let seconds = |seconds: u64| Duration::from_millis(seconds);
            let now = Instant::now();
            let deadline = Deadline::new(now, seconds(remaining), margin.map(seconds));
            assert!(deadline.cut_off <= deadline.settled && deadline.settled <= deadline.stopped);
            assert!(deadline.stopped <= now + seconds(remaining));
            (deadline.cut_off - now).as_millis()
        };
        assert_eq!(work(900_000, None), 890_000);
        assert_eq!(work(60_000, None), 54_000);
        assert_eq!(work(3_000, None), 2_000);
        assert_eq!(work(1_000, None), 500);
        assert_eq!(work(0, None), 0);
        assert_eq!(work(60_000, Some(500)), 59_500);
        assert_eq!(work(60_000, Some(0)), 60_000);
        assert_eq!(work(3_000, Some(5_000)), 1_500);
    }

    #[test]
    fn no_deadline_is_far_away() {
        let now = Instant::now();
        let deadline = Deadline::new(now, Duration::MAX, None);
        assert!(deadline.cut_off > now + Duration::from_secs(1_000_000));
    }
}
