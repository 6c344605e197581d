//! A run on the scratchpad under test, and what every scenario does with it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::core::generation::{Generation, RunKey};
use crate::core::id::RunId;
use crate::scratchpad::{
    Arrival, Attempt, Beginning, Begun, Cursor, DeadLetterId, Deliveries, DeliveryId, Failure,
    FailureLog, FailureReport, GroupId, GroupState, Members, PacketPlan, Page, RunRecord,
    RunSnapshot, Scratchpad, Verdict,
};

/// Members of a full group in every scenario.
pub(super) const FAN_IN: u32 = 4;

#[derive(Clone)]
pub(super) struct Subject {
    pub(super) scratchpad: Arc<dyn Scratchpad>,
    pub(super) id: RunId,
    /// The run and no other of this id.
    pub(super) key: RunKey,
}

impl Subject {
    /// A run that has just begun.
    pub(super) async fn new(scratchpad: Arc<dyn Scratchpad>) -> Self {
        let subject = Self::unknown(scratchpad).await;
        let begun = subject.begin(&record(&subject.key)).await;
        assert_eq!(begun, Begun::New, "a random id is new");
        subject
    }

    /// A run that has not begun.
    pub(super) async fn unknown(scratchpad: Arc<dyn Scratchpad>) -> Self {
        let provisioned = scratchpad.provision().await;
        provisioned.expect("provision");
        Self::of(scratchpad)
    }

    /// A run of a new id.
    pub(super) fn of(scratchpad: Arc<dyn Scratchpad>) -> Self {
        let id = RunId::random();
        Self {
            scratchpad,
            key: RunKey::new(&id, Generation::random(FAN_IN)),
            id,
        }
    }

    /// Another run of the same id, which has not begun.
    pub(super) fn again(&self) -> Self {
        Self {
            key: RunKey::new(&self.id, Generation::random(FAN_IN)),
            ..self.clone()
        }
    }

    pub(super) fn group(&self, level: u32, index: u64) -> GroupId {
        GroupId::new(&self.key, "sum", level, index)
    }

    /// Something for a slot of group `index` of level 1.
    pub(super) fn arrival(&self, index: u64, slot: u32, value: impl Into<Bytes>) -> Arrival {
        Arrival {
            group: self.group(1, index),
            slot,
            value: value.into(),
        }
    }

    /// A failure of one message of the stage `map`, to be reported.
    pub(super) fn report(
        &self,
        message: &str,
        verdict: Verdict,
        attempts: &[Attempt],
    ) -> FailureReport {
        FailureReport {
            run: self.key.clone(),
            stage: "map".into(),
            message: message.into(),
            attempts: attempts.to_vec(),
            verdict,
            delivery: None,
        }
    }

    fn beginning(&self, message: &str, delivery: DeliveryId) -> Beginning {
        Beginning::new(&self.key, "map", message, delivery)
    }

    /// Writes down that a delivery of one message of the stage `map` begins.
    pub(super) async fn note(&self, message: &str, delivery: DeliveryId) -> Deliveries {
        self.note_that(&self.beginning(message, delivery)).await
    }

    /// Writes down that a delivery of one message of the stage `map` begins on an item.
    pub(super) async fn note_at(
        &self,
        message: &str,
        delivery: DeliveryId,
        item: u64,
    ) -> Deliveries {
        let beginning = self.beginning(message, delivery);
        self.note_that(&beginning.at_item(item)).await
    }

    async fn note_that(&self, beginning: &Beginning) -> Deliveries {
        let noted = self.scratchpad.note_beginning(beginning).await;
        noted.expect("note_beginning")
    }

    pub(super) async fn withdraw(&self, message: &str, delivery: DeliveryId) {
        let beginning = self.beginning(message, delivery);
        let withdrawn = self.scratchpad.withdraw_beginning(&beginning).await;
        withdrawn.expect("withdraw_beginning");
    }

    pub(super) async fn begin(&self, record: &RunRecord) -> Begun {
        self.scratchpad.begin(record).await.expect("begin")
    }

