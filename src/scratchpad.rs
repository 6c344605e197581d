//! The contract of a scratchpad: the store that holds partial results, and knows which members
//! of a group have arrived. It knows bytes, groups and conditional writes, nothing of users' types.
//!
//! A backend implements [`Runs`], [`Groups`] and [`Failures`], and [`Scratchpad`] for what concerns the store as a whole.
//! The types of the contract may gain fields and variants: a backend makes them by their constructors and sets the public
//! fields of the value.

mod checkpoint;
mod failures;
mod groups;
mod listing;
mod runs;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::checkpoint::Checkpoint;
pub use self::failures::{
    Beginning, Deliveries, FailureLog, FailureReport, Failures, ItemAttempts,
};
pub use self::groups::{Arrival, Groups, Members};
pub(crate) use self::listing::Place;
pub use self::listing::{RunFilter, RunSummary};
pub use self::runs::{Begun, RunOutline, RunRecord, RunSnapshot, RunState, Runs};
pub use crate::core::cut::PacketPlan;
use crate::core::error::Result;
pub use crate::core::failure::{Attempt, DeadLetterId, DeliveryId, Failure, Verdict};
pub use crate::core::fingerprint::Fingerprint;
pub use crate::core::generation::{Generation, RunKey};
pub use crate::core::group::{GroupId, GroupState};
pub use crate::core::page::{Cursor, Page};
use crate::core::provision::Change;

/// The store. Every write is idempotent: doing it twice, or again after a crash, changes nothing
/// the second time. Every read sees every write that has returned.
///
/// A run that is done, cancelled, forgotten or was never begun is *over*: its groups read as
/// [`GroupState::gone`] and writes to them change nothing, so that a late duplicate message has no effect. A store that
/// keeps the slots of a finished run longer than a queue can deliver duplicates may answer from those instead, and, if
/// its items expire by themselves, need not check whether a group's run was ever begun.
///
/// Futures may be dropped at any await: the write has then happened entirely or not at all,
/// except for [`arrive`](Groups::arrive), whose batch may have happened in part.
#[async_trait]
pub trait Scratchpad: Runs + Groups + Failures + Debug + 'static {
    /// The scratchpad for one deployment: what is written through it stays apart from what other
    /// deployments write. `None`, the default, if this one serves every deployment.
    fn bind(&self, _deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        None
    }

    /// Checks whether the service takes this scratchpad's tables and settings, without asking it. Called when a pipeline is
    /// [deployed](crate::Pipeline::deploy), after [`bind`](Self::bind). The default is for a store without limits: it takes
    /// everything.
    ///
    /// # Errors
    /// [`Error::InvalidPipeline`](crate::Error::InvalidPipeline), which names the setting, its value and the limit.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Creates the tables that are missing, touches nothing else, and returns what it did. Idempotent, also for
    /// concurrent callers. The default does nothing, for a store that needs no tables.
    ///
    /// A table may be in any phase of its life: one that is being created is waited for, one that is being deleted is
    /// created again when it is gone. The wait is bounded.
    ///
    /// # Errors
    /// A wait that took too long ends with a retryable error, which says what was waited for.
    async fn provision(&self) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }

    /// Removes the tables with all that is in them, and returns what it did. Idempotent. The default does nothing.
    async fn deprovision(&self) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }
}
