//! Attempts are counted by what began, not by what was received.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::backends::memory::MemoryQueues;
use catchment::scratchpad::{Beginning, DeliveryId, Scratchpad};
use catchment::{Backoff, Deployment, OnFailure, permanent};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::*;
use crate::common::*;

/// Somebody receives all messages of a stage and gives them back at once.
async fn look<I, R>(store: &Store, deployment: &Deployment<I, R>, stage: &str) {
    let name = deployment.handler(stage).unwrap().queue_name().to_owned();
    let queue = store.queue(&name).await;
    let seen = queue.receive(1_000, SECOND).await.unwrap();
    assert!(!seen.is_empty());
    let receipts = seen.into_iter().map(|delivery| delivery.receipt);
    let released = queue.release(receipts.collect(), Duration::ZERO).await;
    released.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_that_somebody_looks_at_keep_their_attempts() {
    for attempts in [1, 5] {
        for policy in [OnFailure::Fail, OnFailure::Skip] {
            let store = Store::new();
            let stage = Stage::named("once").attempts(attempts).on_failure(policy);
            let items = Pipeline::new().then(ok::<u64>).with(stage);
            let deployment = sum(items).deploy("looks", store.backend()).unwrap();
            let run = deployment.submit(0..10).await.unwrap();
            for _ in 0..6 {
                look(&store, &deployment, "once").await;
            }
            let worker = deployment.worker().start();
            let outcome = soon(run.outcome()).await.unwrap();
            assert_eq!((outcome.value, outcome.skipped), (45, 0));
            drop(worker);
        }
    }
}

/// No function of the second stage runs on an item that the first one has left out, whatever its message outlives.
#[tokio::test(start_paused = true)]
async fn an_item_without_a_value_ends_no_process() {
    for policy in [OnFailure::Fail, OnFailure::Skip] {
        let store = Store::new();
        let stage = |name| Stage::named(name).attempts(2);
        let items = Pipeline::new()
            .try_map(|n: u64| match n {
                3 => Err(permanent("not this one")),
                n => Ok(n),
            })
            .with(stage("first").packet_size(1).on_failure(OnFailure::Skip))
            .map(|n: u64| n)
            .with(stage("second").on_failure(policy));
        let deployment = sum(items).deploy("empty", store.backend()).unwrap();
        let run = deployment.submit_as("run", 0..5).await.unwrap();
        let worker = deployment.worker().stages(["first"]).start();
        sleep(MINUTE).await;
        worker.shutdown().await;
        let key = store.recorded(&deployment, "run").await.record.key();
        let bound = store.scratchpad.bind("empty").unwrap();
        for _ in 0..4 {
            look(&store, &deployment, "second").await;
            let id = DeliveryId::random();
            let mut beginning = Beginning::new(&key, "second", "packet 3", id);
            beginning.item = Some(3);
            bound.note_beginning(&beginning).await.unwrap();
        }
        let worker = deployment.worker().start();
        let outcome = soon(run.outcome()).await.unwrap();
        assert_eq!((outcome.value, outcome.skipped), (7, 1));
        worker.shutdown().await;
    }
}

/// What is looked at between two attempts is no attempt either: the function is told that this is
/// its second one, and has its third.
#[tokio::test(start_paused = true)]
async fn a_failed_message_that_somebody_looks_at_keeps_the_rest_of_its_attempts() {
    let store = Store::new();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let items = Pipeline::new()
        .then_with(move |n: u64, context| {
            seen.lock().unwrap().push(context.attempt());
            async move {
                match context.attempt() {
                    3 => Ok(n),
                    attempt => Err(format!("attempt {attempt}")),
                }
            }
        })
        .with(Stage::named("third").attempts(3).packet_size(1));
    let deployment = sum(items).deploy("between", store.backend()).unwrap();
    let run = deployment.submit([7]).await.unwrap();
    for attempt in 1..=3 {
        let worker = deployment.worker().start();
        while calls.lock().unwrap().len() < attempt {
            sleep(SECOND / 100).await;
        }
        worker.shutdown().await;
        if attempt < 3 {
            sleep(MINUTE).await;
            for _ in 0..6 {
                look(&store, &deployment, "third").await;
            }
        }
    }
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 7);
    assert_eq!(*calls.lock().unwrap(), [1, 2, 3]);
    drop(worker);
}

