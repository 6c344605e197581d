//! Packets that have outlived processes: one item at a time, each on record before it begins.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::queue::QueueOptions;
use catchment::scratchpad::{Beginning, DeliveryId};
use catchment::{BoxError, Deployment, Pipeline, permanent};
use serde::{Deserialize, Serialize};

use crate::gate::{Gate, Opens, pass};
use crate::store::{Act, Call, On, Store, soon};
use crate::{HOUR, SECOND, skipping, waiting};

/// Makes suspects of all messages of a stage: each has been delivered this many times to processes that died.
pub(crate) async fn outlive<I, R>(
    store: &Store,
    deployment: &Deployment<I, R>,
    stage: &str,
    run: &str,
    times: u32,
) {
    use catchment::queue::Queues;
    let name = format!("{}--{stage}", deployment.name());
    let options = QueueOptions::default();
    let queue = store.queues.open(&name, &options).await.unwrap();
    for _ in 0..times {
        let deliveries = queue.receive(1_000, SECOND).await.unwrap();
        let receipts = deliveries.into_iter().map(|delivery| delivery.receipt);
        let receipts: Vec<_> = receipts.collect();
        assert!(!receipts.is_empty());
        for packet in 0..receipts.len() {
            note(store, deployment.name(), stage, run, packet).await;
        }
        queue
            .release(receipts, std::time::Duration::ZERO)
            .await
            .unwrap();
    }
}

async fn note(store: &Store, deployment: &str, stage: &str, run: &str, packet: usize) {
    use catchment::scratchpad::{Failures, Scratchpad};
    let bound = store.scratchpad.bind(deployment).unwrap();
    let packet = format!("packet {packet}");
    let run = bound
        .status(&run.into())
        .await
        .unwrap()
        .unwrap()
        .record
        .key();
    let beginning = Beginning::new(run, stage, packet, DeliveryId::random());
    Failures::note_beginning(&*bound, &beginning).await.unwrap();
}

/// What is on record as at work, and each call of an item that is not.
#[derive(Clone, Default)]
struct Watched {
    at: Arc<Mutex<Option<u64>>>,
    calls: Arc<Mutex<Vec<u64>>>,
    unnoted: Arc<Mutex<Vec<u64>>>,
}

impl Watched {
    fn hook(&self) -> Arc<On<impl Fn(&Call<'_>) -> Act + Send + Sync + 'static>> {
        let at = Arc::clone(&self.at);
        Arc::new(On(move |call: &Call<'_>| {
            if let Call::NoteBeginning(beginning) = call
                && let Some(item) = beginning.item
            {
                *at.lock().unwrap() = Some(item);
            }
            Act::Go
        }))
    }

    fn call(&self, item: u64) {
        self.calls.lock().unwrap().push(item);
        if *self.at.lock().unwrap() != Some(item) {
            self.unnoted.lock().unwrap().push(item);
        }
    }
}

/// A suspect whose item 0 has to wait for longer than its message may be kept.
async fn waits_long(is_async: bool) {
    let watched = Watched::default();
    let (seen, tries) = (watched.clone(), AtomicU32::new(0));
    let call = move |n: u64| {
        seen.call(n);
        match n == 0 && tries.fetch_add(1, SeqCst) < 2 {
            true => Err(BoxError::from("not yet")),
            false => Ok(n),
        }
    };
    let options = waiting(skipping(4).packet_size(3)).visibility_timeout(SECOND);
    let items = Pipeline::new();
    let items = match is_async {
        true => items.then(move |n: u64| std::future::ready(call(n))),
        false => items.try_map(call),
    };
    let pipeline = items.with(options).collect();
    let store = Store::new();
    let deployment = pipeline
        .deploy("apart", store.hooked(watched.hook()))
        .unwrap();
    let run = deployment.submit_as("run", 0..3).await.unwrap();
    outlive(&store, &deployment, "work", "run", 2).await;
    let worker = deployment.worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    worker.shutdown().await;
    assert_eq!(outcome.value, [0, 1, 2]);
    let (calls, unnoted) = (
        watched.calls.lock().unwrap(),
        watched.unnoted.lock().unwrap(),
    );
    assert!(unnoted.is_empty(), "{unnoted:?} of the calls {calls:?}");
    let of_first = calls.iter().filter(|item| **item == 0).count();
    assert_eq!(of_first, 3);
}

#[tokio::test(start_paused = true)]
async fn a_suspects_items_are_on_record_though_one_waits_long() {
    waits_long(false).await;
}

