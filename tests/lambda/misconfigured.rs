//! Malformed events.

use catchment::queue::Depth;
use catchment::{Deployment, Error, Pipeline, Stage};
use serde_json::json;

use super::*;

fn adder(store: &Store) -> Deployment<u64, u64> {
    let adder = Pipeline::new()
        .map(|n: u64| n * 2)
        .with(Stage::named("times_two"));
    let adder = adder.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    adder.deploy("adder", store.backend()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn another_stages_messages_are_left_alone() {
    let store = Store::new();
    let adder = adder(&store);
    let run = adder.submit([1, 2]).await.unwrap();
    let right = Mapping::new(&store, adder.lambda("times_two").unwrap()).await;
    let wrong = adder.lambda("sum").unwrap();
    let deliveries = right.receive(NOW).await;
    let error = wrong
        .handle(right.event(&deliveries), MINUTE)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "this function serves stage `sum`, whose queue is `adder--sum`, but its event source mapping reads `arn:aws:sqs:us-east-1:000000000000:adder--times_two`: give the mapping the queue `adder--sum`, or set CATCHMENT_STAGE to the stage of that queue"
    );
    let untouched = Depth::new().in_flight(2);
    assert_eq!(store.depth(&adder).await, untouched);
    assert_eq!(run.status().await.unwrap().messages_failed, 0);
}

#[tokio::test(start_paused = true)]
async fn records_that_lack_something_fail_alone() {
    let store = Store::new();
    let adder = adder(&store);
    let run = adder.submit([1, 2]).await.unwrap();
    let mapping = Mapping::new(&store, adder.lambda("times_two").unwrap()).await;
    let deliveries = mapping.receive(NOW).await;
    let [first, second] = deliveries.as_slice() else {
        panic!("{deliveries:?}");
    };
    let event = json!({ "Records": [
        { "messageId": "no body", "receiptHandle": "900" },
        { "messageId": "no receipt", "body": text(first) },
        { "messageId": "no sum", "receiptHandle": first.receipt.to_string(), "body": text(first),
          "md5OfBody": "nonsense", "attributes": null },
        { "messageId": "no number", "receiptHandle": second.receipt.to_string(), "body": text(second),
          "attributes": { "ApproximateReceiveCount": "many" } },
    ] });
    let event: SqsEvent = serde_json::from_value(event).unwrap();
    let response = mapping.function.handle(event, MINUTE).await.unwrap();
    let expected = ["no body", "no receipt"].map(str::to_owned);
    assert_eq!(reported(&response), BTreeSet::from(expected));
    assert_eq!(run.status().await.unwrap().packets_done, 2);
    assert!(adder.dead_letters().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_an_id_the_whole_batch_comes_back() {
    let store = Store::new();
    let function = adder(&store).lambda("times_two").unwrap();
    let event = json!({ "Records": [{ "body": "{}" }] });
    let event: SqsEvent = serde_json::from_value(event).unwrap();
    let response = function.handle(event, MINUTE).await.unwrap();
    let answer = serde_json::to_value(response).unwrap();
    assert_eq!(
        answer,
        json!({ "batchItemFailures": [{ "itemIdentifier": "" }] })
    );
}

#[tokio::test(start_paused = true)]
async fn no_records_are_no_failure() {
    let store = Store::new();
    let function = adder(&store).lambda("times_two").unwrap();
    let event: SqsEvent = serde_json::from_value(json!({ "Records": [] })).unwrap();
    let response = function.handle(event, NOW).await.unwrap();
    let answer = serde_json::to_value(response).unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
}
