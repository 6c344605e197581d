//! The contract of a scratchpad: the store that holds partial results, and knows which members
//! of a group have arrived. It knows bytes, groups and conditional writes, nothing of users' types.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::core::cut::PacketPlan;
use crate::core::error::{Error, Result};
pub use crate::core::failure::{Attempt, Failure, Verdict};
pub use crate::core::group::{GroupId, GroupState};
use crate::core::id::ArrayId;
use crate::core::provision::Change;
use crate::core::tree::{MAX_FAN_IN, MIN_FAN_IN};

/// A partial result on its way into a slot of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The group.
    pub group: GroupId,
    /// Which member of the group, counted from 0.
    pub slot: u32,
    /// The packet in its wire format.
    pub value: Bytes,
}

/// What [`Scratchpad::members`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// The group is still to be reduced.
    Present {
        /// Its state.
        state: GroupState,
        /// The values that have arrived with their slots, in slot order.
        values: Vec<(u32, Bytes)>,
    },
    /// The group has been reduced and passed on, or its run is over or unknown.
    Retired,
}

/// What is written when a run begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// The run.
    pub array_id: ArrayId,
    /// When it was first submitted, in milliseconds since 1970-01-01 UTC.
    pub created_at: u64,
    /// The stage that the packets are first sent to.
    pub first_stage: String,
    /// The first reducing stage, at whose tree the leaves arrive.
    pub reduce_stage: String,
    /// Members a group.
    pub fan_in: u32,
    /// How the array is cut.
    pub plan: PacketPlan,
    /// Items in the array; absent while a stream is still open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_length: Option<u64>,
    /// Packets they make; absent while a stream is still open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
}

impl RunRecord {
    /// The record as a store keeps it.
    ///
    /// # Errors
    /// None that a record made by this library can cause.
    pub fn encode(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|source| Error::encode("the record of a run", source))
    }

    /// Reads a record from a store.
    ///
    /// # Errors
    /// [`Error::Decode`] for bytes that are no record, or one that could not have been written.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "the record of a run";
        let record: Self =
            serde_json::from_slice(bytes).map_err(|source| Error::decode(WHAT, source))?;
        let fan_ins = MIN_FAN_IN..=MAX_FAN_IN;
        if !fan_ins.contains(&record.fan_in) {
            let problem = format!("fanIn {} is not in {fan_ins:?}", record.fan_in);
            return Err(Error::decode(WHAT, problem));
        }
        if record.plan == PacketPlan::Fixed(0) {
            return Err(Error::decode(WHAT, "its packets have no items"));
        }
        Ok(record)
    }
}

/// What [`Scratchpad::begin`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The run is new, and the record now stands.
    New,
    /// A run of this id was there already; nothing was changed.
    Existing(Box<RunSnapshot>),
}

/// All that is known of a run but its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSnapshot {
    /// The record, with the lengths that sealing added.
    pub record: RunRecord,
    /// Whether a submitter has put every packet on the queue.
    pub submitted: bool,
    /// Whether the run was cancelled.
    pub cancelled: bool,
    /// The first failure that stands: a dead letter that nobody has redriven.
    pub failure: Option<Failure>,
    /// How many messages stand as dead letters.
    pub dead: u64,
    /// How many items are on record as skipped.
    pub skipped: u64,
    /// The result in its wire format.
    pub result: Option<Bytes>,
}

impl RunSnapshot {
    /// Whether waiting is over: done, failed or cancelled.
    pub fn has_ended(&self) -> bool {
        self.result.is_some() || self.cancelled || self.failure.is_some()
    }
}