/// Workers that are restarted again and again hand back what they had not begun.
#[tokio::test(start_paused = true)]
async fn what_restarting_workers_hand_back_keeps_its_only_attempt() {
    let store = Store::new();
    let begun = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&begun);
    let items = Pipeline::new()
        .then(move |n: u64| {
            count.fetch_add(1, SeqCst);
            async move {
                sleep(SECOND).await;
                ok(n).await
            }
        })
        .with(
            Stage::named("slow")
                .attempts(1)
                .packet_size(1)
                .concurrency(1),
        );
    let deployment = sum(items).deploy("restarts", store.backend()).unwrap();
    let run = deployment.submit(0..10).await.unwrap();
    let mut restarts = 0;
    while run.status().await.unwrap().packets_done < 10 {
        let worker = deployment.worker().prefetch(10).start();
        sleep(SECOND / 2).await;
        worker.shutdown().await;
        restarts += 1;
    }
    assert!(restarts >= 10, "{restarts}");
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    assert_eq!(begun.load(SeqCst), 10);
    drop(worker);
}

/// A first delivery writes nothing down; each later one writes once, and takes back what it did not begin.
#[tokio::test(start_paused = true)]
async fn only_redeliveries_are_written_down() {
    let store = Store::new();
    let notes: Arc<Mutex<BTreeMap<String, Vec<DeliveryId>>>> = Arc::default();
    let noted = Arc::clone(&notes);
    let hook = On(move |call: &Call<'_>| {
        if let Call::NoteBeginning(Beginning {
            message, delivery, ..
        }) = call
        {
            let mut notes = noted.lock().unwrap();
            notes.entry(message.clone()).or_default().push(*delivery);
        }
        Act::Go
    });
    let items = Pipeline::new()
        .then_with(|n: u64, context| async move {
            match n == 3 && context.attempt() < 4 {
                true => Err("not yet"),
                false => Ok(n),
            }
        })
        .with(
            Stage::named("counted")
                .packet_size(1)
                .visibility_timeout(SECOND / 100)
                .backoff(Backoff::exponential(MINUTE, MINUTE)),
        );
    let backend = store.hooked(Arc::new(hook));
    let deployment = sum(items).deploy("written", backend).unwrap();
    let run = deployment.submit(0..10).await.unwrap();
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    drop(worker);
    let notes = notes.lock().unwrap();
    let counts = notes
        .iter()
        .map(|(message, notes)| (message.as_str(), notes.len()));
    assert_eq!(counts.collect::<Vec<_>>(), [("packet 3", 3)]);
}

/// A message that ends its process has neighbours that are at work at the same time. After that has happened twice, each
/// of them runs alone, so that none but the deadly one is lost with it.
#[tokio::test(start_paused = true)]
async fn the_neighbours_of_a_deadly_message_are_not_lost_with_it() {
    for attempts in [1, 2, 3, 5] {
        let store = Store::new();
        let killed = Arc::new(Notify::new());
        let kill = Arc::clone(&killed);
        let items = Pipeline::new()
            .then(move |n: u64| {
                let kill = Arc::clone(&kill);
                async move {
                    sleep(SECOND).await;
                    if n == 7 {
                        kill.notify_one();
                        std::future::pending::<()>().await;
                    }
                    sleep(SECOND).await;
                    ok(n).await
                }
            })
            .with(
                Stage::named("deadly")
                    .packet_size(1)
                    .concurrency(20)
                    .attempts(attempts),
            );
        let deployment = sum(items).deploy("neighbours", store.backend()).unwrap();
        let run = deployment.submit(0..20).await.unwrap();
        let mut deaths = 0;
        let (failure, worker) = loop {
            let worker = deployment.worker().prefetch(20).start();
            tokio::select! {
                result = soon(run.result()) => break (failure(result.unwrap_err()), worker),
                () = killed.notified() => {
                    deaths += 1;
                    drop(worker);
                }
            }
        };
        assert_eq!(
            (deaths, failure.message.as_str()),
            (attempts + 1, "packet 7")
        );
        sleep(5 * MINUTE).await;
        assert_eq!(
            run.status().await.unwrap().packets_done,
            19,
            "{attempts} attempts"
        );
        assert_eq!(
            run.dead_letters().await.unwrap().len(),
            1,
            "{attempts} attempts"
        );
        drop(worker);
    }
}

