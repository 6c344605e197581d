//! Listing runs: which ones, and what a list says of each.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::runs::{RunRecord, RunState};
use crate::core::clock::{ceiling, floor};
use crate::core::id::RunId;

/// Which runs a [list](super::Runs::list_runs) returns. [`new`](Self::new) selects all of them.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use catchment::{RunFilter, RunState};
///
/// let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
/// let failed = RunFilter::new().state(RunState::Failed).since(yesterday);
/// # let _ = failed;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunFilter {
    /// Only runs in this state.
    pub state: Option<RunState>,
    /// Only runs that were created at this time or later.
    pub since: Option<SystemTime>,
    /// Only runs that were created before this time.
    pub until: Option<SystemTime>,
}

impl RunFilter {
    /// All runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects runs in this state.
    #[must_use]
    pub fn state(mut self, state: RunState) -> Self {
        self.state = Some(state);
        self
    }

    /// Selects runs that were created at this time or later.
    #[must_use]
    pub fn since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Selects runs that were created before this time.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    /// The times it selects, in milliseconds since 1970 as a record keeps them: from the first on, before the second.
    pub(crate) fn milliseconds(&self) -> (u64, u64) {
        let since = self.since.map_or(0, ceiling);
        (since, self.until.map_or(u64::MAX, ceiling))
    }
}

/// What a [list](super::Runs::list_runs) says of a run. [`Run::status`](crate::Run::status) says more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSummary {
    /// The record, with the lengths that sealing added.
    pub record: RunRecord,
    /// How far the run is.
    pub state: RunState,
}

impl RunSummary {
    /// A run in this state.
    pub fn new(record: RunRecord, state: RunState) -> Self {
        Self { record, state }
    }
}

/// Where a run stands in a list. Greater is newer, so a list is in descending order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// When it was created, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) run: RunId,
}

impl Place {
    pub(crate) fn of(record: &RunRecord) -> Self {
        Self {
            at: floor(record.created_at),
            run: record.run.clone(),
        }
    }
}
