//! A scratchpad in memory, as far away as Amazon DynamoDB, with the same requests that the library makes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use catchment::backends::memory::MemoryScratchpad;
use catchment::scratchpad::{
    Arrival, Beginning, Begun, Checkpoint, Cursor, DeadLetterId, Deliveries, Failure, FailureLog, FailureReport, Failures, GroupId, GroupState, Groups,
    Members, Page, PacketPlan, RunFilter, RunRecord, RunKey, RunSnapshot, RunSummary, Runs, Scratchpad,
};
use catchment::{RunId, Result};
use tokio::time::{Instant, sleep};

use crate::service::{Service, Wire};

/// Arrivals a write, and writes under way at once for one call, of the library's DynamoDB backend.
const MOST_ARRIVALS: usize = 50;
const SIDE_BY_SIDE: usize = 16;
/// How often one who waits for a run looks, as over DynamoDB: at intervals of a sixteenth of what has gone by, within
/// these limits.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(5);
const LOOKS_AFTER: u32 = 16;

/// What can be seen of a run from here.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How the array was cut.
    pub(crate) plan: OnceLock<PacketPlan>,
    /// When the result was written.
    pub(crate) written: OnceLock<Instant>,
}

#[derive(Debug)]
pub(crate) struct FarTables {
    memory: MemoryScratchpad,
    wire: Wire,
    seen: Arc<Seen>,
}

impl FarTables {
    pub(crate) fn new(wire: Wire, seen: Arc<Seen>) -> Self {
        Self {
            memory: MemoryScratchpad::new(),
            wire,
            seen,
        }
    }

    async fn request<T>(&self, kind: &'static str, effect: impl Future<Output = T>) -> T {
        self.wire.request(Service::DynamoDb, kind, effect).await
    }
}

#[async_trait]
impl Runs for FarTables {
    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        self.seen.plan.get_or_init(|| record.plan);
        self.request("PutItem", self.memory.begin(record)).await
    }

    async fn checkpoint(&self, run: &RunKey, reached: &Checkpoint) -> Result<()> {
        self.request("UpdateItem", self.memory.checkpoint(run, reached))
            .await
    }

    async fn measure(&self, run: &RunKey, end: &Checkpoint) -> Result<()> {
        self.request("UpdateItem", self.memory.measure(run, end)).await
    }

    async fn submitted(&self, run: &RunKey) -> Result<()> {
        self.request("UpdateItem", self.memory.submitted(run))
            .await
    }

    /// The result, and the mark for workers that the run is over.
    async fn complete(&self, run: &RunKey, result: Bytes) -> Result<bool> {
        let complete = async {
            let first = self.memory.complete(run, result).await;
            self.seen.written.get_or_init(Instant::now);
            first
        };
        let first = self.request("UpdateItem", complete).await?;
        self.request("PutItem", async {}).await;
        Ok(first)
    }

    async fn cancel(&self, run: &RunId) -> Result<bool> {
        self.request("UpdateItem", self.memory.cancel(run))
            .await
    }

    async fn status(&self, run: &RunId) -> Result<Option<RunSnapshot>> {
        self.request("GetItem", self.memory.status(run)).await
    }

    async fn is_over(&self, run: &RunKey) -> Result<bool> {
        self.request("GetItem", self.memory.is_over(run)).await
    }

    async fn wait(&self, run: &RunId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        let until = Instant::now() + up_to;
        let begin = Instant::now();
        loop {
            let snapshot = self.status(run).await?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || snapshot.as_ref().is_none_or(RunSnapshot::has_ended) {
                return Ok(snapshot);
            }
            let pause = (begin.elapsed() / LOOKS_AFTER).clamp(SHORTEST_LOOK, LONGEST_LOOK);
            sleep(pause.min(left)).await;
        }
    }

    async fn list_runs(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        let list = self.memory.list_runs(filter, cursor, limit);
        self.request("Query", list).await
    }
}

#[async_trait]
impl Groups for FarTables {
    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        let expect = self.memory.expect(group, expected, root);
        self.request("UpdateItem", expect).await
    }

    /// One write a group. The partial results here are small enough to be in the group's own item.
    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        let mut states = vec![GroupState::default(); arrivals.len()];
        let mut groups: BTreeMap<GroupId, Vec<(usize, Arrival)>> = BTreeMap::new();
        for (place, arrival) in arrivals.into_iter().enumerate() {
            let group = groups.entry(arrival.group.clone()).or_default();
            group.push((place, arrival));
        }
        let mut writes = Vec::new();
        for members in groups.into_values() {
            for part in members.chunks(MOST_ARRIVALS) {
                let (places, part): (Vec<usize>, Vec<Arrival>) = part.iter().cloned().unzip();
                writes.push(async move {
                    let stored = self.request("UpdateItem", self.memory.arrive(part)).await?;
                    Ok::<_, catchment::Error>(places.into_iter().zip(stored))
                });
            }
        }
        for (place, state) in Wire::side_by_side(SIDE_BY_SIDE, writes)
            .await?
            .into_iter()
            .flatten()
        {
            if let Some(slot) = states.get_mut(place) {
                *slot = state;
            }
        }
        Ok(states)
    }

    async fn members(&self, group: &GroupId) -> Result<Members> {
        self.request("Query", self.memory.members(group)).await
    }

    async fn retire(&self, group: &GroupId) -> Result<()> {
        self.request("UpdateItem", self.memory.retire(group)).await
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        self.request("BatchGetItem", self.memory.arrived(groups))
            .await
    }
}

#[async_trait]
impl Failures for FarTables {
    async fn note_beginning(&self, beginning: &Beginning) -> Result<Deliveries> {
        let note = self.memory.note_beginning(beginning);
        self.request("UpdateItem", note).await
    }

    async fn withdraw_beginning(&self, beginning: &Beginning) -> Result<()> {
        let withdraw = self.memory.withdraw_beginning(beginning);
        self.request("UpdateItem", withdraw).await
    }

    async fn record(&self, report: &FailureReport) -> Result<FailureLog> {
        let record = self.memory.record(report);
        self.request("UpdateItem", record).await
    }

    async fn clear(&self, run: &RunKey, stage: &str, message: &str, id: DeadLetterId) -> Result<()> {
        let clear = self.memory.clear(run, stage, message, id);
        self.request("DeleteItem", clear).await
    }

    async fn list_failures(&self, run: &RunId, cursor: Option<&Cursor>, limit: usize) -> Result<Page<Failure>> {
        let list = self.memory.list_failures(run, cursor, limit);
        self.request("Query", list).await
    }
}

impl Scratchpad for FarTables {}