    pub(super) async fn arrive(&self, arrivals: Vec<Arrival>) -> Vec<GroupState> {
        let count = arrivals.len();
        let states = self.scratchpad.arrive(arrivals).await.expect("arrive");
        assert_eq!(states.len(), count, "one state for each arrival");
        states
    }

    pub(super) async fn expect(&self, index: u64, expected: u32, root: bool) -> GroupState {
        let group = self.group(1, index);
        let told = self.scratchpad.expect(&group, expected, root).await;
        told.expect("expect")
    }

    /// The values of a group of level 1 that is still there.
    pub(super) async fn values(&self, index: u64) -> Vec<(u32, Bytes)> {
        match self.members(index).await {
            Members::Present { state, values } => {
                assert_eq!(
                    state.arrived as usize,
                    values.len(),
                    "a value for each slot"
                );
                values
            }
            Members::Retired => panic!("group {index} has not retired"),
        }
    }

    pub(super) async fn members(&self, index: u64) -> Members {
        let members = self.scratchpad.members(&self.group(1, index)).await;
        members.expect("members")
    }

    pub(super) async fn retire(&self, index: u64) {
        let retired = self.scratchpad.retire(&self.group(1, index)).await;
        retired.expect("retire");
    }

    pub(super) async fn arrived(&self, groups: &[GroupId]) -> Vec<Vec<u32>> {
        self.scratchpad.arrived(groups).await.expect("arrived")
    }

    pub(super) async fn complete(&self, result: &str) -> bool {
        let result = Bytes::from(result.to_owned());
        let completed = self.scratchpad.complete(&self.key, result).await;
        completed.expect("complete")
    }

    pub(super) async fn cancel(&self) -> bool {
        self.scratchpad.cancel(&self.id).await.expect("cancel")
    }

    /// The run's status; panics if the run is unknown.
    pub(super) async fn status(&self) -> RunSnapshot {
        let status = self.scratchpad.status(&self.id).await.expect("status");
        status.expect("the run is known")
    }

    pub(super) async fn record(&self, report: &FailureReport) -> FailureLog {
        let log = self.scratchpad.record(report).await;
        log.expect("record")
    }

    /// Reports a failure of one message of the stage `map`.
    pub(super) async fn fail(
        &self,
        message: &str,
        verdict: Verdict,
        attempts: &[Attempt],
    ) -> FailureLog {
        self.record(&self.report(message, verdict, attempts)).await
    }

    pub(super) async fn clear(&self, message: &str, id: DeadLetterId) {
        let cleared = self.scratchpad.clear(&self.key, "map", message, id);
        cleared.await.expect("clear");
    }

    /// One page of the run's failures.
    pub(super) async fn page(&self, cursor: Option<&Cursor>, limit: usize) -> Page<Failure> {
        let failures = self.scratchpad.list_failures(&self.id, cursor, limit).await;
        let page = failures.expect("list_failures");
        assert!(page.len() <= limit, "no more than `limit` are returned");
        page
    }

    /// The run's failures, read in pages of this length.
    pub(super) async fn list(&self, limit: usize) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.page(cursor.as_ref(), limit).await;
            failures.extend(page.items);
            match page.next {
                // Its text is enough to go on.
                Some(next) => cursor = Some(Cursor::new(next.as_str())),
                None => return failures,
            }
        }
    }

    pub(super) async fn failures(&self) -> Vec<Failure> {
        self.list(1_000).await
    }
}

/// Some time, and as many milliseconds later.
fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + milliseconds)
}

/// The record of a run whose length is not known yet.
pub(super) fn record(run: &RunKey) -> RunRecord {
    RunRecord {
        run: run.id.clone(),
        generation: run.generation,
        created_at: time(0),
        deployment: Some("adder".to_owned()),
        first_stage: "map".into(),
        reduce_stage: "sum".into(),
        fan_in: FAN_IN,
        plan: PacketPlan::Fixed(10),
        array_length: None,
        packets: None,
    }
}

pub(super) fn attempt(number: u32, item: Option<u64>, error: &str) -> Attempt {
    Attempt {
        number,
        at: time(u64::from(number)),
        item,
        label: None,
        error: error.into(),
    }
}
