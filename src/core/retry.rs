//! Calls to a backend that are worth repeating: an outage makes a worker wait, not lose its work.

use std::time::Duration;

use super::backoff::Backoff;
use super::error::{Result, describe};

const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(200), Duration::from_secs(20));

/// Repeats a call for as long as its error may pass.
pub(crate) async fn persist<T, F>(what: &str, call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    retry(what, None, call).await
}

/// Repeats a call while its error may pass, so many times at most.
pub(crate) async fn retry<T, F>(
    what: &str,
    attempts: Option<u32>,
    mut call: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut attempt = 1;
    loop {
        match call().await {
            Err(error) if error.is_retryable() && attempts.is_none_or(|most| attempt < most) => {
                let wait = BACKOFF.draw(attempt);
                tracing::warn!(what, attempt, ?wait, error = %describe(&error), "will try again");
                tokio::time::sleep(wait).await;
                attempt = attempt.saturating_add(1);
            }
            outcome => return outcome,
        }
    }
}
