//! Runs with bad items: what each item does, and what is to come of it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use catchment::{
    Backend, Backoff, BoxError, Context, Deployment, OnFailure, Pipeline, Stage, permanent,
};

use super::super::Input;
use crate::common::*;

/// What becomes of bad items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Policy {
    /// They are left out.
    Skip,
    /// They are left out, until their function is fixed: from then on there are no others.
    SkipUntilMended,
    /// They fail the run, which is redriven once the function is fixed.
    Fail,
    /// All of them are tolerated.
    TolerateAll,
    /// All but one are tolerated, so that the run fails until the function is fixed.
    TolerateLess,
}

/// What the function does with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    Good,
    /// An error, at its first call.
    Once,
    /// An error, until the function is fixed.
    Always,
    /// The same, with an error that is permanent.
    Permanent,
}

/// Bad items and good ones in each packet, whether it has two items or three. The first item is bad.
const NATURES: [Nature; 6] = [
    Nature::Always,
    Nature::Once,
    Nature::Permanent,
    Nature::Good,
    Nature::Once,
    Nature::Good,
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) policy: Policy,
    /// Whether failed items mostly wait for longer than their packet may be kept, so that it goes
    /// back to its queue.
    pub(super) goes_back: bool,
    pub(super) is_async: bool,
    pub(super) sealed_first: bool,
    pub(super) packets: u64,
    pub(super) packet_size: u32,
    pub(super) fan_in: u32,
    pub(super) attempts: u32,
}

impl Plan {
    /// The last packet is full if the number of packets is odd.
    pub(super) fn length(self) -> u64 {
        self.packets * u64::from(self.packet_size) - u64::from(self.packets.is_multiple_of(2))
    }

    pub(super) fn input(self) -> Input {
        match self.sealed_first {
            true => Input::List,
            false => Input::Stream,
        }
    }

    pub(super) fn nature(item: u64) -> Nature {
        NATURES[item as usize % NATURES.len()]
    }

    pub(super) fn is_bad(item: u64) -> bool {
        matches!(Self::nature(item), Nature::Always | Nature::Permanent)
    }

    pub(super) fn bad(self) -> Vec<u64> {
        (0..self.length()).filter(|n| Self::is_bad(*n)).collect()
    }

    /// Whether the function is fixed in the process with this number, counted from 0, and in the
    /// last one.
    pub(super) fn is_mended_in(self, process: usize) -> bool {
        match self.policy {
            Policy::Skip | Policy::TolerateAll => false,
            Policy::SkipUntilMended | Policy::Fail | Policy::TolerateLess => process > 0,
        }
    }

    /// Whether the run may fail, until the function is fixed.
    pub(super) fn may_fail(self) -> bool {
        matches!(self.policy, Policy::Fail | Policy::TolerateLess)
    }

    fn on_failure(self) -> OnFailure {
        let bad = self.bad().len() as u64;
        match self.policy {
            Policy::Skip | Policy::SkipUntilMended => OnFailure::Skip,
            Policy::Fail => OnFailure::Fail,
            Policy::TolerateAll => OnFailure::Tolerate(bad),
            Policy::TolerateLess => OnFailure::Tolerate(bad - 1),
        }
    }

    /// As a process has it.
    pub(super) fn deploy(
        self,
        backend: Backend,
        seen: &Arc<Seen>,
        is_mended: bool,
    ) -> Deployment<u64, String> {
        let minutes = Duration::from_secs(2 * 60);
        let backoff = match self.goes_back {
            true => Backoff::exponential(minutes, minutes),
            false => Backoff::none(),
        };
        let words = Stage::named("words")
            .attempts(self.attempts)
            .backoff(backoff)
            .packet_size(self.packet_size)
            .on_failure(self.on_failure());
        let whole = Stage::named("whole")
            .attempts(1_000)
            .backoff(Backoff::none())
            .fan_in(self.fan_in);
        let (seen, attempts) = (Arc::clone(seen), self.attempts);
        let call = move |n: u64, attempt: u32| seen.call(n, attempt, attempts, is_mended);
        let items = Pipeline::new();
        let items = match self.is_async {
            true => items.then_with(move |n: u64, context: Context| {
                let word = call(n, context.attempt());
                async move {
                    // Each takes its time, so that several are under way.
                    tokio::time::sleep(Duration::from_millis(1 + n % 3)).await;
                    word
                }
            }),
            false => {
                items.try_map_with(move |n: u64, context: &Context| call(n, context.attempt()))
            }
        };
        let pipeline = items.with(words).combine(Concat).with(whole);
        pipeline.deploy("words", backend).unwrap()
    }
}

/// What was seen of a run by all of its processes.
pub(super) struct Seen {
    calls: Vec<AtomicU32>,
    /// Messages that were given back, or buried ones that were put back, at the most.
    pub(super) hand_backs: AtomicU32,
    pub(super) redrives: AtomicU32,
    pub(super) problems: Mutex<Vec<String>>,
}

impl Seen {
    pub(super) fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            calls: (0..plan.length()).map(|_| AtomicU32::new(0)).collect(),
            hand_backs: AtomicU32::new(0),
            redrives: AtomicU32::new(0),
            problems: Mutex::default(),
        })
    }

    pub(super) fn calls(&self, item: u64) -> u32 {
        self.calls[item as usize].load(SeqCst)
    }

    pub(super) fn problem(&self, problem: String) {
        self.problems.lock().unwrap().push(problem);
    }

    fn call(&self, n: u64, attempt: u32, most: u32, is_mended: bool) -> Result<String, BoxError> {
        let earlier = self.calls[n as usize].fetch_add(1, SeqCst);
        if attempt > most {
            self.problem(format!("attempt {attempt} at item {n}"));
        }
        match Plan::nature(n) {
            Nature::Once if earlier == 0 => Err(format!("item {n} fails once").into()),
            Nature::Always if !is_mended => Err(format!("item {n} fails").into()),
            Nature::Permanent if !is_mended => {
                Err(permanent(format!("item {n} fails for good")).into())
            }
            _ => Ok(format!("{n} ")),
        }
    }
}

/// A process's calls: each yields to others first, and those that give messages back are counted.
pub(super) struct Counted {
    pub(super) yields: Yields,
    pub(super) seen: Arc<Seen>,
}

#[async_trait]
impl Hook for Counted {
    async fn before(&self, call: &Call<'_>) -> Act {
        if let Call::Release("words--words", _) = call {
            self.seen.hand_backs.fetch_add(1, SeqCst);
        }
        self.yields.before(call).await
    }
}
