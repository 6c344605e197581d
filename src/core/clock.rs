//! Time on tokio's clock.

use std::time::Duration;

use tokio::time::Instant;

/// `duration` after `from`, or so far away that it makes no difference.
pub(crate) fn after(from: Instant, duration: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    from.checked_add(duration)
        .unwrap_or_else(|| from + THIRTY_YEARS)
}
