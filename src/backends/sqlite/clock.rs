//! Time as the file keeps it: milliseconds since 1970, which all processes of a machine agree on.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::core::clock;

/// When a simulated clock begins, in milliseconds since 1970.
const SIMULATED: i64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    System,
    /// Tokio's, for tests in which hours pass at once. Of one process only.
    Tokio(Instant),
}

impl Clock {
    pub(super) fn tokio() -> Self {
        Self::Tokio(Instant::now())
    }

    pub(super) fn now(self) -> i64 {
        match self {
            Self::System => i64::try_from(clock::floor(clock::now())).unwrap_or(i64::MAX),
            Self::Tokio(begin) => SIMULATED.saturating_add(milliseconds(begin.elapsed())),
        }
    }

    /// Waits for an answer of the thread that writes; `None` if that has ended.
    pub(super) async fn wait<T: Send + 'static>(self, answer: oneshot::Receiver<T>) -> Option<T> {
        match self {
            Self::System => answer.await.ok(),
            // Tokio's paused clock stands still while a blocking task runs, and not for another thread.
            Self::Tokio(_) => {
                let answer = tokio::task::spawn_blocking(move || answer.blocking_recv());
                answer.await.ok()?.ok()
            }
        }
    }
}

/// Whole milliseconds, rounded up: a message stays hidden for at least as long as it was asked to.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}
