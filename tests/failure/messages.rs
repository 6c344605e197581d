//! Malformed messages and stored values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, UNIX_EPOCH};

use catchment::queue::Depth;
use catchment::scratchpad::{Members, PacketPlan, RunRecord, Scratchpad};
use catchment::{Deployment, Pipeline, Stage};
use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn bad_bytes_become_dead_letters_with_the_reason_and_the_worker_goes_on() {
    let message = |changes: serde_json::Value| {
        let mut message = json!({
            "version": 1,
            "kind": "map",
            "deployment": "bad",
            "stage": "first",
            "arrayId": "nobody",
            "generation": "6b1f00c2a47e9002",
            "fanIn": 2,
            "packetId": "0/0",
            "packetOffset": 0,
            "packetContains": 1,
            "packetValue": [1],
        });
        for (field, value) in changes.as_object().unwrap() {
            match value.is_null() {
                true => message.as_object_mut().unwrap().remove(field),
                false => message
                    .as_object_mut()
                    .unwrap()
                    .insert(field.clone(), value.clone()),
            };
        }
        message.to_string().into_bytes()
    };
    let reduce = json!({ "kind": "reduce", "stage": "first", "level": 1, "group": 0 });
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bad: Vec<(&str, Vec<u8>, &str)> = vec![
        ("bad--first", b"not json".to_vec(), "cannot be read"),
        ("bad--first", b"".to_vec(), "cannot be read"),
        ("bad--first", b"\xff\xfe\x00".to_vec(), "cannot be read"),
        ("bad--first", b"{}".to_vec(), "arrayId"),
        ("bad--first", b"[1, 2]".to_vec(), "cannot be read"),
        ("bad--first", b"null".to_vec(), "cannot be read"),
        ("bad--first", deep.into_bytes(), "cannot be read"),
        (
            "bad--first",
            message(json!({}))[..60].to_vec(),
            "cannot be read",
        ),
        ("bad--first", message(json!({ "version": 2 })), "version 2"),
        ("bad--first", message(json!({ "version": null })), "version"),
        (
            "bad--first",
            message(json!({ "kind": "explode" })),
            "explode",
        ),
        ("bad--first", message(json!({ "kind": null })), "kind"),
        (
            "bad--first",
            message(json!({ "stage": "unknown" })),
            "`unknown`",
        ),
        ("bad--first", message(json!({ "stage": "sum" })), "`sum`"),
        ("bad--first", message(json!({ "stage": null })), "stage"),
        (
            "bad--first",
            message(json!({ "deployment": null })),
            "`deployment` is missing",
        ),
        (
            "bad--first",
            message(json!({ "deployment": "a--b" })),
            "`deployment` is no name",
        ),
        (
            "bad--first",
            message(json!({ "arrayId": "two words" })),
            "two words",
        ),
        (
            "bad--first",
            message(json!({ "arrayId": 5 })),
            "expected a string",
        ),
        (
            "bad--first",
            message(json!({ "generation": null })),
            "`generation` is missing",
        ),
        (
            "bad--first",
            message(json!({ "generation": "6b1f00c2a47e9020" })),
            "fanIn 2 is not that of generation",
        ),
        ("bad--first", message(json!({ "fanIn": 1 })), "fanIn 1"),
        (
            "bad--first",
            message(json!({ "fanIn": 1_000_000 })),
            "fanIn 1000000",
        ),
        (
            "bad--first",
            message(json!({ "fanIn": -1 })),
            "cannot be read",
        ),
        (
            "bad--first",
            message(json!({ "packetId": "seven" })),
            "seven",
        ),
        (
            "bad--first",
            message(json!({ "packetId": "4294967295/0" })),
            "4294967295/0",
        ),
        (
            "bad--first",
            message(json!({ "packetId": null })),
            "packetId",
        ),
        (
            "bad--first",
            message(json!({ "packetValue": null })),
            "packetValue",
        ),
        (
            "bad--first",
            message(json!({ "packetValue": "text" })),
            "packet",
        ),
        (
            "bad--first",
            message(json!({ "packetValue": ["text"] })),
            "text",
        ),
        (
            "bad--first",
            message(json!({ "packetContains": null })),
            "packetContains",
        ),
        (
            "bad--first",
            message(json!({ "packetYields": [7] })),
            "packetYields",
        ),
        ("bad--first", message(reduce), "group"),
        ("bad--sum", message(json!({ "stage": "sum" })), "reduction"),
        ("bad--sum", b"not json either".to_vec(), "cannot be read"),
    ];
    let deployment_of = |backend| {
        Pipeline::new()
            .then(ok::<u64>)
            .with(Stage::named("first"))
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::named("sum"))
            .deploy("bad", backend)
            .unwrap()
    };
    for (queue, body, reason) in bad {
        let what = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let store = Store::new();
        let deployment: Deployment<u64, u64> = deployment_of(store.backend());
        let mut record = RunRecord::new(
            "nobody",
            UNIX_EPOCH,
            "first",
            "sum",
            2,
            PacketPlan::Fixed(1),
        );
        record.generation = "6b1f00c2a47e9002".parse().unwrap();
        let bound = store.scratchpad.bind("bad").unwrap();
        bound.begin(&record).await.unwrap();
        let worker = deployment.worker().start();
        store
            .queue(queue)
            .await
            .send(vec![body.clone().into()])
            .await
            .unwrap();
        // At once: the bytes will not change, so there is nothing to retry.
        sleep(SECOND).await;
        let letters = deployment.dead_letters().await.unwrap();
        let [letter] = letters.as_slice() else {
            panic!("{what}: {letters:?}");
        };
        assert!(letter.error.contains(reason), "{what}: {}", letter.error);
        assert_eq!(format!("bad--{}", letter.stage), queue, "{what}");
        assert_eq!(letter.body, body, "{what}");
        let run = deployment.submit(0..10).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), 45, "{what}");
        drop(worker);
    }
}