/// A failure on its way into the scratchpad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureReport {
    /// The run.
    pub array_id: ArrayId,
    /// The stage.
    pub stage: Arc<str>,
    /// The message within the stage: `packet 3`, `group 1/0`.
    pub message: String,
    /// What failed; one entry for each item, or one for the message as a whole.
    pub attempts: Vec<Attempt>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What a scratchpad answers to a [`FailureReport`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureLog {
    /// Every failed attempt at this message on record, oldest first, this one included. A backend
    /// may keep only the newest hundred.
    pub attempts: Vec<Attempt>,
    /// How many items of the whole run are on record as skipped.
    pub skipped: u64,
}

/// The store. Every write is idempotent: doing it twice, or again after a crash, changes nothing
/// the second time. Every read sees every write that has returned.
///
/// A run that is done, cancelled, forgotten or was never begun is *over*: its groups read as
/// [`GroupState::gone`] and writes to them change nothing, so that a late duplicate message finds
/// nothing to do. A store that keeps the slots of a finished run longer than a queue can
/// deliver duplicates may answer from those instead, and, if what is written expires by itself, need not
/// look whether a group's run was ever begun.
///
/// Futures may be dropped at any await: the write has then happened entirely or not at all,
/// but for [`arrive`](Scratchpad::arrive), whose batch may have happened in part.
#[async_trait]
pub trait Scratchpad: Send + Sync + 'static {
    /// The scratchpad for one deployment: what is written through it stays apart from what other
    /// deployments write. `None`, the default, where this one serves whatever is deployed over it.
    fn bind(&self, _deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        None
    }

    /// Makes the tables that are missing, touches nothing else, and says what it did. Idempotent; many
    /// callers may do it at once. A store that needs none does nothing, which is the default.
    async fn provision(&self) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }

    /// Removes the tables with all that is in them, and says what it did. Idempotent. The default does nothing.
    async fn deprovision(&self) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }

    /// Itself, where this crate's templates are to know how its tables are set.
    #[doc(hidden)]
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// Begins a run: conditional on the array id being new. Atomic.
    async fn begin(&self, record: &RunRecord) -> Result<Begun>;

    /// Writes down how long the array turned out to be. Atomic; the same numbers again change nothing.
    ///
    /// # Errors
    /// [`Error::Submission`] where other numbers stand already,
    /// [`Error::NoSuchRun`] where the run is unknown.
    async fn measure(&self, array_id: &ArrayId, array_length: u64, packets: u64) -> Result<()>;

    /// Notes that every packet is on the queue, so that submitting the same id again sends nothing.
    async fn submitted(&self, array_id: &ArrayId) -> Result<()>;

    /// Tells a group its size, and whether it is the root. Atomic. Returns the state after it.
    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState>;

    /// Stores each value if its slot is empty, then adds the slot to the group's arrived set, in
    /// that order: whoever sees the slot can read the value. A slot that is taken keeps its first
    /// value. Returns each arrival's group state, in the order given, as it was at or after its
    /// own write; of the arrivals that fill a group at least one sees it full.
    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>>;

    /// The members of a group, in slot order. May find fewer values than arrived slots while
    /// another retires the group; a reader then reads again.
    async fn members(&self, group: &GroupId) -> Result<Members>;

    /// Marks a group as reduced and passed on. Its values may be dropped; its slots stay taken.
    async fn retire(&self, group: &GroupId) -> Result<()>;

    /// Writes the run's result if there is none: the first writer wins. Atomic. Returns whether
    /// this call wrote it. A cancelled or unknown run takes no result.
    async fn complete(&self, array_id: &ArrayId, result: Bytes) -> Result<bool>;

    /// Adds to the record of failures. Attempts are appended, so that one whose answer was lost may be on record
    /// twice; everything else is idempotent. [`Verdict::Skip`] puts the items into
    /// the message's set of skipped ones. [`Verdict::Dead`] makes the run read as failed, and takes the
    /// place of an older id of the same message. An unknown run changes nothing and gives an empty log.
    async fn record_failure(&self, report: &FailureReport) -> Result<FailureLog>;

    /// Takes back what stands as dead for a message, and its skipped items, if it stands under this
    /// id: the message is on its queue again. Another id, or none, changes nothing.
    async fn clear_failure(
        &self,
        array_id: &ArrayId,
        stage: &str,
        message: &str,
        id: Uuid,
    ) -> Result<()>;

    /// Failures on record, dead letters and skipped items alike, up to `limit`, in the order of their stage names,
    /// messages and items. An unknown run has none.
    async fn failures(&self, array_id: &ArrayId, limit: usize) -> Result<Vec<Failure>>;

    /// What is known of a run, `None` for an unknown one.
    async fn status(&self, array_id: &ArrayId) -> Result<Option<RunSnapshot>>;

    /// Whether a run is done or cancelled, for workers that might do its work in vain: asked every few seconds, and
    /// allowed to be late. False for an unknown run. The default looks at [`status`](Scratchpad::status).
    async fn is_over(&self, array_id: &ArrayId) -> Result<bool> {
        let run = self.status(array_id).await?;
        Ok(run.is_some_and(|run| run.cancelled || run.result.is_some()))
    }

    /// Which slots of each group have arrived, in the order of the groups given; empty for a group
    /// nobody has written to, or whose run is over.
    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>>;

    /// Waits until the run has [ended](RunSnapshot::has_ended), or for `up_to`, and returns what
    /// is known then: `None` for an unknown run, at once.
    async fn wait(&self, array_id: &ArrayId, up_to: Duration) -> Result<Option<RunSnapshot>>;

    /// Marks a run as cancelled; its tree may be dropped. A finished run stays finished. Returns
    /// whether the run is cancelled now: false for a finished or unknown one.
    async fn cancel(&self, array_id: &ArrayId) -> Result<bool>;

    /// A hint that the result has been taken, and need not be kept much longer. The default does nothing:
    /// stores with an expiry of their own rely on that.
    async fn forget(&self, _array_id: &ArrayId) -> Result<()> {
        Ok(())
    }
}
