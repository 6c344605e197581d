//! Over the emulators: real receipts, real visibility.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageSystemAttributeName::ApproximateReceiveCount;
use catchment::{BoxError, Deployment, Error, Pipeline, Stage, permanent};

use super::*;
use crate::aws::{Tables, config, ministack, unique};

/// Plays the mapping with a client of its own. Returns how many records there were.
async fn invoke(sqs: &Client, function: &LambdaFunction) -> usize {
    let name = function.queue_name();
    let url = sqs.get_queue_url().queue_name(name).send().await.unwrap();
    let url = url.queue_url().unwrap().to_owned();
    let received = sqs
        .receive_message()
        .queue_url(&url)
        .max_number_of_messages(10);
    let received = received.message_system_attribute_names(ApproximateReceiveCount);
    let received = received.wait_time_seconds(1).send().await.unwrap();
    let mut event = SqsEvent::default();
    for message in received.messages() {
        let mut record = SqsMessage::default();
        record.message_id = message.message_id.clone();
        record.receipt_handle = message.receipt_handle.clone();
        record.body = message.body.clone();
        let attributes = message.attributes.iter().flatten();
        let attributes = attributes.map(|(name, value)| (name.to_string(), value.clone()));
        record.attributes = attributes.collect();
        record.event_source_arn = Some(format!("arn:aws:sqs:us-east-1:000000000000:{name}"));
        event.records.push(record);
    }
    let response = function.handle(event, MINUTE).await.unwrap();
    let back = reported(&response);
    for message in received.messages() {
        if !back.contains(message.message_id().unwrap()) {
            let receipt = message.receipt_handle().unwrap();
            let delete = sqs.delete_message().queue_url(&url).receipt_handle(receipt);
            // A buried message is gone already, which the emulator holds against the receipt.
            if let Err(error) = delete.send().await {
                let error = error.into_service_error();
                assert!(error.is_receipt_handle_is_invalid(), "{error}");
            }
        }
    }
    received.messages().len()
}

async fn work_off(sqs: &Client, functions: &[LambdaFunction]) {
    let mut idle = 0;
    while idle < 2 {
        let mut records = 0;
        for function in functions {
            records += invoke(sqs, function).await;
        }
        idle = if records == 0 { idle + 1 } else { 0 };
    }
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn functions_over_sqs_and_dynamodb() {
    let sqs = Client::new(&config(&ministack()));
    let double = |n: i64| {
        n.checked_mul(2)
            .ok_or_else(|| BoxError::from(permanent("too large")))
    };
    let adder = Pipeline::new()
        .try_map(double)
        .with(Stage::named("times_two"));
    let adder = adder.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    let adder: Deployment<i64, i64> = adder
        .deploy(&unique("lambda"), Tables::Ministack.backend())
        .unwrap();
    adder.provision().await.unwrap();
    let functions = ["times_two", "sum"].map(|stage| adder.lambda(stage).unwrap());

    let run = adder.submit([1, 2, 3, 4, 5]).await.unwrap();
    let poisoned = adder.submit([1, i64::MAX]).await.unwrap();
    work_off(&sqs, &functions).await;
    assert_eq!(run.result().await.unwrap(), 30);
    assert!(matches!(poisoned.result().await, Err(Error::Failed { .. })));
    let letters = poisoned.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (letters[0].item, &*letters[0].error),
        (Some(1), "too large")
    );
    adder.deprovision(adder.name()).await.unwrap();
}
