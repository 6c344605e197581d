//! A scratchpad in this process.

mod failures;
mod groups;
mod index;
mod ranges;
mod runs;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use self::index::Index;
use self::runs::Run;
use super::lock;
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::scratchpad::{GroupId, GroupState, Scratchpad};

const SHARDS: usize = 16;
const DEFAULT_RETENTION: Duration = Duration::from_secs(60 * 60);

/// A scratchpad in this process. A clone is another handle on the same store.
///
/// It keeps the contract of [`Scratchpad`], and drops what is no longer needed: values when their
/// group is retired, a run's whole tree when the run is done or cancelled. The run itself, with its
/// result and its failures, is removed when its retention on tokio's clock ends:
///
/// - one hour after it was done, was cancelled or had its last failure or write;
///   [`retention`](MemoryScratchpad::retention) changes that time;
/// - one minute after its result was taken, unless that hour ends sooner;
/// - for a run that has not ended, one day after the last write.
///
/// Runs whose time is up are removed when the next one begins, or when runs are listed.
#[derive(Clone)]
pub struct MemoryScratchpad {
    store: Arc<Store>,
    /// One store per deployment, so that two deployments may use the same run ids.
    deployments: Arc<Mutex<HashMap<String, Arc<Store>>>>,
    retention: Duration,
}

#[derive(Debug, Default)]
struct Store {
    hasher: RandomState,
    /// The runs, spread over several locks by the hash of their ids.
    shards: [Mutex<HashMap<RunId, Run>>; SHARDS],
    /// The order of lists. Locked while the shard of the run that it is updated for is locked,
    /// never the other way round.
    index: Mutex<Index>,
    /// When to check which run's age. Only the entry at a run's `due` time is valid.
    due: Mutex<BinaryHeap<Reverse<(Instant, RunId)>>>,
}

/// Without what it stores, which is the application's own.
impl std::fmt::Debug for MemoryScratchpad {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MemoryScratchpad")
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
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

    /// Sets how long ended runs are kept. Each handle applies its own retention to the runs it
    /// writes to.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    fn shard(&self, id: &RunId) -> MutexGuard<'_, HashMap<RunId, Run>> {
        let shard = self.store.hasher.hash_one(id) as usize % SHARDS;
        #[expect(
            clippy::indexing_slicing,
            reason = "the remainder is below the number of shards"
        )]
        lock(&self.store.shards[shard])
    }

    fn read<T>(&self, id: &RunId, read: impl FnOnce(&Run) -> T) -> Option<T> {
        self.shard(id).get(id).map(read)
    }

    fn write<T>(&self, id: &RunId, write: impl FnOnce(&mut Run) -> T) -> Option<T> {
        self.write_if(id, |_| true, write)
    }

    fn write_if<T>(
        &self,
        id: &RunId,
        is_meant: impl FnOnce(&Run) -> bool,
        write: impl FnOnce(&mut Run) -> T,
    ) -> Option<T> {
        let now = Instant::now();
        let mut shard = self.shard(id);
        let run = shard.get_mut(id)?;
        if !is_meant(run) {
            return None;
        }
        if !run.is_over() {
            run.written = now;
        }
        let before = run.state();
        let value = write(run);
        let after = run.state();
        if before != after {
            lock(&self.store.index).update(run.place(), Some(before), Some(after));
        }
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

    /// Changes the run of this generation.
    fn write_key<T>(&self, key: &RunKey, write: impl FnOnce(&mut Run) -> T) -> Option<T> {
        self.write_if(&key.id, |run| run.is(key), write)
    }

    /// Reads the run of this generation.
    fn read_key<T>(&self, key: &RunKey, read: impl FnOnce(&Run) -> T) -> Option<T> {
        self.read(&key.id, |run| run.is(key).then(|| read(run)))
            .flatten()
    }

    /// Changes a group of a run that is not over.
    fn write_group(
        &self,
        group: &GroupId,
        write: impl FnOnce(&mut Run) -> GroupState,
    ) -> GroupState {
        self.write_key(&group.run, |run| (!run.is_over()).then(|| write(run)))
            .flatten()
            .unwrap_or_else(GroupState::gone)
    }

    /// Removes the runs whose retention has ended. Each costs two operations on a heap.
    fn sweep(&self, now: Instant) {
        while let Some((at, id)) = self.next_due(now) {
            let mut shard = self.shard(&id);
            let Some(run) = shard.get_mut(&id).filter(|run| run.due == at) else {
                continue;
            };
            let expires = run.expires(self.retention);
            if expires <= now {
                let removed = shard.remove(&id);
                if let Some(run) = &removed {
                    lock(&self.store.index).update(run.place(), Some(run.state()), None);
                }
                drop(shard);
                drop(removed);
            } else {
                run.due = expires;
                drop(shard);
                lock(&self.store.due).push(Reverse((expires, id)));
            }
        }
    }

    fn next_due(&self, now: Instant) -> Option<(Instant, RunId)> {
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
}
