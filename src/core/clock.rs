//! Time: on tokio's clock, and on the calendar.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The instant `duration` after `from`; a far future one if the sum is out of range.
pub(crate) fn after(from: Instant, duration: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    from.checked_add(duration)
        .unwrap_or_else(|| from + THIRTY_YEARS)
}

/// The current time in whole milliseconds, so that storing it loses nothing.
pub(crate) fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UNIX_EPOCH + Duration::from_millis(since.map_or(0, milliseconds::count))
}

/// Whole milliseconds since 1970-01-01 UTC, rounded down as times are written.
pub(crate) fn floor(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, milliseconds::count)
}

/// Whole milliseconds since 1970-01-01 UTC, rounded up: a time in whole milliseconds is at or after
/// `time` exactly if it is at or after this.
pub(crate) fn ceiling(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = since.as_nanos();
    u64::try_from(nanoseconds.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// For serde's attribute `with`: a time written as milliseconds since 1970-01-01 UTC.
pub(crate) mod milliseconds {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn count(since: Duration) -> u64 {
        // 2^64 milliseconds are half a billion years.
        since.as_millis() as u64
    }

    pub(crate) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(UNIX_EPOCH);
        since.map_or(0, count).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let count = u64::deserialize(deserializer)?;
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(count));
        time.ok_or_else(|| {
            serde::de::Error::custom(format_args!("{count} ms is later than any time"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct At(#[serde(with = "milliseconds")] SystemTime);

    #[test]
    fn a_time_is_written_as_milliseconds() {
        let at = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_999);
        let text = serde_json::to_string(&At(at)).unwrap();
        assert_eq!(text, "1700000000123");
        let read: At = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read.0,
            UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
        );
    }

    #[test]
    fn the_current_time_is_read_as_it_was_written() {
        let at = At(now());
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(serde_json::from_str::<At>(&text).unwrap(), at);
    }
}
