//! Runs: their records, what became of them, and waiting for them.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::listing::{RunFilter, RunSummary};
use crate::core::clock::milliseconds;
use crate::core::cut::PacketPlan;
use crate::core::error::{Error, Result};
use crate::core::failure::Failure;
use crate::core::generation::{Generation, RunKey};
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};
use crate::core::tree::{MAX_FAN_IN, MIN_FAN_IN};

/// The runs of a [`Scratchpad`](super::Scratchpad), each known by its id.
///
/// A method that takes a [`RunKey`] means the run of that generation. If the id is another generation's by now, the run is
/// unknown to such a method, which changes nothing: the condition is part of the write, so that no look goes before it.
///
/// # Errors
/// Besides the errors that a method names, [`Error::Backend`] if the store cannot be reached or refuses the call, with
/// `retryable` set for a transient problem.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Begins a run if its id is new. Atomic; an existing run is left as it is.
    async fn begin(&self, record: &RunRecord) -> Result<Begun>;

    /// Records how far a submission is: every packet up to `reached` is on the queue. Only the furthest checkpoint is
    /// kept: one with fewer packets than are on record changes nothing, and is no error, since two processes may submit
    /// a run at the same time. Atomic. An unknown run changes nothing.
    ///
    /// A submission that is repeated under the same id continues from the [checkpoint](RunSnapshot::checkpoint) on
    /// record: it does not send the packets before it again.
    ///
    /// # Errors
    /// [`Error::Submission`], as made by [`Checkpoint::differs`], if a checkpoint with the same number of packets is on
    /// record, and is another one.
    async fn checkpoint(&self, run: &RunKey, reached: &Checkpoint) -> Result<()>;

    /// Records the end of the array: the length of the array and the number of its packets, which are those of `end`,
    /// and `end` as the run's [checkpoint](RunSnapshot::checkpoint). Atomic; the same again changes nothing.
    ///
    /// # Errors
    /// [`Error::Submission`] if other numbers are on record, or a checkpoint with more packets, or another one with as
    /// many; [`Error::NoSuchRun`] if the run is unknown. Nothing is changed then.
    async fn measure(&self, run: &RunKey, end: &Checkpoint) -> Result<()>;

    /// Records that every packet is on the queue, so that submitting the same id again sends nothing. An unknown run
    /// changes nothing.
    async fn submitted(&self, run: &RunKey) -> Result<()>;

    /// Writes the run's result if there is none: the first writer wins. Atomic. Returns whether this call wrote it. A
    /// cancelled or unknown run takes no result.
    async fn complete(&self, run: &RunKey, result: Bytes) -> Result<bool>;

    /// Marks a run as cancelled; its tree may be dropped. Atomic; a finished run stays finished. Returns whether the
    /// run is cancelled now: false for a finished or unknown one.
    async fn cancel(&self, run: &RunId) -> Result<bool>;

    /// All that is known of a run except its tree; `None` for an unknown run.
    async fn status(&self, run: &RunId) -> Result<Option<RunSnapshot>>;

    /// What messages are held against: of the run that has this id now; `None` for an unknown run. A worker reads it when a
    /// run's first message comes. It must not be stale: messages of a run that is unknown are dropped. The default reads
    /// [`status`](Self::status).
    async fn outline(&self, run: &RunId) -> Result<Option<RunOutline>> {
        let found = self.status(run).await?;
        Ok(found.map(|found| RunOutline::of(&found.record)))
    }

    /// Whether the run is done or cancelled, so that workers can skip its messages. Polled every few seconds; a stale
    /// answer is allowed. False for an unknown run. Of a run whose id another generation has by now, either answer is
    /// allowed. The default reads [`status`](Self::status).
    async fn is_over(&self, run: &RunKey) -> Result<bool> {
        let found = self.status(&run.id).await?;
        Ok(found.is_some_and(|found| {
            let is_other = found.record.generation != run.generation;
            is_other || found.cancelled || found.result.is_some()
        }))
    }

    /// Waits until the run has [ended](RunSnapshot::has_ended), at most for `up_to`, and returns its status at that
    /// time: `None` for an unknown run, at once.
    async fn wait(&self, run: &RunId, up_to: Duration) -> Result<Option<RunSnapshot>>;

    /// The runs that `filter` selects, newest first: by [`created_at`](RunRecord::created_at) to the millisecond, then
    /// by id, both descending. Returns at most `limit` (at least 1) after `cursor`, and a cursor if there may be more. A
    /// page may have fewer runs, even none, and still have a cursor; following the cursors always comes to an end.
    ///
    /// A run that is there from the first page to the last is returned exactly once, unless it changes to or from a state
    /// that the filter names meanwhile. A run that begins meanwhile counts as newer than the first page and is not
    /// returned, unless its `created_at` is older than the cursor. A run whose time is up is returned until the store
    /// removes it.
    ///
    /// The list may be some seconds behind the writes, if the store says so in its own docs. It costs what it returns:
    /// a store does not read the runs that the filter leaves out, or says how many it reads per page at most. Changes
    /// nothing, also if its future is dropped.
    ///
    /// The default is for a store that keeps no order of its runs: it refuses.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `cursor` is not one of this list. [`Error::Backend`], not retryable, if the store
    /// cannot list its runs.
    async fn list_runs(
        &self,
        _filter: &RunFilter,
        _cursor: Option<&Cursor>,
        _limit: usize,
    ) -> Result<Page<RunSummary>> {
        Err(Error::Backend {
            service: "scratchpad",
            operation: "listing runs".to_owned(),
            retryable: false,
            source: "this store cannot list its runs: it does not implement `Runs::list_runs`"
                .into(),
        })
    }

    /// Hints that the result has been read and need not be kept much longer. The default does nothing: stores with an
    /// expiry of their own rely on that.
    async fn forget(&self, _run: &RunId) -> Result<()> {
        Ok(())
    }
}

