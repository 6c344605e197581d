//! The one way to repeat a call: how often, how long to wait in between, and after which errors.

use std::time::Duration;

use super::backoff::Backoff;
use super::error::{Error, Result, describe};

/// How a call is repeated. By default, only after retryable errors, with waits of up to 200 ms that double up to 20 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    limit: Limit,
    waits: Backoff,
    retries: fn(&Error) -> bool,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    Forever,
    /// Attempts, the first one included.
    Times(u32),
}

impl Policy {
    /// Repeats until the call succeeds: an outage makes a worker wait, not lose its work.
    pub(crate) const FOREVER: Self = Self {
        limit: Limit::Forever,
        waits: Backoff::exponential(Duration::from_millis(200), Duration::from_secs(20)),
        retries: Error::is_retryable,
    };

    /// At most this many attempts, the first one included.
    pub(crate) const fn times(attempts: u32) -> Self {
        Self {
            limit: Limit::Times(attempts),
            ..Self::FOREVER
        }
    }

    /// Draws the waits from this backoff.
    pub(crate) const fn with_backoff(self, backoff: Backoff) -> Self {
        Self {
            waits: backoff,
            ..self
        }
    }

    /// Repeats after every error, retryable or not.
    pub(crate) const fn whatever_the_error(self) -> Self {
        Self {
            retries: |_| true,
            ..self
        }
    }

    /// The waits of one call, for loops that repeat only the part of it that failed.
    pub(crate) fn delays(self) -> Delays {
        Delays {
            policy: self,
            failed: 0,
        }
    }
}

/// The waits of one call: each [`next`](Iterator::next) counts a failed attempt and returns the wait before another one,
/// or `None` if there is to be none.
#[derive(Debug)]
pub(crate) struct Delays {
    policy: Policy,
    failed: u32,
}

impl Delays {
    /// Whether the attempt under way is the last one.
    #[cfg(any(test, feature = "sqs"))]
    pub(crate) fn is_last(&self) -> bool {
        match self.policy.limit {
            Limit::Forever => false,
            Limit::Times(attempts) => self.failed.saturating_add(1) >= attempts,
        }
    }

    /// Counts from the beginning again, since there was progress.
    #[cfg(any(test, feature = "dynamodb"))]
    pub(crate) fn restart(&mut self) {
        self.failed = 0;
    }

    /// Counts a failed attempt and waits. Returns false, at once, if there is to be no other attempt.
    #[cfg(any(feature = "sqs", feature = "dynamodb"))]
    pub(crate) async fn wait(&mut self) -> bool {
        match self.next() {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                true
            }
            None => false,
        }
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failed = self.failed.saturating_add(1);
        let is_over = match self.policy.limit {
            Limit::Forever => false,
            Limit::Times(attempts) => self.failed >= attempts,
        };
        (!is_over).then(|| self.policy.waits.draw(self.failed))
    }
}

/// Makes a call, and repeats it as the policy says. `what` names it in the log. Returns the last attempt's error.
pub(crate) async fn retry<T, F>(
    what: &str,
    policy: Policy,
    mut call: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut delays = policy.delays();
    loop {
        let error = match call().await {
            Err(error) if (policy.retries)(&error) => error,
            outcome => return outcome,
        };
        let Some(wait) = delays.next() else {
            return Err(error);
        };
        let attempt = delays.failed;
        tracing::warn!(what, attempt, ?wait, error = %describe(&error), "will try again");
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(retryable: bool) -> Error {
        Error::Backend {
            service: "the store",
            operation: "Get".to_owned(),
            retryable,
            source: "busy".into(),
        }
    }

    /// Makes a call that fails this often, and returns its outcome and the number of attempts.
    async fn failing(policy: Policy, times: u32, retryable: bool) -> (Result<()>, u32) {
        let mut attempts = 0;
        let outcome = retry("get", policy, || {
            attempts += 1;
            let fails = attempts <= times;
            async move {
                match fails {
                    true => Err(failure(retryable)),
                    false => Ok(()),
                }
            }
        });
        let outcome = outcome.await;
        (outcome, attempts)
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_out() {
        let begin = Instant::now();
        let (outcome, attempts) = failing(Policy::FOREVER, 200, true).await;
        assert!(outcome.is_ok());
        assert_eq!(attempts, 201);
        // Half of 20 s each on average, and never more than that.
        assert!(begin.elapsed() > 1_000 * SECOND);
        assert!(begin.elapsed() < 200 * 20 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_counted_with_the_first() {
        let policy = Policy::times(3).with_backoff(Backoff::exponential(SECOND, SECOND));
        let begin = Instant::now();
        let (outcome, attempts) = failing(policy, 3, true).await;
        assert!(outcome.unwrap_err().is_retryable());
        assert_eq!(attempts, 3);
        let (outcome, attempts) = failing(policy, 2, true).await;
        assert!(outcome.is_ok());
        assert_eq!(attempts, 3);
        assert!(begin.elapsed() <= 4 * SECOND);
        assert_eq!(failing(Policy::times(0), 1, true).await.1, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_retryable_is_not_repeated_unless_all_is() {
        let begin = Instant::now();
        let (outcome, attempts) = failing(Policy::FOREVER, 1, false).await;
        assert!(!outcome.unwrap_err().is_retryable());
        assert_eq!((attempts, begin.elapsed()), (1, Duration::ZERO));
        let policy = Policy::FOREVER.whatever_the_error();
        let (outcome, attempts) = failing(policy, 5, false).await;
        assert!(outcome.is_ok());
        assert_eq!(attempts, 6);
    }

    #[test]
    fn waits_begin_anew_after_progress() {
        let backoff = Backoff::exponential(SECOND, 60 * SECOND);
        let mut delays = Policy::FOREVER.with_backoff(backoff).delays();
        for _ in 0..100 {
            assert!((&mut delays).take(6).all(|wait| wait <= 32 * SECOND));
            delays.restart();
            assert!(delays.next().unwrap() <= SECOND);
            delays.restart();
        }
    }

    #[test]
    fn the_last_attempt_is_known_as_such() {
        let mut delays = Policy::times(3).delays();
        assert!(!delays.is_last());
        assert!(delays.next().is_some() && !delays.is_last());
        assert!(delays.next().is_some() && delays.is_last());
        assert!(delays.next().is_none());
    }
}
