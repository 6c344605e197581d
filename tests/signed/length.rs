//! A writer to the store cannot end a run with a part of its items: the run's length is signed.

use std::sync::Mutex;

use async_trait::async_trait;
use catchment::scratchpad::{Checkpoint, Fingerprint};
use catchment::{Run, RunState};
use futures::stream;
use tokio::time::sleep;

use super::*;

/// Takes the submitter's place: what says how long the run is does not reach the store, and something else does.
struct Shortened(Mutex<bool>);

#[async_trait]
impl Hook for Shortened {
    async fn before(&self, call: &Call<'_>) -> Act {
        let is_length = matches!(call, Call::Measure | Call::Expect(_) | Call::Submitted);
        match is_length && *self.0.lock().unwrap() {
            true => Act::Swallow,
            false => Act::Go,
        }
    }
}

/// A stream of five items, of which the store says that they are `length`.
async fn shortened(keys: Keys, length: u64) -> (Store, Run<u64>) {
    let store = Store::new();
    let hook = Arc::new(Shortened(Mutex::new(true)));
    let sent = Plain::new("adder", store.hooked(hook), Codec::Json).signed(keys.clone());
    let sent = sent.submit_stream_as("run", stream::iter([1, 2, 3, 4, 5]));
    sent.await.unwrap();
    let adder = Plain::new("adder", store.backend(), Codec::Json).signed(keys);
    let key = store.recorded(&adder, "run").await.record.key();
    let bound = store.scratchpad.bind("adder").unwrap();
    let end = Checkpoint::new(length, length, Fingerprint::default());
    bound.measure(&key, &end).await.unwrap();
    let group = GroupId::new(key, "sum", 1, 0);
    // Each of them may be the one that completes the group.
    bound.expect(&group, length as u32, true).await.unwrap();
    let worker = adder.worker().start();
    sleep(10 * MINUTE).await;
    worker.shutdown().await;
    (store, adder.attach("run"))
}

#[tokio::test(start_paused = true)]
async fn a_run_does_not_end_with_a_part_of_its_items() {
    let (_, run) = shortened(Keys::new(KEY), 2).await;
    let status = run.status().await.unwrap();
    assert_eq!(status.state, RunState::Failed, "{status:?}");
    let error = status.failure.unwrap().error;
    let said = "cannot decode the signed length of run run: ";
    assert!(error.starts_with(said), "{error}");
}

/// It is the tag that is missing: the run would end so without it.
#[tokio::test(start_paused = true)]
async fn who_accepts_the_unsigned_believes_the_store() {
    let store = Store::new();
    let adder = json("adder", &store).signed(Keys::new(KEY).accept_unsigned());
    let plain = json("adder", &store).deployment;
    let run = plain.submit_as("run", [1, 2]).await.unwrap();
    let worker = adder.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 8);
    worker.shutdown().await;
}

/// Whatever the submission knows beforehand.
#[tokio::test(start_paused = true)]
async fn runs_of_all_lengths_end_with_their_signed_length() {
    for codec in CODECS {
        for length in [0_u64, 1, 2, 3, 9, 10] {
            let store = Store::new();
            let adder = Plain::new("adder", store.backend(), *codec).signed(KEY);
            let worker = adder.worker().start();
            let items: Vec<u64> = (20..20 + length).collect();
            let sum = items.iter().map(|n| n * 2 + 1).sum::<u64>();
            let known = adder.submit(items.clone()).await.unwrap();
            let streamed = adder.submit_stream(stream::iter(items)).await.unwrap();
            for run in [known, streamed] {
                assert_eq!(soon(run.result()).await.unwrap(), sum, "{length}");
            }
            worker.shutdown().await;
        }
    }
}
