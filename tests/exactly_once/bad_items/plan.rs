//! Runs with bad items: what each item does, and what is to come of it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use catchment::queue::Delivery;
use catchment::{
    Backend, Backoff, BoxError, Context, Deployment, OnFailure, Pipeline, Stage, permanent,
};
use serde_json::Value;

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
    /// How often each item's packet was sent: a process that dies before it has put on record that it has sent a packet is
    /// followed by one that sends it again.
    copies: Vec<AtomicU32>,
    /// How often each item's packet was delivered.
    deliveries: Vec<AtomicU32>,
    /// Of those, the deliveries to processes that have ended, at the most: of each copy one to each process.
    to_the_dead: Vec<AtomicU32>,
    /// How often messages were given back, and how often buried ones were put back.
    pub(super) hand_backs: AtomicU32,
    pub(super) redrives: AtomicU32,
    pub(super) problems: Mutex<Vec<String>>,
}

impl Seen {
    pub(super) fn new(plan: Plan) -> Arc<Self> {
        let zeros = || (0..plan.length()).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self {
            calls: zeros(),
            copies: zeros(),
            deliveries: zeros(),
            to_the_dead: zeros(),
            hand_backs: AtomicU32::new(0),
            redrives: AtomicU32::new(0),
            problems: Mutex::default(),
        })
    }

    pub(super) fn calls(&self, item: u64) -> u32 {
        self.calls[item as usize].load(SeqCst)
    }

    /// A process has ended, and another one follows it.
    pub(super) fn process_ended(&self) {
        for (deliveries, copies) in self.to_the_dead.iter().zip(&self.copies) {
            deliveries.fetch_add(copies.load(SeqCst), SeqCst);
        }
    }

    pub(super) fn deliveries(&self, item: u64) -> u32 {
        self.deliveries[item as usize].load(SeqCst)
    }

    /// The deliveries of an item's packet that are explained: one to each process of each copy that there was by its end,
    /// one more of each copy for each time that dead letters were put back, and one more for each message that was given
    /// back.
    pub(super) fn explained(&self, item: u64) -> u32 {
        let load = |counts: &[AtomicU32]| counts[item as usize].load(SeqCst);
        let (redrives, hand_backs) = (self.redrives.load(SeqCst), self.hand_backs.load(SeqCst));
        load(&self.to_the_dead) + load(&self.copies) * (1 + redrives) + hand_backs
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
        match call {
            Call::Send("words--words", messages) => {
                count(&self.seen.copies, messages.iter().map(|sent| &sent.body));
            }
            Call::Release("words--words", _) => {
                self.seen.hand_backs.fetch_add(1, SeqCst);
            }
            _ => {}
        }
        self.yields.before(call).await
    }

    fn received(&self, queue: &str, deliveries: &[Delivery]) {
        if queue == "words--words" {
            let bodies = deliveries.iter().map(|delivery| &delivery.body);
            count(&self.seen.deliveries, bodies);
        }
    }
}

/// Counts packets for each of their items.
fn count<'a>(counts: &[AtomicU32], packets: impl Iterator<Item = &'a Bytes>) {
    for packet in packets {
        let fields: Value = serde_json::from_slice(packet).unwrap();
        let field = |name: &str| fields[name].as_u64().unwrap() as usize;
        let (first, items) = (field("packetOffset"), field("packetContains"));
        for count in &counts[first..first + items] {
            count.fetch_add(1, SeqCst);
        }
    }
}
