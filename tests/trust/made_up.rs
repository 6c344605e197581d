//! A made-up generation is of the right form, and of no run. No function of the user's runs on what bears it.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use catchment::{Backend, Pipeline, RunState, Stage};
use serde_json::json;

use crate::common::*;
use crate::stranger::*;

/// The last three digits are the fan-in, 32.
const MADE_UP: &str = "0123456789abc020";

/// Doubles and adds up, one item per packet, and writes down on which items the function ran.
fn noting(backend: Backend, seen: &Arc<Mutex<Vec<i64>>>, is_async: bool) -> Adder {
    let seen = Arc::clone(seen);
    let stage = Stage::named("double").packet_size(1);
    let double = move |n: i64| {
        seen.lock().unwrap().push(n);
        n * 2
    };
    let items = Pipeline::new();
    let items = match is_async {
        true => items.then(move |n| ok(double(n))).with(stage),
        false => items
            .try_map(move |n| Ok::<_, String>(double(n)))
            .with(stage),
    };
    items
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"))
        .deploy("adder", backend)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_function_runs_on_a_message_of_a_made_up_generation() {
    for is_async in [false, true] {
        let (store, seen) = (Store::new(), Arc::default());
        let adder = noting(store.backend(), &seen, is_async);
        let run = adder.submit_as("victim", 1..=5).await.unwrap();
        let tapped = Tapped::new(&store, "adder--double").await;
        let mut messages = tapped.take().await;
        let made_up = json!({ "generation": MADE_UP, "packetValue": [1_000] });
        let unknown = json!({ "arrayId": "nobody's", "packetValue": [1_000] });
        let forged = [made_up, unknown].map(|fields| changed(&messages[0], fields));
        messages.splice(0..0, forged.into_iter().cycle().take(20));
        tapped.put(&messages).await;
        assert_eq!(worked_off(&adder, &store, &run).await, 30);
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        let status = run.status().await.unwrap();
        assert_eq!((status.state, status.messages_failed), (RunState::Done, 0));
    }
}

/// Counts how often the outline of a run was read.
#[derive(Default)]
struct Looks(AtomicUsize);

#[async_trait]
impl Hook for Looks {
    async fn before(&self, call: &Call<'_>) -> Act {
        if matches!(call, Call::Outline) {
            self.0.fetch_add(1, SeqCst);
        }
        Act::Go
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_reads_each_run_once_however_many_packets_it_has() {
    let (store, looks) = (Store::new(), Arc::new(Looks::default()));
    let adder = noting(store.hooked(looks.clone()), &Arc::default(), false);
    let worker = adder.worker().start();
    for runs in 1..=3 {
        let run = adder.submit(1..=500).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), 500 * 501);
        assert_eq!(looks.0.load(SeqCst), runs);
    }
    let run = adder.submit_as("victim", 1..=5).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 30);
    worker.shutdown().await;
    looks.0.store(0, SeqCst);

    let run = adder.submit_as("next", 1..=5).await.unwrap();
    let tapped = Tapped::new(&store, "adder--double").await;
    let mut messages = tapped.take().await;
    let forged = changed(&messages[0], json!({ "generation": MADE_UP }));
    messages.extend(std::iter::repeat_n(forged, 500));
    tapped.put(&messages).await;
    assert_eq!(worked_off(&adder, &store, &run).await, 30);
    assert_eq!(
        looks.0.load(SeqCst),
        2,
        "once for each of the two generations"
    );
}
