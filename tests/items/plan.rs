//! What each item's function does at each of its calls, and how often it was called.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use catchment::{BoxError, permanent};

/// As a number of calls: every one.
pub(crate) const ALWAYS: u32 = u32::MAX;

/// What an item's function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    /// An error, at its first calls.
    Fails(u32),
    /// A permanent error, at every call.
    Permanent,
    /// A panic, at its first calls.
    Panics(u32),
    /// No end, at its first calls. For asynchronous functions.
    Hangs(u32),
    /// The end of its process, at its first calls. For asynchronous functions.
    Kills(u32),
}

impl Nature {
    /// The number of its calls that fail, if there are enough of them.
    fn failures(self) -> u32 {
        match self {
            Self::Good | Self::Kills(_) => 0,
            Self::Fails(calls) | Self::Panics(calls) | Self::Hangs(calls) => calls,
            Self::Permanent => ALWAYS,
        }
    }

    /// Whether the item has to be left out.
    pub(crate) fn is_bad(self, attempts: u32) -> bool {
        match self {
            Self::Permanent | Self::Kills(ALWAYS) => true,
            other => other.failures() >= attempts,
        }
    }

    /// The number of calls, if nothing but the item itself makes its function run again.
    pub(crate) fn calls(self, attempts: u32) -> u32 {
        match self {
            Self::Permanent => 1,
            other => other.failures().saturating_add(1).min(attempts),
        }
    }
}

/// The natures of a run's items, by number, and their calls.
#[derive(Debug)]
pub(crate) struct Plan {
    natures: Vec<Nature>,
    calls: Vec<AtomicU32>,
}

impl Plan {
    pub(crate) fn new(natures: impl IntoIterator<Item = Nature>) -> Arc<Self> {
        let natures: Vec<Nature> = natures.into_iter().collect();
        let calls = natures.iter().map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { natures, calls })
    }

    /// All items are good, but for these.
    pub(crate) fn with<const N: usize>(length: u64, others: [(u64, Nature); N]) -> Arc<Self> {
        let nature = |item| others.iter().find(|(other, _)| *other == item);
        Self::new((0..length).map(|item| nature(item).map_or(Nature::Good, |other| other.1)))
    }

    pub(crate) fn length(&self) -> u64 {
        self.natures.len() as u64
    }

    pub(crate) fn nature(&self, item: u64) -> Nature {
        self.natures[item as usize]
    }

    /// The number of calls that an item has had.
    pub(crate) fn calls(&self, item: u64) -> u32 {
        self.calls[item as usize].load(SeqCst)
    }

    pub(crate) fn good(&self, attempts: u32) -> impl Iterator<Item = u64> {
        (0..self.length()).filter(move |item| !self.nature(*item).is_bad(attempts))
    }

    pub(crate) fn bad(&self, attempts: u32) -> Vec<u64> {
        let is_bad = |item: &u64| self.nature(*item).is_bad(attempts);
        (0..self.length()).filter(is_bad).collect()
    }

    /// Counts a call. Returns whether the item misbehaves this time.
    fn misbehaves(&self, item: u64) -> Option<Nature> {
        let number = self.calls[item as usize].fetch_add(1, SeqCst) + 1;
        let nature = self.nature(item);
        match nature {
            Nature::Permanent => true,
            Nature::Kills(calls) => number <= calls,
            other => number <= other.failures(),
        }
        .then_some(nature)
    }

    /// A call of a CPU-bound function.
    pub(crate) fn call(&self, item: u64) -> Result<u64, BoxError> {
        match self.misbehaves(item) {
            None => Ok(item),
            Some(Nature::Permanent) => Err(permanent(format!("item {item} for good")).into()),
            Some(Nature::Panics(_)) => panic!("item {item} panics"),
            Some(_) => Err(format!("item {item} fails").into()),
        }
    }

    /// A call of an asynchronous function. `kill` ends the process.
    pub(crate) async fn called(&self, item: u64, kill: impl Fn()) -> Result<u64, BoxError> {
        match self.misbehaves(item) {
            None => Ok(item),
            Some(Nature::Permanent) => Err(permanent(format!("item {item} for good")).into()),
            Some(Nature::Panics(_)) => panic!("item {item} panics"),
            Some(Nature::Hangs(_)) => pending().await,
            Some(Nature::Kills(_)) => {
                kill();
                pending().await
            }
            Some(_) => Err(format!("item {item} fails").into()),
        }
    }
}
