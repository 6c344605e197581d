//! Large bodies are read off the runtime's threads, which others' requests and heartbeats need.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use catchment::{Backend, Pipeline};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use crate::client::Client;

thread_local! {
    /// Whether this thread is the one of the test's runtime.
    static IS_RUNTIME: Cell<bool> = const { Cell::new(false) };
}

/// Items that were read on a runtime's thread, and elsewhere.
static THERE: AtomicUsize = AtomicUsize::new(0);
static ASIDE: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Debug, Serialize)]
struct Watched(u64);

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counter = match IS_RUNTIME.get() {
            true => &THERE,
            false => &ASIDE,
        };
        counter.fetch_add(1, SeqCst);
        u64::deserialize(deserializer).map(Self)
    }
}

fn counted() -> (usize, usize) {
    (THERE.swap(0, SeqCst), ASIDE.swap(0, SeqCst))
}

#[tokio::test]
async fn large_bodies_and_results_are_read_off_the_runtimes_threads() {
    const ITEMS: usize = 30_000;
    IS_RUNTIME.set(true);
    let listed =
        Pipeline::new()
            .map(|item: Watched| vec![item])
            .reduce(Vec::new, |mut all, more| {
                all.extend(more);
                all
            });
    let listed = listed.deploy("listed", Backend::memory()).unwrap();
    let client = Client::new(listed.router());
    let numbers: Vec<u64> = (0..ITEMS as u64).collect();

    // Nobody works yet: whatever is read is read by the request.
    let reply = client.submit_as("a", json!(numbers).to_string()).await;
    reply.is(202, "accepted");
    // Once to find what is wrong, and once to submit.
    assert_eq!(counted(), (0, 2 * ITEMS));

    let worker = listed.worker().start();
    assert_eq!(listed.attach("a").result().await.unwrap().len(), ITEMS);
    worker.shutdown().await;
    counted();
    let reply = client.get("/runs/a/result").await;
    let result = reply.is(200, "success").data()["result"].as_array();
    assert_eq!(result.map(Vec::len), Some(ITEMS));
    assert_eq!(counted(), (0, ITEMS));
}
