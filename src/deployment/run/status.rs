//! How far a run is.

use std::sync::Arc;
use std::time::Duration;

use super::Run;
use crate::core::error::Result;
use crate::core::tree::Tree;
use crate::scratchpad::{Failure, GroupId, RunRecord, RunSnapshot, RunState};

/// Groups asked for in one call when a run's progress is looked up.
pub(super) const GROUPS_AT_ONCE: u64 = 1_000;

/// A run's progress, read off the reduction tree: nothing that is delivered twice counts twice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How far it is.
    pub state: RunState,
    /// Items in the array; `None` while a stream is still open.
    pub items: Option<u64>,
    /// Items that have gone through every stage before the first reduction. Where packets had to be
    /// cut short for a backend's size limit, an estimate from the packets.
    pub items_done: u64,
    /// Packets the array makes; `None` while that is not known.
    pub packets: Option<u64>,
    /// Packets that have gone through every stage before the first reduction.
    pub packets_done: u64,
    /// Items that the result leaves out under a skip policy; before there is one, those on record. What is part of a dead
    /// letter is not among them: a redrive tries it again.
    pub items_skipped: u64,
    /// Items that have failed for good: those that the messages of [`messages_failed`](Self::messages_failed) name. None
    /// once the run is done. The other items of their packets wait with them, so that more items than these are missing
    /// from [`items_done`](Self::items_done).
    pub items_failed: u64,
    /// Messages on record as dead letters: packets with an item that has failed, groups whose reduction has failed, and
    /// whatever failed as a whole. None once the run is done, since everything is in its result. A dead letter that was
    /// [discarded](Run::discard) stays on record.
    pub messages_failed: u64,
    /// The first of those failures.
    pub failure: Option<Failure>,
    /// Whether nothing of the run is under way any more: [`Run::settled`] says when that is. True of a cancelled run at
    /// once, although workers may go on with its items until they [notice](Run::cancel).
    pub settled: bool,
}

impl<R> Run<R> {
    /// How far the run is.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, RunState};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::memory())?;
    /// let run = adder.submit(1..=5).await?;
    /// let status = run.status().await?;
    /// assert_eq!((status.state, status.items, status.items_done), (RunState::Running, Some(5), 0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchRun`](crate::Error::NoSuchRun) if the run is unknown.
    pub async fn status(&self) -> Result<Status> {
        let snapshot = self.snapshot(Duration::ZERO).await?;
        self.status_of(snapshot).await
    }

    pub(super) async fn status_of(&self, snapshot: RunSnapshot) -> Result<Status> {
        let state = snapshot.state();
        let record = &snapshot.record;
        let (items, packets) = (record.array_length, record.packets);
        let (items_done, packets_done) = match (state, items, packets) {
            (RunState::Done, Some(items), Some(packets)) => (items, packets),
            _ => {
                let leaves = self.arrived_leaves(&snapshot).await?;
                let done = leaves.len() as u64;
                (items_of(record, leaves), done)
            }
        };
        // If a process died between recording a failure and burying the message, the record names a
        // dead letter that does not exist.
        let stands = state != RunState::Done;
        let settled = match state {
            RunState::Done | RunState::Cancelled => true,
            RunState::Failed => self.under_way(&snapshot, 0).await? == 0,
            RunState::Open | RunState::Running => false,
        };
        let items_skipped = match &snapshot.result {
            // Copies of a message may have left out different items. The result knows which copy counts.
            Some(result) => {
                let run = snapshot.record.key();
                self.site.carrier.read_result(&run, result)?.skipped
            }
            None => snapshot.skipped,
        };
        Ok(Status {
            state,
            items,
            items_done,
            packets,
            packets_done,
            items_skipped,
            items_failed: if stands { snapshot.dead_items } else { 0 },
            messages_failed: if stands { snapshot.dead } else { 0 },
            failure: snapshot.failure.filter(|_| stands),
            settled,
        })
    }

    /// The packets that have arrived at the first reduction, in ascending order.
    async fn arrived_leaves(&self, snapshot: &RunSnapshot) -> Result<Vec<u64>> {
        let record = &snapshot.record;
        let fan_in = u64::from(record.fan_in);
        let stage: Arc<str> = record.reduce_stage.as_str().into();
        let groups = record
            .packets
            .map(|packets| Tree::new(packets, record.fan_in).first_level_groups());
        let mut leaves = Vec::new();
        let mut first = 0;
        loop {
            let end = groups.map_or(first + GROUPS_AT_ONCE, |groups| {
                groups.min(first + GROUPS_AT_ONCE)
            });
            if first >= end {
                return Ok(leaves);
            }
            let ids: Vec<GroupId> = (first..end)
                .map(|index| GroupId::new(record.key(), Arc::clone(&stage), 1, index))
                .collect();
            let before = leaves.len();
            let arrived = self.site.scratchpad().arrived(&ids).await?;
            for (group, slots) in (first..end).zip(arrived) {
                let arrived = slots.into_iter();
                let arrived = arrived.map(|slot| group * fan_in + u64::from(slot));
                // A stranger may have written packets that the run does not have.
                let is_known = |leaf: &u64| record.packets.is_none_or(|packets| *leaf < packets);
                leaves.extend(arrived.filter(is_known));
            }
            // How much of a run has been sent is unknown while it is being submitted, and may be little of a very long one: a
            // stretch without arrivals is taken for the end.
            let is_open = groups.is_none() || !snapshot.submitted;
            if is_open && leaves.len() == before {
                return Ok(leaves);
            }
            first = end;
        }
    }
}

/// The number of items in these packets, given in ascending order.
pub(super) fn items_of(record: &RunRecord, packets: Vec<u64>) -> u64 {
    let (length, all) = (record.array_length, record.packets);
    match (length, all) {
        // They were cut short for a backend's size limit.
        (Some(length), Some(all)) if all > 0 && record.plan.packets(length) != all => {
            let packets = packets.len() as u128;
            (u128::from(length) * packets / u128::from(all)) as u64
        }
        _ => record.plan.items(packets, length.unwrap_or(u64::MAX)),
    }
}