/// Once a fault: an asynchronous item that has to wait for too long is tried again at once, while another item is on record: if it
/// ends its process then, that one is blamed.
#[tokio::test(start_paused = true)]
async fn a_suspects_asynchronous_items_are_on_record_though_one_waits_long() {
    waits_long(true).await;
}

/// A suspect, one of whose outputs is not taken by the reduction.
async fn not_taken(is_async: bool, for_good: bool) {
    let watched = Watched::default();
    let (seen, folds) = (watched.clone(), AtomicU32::new(0));
    let options = skipping(4).packet_size(3);
    let items = Pipeline::new();
    let call = move |n: u64| {
        seen.call(n);
        Ok::<_, BoxError>(vec![n])
    };
    let items = match is_async {
        true => items.then(move |n: u64| std::future::ready(call(n))),
        false => items.try_map(call),
    };
    let pipeline = items
        .with(options)
        .try_reduce(Vec::new, move |mut all, next| {
            if next == [1] && (for_good || folds.fetch_add(1, SeqCst) == 0) {
                return match for_good {
                    true => Err(BoxError::from(permanent("not this one"))),
                    false => Err("not yet".into()),
                };
            }
            all.extend(next);
            Ok(all)
        });
    let store = Store::new();
    let deployment = pipeline
        .deploy("apart", store.hooked(watched.hook()))
        .unwrap();
    let run = deployment.submit_as("run", 0..3).await.unwrap();
    outlive(&store, &deployment, "work", "run", 2).await;
    let worker = deployment.worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    worker.shutdown().await;
    let expected: &[u64] = if for_good { &[0, 2] } else { &[0, 1, 2] };
    assert_eq!(outcome.value, expected);
    let (calls, unnoted) = (
        watched.calls.lock().unwrap(),
        watched.unnoted.lock().unwrap(),
    );
    assert!(unnoted.is_empty(), "{unnoted:?} of the calls {calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspects_items_are_on_record_though_the_sink_refuses_one_once() {
    not_taken(false, false).await;
}

/// Once a fault: they run again in one turn, and the last one is on record.
#[tokio::test(start_paused = true)]
async fn a_suspects_items_are_on_record_though_the_sink_refuses_one_for_good() {
    not_taken(false, true).await;
}

/// Once a fault, likewise.
#[tokio::test(start_paused = true)]
async fn a_suspects_asynchronous_items_are_on_record_though_the_sink_refuses_one_once() {
    not_taken(true, false).await;
}

/// Once a fault, likewise.
#[tokio::test(start_paused = true)]
async fn a_suspects_asynchronous_items_are_on_record_though_the_sink_refuses_one_for_good() {
    not_taken(true, true).await;
}

/// An item whose clone hangs once.
#[derive(Debug, Serialize, Deserialize)]
struct Slow(u64);

static HANGS: AtomicBool = AtomicBool::new(false);
static GATE: Mutex<Option<Gate>> = Mutex::new(None);

impl Clone for Slow {
    fn clone(&self) -> Self {
        if self.0 == 1 && HANGS.swap(false, SeqCst) {
            let gate = GATE.lock().unwrap().clone().unwrap();
            gate.hold();
        }
        Self(self.0)
    }
}

/// It counts as done at first, but its packet has failed as a whole.
#[tokio::test(start_paused = true)]
async fn a_suspects_item_that_cannot_be_had_is_not_lost() {
    let (gate, mut holds) = Gate::new();
    let _opens = Opens(gate.clone());
    *GATE.lock().unwrap() = Some(gate);
    HANGS.store(true, SeqCst);
    let options = skipping(4).packet_size(3).visibility_timeout(10 * HOUR);
    let pipeline = Pipeline::new()
        .map(|slow: Slow| slow.0)
        .with(options.timeout(20 * SECOND))
        .collect();
    let store = Store::new();
    let deployment = pipeline.deploy("apart", store.backend()).unwrap();
    let run = deployment.submit_as("run", (0..3).map(Slow)).await.unwrap();
    outlive(&store, &deployment, "work", "run", 2).await;
    let worker = deployment.worker().start();
    soon(holds.recv()).await.unwrap();
    pass(20 * SECOND).await;
    let outcome = soon(run.outcome()).await.unwrap();
    worker.shutdown().await;
    assert_eq!((outcome.contains, outcome.skipped), (3, 0));
    assert_eq!(outcome.value, [0, 1, 2]);
}