/// A message of an unknown run, or of one that has been removed, is not a failure: there is nothing
/// to do.
#[tokio::test(start_paused = true)]
async fn a_message_of_an_unknown_run_goes_away() {
    let store = Store::new();
    let deployment = sum(Pipeline::new().then(ok::<u64>))
        .deploy("none", store.backend())
        .unwrap();
    let worker = deployment.worker().start();
    let packet = r#"{"version":1,"kind":"map","deployment":"none","stage":"map-0","arrayId":"nobody","generation":"6b1f00c2a47e9002","fanIn":2,"packetId":"0/0","packetOffset":0,"packetContains":1,"packetValue":[1]}"#;
    let group = r#"{"version":1,"kind":"reduce","deployment":"none","stage":"reduce-1","arrayId":"nobody","generation":"6b1f00c2a47e9002","fanIn":2,"level":1,"group":0}"#;
    store
        .queue("none--map-0")
        .await
        .send(vec![packet.into()])
        .await
        .unwrap();
    store
        .queue("none--reduce-1")
        .await
        .send(vec![group.into()])
        .await
        .unwrap();
    sleep(MINUTE).await;
    assert_eq!(store.depth(&deployment).await, Depth::default());
    drop(worker);
}

/// The last line of defence: a message that lies about its items cannot make a wrong result.
#[tokio::test(start_paused = true)]
async fn a_result_that_does_not_stand_for_every_item_is_refused() {
    let store = Store::new();
    let deployment = sum(Pipeline::new().then(ok::<u64>))
        .deploy("lie", store.backend())
        .unwrap();
    let run = deployment.submit_as("run", 0..10).await.unwrap();
    let queue = store.queue("lie--map-0").await;
    let mut first = None;
    for delivery in queue.receive(10, Duration::ZERO).await.unwrap() {
        let message: serde_json::Value = serde_json::from_slice(&delivery.body).unwrap();
        match message["packetOffset"] == 0 {
            true => {
                queue.acknowledge(vec![delivery.receipt]).await.unwrap();
                first = Some(message);
            }
            false => {
                let receipts = vec![delivery.receipt];
                queue.release(receipts, Duration::ZERO).await.unwrap();
            }
        }
    }
    let mut first = first.unwrap();
    first["packetContains"] = json!(3);
    first["packetValue"] = json!([0, 0, 0]);
    let body = first.to_string().into_bytes();
    queue.send(vec![body.into()]).await.unwrap();
    let worker = deployment.worker().start();
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert!(
        failure.error.contains("12") && failure.error.contains("10"),
        "{failure}"
    );
    drop(worker);
}

