//! An id that is used again never meets what was left of its first run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::{Deployment, Pipeline, RunState, Stage, permanent};
use tokio::time::advance;

use crate::common::*;
use crate::stranger::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs are forgotten a minute after they have failed, dead letters a month after their burial.
fn forgetful() -> Store {
    Store {
        queues: Arc::new(MemoryQueues::new().retention(30 * DAY)),
        scratchpad: Arc::new(MemoryScratchpad::new().retention(MINUTE)),
    }
}

/// Adds up; numbers above 1 fail until it is fixed.
fn fragile(store: &Store, fixed: &Arc<AtomicBool>) -> Deployment<i64, i64> {
    let is_fixed = Arc::clone(fixed);
    Pipeline::new()
        .try_map(move |n: i64| match n <= 1 || is_fixed.load(SeqCst) {
            true => Ok(n),
            false => Err(permanent("not yet")),
        })
        .with(Stage::named("pass").packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .deploy("sums", store.backend())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_redrive_takes_the_letters_of_its_own_run_only() {
    let (store, fixed) = (forgetful(), Arc::new(AtomicBool::new(false)));
    let sums = fragile(&store, &fixed);
    let worker = sums.worker().start();
    let first = sums.submit_as("daily", [1, 1_000_000]).await.unwrap();
    soon(first.settled()).await.unwrap();
    advance(2 * MINUTE).await;

    let second = sums.submit_as("daily", [1, 20]).await.unwrap();
    soon(second.settled()).await.unwrap();
    assert_eq!(second.status().await.unwrap().state, RunState::Failed);
    assert_eq!(second.dead_letters().await.unwrap().len(), 1);
    fixed.store(true, SeqCst);
    let redriven = second.redrive().await.unwrap();
    assert_eq!(
        redriven.redriven, 1,
        "the first run's letter is not this run's"
    );
    assert_eq!(soon(second.result()).await.unwrap(), 21);
    worker.shutdown().await;
}

/// A person may put any letter back on its queue.
#[tokio::test(start_paused = true)]
async fn a_letter_of_the_first_run_that_goes_back_by_hand_changes_nothing() {
    let (store, fixed) = (forgetful(), Arc::new(AtomicBool::new(false)));
    let sums = fragile(&store, &fixed);
    let worker = sums.worker().start();
    let first = sums.submit_as("daily", [1, 1_000_000]).await.unwrap();
    soon(first.settled()).await.unwrap();
    worker.shutdown().await;
    advance(2 * MINUTE).await;

    let second = sums.submit_as("daily", [1, 20]).await.unwrap();
    fixed.store(true, SeqCst);
    let queue = store.queue("sums--pass").await;
    let letters = queue.dead_letters(None, 10).await.unwrap().items;
    assert_eq!(letters.len(), 1);
    queue.redrive(letters).await.unwrap();
    // It fails once more, too: that is no failure of this run's.
    let tapped = Tapped::new(&store, "sums--pass").await;
    let mut messages = tapped.take().await;
    messages.sort_by_key(|message| message["packetValue"] != serde_json::json!([1_000_000]));
    let broken = changed(
        &messages[0],
        serde_json::json!({ "packetValue": ["no number"] }),
    );
    messages.insert(0, broken);
    assert_eq!(messages.len(), 4);
    tapped.put(&messages).await;
    assert_eq!(worked_off(&sums, &store, &second).await, 21);
    let status = second.status().await.unwrap();
    assert_eq!((status.state, status.messages_failed), (RunState::Done, 0));
    assert_eq!(second.failures().await.unwrap().len(), 0);
}

/// A repeated submission is the same run, whatever becomes of the process that began it.
#[tokio::test(start_paused = true)]
async fn a_submission_that_is_repeated_goes_on_with_its_own_run() {
    let store = Store::new();
    let adder = adder(&store);
    let run = adder.submit_as("daily", 1..=5).await.unwrap();
    let tapped = Tapped::new(&store, "adder--double").await;
    let sent = tapped.read().await;
    let again = adder.submit_as("daily", 1..=5).await.unwrap();
    assert_eq!(tapped.read().await, sent, "nothing was sent again");
    assert_eq!(worked_off(&adder, &store, &run).await, 30);
    assert_eq!(soon(again.result()).await.unwrap(), 30);
}
