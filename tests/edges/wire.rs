//! The wire format as it is documented: on queues, in the scratchpad, and written by hand.

use std::sync::Arc;

use bytes::Bytes;
use catchment::testing::hostile;
use catchment::{Pipeline, Stage};
use futures::stream;
use serde_json::{Value, json};

use crate::common::*;

/// The messages that a pipeline sends to one of its queues, as JSON.
async fn messages(record: &Record, queue: &str) -> Vec<Value> {
    let sent = record.sent();
    let mine = sent.iter().filter(|(name, _)| name == queue);
    let parse = |body: &Bytes| serde_json::from_slice(body).unwrap();
    mine.map(|(_, body)| parse(body)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_travels_is_what_the_documentation_says() {
    let pipeline = Pipeline::new()
        .flat_map(|n: u64| vec![n * 10; n as usize])
        .with(Stage::named("grow").packet_size(2))
        .then(ok)
        .with(Stage::named("pass"))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(2))
        .map(|sum| sum)
        .with(Stage::named("finish"));
    let store = Store::new();
    let record = Arc::new(Record::default());
    let deployment = pipeline
        .deploy("wire", store.hooked(record.clone()))
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("fives", 0..5).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 300);

    let grow = messages(&record, "wire--grow").await;
    let generation = &grow[0]["generation"];
    assert!(
        generation.as_str().unwrap().ends_with("002"),
        "{generation}"
    );
    let packet = |index: u64, contains: u64, value: Value| {
        json!({
            "version": 1,
            "kind": "map",
            "deployment": "wire",
            "stage": "grow",
            "arrayId": "fives",
            "generation": generation,
            "fanIn": 2,
            "packetId": format!("0/{index}"),
            "packetOffset": index * 2,
            "arrayLength": 5,
            "packetContains": contains,
            "packetValue": value,
        })
    };
    let expected = [
        packet(0, 2, json!([0, 1])),
        packet(1, 2, json!([2, 3])),
        packet(2, 1, json!([4])),
    ];
    assert_eq!(grow, expected);

    // The message also has the number of values made of each source item.
    let mut pass = messages(&record, "wire--pass").await;
    pass.sort_by_key(|message| message["packetOffset"].as_u64());
    assert_eq!(pass[0]["packetValue"], json!([10]));
    assert_eq!(pass[0]["packetYields"], json!([0, 1]));
    assert_eq!(pass[1]["packetValue"], json!([20, 20, 30, 30, 30]));
    assert_eq!(pass[1]["packetYields"], json!([2, 3]));
    assert_eq!(pass[1]["packetContains"], 2);
    assert_eq!(pass[1]["stage"], "pass");

    // Three leaves in pairs: a full group, one that was sealed, and two levels above them.
    let reduce = |level: u64, group: u64| {
        json!({
            "version": 1,
            "kind": "reduce",
            "deployment": "wire",
            "stage": "sum",
            "arrayId": "fives",
            "generation": generation,
            "fanIn": 2,
            "level": level,
            "group": group,
        })
    };
    let mut groups = messages(&record, "wire--sum").await;
    groups.sort_by_key(|message| (message["level"].as_u64(), message["group"].as_u64()));
    assert_eq!(
        groups,
        [reduce(1, 0), reduce(1, 1), reduce(2, 0), reduce(3, 0)]
    );

    let finish = messages(&record, "wire--finish").await;
    assert_eq!(finish.len(), 1);
    assert_eq!(finish[0]["packetValue"], json!([300]));
    assert_eq!(finish[0]["packetContains"], 5);
    assert_eq!(finish[0]["arrayLength"], 5);

    // A stream's length is absent while it is open.
    let run = deployment
        .submit_stream_as("open", stream::iter(0..5))
        .await
        .unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 300);
    let grow = messages(&record, "wire--grow").await;
    let open: Vec<_> = grow
        .iter()
        .filter(|message| message["arrayId"] == "open")
        .collect();
    assert_eq!(open.len(), 3);
    assert!(
        open.iter()
            .all(|message| message.get("arrayLength").is_none())
    );
    drop(worker);
}

/// The scratchpad keeps JSON as well.
#[tokio::test(start_paused = true)]
async fn a_partial_result_is_stored_as_a_packet() {
    let store = Store::new();
    let arrived = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrived);
    let hook = On(move |call: &Call<'_>| {
        if let Call::Arrive(arrivals) = call {
            seen.lock()
                .unwrap()
                .extend(arrivals.iter().map(|arrival| arrival.value.clone()));
        }
        Act::Go
    });
    let deployment = Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::new().packet_size(10))
        .reduce(|| 0, |a, b| a + b)
        .deploy("wire", store.hooked(Arc::new(hook)))
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("ten", 1..=10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 55);
    let arrived = arrived.lock().unwrap().clone();
    let [stored] = arrived.as_slice() else {
        panic!("{arrived:?}");
    };
    let recorded = store.recorded(&deployment, "ten").await;
    let expected = json!({
        "arrayId": "ten",
        "generation": recorded.record.generation.to_string(),
        "packetId": "0/0",
        "arrayLength": 10,
        "packetContains": 10,
        "packetValue": 55,
    });
    assert_eq!(serde_json::from_slice::<Value>(stored).unwrap(), expected);
    hostile::packet(stored).expect("it can be read back");
    // The value comes last, as it is.
    assert!(stored.ends_with(br#","packetValue":55}"#), "{stored:?}");
    drop(worker);
}

/// A stage in another language sends what the documentation describes, in any order of fields.
#[tokio::test(start_paused = true)]
async fn a_message_written_by_hand_is_as_good() {
    let store = Store::new();
    let deployment = Pipeline::new()
        .then(|n: u64| ok(n * 2))
        .with(Stage::named("double"))
        .reduce(|| 0, |a, b| a + b)
        .deploy("hand", store.backend())
        .unwrap();
    // The submitter's own packets are thrown away, and sent by hand.
    let run = deployment.submit_as("run", [1, 2, 3]).await.unwrap();
    let recorded = store.recorded(&deployment, "run").await;
    let generation = recorded.record.generation.to_string();
    let queue = store.queue("hand--double").await;
    let own = queue.receive(10, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(own.len(), 3);
    queue
        .acknowledge(own.into_iter().map(|own| own.receipt).collect())
        .await
        .unwrap();
    for n in 1..=3 {
        let body = json!({
            "somethingNew": [1, 2],
            "packetValue": [n],
            "packetContains": 1,
            "packetId": format!("0/{}", n - 1),
            "packetOffset": n - 1,
            "fanIn": 32,
            "generation": generation,
            "arrayId": "run",
            "stage": "double",
            "deployment": "hand",
            "kind": "map",
            "version": 1,
        });
        queue.send(vec![body.to_string().into()]).await.unwrap();
    }
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 12);
    drop(worker);
}
