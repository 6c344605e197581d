//! A deployment with keys believes only what bears a tag by one of them, in the place for which it was written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod format;
mod length;
mod letters;
mod messages;
mod rotation;
mod sizes;
mod stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use catchment::queue::Outgoing;
use catchment::scratchpad::{GroupId, Members, Scratchpad};
use catchment::{Backend, Codec, DeadLetter, Deployment, Key, Keys, Pipeline, Stage, permanent};
use futures::TryStreamExt;

use common::*;

const MINUTE: Duration = Duration::from_secs(60);

const KEY: Key = Key::new([7; 32]);
const OTHER: Key = Key::new([8; 32]);

#[cfg(feature = "postcard")]
const CODECS: &[Codec] = &[Codec::Json, Codec::Postcard];
#[cfg(not(feature = "postcard"))]
const CODECS: &[Codec] = &[Codec::Json];

const UNSIGNED: &str = "the message cannot be read: it has no tag at its beginning, and everything of this deployment is signed";
const FORGED: &str = "the message cannot be read: its tag does not verify: it was altered, belongs elsewhere, or was signed with none of this deployment's keys";

/// A deployment without keys, whose functions count their calls: each item is doubled, one more is added, and the sum is
/// the result. 13 fails.
struct Plain {
    deployment: Deployment<u64, u64>,
    calls: Arc<AtomicU64>,
}

impl Plain {
    fn new(name: &str, backend: Backend, codec: Codec) -> Self {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let double = move |n: u64| {
            counted.fetch_add(1, SeqCst);
            match n {
                13 => Err(permanent("it is thirteen")),
                n => Ok(n * 2),
            }
        };
        let items = Pipeline::new()
            .try_map(double)
            .with(Stage::named("double").packet_size(1))
            .map(|n| n + 1)
            .with(Stage::named("next"));
        let sum = items.reduce(|| 0, |a, b| a + b);
        let sum = sum.with(Stage::named("sum").fan_in(3)).codec(codec);
        Self {
            deployment: sum.deploy(name, backend).unwrap(),
            calls,
        }
    }

    fn signed(self, keys: impl Into<Keys>) -> Deployment<u64, u64> {
        self.deployment.signed(keys)
    }
}

fn json(name: &str, store: &Store) -> Plain {
    Plain::new(name, store.backend(), Codec::Json)
}

/// The bodies on a queue, which are taken off it.
async fn taken(store: &Store, queue: &str) -> Vec<Bytes> {
    let queue = store.queue(queue).await;
    let deliveries = queue.receive(100, Duration::ZERO).await.unwrap();
    let bodies = deliveries.iter().map(|delivery| delivery.body.clone());
    let bodies = bodies.collect();
    let receipts = deliveries.into_iter().map(|delivery| delivery.receipt);
    queue.acknowledge(receipts.collect()).await.unwrap();
    bodies
}

async fn put(store: &Store, queue: &str, bodies: impl IntoIterator<Item = Bytes>) {
    let queue = store.queue(queue).await;
    let messages = bodies.into_iter().map(Outgoing::new);
    queue.send(messages.collect()).await.unwrap();
}

async fn letters(deployment: &Deployment<u64, u64>) -> Vec<DeadLetter> {
    let letters = deployment.dead_letters().stream();
    letters.try_collect().await.unwrap()
}

/// All dead letters are of nobody's run, and say nothing but this.
async fn all_buried(deployment: &Deployment<u64, u64>, count: usize, errors: &[&str]) {
    let letters = letters(deployment).await;
    assert_eq!(letters.len(), count);
    for letter in letters {
        assert!(errors.contains(&&*letter.error), "{letter:?}");
        let nobodys = (letter.run, letter.message, letter.item, letter.attempts);
        assert_eq!(nobodys, (None, None, None, Vec::new()));
    }
}

/// The group of all packets of a run of up to two items.
async fn group(store: &Store, deployment: &Deployment<u64, u64>, run: &str) -> GroupId {
    let record = store.recorded(deployment, run).await.record;
    GroupId::new(record.key(), "sum", 1, 0)
}

/// The token of a run, which a reader of its messages knows.
async fn generation(store: &Store, deployment: &Deployment<u64, u64>, run: &str) -> String {
    let record = store.recorded(deployment, run).await.record;
    record.generation.to_string()
}

/// The stored bytes in the slots of that group.
async fn slots(store: &Store, deployment: &Deployment<u64, u64>, run: &str) -> Vec<Bytes> {
    let group = group(store, deployment, run).await;
    let bound = store.scratchpad.bind(deployment.name()).unwrap();
    match bound.members(&group).await.unwrap() {
        Members::Present { values, .. } => values.into_iter().map(|(_, value)| value).collect(),
        other => panic!("{other:?}"),
    }
}
