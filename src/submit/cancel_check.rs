//! Noticing that a run was cancelled while it is being submitted.

use std::time::Duration;

use tokio::time::Instant;

use super::RETRY;
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::retry::retry;
use crate::protocol::site::Site;

/// Checks at most once per [`INTERVAL`](Self::INTERVAL) whether a run was cancelled.
pub(super) struct CancelCheck {
    last: Instant,
}

impl CancelCheck {
    /// How often a submitter checks.
    pub(super) const INTERVAL: Duration = Duration::from_secs(2);

    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    /// Whether the run was cancelled, or has expired and left its id to another one. `false` if it is too early to ask again.
    pub(super) async fn is_cancelled(&mut self, site: &Site, run: &RunKey) -> Result<bool> {
        let now = Instant::now();
        if now.duration_since(self.last) < Self::INTERVAL {
            return Ok(false);
        }
        self.last = now;
        let scratchpad = site.scratchpad();
        let status = retry("status", RETRY, || scratchpad.status(&run.id)).await?;
        Ok(status.is_none_or(|found| found.cancelled || found.record.generation != run.generation))
    }
}
