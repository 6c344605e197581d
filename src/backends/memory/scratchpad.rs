//! A scratchpad in this process.

mod failures;
mod groups;
mod ranges;
mod run;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use self::run::Run;
use super::lock;
use crate::core::error::{Error, Result};
use crate::core::id::ArrayId;
use crate::scratchpad::{
    Arrival, Begun, Failure, FailureLog, FailureReport, GroupId, GroupState, Members, RunRecord,
    RunSnapshot, Scratchpad,
};

const SHARDS: usize = 16;
const DEFAULT_RETENTION: Duration = Duration::from_secs(60 * 60);

/// A scratchpad in this process. Cloning gives another handle on the same store.
///
/// It keeps the contract of [`Scratchpad`], and lets go of what is no longer needed: values when
/// their group retires, a run's whole tree when the run is done or cancelled. The run itself,
/// its result and its failures included, goes when its time on tokio's clock is up:
///
/// - one hour after it was done, was cancelled or had its last failure or write, which
///   [`retention`](MemoryScratchpad::retention) changes;
/// - one minute after its result was taken, unless that hour ends sooner;
/// - for a run that has not ended, one day after the last write.
///
/// Runs whose time is up are removed when the next one begins.
#[derive(Clone, Debug)]
pub struct MemoryScratchpad {
    store: Arc<Store>,
    /// A store for each deployment, so that two may give their runs the same ids.
    deployments: Arc<Mutex<HashMap<String, Arc<Store>>>>,
    retention: Duration,
}

#[derive(Debug, Default)]
struct Store {
    hasher: RandomState,
    /// The runs, spread over several locks by the hash of their ids.
    shards: [Mutex<HashMap<ArrayId, Run>>; SHARDS],
    /// When to look at which run's age. A run has one entry that counts, at its `due` time.
    due: Mutex<BinaryHeap<Reverse<(Instant, ArrayId)>>>,
}

impl Default for MemoryScratchpad {
    fn default() -> Self {
        Self {
            store: Arc::default(),
            deployments: Arc::default(),
            retention: DEFAULT_RETENTION,
        }
    }
}

impl MemoryScratchpad {
    /// An empty scratchpad.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another time for which ended runs are kept. Each handle applies its own to
    /// the runs it writes to.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    fn shard(&self, id: &ArrayId) -> MutexGuard<'_, HashMap<ArrayId, Run>> {
        let shard = self.store.hasher.hash_one(id) as usize % SHARDS;
        #[expect(
            clippy::indexing_slicing,
            reason = "the remainder is below the number of shards"
        )]
        lock(&self.store.shards[shard])
    }

    fn read<T>(&self, id: &ArrayId, read: impl FnOnce(&Run) -> T) -> Option<T> {
        self.shard(id).get(id).map(read)
    }

    fn write<T>(&self, id: &ArrayId, write: impl FnOnce(&mut Run) -> T) -> Option<T> {
        let now = Instant::now();
        let mut shard = self.shard(id);
        let run = shard.get_mut(id)?;
        if !run.is_over() {
            run.written = now;
        }
        let value = write(run);
        let expires = run.expires(self.retention);
        let is_earlier = expires < run.due;
        if is_earlier {
            run.due = expires;
        }
        drop(shard);
        if is_earlier {
            lock(&self.store.due).push(Reverse((expires, id.clone())));
        }
        Some(value)
    }

    /// A change to the tree of a run that is not over.
    fn write_group(
        &self,
        group: &GroupId,
        write: impl FnOnce(&mut Run) -> GroupState,
    ) -> GroupState {
        self.write(&group.array_id, |run| (!run.is_over()).then(|| write(run)))
            .flatten()
            .unwrap_or_else(GroupState::gone)
    }

    /// Removes the runs whose time is up. The cost of each is that of two steps on a heap.
    fn sweep(&self, now: Instant) {
        while let Some((at, id)) = self.next_due(now) {
            let mut shard = self.shard(&id);
            let Some(run) = shard.get_mut(&id).filter(|run| run.due == at) else {
                continue;
            };
            let expires = run.expires(self.retention);
            if expires <= now {
                let removed = shard.remove(&id);
                drop(shard);
                drop(removed);
            } else {
                run.due = expires;
                drop(shard);
                lock(&self.store.due).push(Reverse((expires, id)));
            }
        }
    }

    fn next_due(&self, now: Instant) -> Option<(Instant, ArrayId)> {
        let mut due = lock(&self.store.due);
        let Reverse((at, _)) = due.peek()?;
        if *at > now {
            return None;
        }
        due.pop().map(|Reverse(next)| next)
    }
}