/// A store that is not atomic may show a group's slots before their values can be read, while
/// another retires it.
#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_read_in_full_is_read_again() {
    /// The first reads of each group lack their last value, and others their first.
    struct Torn(AtomicU64);
    #[async_trait::async_trait]
    impl Hook for Torn {
        async fn before(&self, _: &Call<'_>) -> Act {
            Act::Go
        }
        fn read(&self, members: &mut Members) {
            let Members::Present { values, .. } = members else {
                return;
            };
            match self.0.fetch_add(1, SeqCst) {
                0..3 => drop(values.pop()),
                3..6 => drop(values.drain(..1.min(values.len()))),
                _ => {}
            }
        }
    }
    let store = Store::new();
    let pipeline = Pipeline::new()
        .then(|n: u64| ok(format!("{n} ")))
        .combine(Concat);
    let deployment = pipeline
        .with(Stage::new().fan_in(3).attempts(10))
        .deploy("torn", store.hooked(Arc::new(Torn(AtomicU64::new(0)))))
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..20).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), counting(20));
    sleep(MINUTE).await;
    assert_eq!(store.depth(&deployment).await, Depth::default());
    drop(worker);
}

/// A reduce message that comes before its group is complete changes nothing.
#[tokio::test(start_paused = true)]
async fn a_group_is_not_reduced_before_it_is_complete() {
    let store = Store::new();
    let early = sum(Pipeline::new().map(|n: u64| n).with(Stage::named("first")))
        .deploy("early", store.backend())
        .unwrap();
    let reduction = early.stages().last().unwrap().to_owned();
    let run = early.submit(1..=9).await.unwrap();
    let recorded = store.recorded(&early, run.id().as_str()).await;
    let generation = recorded.record.generation.to_string();
    for (level, group) in [(1, 0), (1, 2), (2, 0), (3, 0)] {
        let message = json!({
            "version": 1,
            "kind": "reduce",
            "deployment": "early",
            "stage": reduction,
            "arrayId": run.id().as_str(),
            "generation": generation,
            "fanIn": 3,
            "level": level,
            "group": group,
        });
        let queue = store.queue(&format!("early--{reduction}")).await;
        let body = message.to_string().into_bytes();
        queue.send(vec![body.into()]).await.unwrap();
    }
    let worker = early.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    worker.shutdown().await;
}

/// Numbers that a message declares are added up with care: they end nobody else's work by a panic.
#[tokio::test(start_paused = true)]
async fn counts_that_do_not_add_up_are_a_dead_letter() {
    let store = Store::new();
    let items = Pipeline::new()
        .try_map(|n: u64| match n {
            7 => Err("seven"),
            n => Ok(n),
        })
        .with(
            Stage::named("first")
                .attempts(1)
                .on_failure(catchment::OnFailure::Skip),
        );
    let deployment = sum(items).deploy("counts", store.backend()).unwrap();
    let queue = store.queue("counts--first").await;
    let most = u64::MAX;
    for (n, (contains, skipped)) in [(1, most), (0, 3), (2, most), (most, 2)]
        .into_iter()
        .enumerate()
    {
        let message = json!({
            "version": 1, "kind": "map", "deployment": "counts", "stage": "first", "arrayId": format!("r{n}"), "generation": "6b1f00c2a47e9002", "fanIn": 2, "packetId": "0/0",
            "packetOffset": 0, "packetContains": contains, "packetSkipped": skipped, "packetValue": [7],
        });
        let body = message.to_string().into_bytes();
        queue.send(vec![body.into()]).await.unwrap();
    }
    let worker = deployment.worker().start();
    let run = deployment.submit([1, 2, 7]).await.unwrap();
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!((outcome.value, outcome.skipped), (3, 1));
    sleep(MINUTE).await;
    let dead = store.depth(&deployment).await.dead;
    assert_eq!(
        dead, 4,
        "a message that contradicts itself is not worked on"
    );
    soon(worker.shutdown()).await;
}
