//! An id stands for its items: a repeated submission goes on where the first one broke off, and one of other items is
//! refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use catchment::{Error, RunState};
use futures::stream;

use super::*;
use crate::common::*;

/// Packets that a submission sends before it records how far it is, and one call's.
const CHECKPOINT: u64 = 1_000;
const CALL: u64 = 10;

async fn submit_items(
    deployment: &Deployment<u64, String>,
    items: Vec<u64>,
    input: Input,
) -> Result<Run<String>> {
    match input {
        Input::List => deployment.submit_as("run", items).await,
        Input::Stream => {
            let items = stream::iter(items);
            deployment.submit_stream_as("run", items).await
        }
    }
}

/// One item per packet, however many there are.
fn single(backend: Backend) -> Deployment<u64, String> {
    let stage = Stage::new().packet_size(1);
    let pipeline = Pipeline::new().then(|n: u64| ok(format!("{n} ")));
    let pipeline = pipeline.with(stage).combine(Concat);
    pipeline.deploy("words", backend).unwrap()
}

/// Refuses or delays every `send` from this one on.
fn cut_off(first: u64, act: fn() -> Act) -> Arc<dyn Hook> {
    let sends = Mutex::new(0);
    Arc::new(On(move |call: &Call<'_>| match call {
        Call::Send(..) => {
            let mut sends = sends.lock().unwrap();
            *sends += 1;
            match *sends > first {
                true => act(),
                false => Act::Go,
            }
        }
        _ => Act::Go,
    }))
}

fn lasting() -> Act {
    Act::Fail(Error::refused("test", "send", "access denied"))
}

fn silence() -> Act {
    Act::Late(Duration::from_secs(1_000_000))
}