#[async_trait]
impl Scratchpad for MemoryScratchpad {
    fn bind(&self, deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        let mut deployments = lock(&self.deployments);
        let store = deployments.entry(deployment.to_owned()).or_default();
        Some(Arc::new(Self {
            store: Arc::clone(store),
            ..self.clone()
        }))
    }

    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        let now = Instant::now();
        self.sweep(now);
        let id = &record.array_id;
        let due = match self.shard(id).entry(id.clone()) {
            Entry::Occupied(run) => return Ok(Begun::Existing(Box::new(run.get().snapshot()))),
            Entry::Vacant(place) => place.insert(Run::new(record.clone(), now)).due,
        };
        lock(&self.store.due).push(Reverse((due, id.clone())));
        Ok(Begun::New)
    }

    async fn measure(&self, array_id: &ArrayId, array_length: u64, packets: u64) -> Result<()> {
        self.write(array_id, |run| run.measure(array_length, packets))
            .unwrap_or_else(|| {
                Err(Error::NoSuchRun {
                    array_id: array_id.clone(),
                })
            })
    }

    async fn submitted(&self, array_id: &ArrayId) -> Result<()> {
        self.write(array_id, Run::submitted);
        Ok(())
    }

    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        Ok(self.write_group(group, |run| run.groups.expect(group, expected, root)))
    }

    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        let mut states = Vec::with_capacity(arrivals.len());
        let mut arrivals = arrivals.into_iter().peekable();
        // Neighbours of one run share a look-up. A batch is rarely of more than one.
        while let Some(first) = arrivals.next() {
            let array_id = first.group.array_id.clone();
            let mut next = Some(first);
            let mut stretch = |run: &mut Run| {
                while let Some(arrival) = next.take() {
                    let Arrival { group, slot, value } = arrival;
                    states.push(run.groups.arrive(&group, slot, value));
                    next = arrivals.next_if(|next| next.group.array_id == array_id);
                }
            };
            let known = self.write(&array_id, |run| (!run.is_over()).then(|| stretch(run)));
            if known.flatten().is_none() {
                states.push(GroupState::gone());
            }
        }
        Ok(states)
    }

    async fn members(&self, group: &GroupId) -> Result<Members> {
        let members = self.read(&group.array_id, |run| {
            (!run.is_over()).then(|| run.groups.members(group))
        });
        Ok(members.flatten().unwrap_or(Members::Retired))
    }

    async fn retire(&self, group: &GroupId) -> Result<()> {
        self.write_group(group, |run| {
            run.groups.retire(group);
            GroupState::gone()
        });
        Ok(())
    }

    async fn complete(&self, array_id: &ArrayId, result: Bytes) -> Result<bool> {
        let completed = self.write(array_id, |run| run.complete(result));
        Ok(completed.is_some_and(|(is_first, _groups)| is_first))
    }

    /// A run that is over takes no more failures: its outcome stands.
    async fn record_failure(&self, report: &FailureReport) -> Result<FailureLog> {
        let log = self.write(&report.array_id, |run| {
            if run.is_over() {
                return run.failures.log(&report.stage, &report.message);
            }
            let log = run.failures.record(report);
            if run.failures.has_dead() {
                run.changed.tell();
            }
            log
        });
        Ok(log.unwrap_or_default())
    }

    async fn clear_failure(
        &self,
        array_id: &ArrayId,
        stage: &str,
        message: &str,
        id: Uuid,
    ) -> Result<()> {
        self.write(array_id, |run| run.failures.clear(stage, message, id));
        Ok(())
    }

    async fn failures(&self, array_id: &ArrayId, limit: usize) -> Result<Vec<Failure>> {
        let failures = self.read(array_id, |run| run.failures.list(limit));
        Ok(failures.unwrap_or_default())
    }

    async fn status(&self, array_id: &ArrayId) -> Result<Option<RunSnapshot>> {
        Ok(self.read(array_id, Run::snapshot))
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        let arrived = groups.iter().map(|group| {
            self.read(&group.array_id, |run| run.groups.arrived(group))
                .unwrap_or_default()
        });
        Ok(arrived.collect())
    }

    async fn wait(&self, array_id: &ArrayId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        let until = Instant::now().checked_add(up_to);
        loop {
            // Waiting begins under the lock, so that no change can slip in between.
            let looked = self.read(array_id, |run| (run.snapshot(), run.changed.wait()));
            let Some((snapshot, changed)) = looked else {
                return Ok(None);
            };
            let is_late = until.is_some_and(|until| until <= Instant::now());
            if snapshot.has_ended() || is_late {
                return Ok(Some(snapshot));
            }
            // Changed, removed or late: the loop looks once more.
            match until {
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
            }
        }
    }

    async fn cancel(&self, array_id: &ArrayId) -> Result<bool> {
        let cancelled = self.write(array_id, Run::cancel);
        Ok(cancelled.is_some_and(|(is_cancelled, _groups)| is_cancelled))
    }

    async fn forget(&self, array_id: &ArrayId) -> Result<()> {
        let now = Instant::now();
        self.write(array_id, |run| run.forget(now));
        Ok(())
    }
}