/// A service that moves messages away by itself tells no run. The engine buries a message shortly before that.
#[tokio::test(start_paused = true)]
async fn a_message_that_the_service_would_move_away_fails_its_run() {
    let store = Store::with_queues(MemoryQueues::new().most_receives(300));
    let items = Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::named("seen").packet_size(1));
    let deployment = sum(items).deploy("moved", store.backend()).unwrap();
    let run = deployment.submit([7]).await.unwrap();
    for _ in 0..297 {
        look(&store, &deployment, "seen").await;
    }
    let worker = deployment.worker().start();
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert!(failure.error.contains("received 298 times"), "{failure}");
    // Redriven, it is another message to the service.
    assert_eq!(soon(run.redrive()).await.unwrap().redriven, 1);
    assert_eq!(soon(run.result()).await.unwrap(), 7);
    drop(worker);
}

/// The last delivery that a service makes is the last attempt.
#[tokio::test(start_paused = true)]
async fn the_last_delivery_of_a_service_is_the_last_attempt() {
    let store = Store::with_queues(MemoryQueues::new().most_receives(2));
    let items = Pipeline::new()
        .then(|n: u64| async move { Err::<u64, _>(format!("no {n}")) })
        .with(Stage::named("seen").attempts(9));
    let deployment = sum(items).deploy("last", store.backend()).unwrap();
    let run = deployment.submit([7]).await.unwrap();
    let worker = deployment.worker().start();
    let failure = failure(soon(run.result()).await.unwrap_err());
    let attempts = failure.attempts.len();
    assert_eq!(failure.error, "no 7");
    assert!((2..=9).contains(&attempts), "{attempts}");
    drop(worker);
}

/// A scratchpad that refuses the record of a failure for good, as one does whose permission was taken away. Buried, the message
/// would be one of which no run is told.
#[tokio::test(start_paused = true)]
async fn a_failure_that_cannot_be_written_down_buries_nothing() {
    let store = Store::new();
    let refuses = Arc::new(AtomicBool::new(true));
    let refusing = Arc::clone(&refuses);
    let hook = On(move |call: &Call<'_>| match call {
        Call::RecordFailure(_) if refusing.load(SeqCst) => {
            Act::Fail(Error::refused("the store", "UpdateItem", "AccessDenied"))
        }
        _ => Act::Go,
    });
    let items = Pipeline::new()
        .then(|n: u64| async move { Err::<u64, _>(permanent(format!("no {n}"))) })
        .with(Stage::named("bad"));
    let backend = store.hooked(Arc::new(hook));
    let deployment = sum(items).deploy("refused", backend).unwrap();
    let run = deployment.submit([7]).await.unwrap();
    let worker = deployment.worker().start();
    sleep(60 * MINUTE).await;
    let depth = store.depth(&deployment).await;
    assert_eq!(
        (depth.dead, depth.ready + depth.in_flight + depth.delayed),
        (0, 1)
    );
    refuses.store(false, SeqCst);
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert_eq!(
        (failure.message.as_str(), failure.error.as_str()),
        ("packet 0", "no 7")
    );
    drop(worker);
}
