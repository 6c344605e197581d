//! Runs that the scratchpad does not know yet, because their submission waits in the outbox.

use std::time::Duration;

use tokio::time::Instant;

use super::Run;
use crate::core::error::{Error, Result};
use crate::outbox::Pending;
use crate::scratchpad::RunSnapshot;
use crate::submit::record_to_be;

/// Between two looks: an eighth of the time since the first one, within these bounds.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

impl<R> Run<R> {
    /// Waits until the submission has become a run, and that has ended, at most this long, and returns what is known then.
    /// A submission that waits looks like a run that is being submitted.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`] if there is no submission either, and [`Error::Submission`] if it was refused.
    pub(super) async fn pending(&self, up_to: Duration) -> Result<RunSnapshot> {
        let no_such_run = || Error::no_such_run(&self.run);
        let outbox = self.site.outbox.as_ref().ok_or_else(no_such_run)?;
        let scratchpad = self.site.scratchpad();
        let begin = Instant::now();
        loop {
            let items = match outbox.find(&self.run).await {
                Ok(Pending::Waiting { items }) => Ok(items),
                Ok(Pending::Refused(problem)) => Err(Error::submission(&self.run, problem)),
                Ok(Pending::Unknown) => Err(no_such_run()),
                Err(error) if error.is_retryable() => return Err(error),
                // A program that may read runs need not be allowed to read the outbox.
                Err(_) => Err(no_such_run()),
            };
            let left = up_to.saturating_sub(begin.elapsed());
            // Asked after the outbox: it may have become a run since the last time.
            if let Some(snapshot) = scratchpad.wait(&self.run, left).await? {
                return Ok(snapshot);
            }
            let items = items?;
            let elapsed = begin.elapsed();
            let left = up_to.saturating_sub(elapsed);
            if left.is_zero() {
                let record = record_to_be(&self.site, self.run.clone(), items)?;
                return Ok(RunSnapshot::new(record));
            }
            let pause = (elapsed / 8).clamp(SHORTEST, LONGEST);
            tokio::time::sleep(pause.min(left)).await;
        }
    }
}