fn is_other_items(error: &Error) {
    let text = error.to_string();
    assert!(matches!(error, Error::Submission { .. }), "{text}");
    assert!(
        text.contains("differ from those submitted under this id before"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn other_items_under_a_used_id_are_refused() {
    for (first, second) in [
        (Input::List, Input::List),
        (Input::List, Input::Stream),
        (Input::Stream, Input::List),
        (Input::Stream, Input::Stream),
    ] {
        let store = Store::new();
        let record = Arc::new(Record::default());
        let deployment = deploy(Shape::Reduce, 3, store.hooked(record.clone()));
        let run = submit_items(&deployment, vec![0, 1, 2], first).await;
        let run = run.unwrap();
        let sent = record.sent().len();
        for when in ["submitted", "done"] {
            // Others, and the same in another order.
            for items in [vec![4, 5, 6], vec![0, 1, 3], vec![2, 1, 0]] {
                let refused = submit_items(&deployment, items.clone(), second).await;
                let error = refused.map(|_| ()).unwrap_err();
                is_other_items(&error);
                let range = "some of packets 0 to 2 (items 0 to 2) differ";
                assert!(
                    error.to_string().contains(range),
                    "{when}, {items:?}: {error}"
                );
            }
            for length in [0, 2, 4] {
                let refused = submit(&deployment, length, second).await;
                let error = refused.map(|_| ()).unwrap_err();
                assert!(matches!(error, Error::Submission { .. }), "{when}: {error}");
            }
            let same = submit(&deployment, 3, second).await;
            assert_eq!(same.unwrap().id(), run.id());
            if when == "submitted" {
                assert_eq!(record.sent().len(), sent, "nothing was sent again");
                let worker = deployment.worker().start();
                settles(&store, &deployment, 3, when).await;
                drop(worker);
            }
        }
    }
}

/// A `HashMap` has another order each time it is made.
#[tokio::test(start_paused = true)]
async fn equal_maps_are_the_same_items() {
    let items = || -> Vec<HashMap<String, u64>> {
        let entries = |item: u64| (0..40).map(move |n| (format!("key {n}"), item * n));
        (0..5).map(|item| entries(item).collect()).collect()
    };
    let texts: Vec<String> = items().iter().map(|map| format!("{map:?}")).collect();
    assert!(
        items()
            .iter()
            .zip(&texts)
            .any(|(map, text)| format!("{map:?}") != *text)
    );
    let pipeline = Pipeline::new().then(ok::<HashMap<String, u64>>).count();
    let deployment = pipeline.deploy("maps", Backend::memory()).unwrap();
    deployment.submit_as("run", items()).await.unwrap();
    for _ in 0..3 {
        deployment.submit_as("run", items()).await.unwrap();
    }
    let mut others = items();
    others[3].insert("key 7".to_owned(), 0);
    let refused = deployment.submit_as("run", others).await;
    is_other_items(&refused.map(|_| ()).unwrap_err());
}

/// A worker may not be there for longer than a deployment keeps its codec.
#[cfg(feature = "postcard")]
#[tokio::test(start_paused = true)]
async fn the_codec_makes_no_other_items() {
    use catchment::Codec;

    let store = Store::new();
    let sums = |codec| {
        let pipeline = Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b);
        let pipeline = pipeline.codec(codec);
        pipeline.deploy("sums", store.backend()).unwrap()
    };
    let [json, postcard] = [Codec::Json, Codec::Postcard].map(sums);
    for (run, first, second) in [("a", &json, &postcard), ("b", &postcard, &json)] {
        first.submit_as(run, 0..2_500).await.unwrap();
        second.submit_as(run, 0..2_500).await.unwrap();
        let refused = second.submit_as(run, 1..2_501).await;
        is_other_items(&refused.map(|_| ()).unwrap_err());
    }
}

/// The queue refuses for good, or the submitter dies: what is on record then is not sent again.
#[tokio::test(start_paused = true)]
async fn a_submission_that_broke_off_goes_on_where_it_was() {
    let length = 2_500;
    for input in [Input::List, Input::Stream] {
        for dies in [false, true] {
            let what = format!("{input:?}, dies {dies}");
            let store = Store::new();
            let act = if dies { silence } else { lasting };
            let doomed = single(store.hooked(cut_off(123, act)));
            let submission = submit(&doomed, length, input);
            match tokio::time::timeout(Duration::from_millis(500), submission).await {
                Ok(broken) => assert!(broken.is_err() && !dies, "{what}"),
                Err(_) => assert!(dies, "{what}"),
            }
            // One that fails records all that it has sent. One that dies has recorded it before.
            let recorded = if dies { CHECKPOINT } else { 123 * CALL };
            let status = store.recorded(&doomed, "run").await;
            let checkpoint = status.checkpoint.unwrap();
            assert_eq!(
                (checkpoint.packets, checkpoint.items),
                (recorded, recorded),
                "{what}"
            );

            let record = Arc::new(Record::default());
            let deployment = single(store.hooked(record.clone()));
            // If it has failed, its caller has to clear that.
            submit(&deployment, length, input).await.unwrap();
            assert_eq!(record.sent().len() as u64, length - recorded, "{what}");
            let worker = deployment.worker().start();
            settles(&store, &deployment, length, &what).await;
            drop(worker);
        }
    }
}

/// Also while it waits for room, and while its input is slow.
#[tokio::test(start_paused = true)]
async fn what_was_sent_is_on_record_after_a_second() {
    let store = Store::new();
    let deployment = single(store.hooked(cut_off(5, silence)));
    let submission = submit(&deployment, 100, Input::List);
    let dropped = tokio::time::timeout(Duration::from_millis(1_500), submission).await;
    assert!(dropped.is_err());
    let checkpoint = store.recorded(&deployment, "run").await.checkpoint.unwrap();
    assert_eq!(checkpoint.packets, 5 * CALL);

    let store = Store::new();
    let deployment = single(store.backend());
    let items = stream::iter(0..5);
    let items = futures::StreamExt::chain(items, stream::pending());
    let submission = deployment.submit_stream_as("run", items);
    let dropped = tokio::time::timeout(Duration::from_secs(5), submission).await;
    assert!(dropped.is_err());
    let checkpoint = store.recorded(&deployment, "run").await.checkpoint.unwrap();
    assert_eq!(checkpoint.packets, 5);
}

/// A short submission makes no more calls than it did.
#[tokio::test(start_paused = true)]
async fn a_submission_that_is_short_records_nothing_but_its_end() {
    let writes = |length: u64| async move {
        let store = Store::new();
        let writes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&writes);
        let hook = On(move |call: &Call<'_>| {
            match call {
                Call::Checkpoint(reached) => seen.lock().unwrap().push(reached.packets),
                Call::Measure | Call::Submitted => seen.lock().unwrap().push(0),
                _ => {}
            }
            Act::Go
        });
        let deployment = single(store.hooked(Arc::new(hook)));
        submit(&deployment, length, Input::List).await.unwrap();
        let status = store.recorded(&deployment, "run").await;
        assert_eq!(status.checkpoint.unwrap().packets, length);
        writes.lock().unwrap().clone()
    };
    assert_eq!(writes(5).await, [0, 0]);
    assert_eq!(writes(CHECKPOINT).await, [0, 0]);
    assert_eq!(writes(2_500).await, [1_000, 2_000, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn other_items_than_those_that_are_on_record_are_refused_before_anything_is_sent() {
    let store = Store::new();
    let doomed = single(store.hooked(cut_off(123, silence)));
    let submission = submit(&doomed, 2_500, Input::Stream);
    let dropped = tokio::time::timeout(Duration::from_millis(500), submission).await;
    assert!(dropped.is_err());
    // A task records what it had sent.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let record = Arc::new(Record::default());
    let deployment = single(store.hooked(record.clone()));
    // What was dropped has sent 1,230 packets.
    for changed in [0, 500, 1_229] {
        let items = (0..2_500).map(|n| if n == changed { 7_777 } else { n });
        let refused = submit_items(&deployment, items.collect(), Input::List).await;
        let error = refused.map(|_| ()).unwrap_err();
        is_other_items(&error);
        let range = "some of packets 0 to 1229 (items 0 to 1229) differ";
        assert!(error.to_string().contains(range), "{error}");
    }
    let error = submit(&deployment, 900, Input::Stream).await.map(|_| ());
    let text = error.unwrap_err().to_string();
    assert!(text.contains("900 items came, and 1230 or more"), "{text}");
    assert_eq!(record.sent(), []);
    assert_eq!(
        deployment.attach("run").status().await.unwrap().state,
        RunState::Open
    );

    submit(&deployment, 2_500, Input::Stream).await.unwrap();
    let worker = deployment.worker().start();
    settles(&store, &deployment, 2_500, "the right items").await;
    drop(worker);
}

/// An item that could not be sent is corrected: what is on the queue is the same, so the run is.
#[tokio::test(start_paused = true)]
async fn what_was_not_sent_may_be_another_item() {
    let store =
        Store::with_queues(catchment::backends::memory::MemoryQueues::new().max_body(2_000));
    let lengths = Pipeline::new()
        .then(|word: String| ok(word.len()))
        .with(Stage::new().packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    let lengths = lengths.deploy("lengths", store.backend()).unwrap();
    let words = |large| (0..40).map(move |n| "x".repeat(if n == 33 { large } else { 1 }));
    let error = lengths.submit_as("run", words(5_000)).await.map(|_| ());
    assert!(matches!(error, Err(Error::TooLarge { .. })), "{error:?}");
    let run = lengths.submit_as("run", words(10)).await.unwrap();
    let worker = lengths.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 49);
    drop(worker);
}

/// Of a run that was cancelled, what was sent can be compared, and nothing is sent.
#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stands_for_its_items_too() {
    let store = Store::new();
    let doomed = single(store.hooked(cut_off(123, silence)));
    let submission = submit(&doomed, 2_500, Input::List);
    let dropped = tokio::time::timeout(Duration::from_millis(500), submission).await;
    assert!(dropped.is_err());
    let record = Arc::new(Record::default());
    let deployment = single(store.hooked(record.clone()));
    assert!(deployment.attach("run").cancel().await.unwrap());
    submit(&deployment, 2_500, Input::List).await.unwrap();
    let others = submit_items(&deployment, (1..2_501).collect(), Input::List).await;
    is_other_items(&others.map(|_| ()).unwrap_err());
    assert_eq!(record.sent(), []);
}

/// Two that submit other items at the same time: one of them is told, and so are those who wait for the run.
#[tokio::test(start_paused = true)]
async fn of_two_that_submit_other_items_at_once_one_is_refused() {
    for seed in 0..20 {
        let store = Store::new();
        let backend = |n: u64| store.hooked(Arc::new(Yields::new(seed * 2 + n)));
        let [left, right] = [0, 1].map(|n| single(backend(n)));
        let (a, b) = soon(futures::future::join(
            submit_items(&left, (0..30).collect(), Input::List),
            submit_items(&right, (100..130).collect(), Input::Stream),
        ))
        .await;
        let refused: Vec<Error> = [a, b].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1, "seed {seed}: {refused:?}");
        is_other_items(&refused[0]);
        let failed = soon(left.attach("run").result()).await.unwrap_err();
        assert!(
            matches!(failed, Error::Failed { .. }),
            "seed {seed}: {failed}"
        );
    }
}

/// A submission whose future is dropped leaves on record what it had sent.
#[tokio::test(start_paused = true)]
async fn a_dropped_submission_is_compared_with_its_repetition() {
    let store = Store::new();
    let stuck = single(store.hooked(cut_off(5, silence)));
    let submit = stuck.submit_as("run", 0..5 * CALL + 1);
    let dropped = tokio::time::timeout(Duration::from_millis(500), submit).await;
    assert!(dropped.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let healthy = single(store.backend());
    let others = healthy.submit_as("run", 1..5 * CALL + 2).await;
    is_other_items(&others.map(|_| ()).unwrap_err());
    let run = healthy.submit_as("run", 0..5 * CALL + 1).await.unwrap();
    let worker = healthy.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), counting(5 * CALL + 1));
    drop(worker);
}