/// What is written when a run begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunRecord {
    /// The run; `arrayId` in JSON.
    #[serde(rename = "arrayId")]
    pub run: RunId,
    /// Which of the runs that have had this id. In a record that does not say, one that no message bears.
    #[serde(default)]
    pub generation: Generation,
    /// The deployment that it was submitted to. Absent in a record that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// When it was first submitted, to the millisecond. In JSON, in milliseconds since 1970-01-01 UTC.
    #[serde(with = "milliseconds")]
    pub created_at: SystemTime,
    /// The stage that the packets are first sent to.
    pub first_stage: String,
    /// The first reducing stage, at whose tree the leaves arrive.
    pub reduce_stage: String,
    /// Members per group.
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
    /// The record of a new run whose length is not known yet. Its generation is drawn.
    pub fn new(
        run: impl Into<RunId>,
        created_at: SystemTime,
        first_stage: impl Into<String>,
        reduce_stage: impl Into<String>,
        fan_in: u32,
        plan: PacketPlan,
    ) -> Self {
        Self {
            run: run.into(),
            generation: Generation::random(fan_in),
            deployment: None,
            created_at,
            first_stage: first_stage.into(),
            reduce_stage: reduce_stage.into(),
            fan_in,
            plan,
            array_length: None,
            packets: None,
        }
    }

    /// This run and no other that has its id before or after it.
    pub fn key(&self) -> RunKey {
        RunKey::new(&self.run, self.generation)
    }

    /// The record as a store keeps it.
    ///
    /// # Errors
    /// [`Error::Encode`] never happens for a record made by this library.
    pub fn encode(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|source| Error::encode("the record of a run", source))
    }

    /// Reads a record from a store.
    ///
    /// # Errors
    /// [`Error::Decode`] if the bytes are not a record, or one that could not have been written.
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

/// Which run has an id now, and how long it is: what [`Runs::outline`] reads of a run's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutline {
    /// Which of the runs that have had this id.
    pub generation: Generation,
    /// Items in the array; `None` while a stream is still open.
    pub array_length: Option<u64>,
}

impl RunOutline {
    /// The outline of a run of this generation and length.
    pub fn new(generation: Generation, array_length: Option<u64>) -> Self {
        Self {
            generation,
            array_length,
        }
    }

    /// The outline of the run that has this record.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use catchment::scratchpad::{PacketPlan, RunOutline, RunRecord};
    ///
    /// let record = RunRecord::new("daily", SystemTime::now(), "double", "sum", 32, PacketPlan::Fixed(1));
    /// let outline = RunOutline::of(&record);
    /// assert_eq!((outline.generation, outline.array_length), (record.generation, None));
    /// ```
    pub fn of(record: &RunRecord) -> Self {
        Self::new(record.generation, record.array_length)
    }
}

/// What [`Runs::begin`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Begun {
    /// The run is new, and the record now stands.
    New,
    /// A run of this id was there already; nothing was changed.
    Existing(Box<RunSnapshot>),
}

/// All that is known of a run except its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSnapshot {
    /// The record, with the lengths that sealing added.
    pub record: RunRecord,
    /// How far its submission is known to be: the furthest checkpoint on record.
    pub checkpoint: Option<Checkpoint>,
    /// Whether a submitter has put every packet on the queue.
    pub submitted: bool,
    /// Whether the run was cancelled.
    pub cancelled: bool,
    /// The first failure on record: the oldest dead letter that has not been redriven.
    pub failure: Option<Failure>,
    /// How many messages are on record as dead letters.
    pub dead: u64,
    /// Of those, how many name an item: that of the last attempt in the report that made them dead letters.
    pub dead_items: u64,
    /// How many items are on record as skipped. Those of messages that stand as dead letters are not among them, though a
    /// backend may count what a copy of such a message reports later.
    pub skipped: u64,
    /// The result in its wire format.
    pub result: Option<Bytes>,
}

impl RunSnapshot {
    /// A run that has just begun.
    pub fn new(record: RunRecord) -> Self {
        Self {
            record,
            checkpoint: None,
            submitted: false,
            cancelled: false,
            failure: None,
            dead: 0,
            dead_items: 0,
            skipped: 0,
            result: None,
        }
    }

    /// How far the run is.
    pub fn state(&self) -> RunState {
        if self.result.is_some() {
            RunState::Done
        } else if self.cancelled {
            RunState::Cancelled
        } else if self.failure.is_some() {
            RunState::Failed
        } else if self.submitted {
            RunState::Running
        } else {
            RunState::Open
        }
    }

    /// Whether waiting is over: done, failed or cancelled.
    pub fn has_ended(&self) -> bool {
        self.result.is_some() || self.cancelled || self.failure.is_some()
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunState {
    /// Its submitter has not sent everything yet.
    Open,
    /// Everything has been sent and is being worked on.
    Running,
    /// The result is there.
    Done,
    /// A message has become a dead letter. The other messages go on, and [`Run::redrive`](crate::Run::redrive)
    /// completes the run.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl std::fmt::Display for RunState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Open => "open",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}
