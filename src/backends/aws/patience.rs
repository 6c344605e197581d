//! Waits for what a service does in its own time, such as deleting a table. Every one ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::backoff::Backoff;
use crate::core::error::{Error, Result};

/// Between two looks.
const LOOKS: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5));

/// One wait, over all the states that a queue or a table goes through meanwhile.
pub(in crate::backends) struct Patience {
    service: &'static str,
    /// The queue or table, such as ``table `results` ``.
    subject: String,
    /// The call to repeat if the wait was too short, such as `Deployment::provision()`.
    call: &'static str,
    limit: Duration,
    begin: Instant,
    looks: u32,
    /// The state at the last look.
    state: String,
}

impl Patience {
    pub(in crate::backends) fn new(
        service: &'static str,
        subject: String,
        call: &'static str,
        limit: Duration,
    ) -> Self {
        Self {
            service,
            subject,
            call,
            limit,
            begin: Instant::now(),
            looks: 0,
            state: String::new(),
        }
    }

    /// Waits until it is time for another look, since the last one found this `state`: a clause such as "it is still being
    /// deleted".
    ///
    /// # Errors
    /// Retryable, once the limit is over: with the state, the time and the call to repeat.
    pub(in crate::backends) async fn wait(&mut self, state: impl Into<String>) -> Result<()> {
        let state = state.into();
        if self.begin.elapsed() >= self.limit {
            let limit = self.limit.as_secs();
            return Err(Error::unavailable(
                self.service,
                format!("waiting for {}", self.subject),
                format!(
                    "{state}, after {limit} s of waiting: repeat `{}` to wait on",
                    self.call
                ),
            ));
        }
        if state != self.state {
            tracing::info!(subject = self.subject, state, "waiting");
            self.state = state;
        }
        self.looks = self.looks.saturating_add(1);
        tokio::time::sleep(LOOKS.longest(self.looks)).await;
        Ok(())
    }
}
