//! Time: on tokio's clock, and on the calendar.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// `duration` after `from`, or so far away that it makes no difference.
pub(crate) fn after(from: Instant, duration: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    from.checked_add(duration)
        .unwrap_or_else(|| from + THIRTY_YEARS)
}

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // 2^64 milliseconds are half a billion years.
    since.map_or(0, |since| since.as_millis() as u64)
}
